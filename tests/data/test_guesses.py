"""Masks that began as a model's guess."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from salakseg.classes import read_class_mapping, read_mask
from salakseg.data.folders import Folder
from salakseg.data.guesses import guesses_of
from salakseg.data.index import index
from tests.data.samples import PHOTOS, SIDE, patch, problems


def test_a_guess_belongs_to_the_mask_of_its_name() -> None:
    masks = ["a.png", "b.tif", "c.png"]
    guesses = ["a.tif", "b.txt", ".c.png", "d.png"]
    top = Folder(".", "images", "masks", mask_files=masks, guess_files=guesses)
    below = Folder("f/g", "images", "Masks", mask_files=masks, guess_files=guesses)
    assert guesses_of([top, below]) == {
        "masks/a.png": "guess/a.tif",
        "f/g/Masks/a.png": "f/g/guess/a.tif",
    }


def test_masks_are_compared_with_the_guess_that_they_began_as(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A guess for three photographs: one corrected, one as it was, one not wholly comparable."""
    guesses = data / "flight-1/guess"
    guesses.mkdir()
    for photo in PHOTOS[:3]:
        for path in (data / "flight-1/masks").glob(f"{photo}*"):
            shutil.copy(path, guesses)
    mapping = read_class_mapping(data / "class_mapping.csv")
    labels = read_mask(patch(data), mapping).labels
    pixels = np.dstack([np.array(Image.open(patch(data))), np.full((SIDE, SIDE), 255, np.uint8)])
    corrected = labels[:2, :10] != 255
    other = np.array(mapping.colors, np.uint8)[(labels[:2, :10] + 1) % mapping.num_classes]
    pixels[:2, :10, :3] = np.where(corrected[..., None], other, pixels[:2, :10, :3])
    erased = labels[5, :7] != 255
    pixels[5, :7, 3] = 0
    Image.fromarray(pixels).save(patch(data))
    third = sorted(guesses.glob(f"{PHOTOS[2]}*"))
    third[0].write_bytes(b"no image")
    Image.open(third[1]).crop((0, 0, 63, 64)).save(third[1])
    shutil.copy(patch(data), guesses / "nobody.png")
    Path(guesses / "notes.txt").write_text("looked at by Ni", encoding="utf-8")
    shutil.copytree(guesses, data / "flight-2/guess")  # no masks there

    guessed = index(data, num_workers=1)["guessed"]
    changed = int(corrected.sum() + erased.sum())
    assert changed >= 20
    assert guessed == {
        "masks": 34,
        "base_images": 3,
        "pixels": 34 * SIDE**2,
        "changed_pixels": changed,
        "unchanged": [f"flight-1/{PHOTOS[1]}"],
    }
    said = " ".join(capsys.readouterr().out.split())
    share = changed / (34 * SIDE**2)
    assert f"3 photographs began as a model's guess: {share:.1%} of the pixels ({changed})" in said
    assert f"Still as guessed: 1 of them (flight-1/{PHOTOS[1]}); if nobody" in said
    found = problems().set_index("kind")["file"]
    for kind, path in (("unreadable guess", third[0]), ("guess of another size", third[1])):
        assert found[kind] == f"flight-1/guess/{path.name}"
    assert "63×64, its mask is 64×64" in Path("index/problems.csv").read_text("utf-8")

    # A guess is never a label: nothing else depends on it.
    for path in data.glob("*/guess"):
        shutil.rmtree(path)
    assert index(data, num_workers=1, out="without")["guessed"] is None
    assert "guess" not in capsys.readouterr().out
    for name in ("patches.csv", "base_images.csv", "preview.png"):
        assert Path("index", name).read_bytes() == Path("without", name).read_bytes()
