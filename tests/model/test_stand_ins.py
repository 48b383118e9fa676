"""Functions in place of torch's."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from salakseg.model.stand_ins import StandIns


def doubled(x: Tensor, *, inplace: bool = False) -> Tensor:
    """Calls torch's own, which is not itself."""
    return 2 * functional.relu(x, inplace=inplace)


class Doubled(StandIns):
    functions: ClassVar[dict[Callable[..., Any], Callable[..., Any]]] = {functional.relu: doubled}


def test_a_stand_in_is_called_deep_inside_and_no_longer_than_the_mode() -> None:
    x = torch.tensor([-1.0, 3.0])
    layer = torch.nn.Sequential(torch.nn.Identity(), torch.nn.ReLU())
    with Doubled():
        assert layer(x).tolist() == [0, 6]
        assert functional.relu(x, inplace=False).tolist() == [0, 6]
        # What has no stand-in is torch's.
        assert functional.relu6(x).tolist() == [0, 3]
    assert layer(x).tolist() == [0, 3]
