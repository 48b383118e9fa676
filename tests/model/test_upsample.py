"""The products of matrices against torch's own interpolation, alone and inside real networks."""

import pytest
import torch
from torch.nn import functional

from salakseg.model.generator import create_generator
from salakseg.model.upsample import Upsampling, deterministic_upsampling, upsample


class Seen(torch.utils._python_dispatch.TorchDispatchMode):
    """Names of the operations that ran."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.names.add(func.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((2, 5, 8, 8), (32, 32)),
        ((2, 3, 7, 9), (30, 50)),
        ((1, 4, 1, 1), (6, 8)),
        ((2, 3, 16, 12), (5, 7)),
        ((1, 2, 4, 4), (1, 1)),
    ],
)
def test_values_and_gradients_are_torchs(
    shape: tuple[int, ...], size: tuple[int, int], align_corners: bool
) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape, requires_grad=True)
    expected = functional.interpolate(x, size, mode="bilinear", align_corners=align_corners)
    given = upsample(x, size, align_corners)
    assert torch.allclose(given, expected, atol=1e-5)
    back = torch.randn_like(expected)
    gradients = [torch.autograd.grad(y, x, back)[0] for y in (given, expected)]
    assert torch.allclose(*gradients, rtol=1e-5, atol=1e-5)


def test_in_bfloat16_an_even_map_stays_even() -> None:
    x = torch.full((1, 2, 16, 16), 7.0, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        y = upsample(x, (61, 61), True)
    assert y.dtype == torch.bfloat16 and (y == 7).all()


@pytest.mark.parametrize(
    "name", ["tiny", "deeplabv3plus-resnet18", "fpn64-resnet18", "upernet-resnet18"]
)
def test_it_stands_in_for_every_interpolation_of_a_network(name: str) -> None:
    network = create_generator(name, 3, "none").eval()
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        with Seen() as before:
            expected = network(x)
        with Upsampling(), Seen() as seen:
            given = network(x)
    assert "upsample_bilinear2d.default" in before.names
    assert "upsample_bilinear2d.default" not in seen.names
    assert torch.allclose(given, expected, atol=1e-5 * float(expected.abs().max()))


def test_other_interpolations_are_left_to_torch() -> None:
    x = torch.rand(1, 2, 10, 10)
    for options in (
        {"size": 5, "mode": "bilinear", "antialias": True},
        {"scale_factor": 1.25, "mode": "bilinear"},  # 12.5 pixels
        {"scale_factor": 2, "mode": "nearest"},
        {"scale_factor": 2, "mode": "bicubic"},
    ):
        with Upsampling():
            given = functional.interpolate(x, **options)
        assert torch.equal(given, functional.interpolate(x, **options))


def test_weights_that_an_evaluation_made_can_be_trained_with() -> None:
    x = torch.rand(1, 2, 11, 13)
    with torch.inference_mode():
        upsample(x, (22, 26), False)
    upsample(x.requires_grad_(), (22, 26), False).sum().backward()
    assert x.grad is not None


def test_only_cuda_with_deterministic_algorithms_has_use_for_it() -> None:
    before = torch.are_deterministic_algorithms_enabled()
    try:
        for deterministic in (False, True):
            torch.use_deterministic_algorithms(deterministic, warn_only=True)
            on_cuda = isinstance(deterministic_upsampling(torch.device("cuda")), Upsampling)
            assert on_cuda == deterministic
            assert not isinstance(deterministic_upsampling(torch.device("cpu")), Upsampling)
    finally:
        torch.use_deterministic_algorithms(before, warn_only=True)
