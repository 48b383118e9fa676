"""Devices by name, and when mixed precision is used."""

import pytest
import torch

from salakseg import device as device_module
from salakseg.device import autocast_dtype, select_device, set_determinism
from salakseg.errors import InputError


def test_devices_by_name() -> None:
    assert select_device("cpu") == torch.device("cpu")
    assert select_device("auto").type in ("cuda", "mps", "cpu")


@pytest.mark.parametrize("name", ["cuda:99", "gpu", ""])
def test_a_device_that_is_not_there(name: str) -> None:
    with pytest.raises(InputError, match=rf"--device {name}: not on this machine"):
        select_device(name)


@pytest.mark.parametrize(
    ("flags", "amp", "dtype"),
    [
        ("flags: avx2", None, None),
        ("flags: avx2", True, torch.bfloat16),
        ("flags: avx512_bf16", None, torch.bfloat16),
        ("flags: amx_bf16", False, None),
    ],
)
def test_mixed_precision_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, flags: str, amp: bool | None, dtype: torch.dtype | None
) -> None:
    monkeypatch.setattr(device_module, "_cpu_flags", lambda: flags)
    assert autocast_dtype(torch.device("cpu"), amp) == dtype


def test_determinism_without_the_cost_of_filling_memory() -> None:
    before = torch.are_deterministic_algorithms_enabled()
    try:
        set_determinism(True)
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.benchmark
        # Filled, all of them would be NaN.
        assert not all(torch.empty(1000).isnan().all() for _ in range(10))
        set_determinism(False)
        assert not torch.are_deterministic_algorithms_enabled()
    finally:
        set_determinism(before)
