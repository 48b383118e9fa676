"""The two ways a command ends badly. Both are shown as one line, without a traceback."""


class InputError(ValueError):
    """The data, a file or an option is wrong: names it and says what to do. Exit code 2."""


class WorkError(RuntimeError):
    """The work itself failed (disk full, memory, a lost worker). Exit code 1."""
