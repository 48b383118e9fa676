"""--batch-size auto: the largest batch whose iteration fits in the GPU's memory."""

import gc
from collections.abc import Callable

import torch

from salakseg.data.stream import Batch
from salakseg.training.step import SUPERVISED, Step

AUTO = "auto"
LARGEST = 64
# A full GPU under Windows borrows the host's memory, at a tenth of the speed, where Linux refuses;
# and evaluation, the desktop and fragmentation want some too.
SHARE_OF_MEMORY = 0.9


def largest_batch_size(needs: Callable[[int], float], room: float, most: int) -> int:
    """The largest power of two, up to 64 and `most`, that fits; 0 where not even 1 does.

    Args:
        needs: bytes that an iteration of this batch size takes at most, infinite where memory ran
            out; called with 1, 2, 4, … until one does not fit.
        room: bytes that it may take.
        most: patches that there are to draw from.
    """
    found, size = 0, 1
    while size <= min(LARGEST, most) and needs(size) <= room:
        found, size = size, 2 * size
    return found


def room_on(device: torch.device) -> float:
    """Bytes of a CUDA device that a run may take: nine tenths of what is free now."""
    free, _ = torch.cuda.mem_get_info(device)
    return SHARE_OF_MEMORY * free


def bytes_needed(make_step: Callable[[], Step], size: int, patch_size: int) -> float:
    """What two iterations of a fresh step reserve at most on its CUDA device; infinite: too much.

    The second one has the optimisers' moments beside it.
    """
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    try:
        try_out(make_step(), size, patch_size)
        return torch.cuda.max_memory_reserved()
    except torch.OutOfMemoryError:
        return float("inf")
    finally:
        gc.collect()
        torch.cuda.empty_cache()


def try_out(step: Step, size: int, patch_size: int) -> None:
    """Two of the run's last iterations, when every loss is in force, on grey patches."""
    rows = torch.arange(size)
    images = torch.full((size, 3, patch_size, patch_size), 127, dtype=torch.uint8)
    labeled = Batch(images, torch.zeros_like(images[:, 0]), rows, rows)
    unlabeled = None if step.recipe.method == SUPERVISED else Batch(images, None, rows, rows)
    for _ in range(2):
        step(step.recipe.num_steps, labeled, unlabeled)
