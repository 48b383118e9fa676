#!/usr/bin/env bash
# A KeyboardInterrupt that was caught inside exec() still decides how "python -m" ends: by SIGINT, not by sys.exit's code.
# Guess: "except KeyboardInterrupt: sys.exit(3)" ends with 3, with -m as without.
# Seen:  Python 3.11 (3.11.7), no packages; Linux x86-64, 2026-11: run as a file 3, run with -m killed by signal 2 (-2):
#        CPython notes "unhandled" where the interrupt leaves exec. A subclass of KeyboardInterrupt is not noted.
# Matters: schedulers and scripts that read the code. namedtuple and dataclass exec in many imports, where Ctrl-C often falls.
#        Works: a handler for SIGINT that raises a subclass.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
cat > plain.py <<'PY'
import sys
try:
    exec("raise KeyboardInterrupt")                           # stands for Ctrl-C while a dataclass is made
except KeyboardInterrupt:
    sys.exit(3)
PY
cat > subclass.py <<'PY'
import sys
class Stop(KeyboardInterrupt):
    pass
try:
    exec("raise Stop")
except KeyboardInterrupt:
    sys.exit(3)
PY
python3 - <<'PY'
import subprocess, sys
seen = {}
for name in ("plain", "subclass"):
    as_file = subprocess.run([sys.executable, f"{name}.py"]).returncode
    as_module = subprocess.run([sys.executable, "-m", name]).returncode
    seen[name] = as_file, as_module
    print(f"{name}: python {name}.py {as_file}, python -m {name} {as_module}")
assert seen == {"plain": (3, -2), "subclass": (3, 3)}
PY
