"""Windows of an open raster: the same for all threads, and what is done where it is damaged."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio.shutil

from salakseg.errors import InputError
from salakseg.imagery.raster import open_image
from tests.rasters import write_tiff

HEIGHT, WIDTH = 70, 90
BANDS = np.random.default_rng(0).integers(1, 255, (3, HEIGHT, WIDTH)).astype(np.uint8)


def test_two_threads_may_read_one_image(tmp_path: Path) -> None:
    bands = np.random.default_rng(0).integers(0, 256, (3, 600, 600)).astype(np.uint8)
    path = write_tiff(tmp_path / "field.tif", bands, compress="deflate", blockysize=8)
    with open_image(path) as source, ThreadPoolExecutor(4) as readers:
        rows = [row % 560 for row in range(0, 4000, 37)]
        for row, (image, _) in zip(
            rows, readers.map(lambda row: source.read(row, 5, 40, 500), rows), strict=True
        ):
            np.testing.assert_array_equal(image, np.moveaxis(bands, 0, 2)[row : row + 40, 5:505])


def test_a_tiff_that_was_cut_short_is_said_to_be_damaged(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "field.tif", BANDS, blockysize=5)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with open_image(path) as source:
        source.read(0, 0, 10, WIDTH)
        with pytest.raises(InputError, match=r"field\.tif: rows 60 to 69 cannot be read"):
            source.read(60, 0, 10, WIDTH)


def test_a_vrt_whose_parts_are_gone_is_not_called_damaged(tmp_path: Path) -> None:
    write_tiff(tmp_path / "part.tif", BANDS)
    rasterio.shutil.copy(tmp_path / "part.tif", tmp_path / "field.vrt", driver="VRT")
    (tmp_path / "part.tif").unlink()
    with (
        open_image(tmp_path / "field.vrt") as source,
        pytest.raises(InputError, match=r"field\.vrt: .*part\.tif: No such file.* it is made of"),
    ):
        source.read(0, 0, 9, 9)


def test_unreadable_blocks_can_be_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bands = BANDS
    path = write_tiff(
        tmp_path / "field.tif", bands, tiled=True, blockxsize=32, blockysize=16, compress="deflate",
        interleave="pixel",
    )  # fmt: skip
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with open_image(path) as source, pytest.raises(InputError, match="--skip-unreadable"):
        source.read(0, 0, HEIGHT, WIDTH)
    with open_image(path, skip_unreadable=True) as source:
        image, valid = source.read(0, 0, HEIGHT, WIDTH)
        part, part_valid = source.read(20, 10, 45, 60)
    assert 0.4 < valid.mean() < 0.8
    np.testing.assert_array_equal(image, np.moveaxis(bands, 0, 2) * valid[..., None])
    np.testing.assert_array_equal(part, image[20:65, 10:70])
    np.testing.assert_array_equal(part_valid, valid[20:65, 10:70])
    # Each block once, whatever window met it.
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(set(lines)) > 1
    assert "cannot be read and is left out" in lines[0]
