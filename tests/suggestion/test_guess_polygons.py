"""A guess as polygons, and back: the same mask pixel by pixel, in every format."""

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
from affine import Affine
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from salakseg import index, patchify, suggest
from salakseg.classes import ClassMapping, read_class_mapping, read_mask
from salakseg.cli import app
from salakseg.data.index_files import read_index
from salakseg.errors import InputError
from salakseg.suggestion.export import exporting
from salakseg.suggestion.guess_polygons import areas_of, in_one_ring, writer_of
from salakseg.suggestion.originals import find_photo
from tests.data.cutting import write_geotiff
from tests.data.labelling import drawn, read

MAPPING = ClassMapping(
    (("Air", (0, 0, 255), False), ("Kebun, salak", (9, 99, 9), False), ("Tanah", (1, 2, 3), False))
)
WIDTH, HEIGHT = 160, 96
FORMATS = ("geopackage", "coco", "labelme")


def noise(seed: int, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """Labels with large areas full of holes, areas that touch at corners, and no class here and
    there, inside and along the edges."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array([0, 1, 2, 255], np.uint8), (height, width), p=(0.7, 0.1, 0.1, 0.1))
    labels[height // 3 : height // 2] = 2
    labels[5:20, 5:40] = np.where(labels[5:20, 5:40] == 0, 1, 255)
    return labels


def test_areas_are_cut_where_the_pixels_are() -> None:
    labels = noise(0)
    classes, shapes = areas_of(labels, Affine(2, 0, 100, 0, -2, 50))
    assert shapely.is_valid(shapes).all() and set(classes) == {0, 1, 2}
    assert shapely.area(shapes).sum() == 4 * (labels != 255).sum()
    assert areas_of(np.full((3, 4), 255, np.uint8))[1].size == 0


def test_holes_are_let_in() -> None:
    area = shapely.Polygon(
        [(0, 0), (20, 0), (20, 20), (0, 20)],
        [[(2, 2), (2, 4), (4, 4), (4, 2)], [(6, 2), (6, 4), (8, 4), (8, 2)]],
    )
    ring = in_one_ring(area)
    # Two more corners a hole, and the same area by the shoelace formula.
    assert len(ring) == 4 + 2 * (4 + 2)
    x, y = ring.T
    assert abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2 == area.area == 392
    # The second hole is reached from the first, which is nearer than the outline.
    steps = np.abs(np.diff(np.vstack([ring, ring[:1]]), axis=0))
    assert [2, 0] in steps.tolist() and steps.max() == 20


@pytest.mark.parametrize("kind", ["coco", "labelme"])
@pytest.mark.parametrize("seed", range(3))
def test_other_programs_rings_hold_the_same_pixels(kind: str, seed: int, tmp_path: Path) -> None:
    labels = noise(seed, 40, 60)
    writer = writer_of(kind, tmp_path, "export", MAPPING)
    assert writer is not None
    writer.add("flight", "a.jpg", Path("a.jpg"), labels)
    writer.finish()
    (file,) = tmp_path.rglob("*.json")
    (one,) = read(file)
    assert (one.names[0].endswith("a.jpg"), one.size) == (True, (60, 40))
    assert np.array_equal(drawn(one.shapes), labels)
    content = json.loads(file.read_text(encoding="utf-8"))
    if kind == "labelme":
        assert content["imagePath"] == "../../flight/images/a.jpg"
    else:
        areas = [one["area"] for one in content["annotations"]]
        assert sum(areas) == (labels != 255).sum()
        assert [one["name"] for one in content["categories"]] == MAPPING.names


def picture(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(1, 255, (HEIGHT, WIDTH, 3), np.uint8)


def lay_out(placed: bool) -> None:
    """Two folders with a photograph `a` each to label, beside one with a mask that touches it."""
    for number, folder in enumerate(("one", "two")):
        place = Path("photos", folder, "images")
        place.mkdir(parents=True)
        for name, column in (("a", 0), ("b", WIDTH)):
            pixels = picture(10 * number + column)
            corner = Affine(0.1, 0, 400000 + 0.1 * column, 0, -0.1, 9150000 - 1000 * number)
            if placed:
                write_geotiff(place / f"{name}.tif", np.moveaxis(pixels, 2, 0), transform=corner)
            else:
                Image.fromarray(pixels).save(place / f"{name}.png")
        (place.parent / "masks").mkdir()
        colors = np.array(MAPPING.colors, np.uint8)
        labels = np.random.default_rng(number).integers(0, 3, (HEIGHT, WIDTH))
        Image.fromarray(colors[labels]).save(place.parent / "masks" / "b.png")
    rows = [f'"{name}",{" ".join(map(str, color))}' for name, color, _ in MAPPING.rows]
    text = "\n".join(["class_name,class_color", *rows]) + "\n"
    Path("photos/class_mapping.csv").write_text(text, encoding="utf-8")
    split = "one,b,train\ntwo,b,val\none,a,unlabeled\ntwo,a,unlabeled\n"
    Path("split.csv").write_text(f"folder,base_image,split\n{split}", encoding="utf-8")


def commands(howto: Path) -> list[list[str]]:
    lines = howto.read_text(encoding="utf-8").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("    salakseg ")]


def run(arguments: list[str]) -> str:
    result = CliRunner().invoke(app, [*arguments, "--num-workers", "1"])
    assert result.exit_code == 0, result.output
    return result.output


def labels_of_patches(out: Path, folder: str) -> NDArray[np.uint8]:
    mapping = read_class_mapping(out / "class_mapping.csv")
    full = np.full((HEIGHT, WIDTH), 7, np.uint8)
    patches = read_index(Path("index")).patches
    for patch in patches[(patches.folder == folder) & (patches.base_image == "a")].itertuples():
        x, y = int(patch.x), int(patch.y)
        full[y : y + patch.height, x : x + patch.width] = read_mask(
            out / str(patch.mask), mapping
        ).labels
    return full


@pytest.mark.parametrize("kind", FORMATS)
def test_a_guess_goes_round(kind: str) -> None:
    """By the commands that HOWTO.md gives; a neighbour on the ground and a namesake stay apart."""
    lay_out(placed=kind == "geopackage")
    patchify("photos", out="DATA", size=64, num_workers=1)
    index("DATA", split_file="split.csv", num_workers=1)
    found = read_index(Path("index"))
    guesses = {"one": noise(1), "two": noise(2)}
    with exporting(Path("label"), found, kind) as export:
        assert export is not None
        for folder, labels in guesses.items():
            export.add(find_photo(found, folder, "a"), labels.copy())
    assert not Path("label/one/masks").exists()
    howto = Path("label/HOWTO.md")
    assert "Copy `one/guess`, `two/guess` into the same folders" in howto.read_text("utf-8")
    for folder in guesses:
        shutil.copytree(f"label/{folder}/guess", f"photos/{folder}/guess")
    cut, indexed, *_ = commands(howto)
    assert cut[-2:] == ["--labels", str(Path("label/labels"))]
    run(cut)
    run(indexed)
    for folder, labels in guesses.items():
        assert np.array_equal(labels_of_patches(Path("DATA"), folder), labels)
    guessed = json.loads(Path("index/summary.json").read_text("utf-8"))["guessed"]
    assert (guessed["changed_pixels"], guessed["unchanged"]) == (0, ["one/a", "two/a"])

    # A second round, to labels that are there already.
    with exporting(Path("label2"), read_index(Path("index")), kind) as export:
        assert export is not None
        export.add(find_photo(found, "one", "a"), noise(3))
    assert "to the labels that you have" in Path("label2/HOWTO.md").read_text("utf-8")
    again, *_ = commands(Path("label2/HOWTO.md"))
    assert again[-2:] == ["--labels", str(Path("label/labels").resolve())]


def test_patches_put_together_go_round() -> None:
    """Where the full photograph is not known."""
    lay_out(placed=False)
    patchify("photos", out="DATA", size=64, num_workers=1)
    shutil.rmtree("photos")
    index("DATA", split_file="split.csv", num_workers=1)
    found = read_index(Path("index"))
    with exporting(Path("label"), found, "coco") as export:
        assert export is not None
        export.add(find_photo(found, "one", "a"), noise(1))
    cut, indexed, *_ = commands(Path("label/HOWTO.md"))
    run(cut)
    for part in ("masks", "guess"):
        shutil.copytree(f"label-patches/one/{part}", f"DATA/one/{part}", dirs_exist_ok=True)
    run(indexed)
    assert np.array_equal(labels_of_patches(Path("DATA"), "one"), noise(1))


def test_a_geopackage_has_the_classes_and_offers_them_without_a_guess() -> None:
    lay_out(placed=True)
    patchify("photos", out="DATA", size=64, num_workers=1)
    index("DATA", split_file="split.csv", num_workers=1)
    found = read_index(Path("index"))
    with exporting(Path("label"), found, "geopackage") as export:
        assert export is not None
        export.add(find_photo(found, "one", "a"), None)
    file = Path("label/labels/label.gpkg")
    about = pyogrio.read_info(file, layer="label")
    assert (about["features"], list(about["fields"]), about["crs"]) == (0, ["class"], "EPSG:32748")
    style = pyogrio.raw.read(file, layer="layer_styles", columns=["styleQML"])[3][0][0]
    assert "ValueMap" in style and "Kebun, salak" in style
    assert "no model has guessed yet" in Path("label/HOWTO.md").read_text("utf-8")


def test_what_has_no_place_is_refused() -> None:
    writer = writer_of("geopackage", Path("labels"), "label", MAPPING)
    assert writer is not None
    Image.fromarray(picture(0)).save("a.png")
    with pytest.raises(InputError, match=r"a\.png: has no place .* --export-as coco"):
        writer.add(".", "a.png", Path("a.png"), noise(0))


def test_what_can_be_a_mask_only_is_refused(index_dir: Path) -> None:
    found = read_index(index_dir)
    photo = find_photo(found, ".", "tile6_part008", "tile6_part008_patch_000_000")
    with (
        pytest.raises(InputError, match=r"single patch.*--export-as masks"),
        exporting(Path("label"), found, "coco") as export,
    ):
        assert export is not None
        export.add(photo, noise(0, 128, 128))
    assert not Path("label").exists()
    with pytest.raises(InputError, match="--export-as coco: is of --export"):
        suggest(index_dir=index_dir, export_as="coco")
    with pytest.raises(InputError, match="--export-as coco: is of whole photos"):
        suggest(index_dir=index_dir, export="label", export_as="coco", unit="patch")
    with pytest.raises(InputError, match="--export-as svg: choose one of masks, geopackage"):
        suggest(index_dir=index_dir, export="label", export_as="svg")
