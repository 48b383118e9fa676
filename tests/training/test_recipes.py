"""The commands of docs/training.md, as they stand there, with smaller numbers."""

import json
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from salakseg.cli import app
from salakseg.model.weights import load_model
from salakseg.training import loop, options, start
from salakseg.training.checkpoint import read_checkpoint

DOCS = Path(__file__).parents[2] / "docs" / "training.md"
# 50,000 iterations are 6 here, and a batch is 2.
SMALLER = {"100000": "12", "8": "4"}


@dataclass(frozen=True)
class SmallOptions(options.Options):
    """What takes the place of the defaults."""

    generator: str = "tiny"
    encoder_weights: str = "none"
    num_steps: int = 6
    batch_size: int = 2
    eval_every: int = 4
    save_pred_every: int = 4
    save_latest_every: int = 2


def recipes() -> dict[str, list[list[str]]]:
    """The words of each salakseg command, by the heading over it."""
    found: dict[str, list[list[str]]] = {}
    for section in DOCS.read_text(encoding="utf-8").split("\n## ")[1:]:
        heading = section.partition("\n")[0]
        for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words and words[0] == "salakseg":
                    found.setdefault(heading, []).append(words[1:])
    return found


RECIPES = recipes()


def run(*words: str, answer: str = "") -> str:
    """Run a command with smaller numbers; what it says."""
    smaller = [SMALLER.get(word, word) for word in words]
    return CliRunner().invoke(app, smaller, input=answer, catch_exceptions=False).output


@pytest.fixture(scope="module")
def finished(shards_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with shards/ and a finished run in checkpoints/."""
    work = tmp_path_factory.mktemp("finished")
    shutil.copytree(shards_dir, work / "shards")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "Options", SmallOptions)
        patch.setattr(start, "Options", SmallOptions)
        patch.chdir(work)
        run("train")
    return work


@pytest.fixture(autouse=True)
def with_a_run(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(loop, "Options", SmallOptions)
    monkeypatch.setattr(start, "Options", SmallOptions)


def stop_after_four() -> None:
    """Leave what a power cut after iteration 4 leaves."""
    for path in Path("checkpoints").glob("final_*"):
        path.unlink()
    for name in ("checkpoint_6.pth", "run.json"):
        Path("checkpoints", name).unlink()
    shutil.copy("checkpoints/checkpoint_4.pth", "checkpoints/latest_checkpoint.pth")


def test_every_recipe_has_a_test() -> None:
    assert set(RECIPES) == {
        "Stop and go on",
        "Extend a finished run",
        "Change an option on the way",
        "When nothing is whole but the best weights",
        "See what is there",
    }


def test_stop_and_go_on(finished: Path) -> None:
    stop_after_four()
    (command,) = RECIPES["Stop and go on"]
    assert "iteration 4" in run(*command)
    for name in ("final_model.pth", "best_model.pth", "log.csv"):
        expected = (finished / "checkpoints" / name).read_bytes()
        assert Path("checkpoints", name).read_bytes() == expected


def test_extend_a_finished_run() -> None:
    (command,) = RECIPES["Extend a finished run"]
    assert "--num-steps is now 12, was 6" in run(*command)
    summary = json.loads(Path("checkpoints_extended/run.json").read_text(encoding="utf-8"))
    assert summary["iterations"] == 12
    assert read_checkpoint(Path("checkpoints/latest_checkpoint.pth"))["iteration"] == 6


def test_change_an_option_on_the_way() -> None:
    stop_after_four()
    (command,) = RECIPES["Change an option on the way"]
    assert "--batch-size is now 4, was 2" in run(*command)
    content = read_checkpoint(Path("checkpoints/latest_checkpoint.pth"))
    # Four iterations of two patches, two of four.
    assert content["positions"] == {"labeled": 16, "unlabeled": 16}


def test_when_nothing_is_whole_but_the_best_weights() -> None:
    for path in Path("checkpoints").glob("*checkpoint*.pth"):
        path.write_bytes(b"")
    (command,) = RECIPES["When nothing is whole but the best weights"]
    assert "Starting at iteration 0 with the weights of" in run(*command)
    assert load_model(Path("checkpoints-new/final_model.pth")).iteration == 6


def test_see_what_is_there() -> None:
    listing, cleaning, doctor = RECIPES["See what is there"]
    assert "latest_checkpoint.pth" in run(*listing)
    run(*cleaning, answer="n\n")
    assert Path("checkpoints/checkpoint_4.pth").exists()
    assert "Remove 1 file" in run(*cleaning, answer="y\n")
    left = {path.name for path in Path("checkpoints").glob("*.pth")}
    assert left == {
        *("best_model.pth", "best_model_D.pth", "final_model.pth", "final_model_D.pth"),
        *("latest_checkpoint.pth", "latest_model.pth", "latest_model_D.pth", "checkpoint_6.pth"),
    }
    advice = json.loads(Path("checkpoints/run.json").read_text(encoding="utf-8"))["advice"]
    said = run(*doctor)
    assert said.count("\n") == max(1, len(advice)) and all(a["text"] in said for a in advice)
