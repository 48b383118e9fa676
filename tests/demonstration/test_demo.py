"""The drawn farm, and the way on it, with photographs of one patch each."""

import inspect
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

import salakseg
from salakseg import cli
from salakseg.demonstration import demo as module
from salakseg.demonstration import flights
from salakseg.errors import InputError
from tests.test_cli import succeed


@pytest.fixture
def farm(drawn: Path, tmp_path: Path) -> Path:
    """A copy to work in."""
    return Path(shutil.copytree(drawn, tmp_path / "my farm"))


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years", encoding="utf-8")
    with pytest.raises(InputError, match="thesis: holds something else"):
        salakseg.demo(tmp_path / "thesis")
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.txt"]


def test_stopped_while_drawing_it_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def draw_some(*arguments: Any) -> Any:
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt
        size = arguments[4], arguments[3]
        return np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8)

    monkeypatch.setattr(flights, "draw", draw_some)
    with pytest.raises(KeyboardInterrupt):
        salakseg.demo(tmp_path / "new", only_data=True, photo_patches=(1, 1))
    assert not (tmp_path / "new" / "DATA").exists()
    salakseg.demo(tmp_path / "new", only_data=True, photo_patches=(1, 1))
    assert len(list((tmp_path / "new" / "DATA").rglob("*.png"))) == 16 + 9


@pytest.mark.slow
def test_the_whole_way(farm: Path) -> None:
    said = succeed("demo", "--out", farm, "--num-steps", 4)
    assert f'$ cd "{farm}"' in said
    for line in ("index DATA", "shard", "eval best_model.pth", "predict farm.tif"):
        assert f"\n$ salakseg {line} " in said
    assert "Iter 4/4" in said and "the commonest class" in said
    for name in ("index/preview.png", "eval/contact_sheet.png", "predictions/index.html"):
        assert str(farm / name) in said and (farm / name).stat().st_size > 0
    assert (farm / "eval" / "report.html").exists()
    with rasterio.open(farm / "predictions" / "farm_classes.tif") as classes:
        assert classes.crs == "EPSG:32749"
    assert "\n$ salakseg assess score " in said
    # The interval is as true as its name, the network as bad as four iterations make it.
    found = re.search(r"(\d+\.\d+) ha estimated from \d+ points .* ha in truth. Of 7 classes", said)
    assert found is not None
    assert (farm / "assessment" / "report.html").exists()


NAMES = ("evaluate", "predict", "assess_plan", "assess_score")


@pytest.mark.parametrize("begun", [False, True])
def test_each_line_does_what_the_call_does(begun: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if begun:
        for name in (
            *("checkpoints/latest_checkpoint.pth", "predictions/farm_classes.tif"),
            "assessment/plan.json",
        ):
            Path(name).parent.mkdir()
            Path(name).touch()
    Path("farm_truth.png").touch()
    calls: list[tuple[str, dict[str, Any]]] = []
    for name in (*("index", "shard", "train"), *NAMES):
        real = getattr(salakseg, name)

        def record(*given: Any, _name: str = name, _real: Any = real, **options: Any) -> None:
            bound = inspect.signature(_real).bind(*given, **options)
            bound.apply_defaults()
            calls.append((_name, {key: plain(value) for key, value in bound.arguments.items()}))

        monkeypatch.setattr(real.__module__ + f".{name}", record)
    for command in module._commands(None):
        command.call()
        cli.app(shlex.split(command.line)[1:], standalone_mode=False)
    assert len(calls) == 14 and calls[::2] == calls[1::2]


def plain(value: Any) -> Any:
    """Paths and numbers are as typed, and a list of one is the one."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return plain(value[0]) if len(value) == 1 else [plain(item) for item in value]
    return str(value) if isinstance(value, Path | int | float) else value
