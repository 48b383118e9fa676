#!/usr/bin/env bash
# rich ends the program (SystemExit 1) in the middle of its work when nobody reads its output any more.
# Guess: a line printed into a pipe whose reader is gone is lost, or raises BrokenPipeError, which "except OSError" catches.
# Seen:  rich==15.0.0; Python 3.11, Linux x86-64, 2026-11: exit code 1, no traceback, the file is not written, and the
#        "except OSError" is passed over. With "program | tee log", Ctrl-C ends tee too, so "saving ..." ends the saving.
# Matters: to whoever reports progress by rich and saves at the end or on Ctrl-C. Works: a Console whose
#        on_broken_pipe() does not exit, or "except (OSError, SystemExit)" around what only reports.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q rich==15.0.0
cat > program.py <<'PY'
import os, sys, time
from rich.console import Console

class Quiet(Console):
    def on_broken_pipe(self):
        self.quiet = True
console = (Quiet if sys.argv[1] == "quiet" else Console)()
console.print("begin")
while not os.path.exists("reader_gone"):
    time.sleep(0.05)
try:
    console.print("saving")
except OSError:
    pass
open("saved_" + sys.argv[1], "w").close()
os._exit(0)                                                 # else Python itself complains of the pipe at its end
PY
run() {
    rm -f reader_gone
    set +e
    env/bin/python program.py "$1" | { head -1; exec <&-; touch reader_gone; }
    code=${PIPESTATUS[0]}
    set -e
}
run default; echo "default: exit code $code, saved: $(ls saved_default 2>/dev/null || echo no)"
[ "$code" = 1 ] && [ ! -e saved_default ]
run quiet; echo "on_broken_pipe() that does not exit: exit code $code, saved: $(ls saved_quiet 2>/dev/null || echo no)"
[ "$code" = 0 ] && [ -e saved_quiet ]
