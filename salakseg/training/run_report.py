"""What a run says of itself: at its start, and at its end, in run.json too."""

import json
import platform
from dataclasses import asdict
from typing import Any

import torch

from salakseg.console import console
from salakseg.distributed import is_first, world_size
from salakseg.files import format_bytes, require_disk_space, write_text
from salakseg.metrics import scores
from salakseg.model.applicability import is_far
from salakseg.model.weights import Model
from salakseg.training.advice import UNLIKE_LABELLED, Advice
from salakseg.training.run import LIKE_NOTHING, NOT_TAUGHT, Run
from salakseg.version import VERSION

# After so many, the rest can be told.
TIMED_ITERATIONS = 5
TAUGHT = (
    "what it taught itself of them may be wrong; label some (salakseg suggest), or compare with "
    "--method supervised"
)


def announce(run: Run, device: torch.device, dtype: torch.dtype | None) -> None:
    """Say what is trained, on what, and from how many patches."""
    counts = run.shards.samples.split.value_counts()
    options = run.options
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"the {device.type}"
    precision = "float32" if dtype is None else f"{str(dtype).removeprefix('torch.')} (AMP)"
    console.print(
        f"{run.step.recipe.method}: {options.generator}, {run.shards.mapping.num_classes} classes, "
        f"on {where} in {precision}, {options.num_steps} iterations"
    )
    parts = [f"{counts.get('train', 0)} labelled patches"]
    if run.probes:
        held = sum(len(batch.entries) for batch in run.probes)
        parts[0] += f" ({held} of them kept to judge the judges)"
    if "unlabeled" in run.stream.positions:
        parts.append(f"{counts.get('unlabeled', 0)} unlabelled")
    parts.append(f"{counts.get('val', 0)} for validation")
    shared = f", shared out among {world_size()} processes" if world_size() > 1 else ""
    console.print(", ".join(parts) + f"; batch size {options.batch_size}{shared}")
    if not run.has_val:
        what = "No validation patch holds a class" if counts.get("val") else "No validation patches"
        console.print(f"{what}: best_model.pth will not be written")


def check_disk(run: Run, keep: int | None) -> None:
    """Say what the run will write, and refuse where the first two checkpoints do not fit."""
    step, options = run.step, run.options
    # G, the teacher and two moments of AdamW; D and two moments of Adam.
    size = 4 * _bytes(step.generator)
    size += 0 if step.discriminator is None else 3 * _bytes(step.discriminator)
    periodic = -(-options.num_steps // options.save_pred_every)
    kept = periodic if keep is None else min(keep, periodic)
    console.print(
        f"Checkpoints: {format_bytes(size)} each, {kept} kept by the end"
        + (" (--keep-checkpoints N keeps fewer)" if kept > 2 else "")
    )
    require_disk_space(run.folder, 2 * size, "a pair of checkpoints")


def _bytes(network: torch.nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in network.parameters())


def tell_duration(run: Run, seconds: float) -> None:
    """Say how long the rest will take, after `TIMED_ITERATIONS` that took these seconds."""
    left = run.options.num_steps - run.iteration
    total = seconds / TIMED_ITERATIONS * left
    text = f"about {total / 3600:.1f} h" if total > 5400 else f"about {max(1, total / 60):.0f} min"
    console.print(
        f"This will take {text} on this CPU, without the evaluations"
        + (
            "; to try things out: --num-steps 300 --generator tiny; for a real run, use a GPU"
            if total > 1800
            else ""
        )
    )


def tell_others(operations: set[str]) -> None:
    """Say which operations have no deterministic form here."""
    if operations:
        console.print(
            f"Of {', '.join(sorted(operations))} torch has no form here that gives the same bits "
            "each time: a resumed run will differ from an unbroken one in its last bits"
        )


def finish(run: Run, final: Model, seconds: float) -> dict[str, Any]:
    """Write run.json, say how the run went and what comes next; the content of run.json."""
    unlike = run.share_unlike(final)
    text = None
    if run.step.self_trains is False:
        # To the encoder as it was then; as it is now it may be fewer.
        text = f"when self-training was to set in, most {LIKE_NOTHING}: {NOT_TAUGHT}"
    elif unlike is not None and is_far(unlike) and run.step.recipe.lambda_st > 0:
        text = f"{unlike:.0%} {LIKE_NOTHING}: {TAUGHT}"
    if text is not None:
        run.advice.append(Advice(UNLIKE_LABELLED, run.iteration, text))
    best = None if run.best_iteration == 0 else run.best_val_miou
    content = {
        "options": asdict(run.options),
        "method": run.step.recipe.method,
        "iterations": run.iteration,
        "best_val_miou": best,
        "best_iteration": run.best_iteration,
        "final_val_miou": None if run.val_confusion is None else scores(run.val_confusion).miou,
        "unlike_labelled": unlike,
        "advice": [asdict(advice) for advice in run.advice],
        "seconds_of_last_start": round(seconds, 1),
        "salakseg": VERSION,
        "torch": str(torch.__version__),
        "machine": f"{platform.system()} {platform.machine()}",
        "device": str(run.step.device),
    }
    if is_first():
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        write_text(run.folder / "run.json", text)
    if run.advice:
        console.print("Advice on this run:")
    for advice in run.advice:
        console.print(f"  Iteration {advice.iteration}: {advice.text}")
    if best is not None:
        console.print(
            f"Done. Best validation mIoU {best:.4f} at iteration {run.best_iteration}: "
            f"{run.folder / 'best_model.pth'}. Next: salakseg eval best_model.pth"
        )
    else:
        console.print(f"Done: {run.folder / 'final_model.pth'}")
    return content
