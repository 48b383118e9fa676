"""Which device computes, in which precision, and whether the same way each time."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from salakseg.errors import InputError


def select_device(name: str = "auto") -> torch.device:
    """`auto` is the first CUDA device, else Apple's MPS, else the CPU; other names as in torch.

    Raises:
        InputError: no such device on this machine.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"--device {name}: not on this machine; use cpu, or auto to take what there is"
        ) from error
    return device


def autocast_dtype(device: torch.device, amp: bool | None) -> torch.dtype | None:
    """The precision for automatic mixed precision, or None for float32 throughout.

    Args:
        amp: True or False as asked for; None decides: yes on CUDA and on CPUs that multiply
            bfloat16 in hardware.
    """
    if amp is False:
        return None
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if device.type == "cpu":
        if amp is None and "avx512_bf16" not in _cpu_flags() and "amx_bf16" not in _cpu_flags():
            return None
        return torch.bfloat16
    return torch.float16 if amp else None


def set_determinism(deterministic: bool) -> None:
    """Make CUDA compute the same bits each time, or let it choose its kernels by the clock.

    Without a deterministic kernel for an operation torch warns and goes on. On a CPU the bits are
    the same either way.
    """
    # cuBLAS reads this when it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = not deterministic
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    # It would fill every new tensor with NaN, to show reads of what was never written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@contextmanager
def keep_awake() -> Iterator[None]:
    """Ask Windows not to fall asleep meanwhile; elsewhere nothing is asked."""
    if sys.platform != "win32":
        yield
        return
    import ctypes

    continuous, system_required = 0x80000000, 0x00000001
    ask = ctypes.windll.kernel32.SetThreadExecutionState
    ask(continuous | system_required)
    try:
        yield
    finally:
        ask(continuous)


def _cpu_flags() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next((line for line in file if line.startswith("flags")), "")
    except OSError:
        return ""
