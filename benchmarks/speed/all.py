"""Every benchmark of speed, one after the other, and one table of what they claim.

    python benchmarks/speed/all.py [NAME…]

What a program says is shown as it comes, and its rows once more at the end, all together.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
from claims import HEAD

HERE = Path(__file__).resolve().parent
PROGRAMS = {
    "step": ["published_step.py"],
    "stream": ["stream.py"],
    "index": ["index_scale.py", "--images", "40000"],
    "shard": ["shard_tar.py"],
    "predict": ["predict_speed.py"],
    "eval": ["eval_speed.py"],
    "start": ["start_up.py"],
    "save": ["save_cost.py"],
}


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[[], *PROGRAMS], metavar="NAME")
    names = parser.parse_args().names or list(PROGRAMS)
    rows, began = [], time.monotonic()
    for name in names:
        program, *words = PROGRAMS[name]
        print(f"\n{' '.join([program, *words])}", flush=True)
        command = [sys.executable, str(HERE / program), *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as run:
            assert run.stdout is not None
            for line in run.stdout:
                print(line, end="", flush=True)
                if line.startswith("| "):
                    rows.append(line.rstrip())
        if run.returncode:
            raise SystemExit(f"{program} failed")
    print("\n" + "\n".join([HEAD, *rows]))
    print(f"{(time.monotonic() - began) / 60:.0f} minutes")


if __name__ == "__main__":
    main()
