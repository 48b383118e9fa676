"""A prediction that is stopped goes on where it was, and ends with the same bytes."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch

from salakseg.errors import InputError, WorkError
from salakseg.mapping import classify as classify_module
from salakseg.mapping import one_map, outputs, predict, resample, scratch
from salakseg.mapping.classify import Block, classify
from salakseg.mapping.scratch import open_scratch
from salakseg.model.weights import Model, save_model
from tests.mapping.samples import BrightestBand, coloured, smooth_image
from tests.rasters import write_tiff

KEY = {"model": "a"}


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of four tiles, a save after each, and a clock that stands."""

    class Noon(outputs.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Noon":
            return cls(2026, 1, 1, 12, tzinfo=tz)

    monkeypatch.setattr(outputs, "datetime", Noon)
    monkeypatch.setattr(resample, "SUMS_BYTES", 1)
    monkeypatch.setattr(classify_module, "SUMS_BYTES", 1)
    monkeypatch.setattr(scratch, "SAVE_SECONDS", 0.0)


def stop_after(count: int, error: type[BaseException]) -> Any:
    """`classify`, in whose place `error` comes after that many blocks."""

    def stopped(*arguments: Any, **options: Any) -> Iterator[Block]:
        for number, block in enumerate(classify(*arguments, **options)):
            if number == count:
                raise error
            yield block

    return stopped


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("resolution", "probabilities"), [("own", False), ("own", True), ("0.17", True)]
)
@pytest.mark.usefixtures("small_blocks")
def test_a_resumed_map_is_the_same_bytes(
    tiny: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    resolution: str,
    probabilities: bool,
) -> None:
    save_model(tmp_path / "model.pth", tiny)
    image = np.moveaxis(smooth_image(400, 370), 2, 0)
    path = write_tiff(tmp_path / "field.tif", image)
    options: dict[str, Any] = {
        "model": tmp_path / "model.pth",
        "resolution": resolution,
        "probabilities": probabilities,
    }
    predict.predict([path], out=tmp_path / "unbroken", **options)
    for count in (4, 3):
        monkeypatch.setattr(resample, "classify", stop_after(count, KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            predict.predict([path], out=tmp_path / "maps", **options)
        assert [path.name for path in (tmp_path / "maps").iterdir()] == [".partial-field"]
    done: list[int] = []

    def rest(*arguments: Any, **given: Any) -> Iterator[Block]:
        done.append(given["done"])
        return classify(*arguments, **given)

    monkeypatch.setattr(resample, "classify", rest)
    predict.predict([path], out=tmp_path / "maps", **options)
    assert done == [4 + 3]
    assert contents(tmp_path / "maps") == contents(tmp_path / "unbroken")
    folders = [path.name for path in (tmp_path / "maps").iterdir() if path.is_dir()]
    assert folders == ["field_view"]


@pytest.mark.usefixtures("small_blocks")
def test_what_was_classified_is_not_lost_with_the_disk(
    brightest: Model, brightest_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiff(tmp_path / "field.tif", np.moveaxis(coloured(200, 200)[0], 2, 0))
    full = monkeypatch.context()
    with full as patch, pytest.raises(WorkError, match="could not be written"):
        patch.setattr(one_map, "write_raster", lambda *_: (_ for _ in ()).throw(OSError("full")))
        predict.predict([path], model=brightest_file, out=tmp_path / "maps")
    network = brightest.generator.network
    assert isinstance(network, BrightestBand)
    before = network.tiles
    predict.predict([path], model=brightest_file, out=tmp_path / "maps")
    assert network.tiles == before


@pytest.mark.usefixtures("small_blocks")
def test_another_option_begins_anew_and_says_so(
    brightest_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image, expected = coloured(200, 200)
    path = write_tiff(tmp_path / "field.tif", np.moveaxis(image, 2, 0))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(resample, "classify", stop_after(3, KeyboardInterrupt))
        predict.predict([path], model=brightest_file, out=tmp_path / "maps")
    assert "the same command goes on" in capsys.readouterr().out
    [result] = predict.predict([path], model=brightest_file, out=tmp_path / "maps", overlap=0.1)
    assert "is discarded" in capsys.readouterr().out
    np.testing.assert_array_equal(result.pixels, np.bincount(expected.ravel(), minlength=3))


@pytest.mark.usefixtures("small_blocks")
def test_half_a_map_without_probabilities_is_no_half_of_one_with_them(
    brightest_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor the other way round: gone on with in turns, one would have holes."""
    image, _ = coloured(200, 200)
    path = write_tiff(tmp_path / "field.tif", np.moveaxis(image, 2, 0))
    out = tmp_path / "maps"
    for probabilities in (True, False):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(resample, "classify", stop_after(3, KeyboardInterrupt))
            predict.predict([path], model=brightest_file, out=out, probabilities=probabilities)
    predict.predict([path], model=brightest_file, out=out, probabilities=True)
    with rasterio.open(out / "field_probabilities.tif") as raster:
        assert (raster.read().sum(axis=0, dtype=int) > 250).all()


@pytest.mark.usefixtures("small_blocks")
def test_an_image_that_is_damaged_further_down_leaves_nothing(
    brightest_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiff(tmp_path / "field.tif", np.moveaxis(coloured(300, 300)[0], 2, 0))
    monkeypatch.setattr(resample, "classify", stop_after(2, InputError))
    with pytest.raises(InputError):
        predict.predict([path], model=brightest_file, out=tmp_path / "maps")
    assert list((tmp_path / "maps").iterdir()) == []


@pytest.mark.parametrize("harm", ["state.npz", "labels.raw", "image.raw"])
def test_a_damaged_scratch_begins_anew(tmp_path: Path, harm: str) -> None:
    block = Block(
        0, 0, *(np.full((4, 6), value, np.uint8) for value in (1, 90)),
        np.zeros((4, 6, 3), np.uint8), torch.zeros(3, 1, 6),
    )  # fmt: skip

    def interrupted() -> None:
        with open_scratch(tmp_path / "s", (8, 6), KEY, np.zeros(2, np.uint32)) as unfinished:
            for _ in unfinished.keep(iter([block])):
                pass
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with open_scratch(tmp_path / "s", (8, 6), KEY, np.zeros(2, np.uint32)) as again:
        assert (again.done, again.pixels) == (1, 24)
        assert (again.window("labels", 2, 1, 9, 9)[:2] == 1).all()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    (tmp_path / "s" / harm).write_bytes(b"damaged")
    with open_scratch(tmp_path / "s", (8, 6), KEY, np.zeros(2, np.uint32)) as anew:
        assert anew.done == 0
        assert anew.path("labels").stat().st_size == 48
    assert not (tmp_path / "s").exists()


def test_two_processes_do_not_work_on_one_map(tmp_path: Path) -> None:
    with open_scratch(tmp_path / "s", (8, 6), KEY, np.zeros(2, np.uint32)):
        other = open_scratch(tmp_path / "s", (8, 6), KEY, np.zeros(2, np.uint32))
        with pytest.raises(InputError, match="another salakseg"), other:
            pass
        assert (tmp_path / "s" / "labels.raw").exists()


KILLED = """
import sys, time
from pathlib import Path
from salakseg.mapping import classify, predict, resample, scratch
resample.SUMS_BYTES = classify.SUMS_BYTES = 1
scratch.SAVE_SECONDS = 0.0
whole = scratch.Scratch._save
def save(self, *arguments):
    whole(self, *arguments)
    print(self.done, flush=True)
    time.sleep(60 if self.done == 9 else 0)
scratch.Scratch._save = save
predict.predict([sys.argv[1]], model=sys.argv[2], out=sys.argv[3])
"""


@pytest.mark.usefixtures("small_blocks")
def test_a_killed_process_loses_one_block(
    tiny: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(tmp_path / "model.pth", tiny)
    path = write_tiff(tmp_path / "field.tif", np.moveaxis(smooth_image(400, 400), 2, 0))
    model, out = tmp_path / "model.pth", tmp_path / "maps"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path), str(model), str(out)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "9":
            break
    process.kill()
    process.wait()
    time.sleep(0.1)
    predict.predict([path], model=model, out=out)
    assert "goes on at" in capsys.readouterr().out
    predict.predict([path], model=model, out=tmp_path / "unbroken")
    assert contents(out) == contents(tmp_path / "unbroken")
