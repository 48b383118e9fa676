"""What a person sees of an index."""

import shutil
from pathlib import Path

import pytest

from salakseg.data.index import index
from salakseg.data.index_files import read_index
from salakseg.data.index_report import draw_preview, print_report
from salakseg.data.problems import Problems
from salakseg.imagery.drawing import MARGIN, TEXT_SIZE


def test_bars_of_the_preview_are_as_long_as_the_shares(index_dir: Path) -> None:
    found = read_index(index_dir)
    names = found.mapping.names
    pixels = {"train": dict.fromkeys(names, 0) | {names[0]: 900, names[1]: 300}}
    picture = draw_preview(found.data, found.patches, found.mapping, pixels)
    bars = picture[-(TEXT_SIZE + MARGIN) * (len(names) + 1) :]
    first, second = ((bars == color).all(axis=2).sum() for color in found.mapping.colors[:2])
    assert first / second == pytest.approx(3, rel=0.05)


def test_the_report_names_what_is_lacking(
    index_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = read_index(index_dir)
    first, second = found.mapping.names[:2]
    for split in ("train", "val"):
        found.summary["class_pixels"][split][first] = 0
    found.summary["class_pixels"]["val"][second] = 0
    found.summary["problems"] = {"file name": 2}
    problems = Problems()
    problems.handled("file name", "b.png", "the second")
    problems.handled("file name", "a.png", "the first")
    print_report(found.summary, found.patches, found.mapping, problems, index_dir)
    printed = capsys.readouterr().out
    assert f"WARNING: no pixel of {first} in any mask" in printed
    assert f"WARNING: no pixel of {second} in val" in printed
    assert "36 train, 18 val; 18 unlabelled" in printed
    assert "a.png: the first" in printed and "the second" not in printed


def test_without_masks_it_warns(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(data / "flight-1/masks")
    summary = index(data, num_workers=1)
    assert summary["splits"] == {"train": 0, "val": 0, "test": 0, "unlabeled": 96, "exclude": 0}
    assert "WARNING: no labelled patches" in capsys.readouterr().out
    assert Path("index/preview.png").exists()
