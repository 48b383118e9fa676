"""The two ways a command ends badly. Both are shown as one line, without a traceback."""


class InputError(ValueError):
    """The data, a file or an option is wrong: names it and says what to do. Exit code 2."""


class WorkError(RuntimeError):
    """The work itself failed (disk full, memory, a lost worker). Exit code 1."""


def worker_died(what: str, advice: str = "try a smaller --num-workers") -> WorkError:
    """The error for a process that ended in the midst of `what`."""
    return WorkError(f"{what}: a worker process died, perhaps for lack of memory; {advice}")
