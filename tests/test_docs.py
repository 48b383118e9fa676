"""README.md and docs/: their commands, links and tables against the code, their recipes run."""

import base64
import csv
import io
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from PIL import Image
from rasterio.transform import from_origin
from typer.main import get_command

from salakseg import index, patchify
from salakseg.classes import packaged_class_mapping, read_class_mapping, read_mask
from salakseg.cli import app
from salakseg.data.index_files import PATCH_COLUMNS
from salakseg.data.layout import LAYOUT_COLUMNS, WHITE_LEVEL
from salakseg.mapping.area_tables import HEADER
from salakseg.model.generator import create_generator
from salakseg.model.weights import Model, model_content
from salakseg.training import checkpoint
from salakseg.training.run_log import LOG_COLUMNS, TIMING_COLUMNS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Of those who work on the program.
ASIDE = [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "benchmarks").glob("*.md"))]
FORMATS = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
BENCHMARK = re.compile(r"benchmarks/[\w/]+\.(?:py|csv|md)")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def command_lines(page: Path) -> list[str]:
    """Each salakseg command in the page's blocks of shell and in its sentences."""
    text = text_of(page)
    found = []
    for block in re.findall(r"```(?:sh|powershell)\n(.*?)```", text, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            found += [part.strip() for part in re.split(r"&&|;", line.partition(" #")[0])]
    outside = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    found += [" ".join(line.split()) for line in re.findall(r"`(salakseg [^`]+)`", outside)]
    return [line for line in found if line.startswith("salakseg ")]


COMMANDS = [(page.name, line) for page in PAGES for line in command_lines(page)]


def parse(line: str) -> None:
    """Take a command line apart as the program would, without running anything."""
    group: Any = get_command(app)
    words = shlex.split(line)[1:]
    if words[0].startswith("--"):
        group.make_context("salakseg", list(words), resilient_parsing=True)
        assert words[0] in {"--help", *(n for option in group.params for n in option.opts)}, line
        return
    command = group.commands[words[0]]
    # A sentence may name an option alone, without its value or the arguments.
    if len(words) == 2 and words[1].startswith("--"):
        assert words[1] in {"--help", *(name for option in command.params for name in option.opts)}
    else:
        command.make_context(words[0], words[1:], resilient_parsing="…" in line or len(words) == 1)


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_every_command_line_names_what_there_is(page: str, line: str) -> None:
    parse(line.replace(" COMMAND", " train"))


def test_a_command_line_with_a_wrong_option_is_found() -> None:
    with pytest.raises(Exception, match="--batchsize"):
        parse("salakseg train --batchsize 3")
    with pytest.raises(KeyError, match="trian"):
        parse("salakseg trian")


def anchors(page: Path) -> set[str]:
    """What a heading is called in a link."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.replace("`", "")) for heading in headings)
    return {re.sub(r"[\s-]+", "-", heading.strip().lower()) for heading in plain}


@pytest.mark.parametrize("page", [*PAGES, *ASIDE], ids=lambda page: page.name)
def test_every_link_and_picture_is_there(page: Path) -> None:
    outside = re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)
    for target in LINK.findall(outside):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(path), f"{page.name}: {target}"


def test_every_benchmark_that_a_page_names_is_there() -> None:
    named = {name for page in [*PAGES, *ASIDE] for name in BENCHMARK.findall(text_of(page))}
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_benchmark_has_its_claim_in_the_table() -> None:
    told = set(
        re.findall(r"(?:speed|quality|reliability)/\w+\.py", text_of(ROOT / "benchmarks/README.md"))
    )
    programs = (ROOT / "benchmarks").glob("*/*.py")
    assert told == {f"{path.parent.name}/{path.name}" for path in programs}


def test_every_page_is_in_the_sites_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    assert sorted(re.findall(r": (\S+\.md)$", navigation, re.MULTILINE)) == [
        page.name for page in PAGES[1:]
    ]


def table(heading: str, page: str = FORMATS) -> list[str]:
    """The names in the first column of the table under a heading of the formats' page."""
    section = re.split(r"\n#+ ", page.partition(f"# {heading}\n")[2])[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


def with_classes(columns: list[str]) -> list[str]:
    """The columns of a real file, classes' names replaced by NAME, once each."""
    return list(dict.fromkeys(re.sub(r"^(pixels|iou) .*", r"\1 NAME", name) for name in columns))


def header(path: Path) -> list[str]:
    with open(path, encoding="utf-8", newline="") as file:
        return with_classes(next(csv.reader(file)))


def test_tables_of_formats_are_the_codes() -> None:
    assert table("layout.csv") == [*LAYOUT_COLUMNS, WHITE_LEVEL]
    assert sorted(table("patches.csv")) == sorted([*PATCH_COLUMNS, "ignored", "pixels NAME"])
    assert table("log.csv") == [*LOG_COLUMNS, "iou NAME"]
    assert table("timing.csv") == list(TIMING_COLUMNS)
    assert [name for name in table("areas.csv") if name in HEADER] == HEADER
    assert checkpoint.__doc__ is not None
    keys = checkpoint.__doc__.partition("| key | what it is |")[2]
    assert table("Full checkpoint") == table("key", f"# key\n{keys}")
    mapping = read_class_mapping(packaged_class_mapping())
    content = model_content(Model(create_generator("tiny", mapping.num_classes, "none"), mapping))
    assert table("Model file") == list(content)


def test_tables_of_formats_are_the_files(index_dir: Path, shards_dir: Path) -> None:
    for name in ("base_images.csv", "problems.csv"):
        assert table(name) == header(index_dir / name)
    assert sorted(table("samples.csv")) == sorted(header(shards_dir / "samples.csv"))


def recipe(heading: str) -> str:
    """The Python of a section of docs/data.md."""
    section = text_of(ROOT / "docs" / "data.md").partition(f"## {heading}\n")[2]
    match = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert match is not None
    return match[1]


MAPPING = "class_name,class_color,ignore\nNothing,0 0 0,yes\nWater,0 0 255,\nRoad,255 0 0,\n"


def test_masks_from_qgis() -> None:
    photos = Path("PHOTOS")
    (photos / "images").mkdir(parents=True)
    (photos / "class_mapping.csv").write_text(MAPPING, encoding="utf-8")
    place = {"crs": "EPSG:32650", "transform": from_origin(500_000, 9_000_000, 0.5, 0.5)}
    size = {"height": 40, "width": 60, "count": 3, "dtype": "uint8"}
    with rasterio.open(photos / "images/field.tif", "w", driver="GTiff", **size, **place) as file:
        file.write(np.full((3, 40, 60), 90, np.uint8))
    pyogrio.raw.write(
        "field_polygons.gpkg",
        np.array([shapely.to_wkb(shapely.box(500_000, 8_999_990, 500_010, 9_000_000))], object),
        [np.array(["Road"], object)],
        ["class"],
        driver="GPKG",
        geometry_type="Polygon",
        crs=place["crs"],
    )
    exec(recipe("Masks from QGIS"), {})
    patchify(photos, out="DATA", size=60)
    labels = read_mask(
        Path("DATA/masks/field_patch_000_000.png"),
        read_class_mapping(Path("DATA/class_mapping.csv")),
    ).labels
    assert (labels[:20, :20] == 1).all() and (labels == 1).sum() == 400
    assert (labels[20:] == 255).all()


def test_masks_from_cvat() -> None:
    Path("DATA").mkdir()
    Path("labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nWater:0,0,255::\nRoad:255,0,0::\n",
        encoding="utf-8",
    )
    exec(recipe("Masks from CVAT"), {})
    mapping = read_class_mapping(Path("DATA/class_mapping.csv"))
    assert (mapping.names, mapping.ignored_names) == (["Water", "Road"], ["background"])


def test_masks_from_labelme(capsys: pytest.CaptureFixture[str]) -> None:
    """Every tool of Labelme's that draws an area; what has none, or no class, is said."""
    Path("DATA/images").mkdir(parents=True)
    Path("DATA/class_mapping.csv").write_text(MAPPING, encoding="utf-8")
    drawn = io.BytesIO()
    Image.new("1", (5, 4), 1).save(drawn, "PNG")
    shapes = [
        ("Water", "polygon", [[2, 2], [9, 2], [9, 9], [2, 9]], None),
        ("Road", "rectangle", [[19, 9], [12, 2]], None),
        ("Water", "circle", [[30, 10], [30, 5]], None),
        ("Road", "mask", [[2, 12], [6, 15]], base64.b64encode(drawn.getvalue()).decode()),
        ("Road", "linestrip", [[0, 0], [9, 9]], None),
        ("Pond", "polygon", [[0, 0], [9, 9], [0, 9]], None),
        ("Road", None, [[12, 12], [14, 12], [14, 14], [12, 14]], None),
    ]
    drawing = {
        "imageWidth": 40,
        "imageHeight": 20,
        "shapes": [
            {"label": label, "points": points, "mask": mask}
            | ({"shape_type": kind} if kind else {})
            for label, kind, points, mask in shapes
        ],
    }
    Path("DATA/images/a.json").write_text(json.dumps(drawing), encoding="utf-8")
    exec(recipe("Masks from Labelme"), {})
    assert capsys.readouterr().out.splitlines() == [
        "a.json: Road, a linestrip, has no area: left out",
        "a.json: Pond is not in the class mapping: left out",
    ]
    reading = read_mask(
        Path("DATA/masks/a.png"), read_class_mapping(Path("DATA/class_mapping.csv"))
    )
    labels = reading.labels
    assert labels.shape == (20, 40) and not reading.unknown
    assert (labels[2:10, 2:10] == 0).all() and (labels[2:10, 12:20] == 1).all()
    assert (labels[12:16, 2:7] == 1).all() and (labels[12:15, 12:15] == 1).all()
    rows, columns = np.indices(labels.shape)
    distance = np.hypot(rows - 10, columns - 30)
    assert (labels[distance < 4.5] == 0).all() and (
        labels[(distance > 5.6) & (columns > 21)] == 255
    ).all()
    assert (labels == 1).sum() == 64 + 20 + 9


def test_index_masks_as_roboflow_exports_them() -> None:
    for number, folder in enumerate(("train", "valid")):
        path = Path("ROBOFLOW", folder)
        path.mkdir(parents=True)
        Image.new("RGB", (8, 8), (200 * number, 0, 0)).save(path / f"a{number}_jpg.rf.12ab.jpg")
        mask = np.zeros((8, 8), np.uint8)
        mask[4:] = 2
        Image.fromarray(mask).save(path / f"a{number}_jpg.rf.12ab_mask.png")
        names = "Pixel Value, Class\n0, background\n1, water\n2, road\n"
        (path / "_classes.csv").write_text(names, encoding="utf-8")
    exec(recipe("Index masks, as Roboflow exports them"), {})
    summary = index("DATA", num_workers=1)
    assert (summary["masks"], summary["mask_kinds"]) == (2, {"grey numbers": 2})
    assert summary["class_pixels"] == {
        "train": {"water": 0, "road": 32},
        "val": {"water": 0, "road": 32},
    }
