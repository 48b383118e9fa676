"""`patchify --labels`: which photograph labels lie on, and what a second run makes of changes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

from salakseg import patchify
from salakseg.errors import InputError
from salakseg.mapping.predict import predict
from tests.data.cutting import MAPPING, QUIET, SAMPLES, file_bytes
from tests.data.labelling import (
    labels_after,
    on_ground,
    orthomosaic,
    photo,
    write_json,
    write_layer,
)
from tests.data.test_labels_labelme import labelme, shape

pytestmark = QUIET
SQUARE = [[0, 0], [20, 20]]


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def two_classes(path: Path, **more: Any) -> Path:
    return labelme(
        path,
        shape("Road", "rectangle", SQUARE),
        shape("Water", "rectangle", [[10, 0], [40, 20]]),
        **more,
    )


def test_the_later_shape_holds_and_how_much_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo(tmp_path / "data" / "images" / "a.png")
    photo(tmp_path / "data" / "images" / "b.png")
    two_classes(tmp_path / "data" / "images" / "a.json")
    names = labels_after(tmp_path / "data", tmp_path / "out", tmp_path / "data" / "images")
    assert (names[:20, :10] == "Road").all() and (names[:20, 10:40] == "Water").all()
    assert (names == "").sum() == 2400 - 800
    out = said(capsys)
    assert "1 photo without a label in it, used without a mask: images/b.png" in out
    assert "Labels drawn on 1 photo: Road 8.3%, Water 25.0%; 66.7% without a class" in out
    assert "lie over one another in 200 pixels: the later one holds" in out
    assert not list((tmp_path / "out" / "masks").glob("b_*"))


def test_outside_and_area_of_interest(tmp_path: Path) -> None:
    orthomosaic(tmp_path / "data" / "images" / "field.tif")
    path = write_layer(tmp_path / "a.gpkg", [on_ground(shapely.box(0, 0, 20, 20))], what=["Road"])
    aoi = write_layer(tmp_path / "aoi.gpkg", [on_ground(shapely.box(10, 10, 40, 30))])
    names = labels_after(tmp_path / "data", tmp_path / "out", path, outside="Land")
    assert (names == "Road").sum() == 400 and (names == "Land").sum() == 2000
    names = labels_after(tmp_path / "data", tmp_path / "out2", path, outside="Land", aoi=aoi)
    assert (names == "Road").sum() == 100 and (names == "Land").sum() == 500
    assert (names[10:30, 10:40] != "").all()
    with pytest.raises(InputError, match="--outside: is of labels; give --labels"):
        patchify(tmp_path / "data", out=tmp_path / "out3", outside="Land")


def test_an_area_of_interest_that_a_photo_is_not_in(tmp_path: Path) -> None:
    for name, left in (("a", 0), ("b", 5000)):
        orthomosaic(tmp_path / "data" / "images" / f"{name}.tif")
        with rasterio.open(tmp_path / "data" / "images" / f"{name}.tif", "r+") as file:
            a, b, c, d, e, f = file.transform[:6]
            file.transform = Affine(a, b, c + a * left, d, e, f)
    path = write_layer(tmp_path / "a.gpkg", [on_ground(shapely.box(0, 0, 20, 20))], what=["Road"])
    options = {"outside": "Land", "aoi": path, "size": 64, "num_workers": 1}
    counts = patchify(tmp_path / "data", out=tmp_path / "out", labels=path, **options)
    assert (counts["photos"], counts["masked"]) == (2, 1)


def test_labels_that_changed_are_drawn_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    for name in ("a", "b"):
        photo(data / "images" / f"{name}.png")
        path = two_classes(data / "labels" / f"{name}.json")
        content = json.loads(path.read_text(encoding="utf-8")) | {"imagePath": f"{name}.png"}
        write_json(path, content)
    assert patchify(data, out=out, labels=data / "labels", size=32, num_workers=1)["cut"] == 2
    before = file_bytes(out)
    assert patchify(data, out=out, labels=data / "labels", size=32, num_workers=1)["cut"] == 0
    # Not told again, they are those of the last run; a file that was only touched is the same.
    write_json(path, content)
    capsys.readouterr()
    assert patchify(data, out=out, size=32, num_workers=1)["cut"] == 0
    assert "as in the last run, with --labels" in said(capsys)
    content["shapes"][0]["label"] = "Apples"
    write_json(path, content)
    assert patchify(data, out=out, size=32, num_workers=1)["cut"] == 1
    after = file_bytes(out)
    changed = {name for name in after if after[name] != before[name]}
    assert {name.split("_")[0] for name in changed} == {"masks/b", "class"}
    text = (out / "class_mapping.csv").read_text(encoding="utf-8")
    assert [line.split(",")[0] for line in text.splitlines()[1:]] == ["Road", "Water", "Apples"]
    capsys.readouterr()
    counts = patchify(data, out=out, labels=path, size=32, num_workers=1)
    assert (counts["cut"], counts["masked"]) == (1, 4)
    words = "WARNING: 1 photo had labels that --labels does not hold any more (images/a.png)"
    assert words in said(capsys)
    assert not list((out / "masks").glob("a_*"))


def test_names_in_several_folders(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for folder in ("one", "two"):
        photo(data / folder / "images" / "a.png")
    two_classes(tmp_path / "labels" / "two" / "a.json")
    patchify(data, out=tmp_path / "out", labels=tmp_path / "labels", num_workers=1)
    assert not (tmp_path / "out" / "one" / "masks").exists()
    assert (tmp_path / "out" / "two" / "masks").is_dir()
    two_classes(tmp_path / "labels" / "a.json")
    with pytest.raises(InputError, match=r"may be .*a\.png or .*a\.png; put the labels"):
        patchify(data, out=tmp_path / "out2", labels=tmp_path / "labels")


def test_what_does_not_fit_is_refused_by_name(tmp_path: Path) -> None:
    data = tmp_path / "data"
    photo(data / "images" / "a.png", 40, 60)
    path = two_classes(tmp_path / "a.json")

    def refused(words: str) -> None:
        with pytest.raises(InputError, match=words) as error:
            patchify(data, out=tmp_path / "out", labels=path)
        assert "\n" not in str(error.value)

    refused(r"a\.json: was drawn on .*a\.png of 60×40 pixels, .*a\.png has 40×60, turned")
    photo(data / "images" / "a.png")
    photo(data / "masks" / "a.png")
    refused(r"a\.png: is labelled in .*a\.json and has a mask")
    (data / "masks" / "a.png").unlink()
    (data / "images" / "a.png").rename(data / "images" / "c.png")
    refused("none of it lies on a photograph")
    (data / "images" / "c.png").rename(data / "images" / "a.png")
    two_classes(tmp_path / "twice" / "one.json")
    two_classes(tmp_path / "twice" / "two.json")
    path = tmp_path / "twice"
    refused(r"a\.png: is labelled in .*one\.json and .*two\.json")


def test_polygons_of_a_map_go_back_in(tmp_path: Path) -> None:
    """`predict --polygons` writes what `--labels` reads, with the same classes in every pixel."""
    import rasterio

    from salakseg.model.generator import create_generator
    from salakseg.model.weights import Model, save_model

    data = tmp_path / "data"
    orthomosaic(data / "images" / "field.tif", 256, 192)
    model = Model(create_generator("tiny", MAPPING.num_classes, "none"), MAPPING, patch_size=128)
    save_model(tmp_path / "model.pth", model)
    predict(
        [data / "images" / "field.tif"], model=tmp_path / "model.pth", out="maps", polygons=True
    )
    with rasterio.open("maps/field_classes.tif") as raster:
        expected = raster.read(1)
    (data / "class_mapping.csv").write_bytes((SAMPLES / "class_mapping.csv").read_bytes())
    names = labels_after(data, tmp_path / "out", Path("maps/field_polygons.gpkg"), 128)
    index_of = {name: k for k, name in enumerate(MAPPING.names)} | {"": 255}
    found = np.vectorize(index_of.get)(names)
    drawn = found != 255
    assert drawn.mean() > 0.9 and (found[drawn] == expected[drawn]).mean() > 0.99
