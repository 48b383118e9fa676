"""What asks to stop is heard once, and goes back to whom it belonged."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from salakseg import signals
from salakseg.signals import STOPS, on_stop, stops_hidden

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends signals to itself")


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # Python sees to it between two instructions


def test_each_signal_that_asks_to_stop_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "SECONDS_OF_ONE", 0)
    before = [signal.getsignal(number) for number in STOPS]
    heard: list[int] = []
    with on_stop(heard.append):
        for number in STOPS:
            send(number)
    assert heard == list(STOPS)
    assert {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1} < set(STOPS)
    assert [signal.getsignal(number) for number in STOPS] == before


def test_what_process_and_group_are_sent_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "SECONDS_OF_ONE", 60)
    heard: list[int] = []
    with on_stop(heard.append):
        send(signal.SIGTERM)
        send(signal.SIGTERM)
    assert heard == [signal.SIGTERM]


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup leaves it
    heard: list[int] = []
    try:
        with on_stop(heard.append):
            send(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert heard == []


def test_in_another_thread_signals_are_somebody_elses() -> None:
    handlers = []

    def work() -> None:
        with on_stop(lambda _: None):
            handlers.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGTERM)]


def test_a_child_sees_nothing_of_them_not_even_while_it_starts() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with stops_hidden():
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    for number in STOPS:
        process.send_signal(number)
    process.communicate(b"\n", 60)
    assert process.returncode == 0


def test_the_exit_code_stays_ours_wherever_it_is_raised(tmp_path: Path) -> None:
    # A KeyboardInterrupt that comes up in `exec` of a text, caught or not, ends `python -m` by
    # SIGINT.
    (tmp_path / "program.py").write_text(
        "import sys; from salakseg.signals import Stop\n"
        "try: exec('raise Stop')\n"
        "except KeyboardInterrupt: sys.exit(130)\n",
        encoding="utf-8",
    )
    assert subprocess.run([sys.executable, "-m", "program"], check=False).returncode == 130
