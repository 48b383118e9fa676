"""Data and models for the tests of evaluation."""

from pathlib import Path

import pytest

import salakseg
from tests.evaluation.samples import BLUE, GREEN, RED, VOID, band_model, picture, write_mapping


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """shards/ of four patches whose scores are known, and the folder that they came from.

    A (val): image half red, half green, truth Red.  B (val): smaller than a patch; image blue,
    truth half Blue, half Void.  C (train): image red, truth Red.  D (test): truth Void, so that it
    is left out.
    """
    root = tmp_path_factory.mktemp("bands")
    data = root / "data"
    for kind in ("images", "masks"):
        (data / kind).mkdir(parents=True)
    write_mapping(data / "class_mapping.csv")
    for name, image, mask in (
        ("A_patch_000_000.png", picture(32, 32, RED, GREEN), picture(32, 32, RED)),
        ("B_patch_000_000.png", picture(32, 24, BLUE), picture(32, 24, BLUE, VOID)),
        ("C_patch_000_000.png", picture(32, 32, RED), picture(32, 32, RED)),
        ("D_patch_000_000.png", picture(32, 32, GREEN), picture(32, 32, VOID)),
    ):
        image.save(data / "images" / name)
        mask.save(data / "masks" / name)
    (root / "split.csv").write_text(
        "base_image,split\nA,val\nB,val\nC,train\nD,test\n", encoding="utf-8"
    )
    salakseg.index(data, out=root / "index", split_file=root / "split.csv", num_workers=1)
    salakseg.shard(index_dir=root / "index", out=root / "shards", num_workers=1)
    return root


@pytest.fixture
def best_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that stands for the band model."""
    monkeypatch.setattr("salakseg.evaluation.evaluate.load_model", lambda *_: band_model())
    path = tmp_path / "best_model.pth"
    path.touch()
    return path
