"""Which device computes, in which precision, and whether the same way each time."""

import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from salakseg.distributed import local_rank, local_world_size, world_size
from salakseg.errors import InputError, WorkError

# torch's words.
NOT_DETERMINISTIC = r"(\S+) does not have a deterministic implementation"


def select_device(name: str = "auto") -> torch.device:
    """`auto` is the first CUDA device, else Apple's MPS, else the CPU; other names as in torch.

    Of several processes on a machine each has a CUDA device of its own. A CUDA device by number
    becomes this thread's current one: whatever asks torch for "the GPU" would take memory of the
    first one.

    Raises:
        InputError: no such device on this machine, or not enough of them.
    """
    if world_size() > 1:
        name = _of_this_process(name)
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"--device {name}: not on this machine; use cpu, or auto to take what there is"
        ) from error
    return device


def _of_this_process(name: str) -> str:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name != "cuda":
        return name
    if local_rank() >= torch.cuda.device_count():
        raise InputError(
            f"{local_world_size()} processes on a machine with {torch.cuda.device_count()} GPUs: "
            "start as many as there are (--nproc-per-node)"
        )
    return f"cuda:{local_rank()}"


def autocast_dtype(device: torch.device, amp: bool | None) -> torch.dtype | None:
    """The precision for automatic mixed precision, or None for float32 throughout.

    Args:
        amp: True or False as asked for; None decides: yes on CUDA and on CPUs that multiply
            bfloat16 in hardware.
    """
    if amp is False:
        return None
    if device.type == "cuda":
        # Cards before Ampere have float16 in hardware and would emulate bfloat16, slowly.
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
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
def settings_kept() -> Iterator[None]:
    """Put back at the end what a training sets for the process: torch's threads, determinism,
    random state, current GPU, and which warnings are shown."""
    cuda = torch.cuda.is_initialized()
    card = torch.cuda.current_device() if cuda else 0
    cards_random = torch.cuda.get_rng_state_all() if cuda else []
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    filling = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    benchmark = torch.backends.cudnn.benchmark
    try:
        with torch.random.fork_rng([]), warnings.catch_warnings():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = filling  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = benchmark
        if torch.cuda.is_initialized():
            torch.cuda.set_device(card)
            torch.cuda.set_rng_state_all(cards_random)


@contextmanager
def operations_without_determinism() -> Iterator[set[str]]:
    """Fill the set that this gives, at its end, with the names of the operations meanwhile for
    which torch has no deterministic kernel and goes on with another; for good, it shows no
    warnings of them."""
    found: set[str] = set()
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", NOT_DETERMINISTIC)
        yield found
    warnings.filterwarnings("ignore", NOT_DETERMINISTIC)
    for warning in caught:
        if match := re.match(NOT_DETERMINISTIC, str(warning.message)):
            found.add(match[1])
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )


def computed_with(
    device: torch.device, dtype: torch.dtype | None, deterministic: bool
) -> dict[str, str]:
    """What the last bits of a training hang on, beside its options: name → what it is."""
    found = {
        "device": f"{device.type} with {torch.backends.cpu.get_cpu_capability()}",
        "precision": str(dtype or torch.float32).removeprefix("torch."),
        "torch": str(torch.__version__),
        "deterministic": "yes" if deterministic else "no",
        "processes": str(world_size()),
    }
    if device.type == "cuda":
        found["device"] = torch.cuda.get_device_name(device)
        found["cuDNN"] = str(torch.backends.cudnn.version())
    return found


@contextmanager
def out_of_memory_is(words: str) -> Iterator[None]:
    """A `WorkError` of these words, where the device's memory runs out, or the machine's."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # Of a CPU torch raises no class of its own.
        if isinstance(error, RuntimeError) and not (
            isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
        ):
            raise
        raise WorkError(f"out of memory: {words}") from error


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
