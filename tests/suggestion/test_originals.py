"""The photographs behind patches: the file, or the patches put together."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from salakseg.classes import IGNORE_INDEX, read_mask
from salakseg.data.index import index
from salakseg.data.index_files import Index, read_index
from salakseg.data.patchify import patchify
from salakseg.errors import InputError
from salakseg.imagery.photo import read_photo
from salakseg.imagery.tiles import paste
from salakseg.suggestion import originals
from salakseg.suggestion.originals import Photo, find_photo, guess
from tests.conftest import SAMPLES
from tests.data.cutting import write_geotiff

NAME = "tile1_part001"
FILE = SAMPLES / "images" / f"{NAME}.jpg"


@pytest.fixture
def found(index_dir: Path) -> Index:
    return read_index(index_dir)


@pytest.fixture
def photo(found: Index) -> Photo:
    return find_photo(found, ".", NAME)


def test_the_file_that_patches_were_cut_from_is_found(photo: Photo, patch_folders: Path) -> None:
    assert photo.original is not None
    assert photo.original.file.samefile(FILE)
    assert photo.original.data.samefile(SAMPLES)
    assert photo.original.out.samefile(patch_folders)


def test_patches_put_together_are_the_photograph(photo: Photo) -> None:
    with replace(photo, original=None).open() as source:
        pixels, valid = source.read(0, 0, source.height, source.width)
        part, _ = source.read(100, 50, 90, 200)
    assert valid.all()
    assert np.array_equal(pixels, read_photo(FILE))
    assert np.array_equal(part, pixels[100:190, 50:250])


def test_what_no_patch_covers_is_not_valid(photo: Photo) -> None:
    most = photo.patches[~((photo.patches.row == 0) & (photo.patches.column == 0))]
    with replace(photo, original=None, patches=most).open() as source:
        pixels, valid = source.read(0, 0, source.height, source.width)
    # The other patches of a photograph of 384 × 320 pixels begin at 128, and rows at 96 as well.
    gone = np.zeros((320, 384), bool)
    gone[: most.top[most.column == 0].min(), :128] = True
    assert (valid == ~gone).all() and (pixels[gone] == 0).all()


def test_patches_at_the_edges_may_be_smaller(tmp_path: Path) -> None:
    image = read_photo(FILE)[:100, :150]
    (tmp_path / "DATA/images").mkdir(parents=True)
    for row, column in np.ndindex(2, 3):
        patch = image[64 * row : 64 * row + 64, 64 * column : 64 * column + 64]
        name = f"a_patch_{row:03d}_{column:03d}.png"
        Image.fromarray(patch).save(tmp_path / "DATA/images" / name)
    index(tmp_path / "DATA", num_workers=1)
    with find_photo(read_index(Path("index")), ".", "a").open() as source:
        pixels, valid = source.read(0, 0, source.height, source.width)
    assert np.array_equal(pixels, image) and valid.all()


def test_known_masks_are_laid_over_a_guess(photo: Photo) -> None:
    labels = np.full((320, 384), 3, np.uint8)
    photo.draw_known(labels)
    truth = read_mask(SAMPLES / "masks" / f"{NAME}.png", photo.index.mapping).labels
    scored = truth != IGNORE_INDEX
    assert (labels[scored] == truth[scored]).all() and len(np.unique(labels)) > 1


def test_without_a_model_the_pieces_are_the_image(
    photo: Photo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(originals, "STRIP", 100)
    image = np.zeros((320, 384, 3), np.uint8)
    with photo.open() as source:
        for piece in guess(source, None):
            assert len(piece.image) <= 100
            assert (piece.labels == IGNORE_INDEX).all()
            paste(image, piece.image, piece.row, piece.column)
    assert np.array_equal(image, read_photo(FILE))


def test_a_single_patch(found: Index) -> None:
    patch = find_photo(found, ".", NAME, f"{NAME}_patch_001_002")
    with patch.open() as source:
        pixels, _ = source.read(0, 0, source.height, source.width)
    row = patch.patches.iloc[0]
    assert (row.row, row.column) == (1, 2)
    assert np.array_equal(pixels, read_photo(found.data / row.image))


def test_a_photo_that_is_not_in_the_index(found: Index) -> None:
    with pytest.raises(InputError, match="must belong together"):
        find_photo(found, ".", "stranger")


def test_the_file_is_read_as_its_patches_were_cut(tmp_path: Path) -> None:
    bands = np.random.default_rng(0).integers(500, 1000, (4, 64, 64), dtype=np.uint16)
    bands[:, :9] = 0
    write_geotiff(tmp_path / "photos/images/a.tif", bands)
    options = {"bands": "4,3,2", "nodata": 0, "white_level": 2000}
    patchify(tmp_path / "photos", out=tmp_path / "DATA", size=64, num_workers=1, **options)
    index(tmp_path / "DATA", num_workers=1)
    photo = find_photo(read_index(Path("index")), ".", "a")
    with photo.open() as source, replace(photo, original=None).open() as patches:
        whole, back = source.read(0, 0, 64, 64), patches.read(0, 0, 64, 64)
    assert photo.original is not None and not whole[1][:9].any() and whole[1][9:].all()
    assert np.array_equal(whole[1], back[1])
    assert np.array_equal(whole[0][whole[1]], back[0][back[1]])
