"""What asks a program to stop: Ctrl-C, schedulers, service managers, a terminal that is closed.

| signal | from |
|---|---|
| SIGINT | Ctrl-C |
| SIGTERM | `kill`, SLURM, systemd, `docker stop` |
| SIGHUP | a terminal that closes |
| SIGUSR1, SIGUSR2 | schedulers, ahead of a time limit; without a handler they kill |
| SIGBREAK | Windows: Ctrl-Break, a console that closes |

Imports nothing heavy: the command line and worker processes start with it.
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGBREAK")
STOPS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
# `timeout`, `srun` and shells send the same signal to the process and to its group: one is meant.
SECONDS_OF_ONE = 0.5
# For threads that wait for something else: nobody waits for them any more.
stopping = threading.Event()


class Stop(KeyboardInterrupt):
    """What a signal raises: for a KeyboardInterrupt itself Python may take the exit code into its
    own hands, though it was caught (where it comes up in `exec` of a text, as in many imports)."""


@contextmanager
def on_stop(act: Callable[[int], object]) -> Iterator[None]:
    """Meanwhile, call `act` with the number of each signal that asks to stop.

    What the process was started to ignore (`nohup`, a background job) stays ignored. Outside of
    the main thread signals are somebody else's, and `act` is never called.
    """
    last = -math.inf

    def handle(number: int, _: FrameType | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= SECONDS_OF_ONE:
            last = now
            act(number)

    before = {}
    try:
        for number in STOPS:
            # None: a handler that is not Python's, which could not be put back.
            if (handler := signal.getsignal(number)) not in (signal.SIG_IGN, None):
                signal.signal(number, handle)
                before[number] = handler
    except ValueError:  # not in the main thread
        pass
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stops_noted(say: Callable[[], object]) -> Iterator[list[int]]:
    """Signals that ask to stop fill the list that this gives, and the first one calls `say`; a
    second one stops at once."""
    received: list[int] = []

    def note(number: int) -> None:
        if received:
            raise Stop
        received.append(number)
        say()

    with on_stop(note):
        yield received


def ignore_stops() -> None:
    """For a worker process: these reach the whole group, and the main process ends its workers."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def stops_hidden() -> Iterator[None]:
    """Processes that are started meanwhile never see these signals (on Windows they do)."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
