"""Functions of ours in place of torch's, which networks of other packages call deep inside."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from torch.overrides import TorchFunctionMode


class StandIns(TorchFunctionMode):
    """Inside it each function of `functions` is called instead of that of torch that it is for.

    They may call torch's own: the mode is off meanwhile.
    """

    functions: ClassVar[dict[Callable[..., Any], Callable[..., Any]]] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """What torch calls instead of each of its functions."""
        return self.functions.get(func, func)(*args, **(kwargs or {}))
