"""The command line, as a person runs it: in processes of their own."""

import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin
from typer.main import get_command
from typer.models import CommandInfo
from typer.testing import CliRunner

import salakseg
from salakseg import cli
from salakseg.cli import app, main
from salakseg.training.options import abouts
from tests.conftest import SAMPLES
from tests.processes import started


def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "salakseg", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def succeed(*arguments: object) -> str:
    done = run(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def fail(*arguments: object, code: int = 2) -> str:
    """The one line that a failing command says."""
    done = run(*arguments)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("Error: "), done.stderr
    return lines[0]


@pytest.mark.slow
def test_the_whole_way_through(split_file: Path) -> None:
    """patchify, index, shard, train, eval, predict; defaults wherever there is one."""
    succeed("patchify", SAMPLES, "--out", "DATA", "--size", 128)
    said = succeed("index", "DATA", "--split-file", split_file)
    assert "TOTAL PATCHES: 72 images, 72 masks" in said
    assert "\x1b" not in said  # no control codes in a pipe
    succeed("shard")
    said = succeed(
        *("train", "--num-steps", 40, "--batch-size", 4, "--generator", "tiny"),
        *("--encoder-weights", "none", "--eval-every", 20, "--device", "cpu"),
    )
    assert "Iter 40/40 | Loss_CE: " in said
    assert "Evaluating at iteration 20" in said

    said = succeed("eval", "best_model.pth", "--device", "cpu")
    metrics = json.loads(Path("eval/metrics.json").read_text(encoding="utf-8"))
    assert 0 < metrics["miou"] < 1
    assert f"{metrics['miou']:.4f}" in said
    for name in ("per_class.csv", "confusion_matrix.csv", "confusion_matrix.png"):
        assert Path("eval", name).stat().st_size > 0

    photo = SAMPLES / "images" / "tile8_part001.jpg"
    succeed("predict", photo, "--device", "cpu")
    with Image.open("predictions/tile8_part001_classes.png") as classes:
        assert classes.size == (384, 320)
    assert Path("predictions/tile8_part001_preview.png").exists()

    # The same photo as an orthomosaic, in a pattern that no shell has expanded.
    with Image.open(photo) as image:
        pixels = np.moveaxis(np.asarray(image), 2, 0)
    place = from_origin(500_000, 2_780_000, 0.3, 0.3)
    with rasterio.open(
        *("field.tif", "w"),
        driver="GTiff",
        width=384,
        height=320,
        count=3,
        dtype="uint8",
        crs="EPSG:32640",
        transform=place,
    ) as raster:
        raster.write(pixels)
    succeed("predict", "fie*.tif", "--device", "cpu")
    with rasterio.open("predictions/field_classes.tif") as result:
        assert (result.crs, result.transform) == ("EPSG:32640", place)
        assert result.shape == (320, 384)

    # What belongs to other commands, and what is there already.
    assert "--resume" in fail("train", "--num-steps", 1, "--generator", "tiny")


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys, salakseg.cli\n"
        "try: salakseg.cli.app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'pandas', 'rasterio', 'PIL', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_how_photographs_are_read_when_they_are_cut() -> None:
    cut = ("patchify", SAMPLES, "--out", "DATA", "--size", 128)
    said = succeed(*cut, "--bands", "3,2,1", "--nodata", 0, "--white-level", 4095, "--gsd", 0.05)
    assert "Pixel size of 8 photos by --gsd: 0.05 m" in said
    assert "cut with --bands 3,2,1, not with --bands 2" in fail(*cut, "--bands", 2)
    assert "8 photos, 8 with a mask, 8 done already" in succeed(*cut)
    assert "--bands x: must be band numbers" in fail(*cut, "--bands", "x")


def test_help_names_every_command() -> None:
    said = succeed("--help")
    for command in ("patchify", "index", "shard", "train", "eval", "predict"):
        assert command in said


def test_help_of_a_command_has_groups_and_an_example() -> None:
    group: Any = get_command(app)
    for name, command in group.commands.items():
        said = CliRunner().invoke(app, [name, "--help"]).output
        assert f"Example: salakseg {name}" in said
        assert said.count("\n") <= 100
        panels = {getattr(option, "rich_help_panel", None) for option in command.params} - {None}
        for panel in panels:
            assert f"\n{panel}:\n" in said
    for name in group.commands["assess"].commands:
        said = CliRunner().invoke(app, ["assess", name, "--help"]).output
        assert f"Example: salakseg assess {name}" in said and said.count("\n") <= 100


def test_a_wrong_name_gets_a_suggestion() -> None:
    assert "'train'" in run("trian").stderr
    assert "--batch-size" in run("train", "--batchsize", 3).stderr


def test_quiet_and_verbose_stand_anywhere() -> None:
    assert succeed("patchify", SAMPLES, "--out", "DATA", "--size", 128, "--quiet") == ""
    assert Path("DATA/layout.csv").exists()
    done = run("--verbose", "index", "nowhere")
    assert done.returncode == 2
    assert "Traceback" in done.stderr and done.stderr.splitlines()[-1].startswith("Error: nowhere")


def test_no_color_is_obeyed() -> None:
    script = (
        "from rich.text import Text\n"
        "from salakseg.console import console\n"
        "console.print(Text('red', style='red'))\n"
    )
    shown = [
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "FORCE_COLOR": "1", "TERM": "xterm-256color", **extra},
        ).stdout
        for extra in ({}, {"NO_COLOR": "1"})
    ]
    assert "\x1b" in shown[0] and "\x1b" not in shown[1]


@pytest.mark.parametrize(
    ("option", "command"),
    [
        ("--data-root", "salakseg index DATA"),
        ("--class-mapping", "salakseg index --class-mapping"),
        ("--num-classes", "salakseg index --class-mapping"),
        ("--val-split", "salakseg index --val-split"),
        ("--labeled-list", "salakseg index --labeled-list"),
    ],
)
def test_options_of_the_guides_train_name_the_command_that_takes_them(
    option: str, command: str
) -> None:
    assert command in fail("train", option, "x")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("index", "nowhere"), "nowhere"),
        (("shard",), "salakseg index"),
        (("train",), "salakseg shard"),
        (("eval", "best_model.pth"), "best_model.pth: no such model file"),
        (("predict", "nowhere.tif"), "nowhere.tif"),
        (("patchify", "nowhere", "--out", "x"), "nowhere"),
        (("assess", "plan", "nowhere_classes.tif"), "salakseg predict makes maps"),
        (("assess", "score"), "salakseg assess plan"),
    ],
)
def test_nothing_there(arguments: tuple[str, ...], message: str) -> None:
    assert message in fail(*arguments)


@pytest.mark.skipif(sys.platform == "win32", reason="no process groups")
def test_a_command_that_is_stopped_says_a_line_and_goes_on_when_called_again() -> None:
    photo = SAMPLES / "images" / "tile8_part001.jpg"
    Path("photos/images").mkdir(parents=True)
    for copy in range(24):
        shutil.copy(photo, f"photos/images/{copy}.jpg")
    command = ["patchify", "photos", "--out", "DATA", "--size", "64", "--num-workers", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "salakseg", *command],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    while not list(Path("DATA").glob("images/*.png")) and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGTERM)  # as SLURM and systemd do
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "Stopping (once more: at once) …\n")
    assert not list(Path("DATA").glob("**/.partial-*"))
    done = json.loads(Path("DATA/.patchify.json").read_text(encoding="utf-8"))["photos"]
    assert len(done) < 24
    assert f"{len(done)} done already" in succeed(*command)
    assert len(list(Path("DATA").glob("images/*.png"))) == 24 * 6 * 5


def test_a_second_signal_waits_for_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("salakseg.signals.SECONDS_OF_ONE", 0)
    left: list[int] = []

    class Left(Exception):
        pass

    def leave(code: int) -> None:
        left.append(code)
        raise Left

    def command(*_: Any, **__: Any) -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
        except KeyboardInterrupt:  # tidying up
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)

    monkeypatch.setattr(cli, "app", command)
    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(Left):
        main([])
    assert left == [130]
    assert capsys.readouterr().err.count("Stopping") == 1


def test_every_function_is_there_from_python() -> None:
    for name in salakseg.__all__:
        assert callable(getattr(salakseg, name))
    with pytest.raises(AttributeError):
        salakseg.segment  # noqa: B018


# Options that the function takes otherwise.
OF_THE_COMMAND_LINE = {"models", "image", "maps", "no_wandb", "no_cache", *cli.MOVED, *abouts()}


COMMANDS = [*app.registered_commands, *cli.assess.registered_commands]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda one: one.callback.__name__)
def test_the_command_line_and_python_agree_on_names_and_defaults(command: CommandInfo) -> None:
    typed = inspect.signature(command.callback).parameters
    called = inspect.signature(getattr(salakseg, command.callback.__name__)).parameters
    for name in typed.keys() - OF_THE_COMMAND_LINE:
        assert typed[name].default == called[name].default or name == "against", name


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM to oneself")
@pytest.mark.parametrize("last", ["pass", "raise InputError('that')"])
def test_a_signal_after_the_last_word_changes_nothing(last: str) -> None:
    # Python takes a while to end once torch is in it; `atexit` stands for that.
    program = (
        "import atexit, os, signal\n"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGTERM))\n"
        "import salakseg.cli as cli\n"
        "from salakseg.errors import InputError\n"
        f"def app(*_, **__):\n    {last}\n"
        "cli.app = app\n"
        "cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True)
    assert done.returncode == (0 if last == "pass" else 2)


def test_what_is_not_shared_out_is_done_by_the_first_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    version = salakseg.__version__
    for number, of_all, said in (("1", "2", ""), ("0", "2", version), ("1", "1", version)):
        monkeypatch.setenv("RANK", number)
        monkeypatch.setenv("WORLD_SIZE", of_all)
        with pytest.raises(SystemExit) as ended:
            cli.main(["--version"])
        assert ended.value.code == 0 and capsys.readouterr().out.strip() == said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--no-such"], "Error: No such option: --no-such"),
        (["--shards-dir"], "Error: Option '--shards-dir' requires an argument."),
        (["--batch-size", "x"], "Error: --batch-size x: must be auto or a number from 1"),
    ],
)
def test_of_several_processes_one_says_what_is_wrong_with_the_options(
    words: list[str], message: str
) -> None:
    # The later one would be first to say it, and waits to be ended, as torchrun does.
    first, later = started(2, "-m", "salakseg", "train", *words)
    said = first.communicate(timeout=180)[0]
    assert first.returncode == 2 and said.count("Error: ") == 1 and message in said
    assert later.poll() is None
    later.terminate()
    assert later.communicate(timeout=60)[0] == ""
