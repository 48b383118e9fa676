"""The pictures of the points, and the images that they are of."""

from pathlib import Path

import numpy as np
from PIL import Image

from salakseg.assessment.chips import BEYOND, SIDE, write_chip
from salakseg.assessment.plan import assess_plan
from salakseg.mapping.predict import predict
from tests.assessment.samples import class_map, labels_of
from tests.mapping.samples import coloured, png, source_of


def test_the_chips_show_the_pixel_in_their_middle(tmp_path: Path) -> None:
    labels = np.zeros((400, 400), np.uint8)
    labels[:, 200:] = 1
    plan = assess_plan([class_map(tmp_path / "field", labels)], points=20, least=2)
    for one in plan.content["sample"]:
        with Image.open(f"assessment/chips/{one['id']}.jpg") as chip:
            assert chip.size[0] == 774 and chip.size[1] > 387
            for middle in (193, 387 + 193):
                near_border = abs(one["column"] - 199.5) < 8
                assert (
                    near_border or abs(chip.getpixel((middle, 193))[0] - 20 - 60 * one["class"]) < 9
                )


def test_an_image_may_be_given(tmp_path: Path) -> None:
    field = class_map(tmp_path / "field", labels_of())
    (tmp_path / "there").mkdir()
    (tmp_path / "field.tif").rename(tmp_path / "there" / "field.tif")
    assess_plan([field], points=20, least=2, image=[tmp_path / "there"])


def test_a_folder_of_patches_has_chips(brightest_file: Path, tmp_path: Path) -> None:
    image, _ = coloured(128, 128)
    (tmp_path / "flight" / "images").mkdir(parents=True)
    for row in range(2):
        for column in range(2):
            part = image[64 * row : 64 * row + 64, 64 * column : 64 * column + 64]
            png(tmp_path / "flight" / "images" / f"DJI_1_patch_{row:03d}_{column:03d}", part)
    predict([tmp_path / "flight"], model=brightest_file, out=tmp_path / "maps")
    plan = assess_plan([tmp_path / "maps"], points=30, least=5)
    assert len(list(Path("assessment/chips").glob("*.jpg"))) == len(plan.ids) == 30


def test_what_is_not_in_the_image_is_grey_and_a_scale_bar_lies_below(tmp_path: Path) -> None:
    image = np.full((300, 300, 3), 250, np.uint8)
    valid = np.ones((300, 300), bool)
    valid[:, 30:] = False
    path = tmp_path / "chip.jpg"
    write_chip(path, source_of(image, valid), 0, 0, None)
    chip = np.asarray(Image.open(path)).astype(int)
    assert chip.shape == (SIDE, 2 * SIDE, 3)
    # The near part: a pixel of the image is three of the picture, from its middle on.
    near = chip[:, :SIDE]
    middle = SIDE // 2
    assert abs(near[: middle - 60] - BEYOND).max() < 12
    assert abs(near[-60:, middle + 60 : middle + 80] - 250).max() < 12
    assert abs(near[-60:, middle + 100 :] - BEYOND).max() < 12
    write_chip(path, source_of(image), 150, 150, 0.1)
    assert np.asarray(Image.open(path)).shape[0] > SIDE
