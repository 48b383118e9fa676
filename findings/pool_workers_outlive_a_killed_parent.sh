#!/usr/bin/env bash
# The workers of a ProcessPoolExecutor (spawn) outlive a parent that was killed, for good.
# Guess: when the parent is killed (a scheduler's SIGKILL, out of memory), its workers see their queue end and stop.
# Seen:  Python 3.11 (3.11.7), no packages; Linux x86-64, 2026-11: both workers still wait 15 seconds after the kill,
#        because they hold the queue's writing end themselves. With a watching thread none is left.
# Matters: memory of a GPU or of a node stays taken by data workers. Works: in the initializer a daemon thread that does
#        multiprocessing.parent_process().join(); os._exit(1)
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
cat > pool.py <<'PY'
import multiprocessing, os, signal, subprocess, sys, threading, time
from concurrent.futures import ProcessPoolExecutor

def watch():
    def wait():
        multiprocessing.parent_process().join()
        os._exit(1)
    threading.Thread(target=wait, daemon=True).start()
def pid(_):
    time.sleep(0.5)
    return os.getpid()
def alive(number):
    try:
        return open(f"/proc/{number}/stat").read().rsplit(")")[1].split()[0] != "Z"
    except OSError:
        return False
def parent(kind):
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn"), watch if kind == "watched" else None) as pool:
        print(*set(pool.map(pid, range(8))), flush=True)
        list(pool.map(time.sleep, [1] * 4))
        time.sleep(600)
if __name__ == "__main__":
    if len(sys.argv) > 1:
        parent(sys.argv[1])
        sys.exit()
    for kind, expected in (("plain", 2), ("watched", 0)):
        p = subprocess.Popen([sys.executable, __file__, kind], stdout=subprocess.PIPE, text=True, start_new_session=True)
        workers = p.stdout.readline().split()
        p.kill()
        p.wait()
        time.sleep(15)
        left = sum(map(alive, workers))
        print(f"{kind}: {left} of {len(workers)} workers alive 15 s after their parent was killed")
        try:
            os.killpg(p.pid, signal.SIGKILL)                    # the session that this script began
        except ProcessLookupError:
            pass
        assert len(workers) == 2 and left == expected
PY
python3 pool.py
