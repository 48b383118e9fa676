"""The ways a command ends badly. They are shown as one line, without a traceback."""


class InputError(ValueError):
    """The data, a file or an option is wrong: names it and says what to do. Exit code 2.

    Attributes:
        of_one: of several processes that were connected this one alone has it to tell.
    """

    of_one = False


class WorkError(RuntimeError):
    """The work itself failed (disk full, memory, a lost worker). Exit code 1."""


class ElsewhereError(RuntimeError):
    """Another process of the same run failed, and has said why; nothing is to be said here.

    Attributes:
        code: its exit code.
    """

    def __init__(self, code: int) -> None:
        super().__init__("another process of this run failed; its message says why")
        self.code = code
