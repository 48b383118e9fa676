import pytest
import torch

from salakseg.errors import WorkError
from salakseg.model.generator import create_generator
from salakseg.training import batch_size
from salakseg.training.batch_size import (
    automatic_batch_size,
    bytes_needed,
    largest_batch_size,
    try_out,
)
from salakseg.training.options import METHODS, S4GAN, SUPERVISED, Recipe
from salakseg.training.step import Step


def make_step(method: str, device: str) -> Step:
    recipe = Recipe(method, 10, 1e-3, None, 1.0, 0.1, 0, False)
    return Step(create_generator("tiny", 5, "none"), 5, recipe, torch.device(device), None)


@pytest.mark.parametrize(
    ("room", "most", "expected"),
    [(100, 1000, 8), (10, 1000, 1), (9, 1000, 0), (1e9, 1000, 64), (1e9, 36, 32)],
)
def test_the_largest_that_fits(room: float, most: int, expected: int) -> None:
    tried = []

    def needs(size: int) -> float:
        tried.append(size)
        return 10.0 * size if size <= 32 or room > 1000 else float("inf")

    assert largest_batch_size(needs, room, most) == (expected, 10.0 * expected)
    # No size is tried beyond the first that does not fit.
    assert max(tried) <= max(1, 2 * expected)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_tried_is_a_whole_iteration(method: str) -> None:
    step = make_step(method, "cpu")
    try_out(step, 2, 32)
    *sums, count = step.totals.tolist()
    assert count == 2
    assert sums[0] > 0  # cross entropy
    assert all(state for state in step.optimizer.state.values())


def test_one_labelled_patch_is_a_whole_iteration_too() -> None:
    # The default network pools each picture to one value a channel.
    generator = create_generator("deeplabv3plus-resnet18", 5, "none")
    recipe = Recipe(SUPERVISED, 10, 1e-3, None, 1.0, 0.1, 0, False)
    step = Step(generator, 5, recipe, torch.device("cpu"), None)
    try_out(step, 1, 64)
    assert step.totals.isfinite().all() and step.totals[-1] == 2


def test_the_memory_that_is_measured_is_of_the_card_that_is_trained_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    card, asked = torch.device("cuda:1"), []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: asked.append(device))
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: asked.append(device) or 7)
    assert bytes_needed(lambda: make_step(S4GAN, "cpu"), 1, 32, card) == 7
    assert asked == [card, card]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="measures a GPU's memory")
def test_a_larger_batch_needs_more_memory() -> None:
    def needs(size: int) -> float:
        return bytes_needed(lambda: make_step(S4GAN, "cuda"), size, 256, torch.device("cuda"))

    assert 0 < needs(1) < needs(8) < torch.cuda.mem_get_info()[1]


def test_elsewhere_several_processes_share_out_the_default() -> None:
    cpu = torch.device("cpu")
    found = automatic_batch_size(
        lambda: make_step(S4GAN, "cpu"), 256, 100, cpu, otherwise=4, processes=2
    )
    assert found == 4


def test_on_a_gpu_it_is_found_out_and_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10 << 20, 16 << 20))
    monkeypatch.setattr(batch_size, "bytes_needed", lambda *given: float(given[1] << 20))
    gpu = torch.device("cuda")
    found = automatic_batch_size(lambda: make_step(S4GAN, "cpu"), 256, 100, gpu, otherwise=4)
    assert found == 8
    assert "--batch-size auto: 8, which takes 8.0 MB of the 9.0 MB" in capsys.readouterr().out
    for most, of_each in ((100, 8), (9, 4), (1, 1)):
        found = automatic_batch_size(
            lambda: make_step(S4GAN, "cpu"), 256, most, gpu, otherwise=4, processes=2
        )
        assert found == 2 * of_each
        assert f"{of_each} in each of 2 processes, which" in capsys.readouterr().out
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1 << 20, 16 << 20))
    with pytest.raises(WorkError, match=r"not even 1 fits in the 921\.6 KB"):
        automatic_batch_size(lambda: make_step(S4GAN, "cpu"), 256, 100, gpu, otherwise=4)
