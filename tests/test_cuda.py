"""What only a GPU can show: `pytest -m cuda` on a machine that has one; left out elsewhere."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import salakseg
from salakseg.data.shards import Shards
from salakseg.data.stream import Batch, TrainingStream
from salakseg.device import operations_without_determinism, set_determinism, settings_kept
from salakseg.errors import WorkError
from salakseg.model.generator import create_generator
from salakseg.training import loop
from salakseg.training.options import METHODS, S4GAN, SUPERVISED, Recipe
from salakseg.training.step import Step

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]
NETWORKS = ("tiny", "deeplabv3plus-resnet50", "deeplabv2-resnet101")


def step_on(
    device: str, method: str, generator: str = "tiny", dtype: torch.dtype | None = None
) -> Step:
    torch.manual_seed(0)
    recipe = Recipe(method, 30, 1e-3, None, 1.0, 0.1, 0, False)
    network = create_generator(generator, 5, "none")
    return Step(network, 5, recipe, torch.device(device), dtype)


def pinned(shards: Shards, count: int) -> list[tuple[Batch, Batch]]:
    stream = TrainingStream(shards, 2, seed=0, unlabeled_batch_size=2, pin_memory=True)
    batches = iter(stream)
    return [next(batches) for _ in range(count)]


@pytest.mark.parametrize("method", METHODS)
def test_a_step_is_that_of_the_cpu(shards: Shards, method: str) -> None:
    gpu, cpu = step_on("cuda", method), step_on("cpu", method)
    with settings_kept():
        set_determinism(True)
        torch.backends.cudnn.allow_tf32 = False
        # From where self-training has its whole weight.
        for iteration, batches in enumerate(pinned(shards, 3), start=10):
            gpu(iteration, *batches)
            cpu(iteration, *batches)
    assert torch.allclose(gpu.totals.cpu(), cpu.totals, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("method", METHODS)
def test_the_host_never_waits(shards: Shards, method: str) -> None:
    step = step_on("cuda", method, dtype=torch.bfloat16)
    first, second = pinned(shards, 2)
    step(20, *first)
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(21, *second)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("generator", NETWORKS)
@pytest.mark.parametrize("method", METHODS)
def test_every_operation_is_deterministic(shards: Shards, method: str, generator: str) -> None:
    step = step_on("cuda", method, generator, torch.bfloat16)
    (batches,) = pinned(shards, 1)
    with settings_kept():
        set_determinism(True)
        with operations_without_determinism() as others:
            step(20, *batches)
    assert others == set()


def run(shards_dir: Path, folder: str, **options: Any) -> Path:
    salakseg.train(
        shards_dir=shards_dir,
        checkpoint_dir=folder,
        device="cuda",
        wandb_mode="disabled",
        **options,
    )
    return Path(folder)


def assert_same_bits(one: Path, other: Path) -> None:
    whole, parted = (
        torch.load(folder / "latest_checkpoint.pth", weights_only=True) for folder in (one, other)
    )
    for key in ("model_state", "teacher_state", "model_D_state"):
        for name, value in whole[key].items():
            assert torch.equal(value, parted[key][name]), (key, name)


SMALL: dict[str, Any] = {
    "generator": "tiny",
    "encoder_weights": "none",
    "num_steps": 12,
    "batch_size": 2,
    "eval_every": 6,
    "save_latest_every": 3,
}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_resumed_run_ends_with_the_same_bits(
    shards_dir: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(loop, "autocast_dtype", lambda *_: dtype)
    whole = run(shards_dir, "whole", **SMALL)
    run(shards_dir, "parted", **SMALL, save_pred_every=6)
    for file in Path("parted").glob("latest_*"):
        file.unlink()
    Path("parted/checkpoint_12.pth").unlink()
    run(shards_dir, "parted", resume=True)
    assert_same_bits(whole, Path("parted"))


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_run_ends_with_the_same_bits(shards_dir: Path) -> None:
    options = SMALL | {"num_steps": 60}
    whole = run(shards_dir, "whole", **options)
    words = [
        word
        for name, value in options.items()
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]
    command = [sys.executable, "-m", "salakseg", "train", *words, "--shards-dir", str(shards_dir)]
    process = subprocess.Popen(
        [*command, "--checkpoint-dir", "killed", "--device", "cuda"],
        stdout=subprocess.DEVNULL,
        env=os.environ,
    )
    while not Path("killed/latest_model.pth").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run(shards_dir, "killed", resume=True)
    assert_same_bits(whole, Path("killed"))


def test_memory_that_runs_out_is_a_line(shards_dir: Path) -> None:
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((600 << 20) / total)
    try:
        with pytest.raises(WorkError, match="--batch-size 24 is too much"):
            run(
                shards_dir,
                "large",
                **SMALL | {"generator": "deeplabv3plus-resnet50", "batch_size": 24},
            )
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_the_batch_size_that_fits_is_found(
    shards_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(shards_dir, "automatic", **SMALL | {"batch_size": "auto", "num_steps": 2})
    assert "batch size" in capsys.readouterr().out


@pytest.mark.parametrize("method", [S4GAN, SUPERVISED])
def test_maps_and_scores_are_made(
    shards_dir: Path, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = run(shards_dir, "run", **SMALL, method=method) / "final_model.pth"
    on_gpu = salakseg.evaluate(model, shards_dir=shards_dir, device="cuda", amp=False, out="gpu")
    on_cpu = salakseg.evaluate(model, shards_dir=shards_dir, device="cpu", amp=False, out="cpu")
    assert on_gpu["miou"] == pytest.approx(on_cpu["miou"], abs=0.01)
