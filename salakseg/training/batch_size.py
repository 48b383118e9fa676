"""--batch-size auto: the largest batch whose iteration fits in the GPU's memory."""

import gc
from collections.abc import Callable
from dataclasses import replace

import torch

from salakseg.console import console
from salakseg.data.augment import plan
from salakseg.data.stream import Batch
from salakseg.errors import WorkError
from salakseg.files import format_bytes
from salakseg.training.options import AUTO, SUPERVISED
from salakseg.training.step import Step

LARGEST = 64
# A full GPU under Windows borrows the host's memory, at a tenth of the speed, where Linux refuses;
# and evaluation, the desktop and fragmentation want some too.
SHARE_OF_MEMORY = 0.9


def automatic_batch_size(
    fresh_step: Callable[[], Step],
    patch_size: int,
    most: int,
    device: torch.device,
    otherwise: int,
    processes: int = 1,
) -> int:
    """What fits in the GPU's memory, and a line that says it.

    Of several processes, each on a GPU like this one, what fits in all of them.

    Args:
        fresh_step: makes the step of the run, with networks of its own.
        patch_size: side in pixels.
        most: labelled patches that there are to draw from.
        device: of the run.
        otherwise: the batch size where time is the limit, not memory: on all devices but CUDA's.
        processes: of the run.

    Raises:
        WorkError: not even one patch fits.
    """
    if device.type != "cuda":
        console.print(
            f"--batch-size {AUTO}: {otherwise}, as without it: on the {device.type} time "
            "is the limit, not memory"
        )
        return otherwise
    free, _ = torch.cuda.mem_get_info(device)
    room = SHARE_OF_MEMORY * free
    size, needed = largest_batch_size(
        lambda size: bytes_needed(fresh_step, size, patch_size, device),
        room,
        max(1, most // processes),
    )
    if size == 0:
        raise WorkError(
            f"--batch-size {AUTO}: not even 1 fits in the {format_bytes(int(room))} that are free "
            "on the GPU; close what else uses it, or take a smaller --generator"
        )
    console.print(
        f"--batch-size {AUTO}: {size}{f' in each of {processes} processes' * (processes > 1)}, "
        f"which takes {format_bytes(int(needed))} of the {format_bytes(int(room))} that may be used"
    )
    return size * processes


def largest_batch_size(needs: Callable[[int], float], room: float, most: int) -> tuple[int, float]:
    """The largest power of two, up to 64 and `most`, that fits, and what it needs; 0 if not 1 does.

    Args:
        needs: bytes that an iteration of this batch size takes at most, infinite where memory ran
            out; called with 1, 2, 4, … until one does not fit.
        room: bytes that it may take.
        most: patches that there are to draw from.
    """
    found, size = (0, 0.0), 1
    while size <= min(LARGEST, most) and (needed := needs(size)) <= room:
        found, size = (size, needed), 2 * size
    return found


def bytes_needed(
    fresh_step: Callable[[], Step], size: int, patch_size: int, device: torch.device
) -> float:
    """What two iterations of a fresh step reserve at most on their CUDA device; infinite: too much.

    The second one has the optimisers' moments beside it.
    """
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    try:
        try_out(fresh_step(), size, patch_size)
        return torch.cuda.max_memory_reserved(device)
    except torch.OutOfMemoryError:
        return float("inf")
    finally:
        gc.collect()
        torch.cuda.empty_cache()


def try_out(step: Step, size: int, patch_size: int) -> None:
    """Two of the run's last iterations, when every loss is in force, on grey patches."""
    rows = torch.arange(size)
    shape = size, step.generator.channels, patch_size, patch_size
    images = torch.full(shape, 127, dtype=torch.uint8)
    masks = torch.zeros_like(images[:, 0])
    views = torch.from_numpy(plan(0, "", rows.numpy()))
    labeled = Batch(images, masks, masks == 0, rows, rows, views)
    supervised = step.recipe.method == SUPERVISED
    unlabeled = None if supervised else replace(labeled, masks=None)
    for _ in range(2):
        step(step.recipe.num_steps, labeled, unlabeled)
