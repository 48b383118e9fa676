"""Devices by name, and when mixed precision is used."""

import warnings

import pytest
import torch

from salakseg import device as device_module
from salakseg.device import (
    autocast_dtype,
    computed_with,
    operations_without_determinism,
    out_of_memory_is,
    select_device,
    set_determinism,
    settings_kept,
)
from salakseg.errors import InputError, WorkError


def test_devices_by_name() -> None:
    assert select_device("cpu") == torch.device("cpu")
    assert select_device("auto").type in ("cuda", "mps", "cpu")


@pytest.mark.parametrize("name", ["cuda:99", "gpu", ""])
def test_a_device_that_is_not_there(name: str) -> None:
    with pytest.raises(InputError, match=rf"--device {name}: not on this machine"):
        select_device(name)


def test_a_gpu_by_number_is_the_one_that_everything_else_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    current: list[torch.device] = []
    monkeypatch.setattr(torch, "empty", lambda *_, **__: None)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    select_device("cuda")
    assert current == []
    select_device("cuda:1")
    assert current == [torch.device("cuda:1")]


@pytest.mark.parametrize(
    ("capability", "dtype"), [((7, 5), torch.float16), ((8, 9), torch.bfloat16)]
)
def test_bfloat16_only_where_the_card_has_it_in_hardware(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: torch.dtype
) -> None:
    class Card:
        major, minor = capability

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Card)
    # What a Turing card answers, which makes the tensors and emulates the rest.
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda _: True)
    for amp in (None, True):
        assert autocast_dtype(torch.device("cuda"), amp) == dtype
    assert autocast_dtype(torch.device("cuda"), False) is None


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


def settings() -> tuple[object, ...]:
    return (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark,
        torch.random.get_rng_state().tolist(),
        list(warnings.filters),
    )


def test_what_a_training_sets_is_put_back_even_after_an_error() -> None:
    before = settings()
    with pytest.raises(OSError), settings_kept():
        torch.set_num_threads(torch.get_num_threads() + 1)
        set_determinism(True)
        torch.manual_seed(5)
        torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
        warnings.simplefilter("ignore")
        raise OSError
    assert settings() == before


def test_operations_that_are_not_deterministic_are_named_and_warned_of_no_more() -> None:
    one = torch.tensor([1]), torch.tensor([1.0])
    with settings_kept():
        set_determinism(True)
        with pytest.warns(UserWarning, match="else") as shown:
            with operations_without_determinism() as found:
                torch.zeros(3).put_(*one).relu()
                warnings.warn("something else", UserWarning, stacklevel=1)
            torch.zeros(3).put_(*one)
        assert found == {"put_"}
        assert len(shown) == 1
        with operations_without_determinism() as found:
            torch.zeros(3).relu()
        assert not found


def test_what_a_training_is_computed_with(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = computed_with(torch.device("cpu"), None, True)
    assert cpu["precision"] == "float32" and cpu["deterministic"] == "yes"
    assert cpu["device"].startswith("cpu with ") and cpu["torch"] == torch.__version__
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "A card")
    gpu = computed_with(torch.device("cuda:1"), torch.bfloat16, False)
    assert gpu["device"] == "A card" and gpu["precision"] == "bfloat16" and "cuDNN" in gpu


def test_out_of_memory_is_one_line_on_a_cpu_too() -> None:
    told = pytest.raises(WorkError, match="out of memory: a smaller one")
    with told, out_of_memory_is("a smaller one"):
        torch.empty(1 << 46)
    with pytest.raises(RuntimeError, match="shape"), out_of_memory_is("a smaller one"):
        torch.zeros(2).view(3)
