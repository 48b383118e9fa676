"""The styles: well-formed whatever the classes are called, and as QGIS itself takes them."""

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from salakseg.classes import ClassMapping
from salakseg.mapping.predict import predict
from salakseg.mapping.styles import (
    Layer,
    classes_qml,
    confidence_qml,
    layers_qlr,
    points_qml,
    polygons_qml,
)
from tests.mapping.samples import MAPPING, coloured, png
from tests.rasters import write_tiff

ODD = ClassMapping((('<"a">\' & b', (0, 10, 255), False), ("é 土", (1, 2, 3), False)))


def test_classes_have_their_names_and_colours() -> None:
    entries = ElementTree.fromstring(classes_qml(ODD)).iter("paletteEntry")
    assert [(entry.get("value"), entry.get("label"), entry.get("color")) for entry in entries] == [
        ("0", '<"a">\' & b', "#000aff"),
        ("1", "é 土", "#010203"),
    ]


def test_polygons_have_their_names_and_colours() -> None:
    root = ElementTree.fromstring(polygons_qml(ODD))
    assert [category.get("value") for category in root.iter("category")] == ODD.names
    colours = [option.get("value") for option in root.iterfind(".//Option[@name='color']")]
    assert colours == ["0,10,255,255", "1,2,3,255"]


def test_the_form_of_points_offers_the_answers() -> None:
    qml = points_qml("id", "reference", [*ODD.names, "none of these"])
    entries = ElementTree.fromstring(qml).iterfind(".//Option[@type='List']/Option/Option")
    names = ["", *ODD.names, "none of these"]
    assert [(one.get("name"), one.get("value")) for one in entries] == [(n, n) for n in names]


def test_a_layer_definition_names_files_and_has_their_styles() -> None:
    layers = [
        Layer("classes", "a & <b>_classes.tif", classes_qml(ODD), True),
        Layer("polygons", "a.gpkg|layername=classes", polygons_qml(ODD), False),
        Layer("image", "../no text \udcff.tif", None, True),
    ]
    text = layers_qlr("a & <b>", layers, None)
    text.encode("utf-8")
    root = ElementTree.fromstring(text)
    assert [one.findtext("datasource") for one in root.iter("maplayer")] == [
        "a & <b>_classes.tif",
        "a.gpkg|layername=classes",
        "../no text ?.tif",
    ]
    assert [one.findtext("provider") for one in root.iter("maplayer")] == ["gdal", "ogr", "gdal"]
    assert [one.get("label") for one in root.iter("paletteEntry")] == ODD.names
    assert [one.get("value") for one in root.iter("category")] == ODD.names
    assert root.find(".//srs") is None


@pytest.mark.parametrize(("classes", "least"), [(2, 50), (3, 33), (254, 0)])
def test_confidence_goes_from_the_least_that_there_can_be(classes: int, least: int) -> None:
    items = list(ElementTree.fromstring(confidence_qml(classes)).iter("item"))
    values = [float(item.get("value") or "") for item in items]
    np.testing.assert_allclose(values, np.linspace(least, 100, 5))
    assert [items[0].get("label"), items[-1].get("label")] == [f"{least} %", "100 %"]


# QGIS itself, in the system's Python


QGIS_PYTHON = Path("/usr/bin/python3")
OPEN = """
import json, sys
from qgis.core import (QgsApplication, QgsLayerDefinition, QgsProject, QgsProviderRegistry,
                       QgsRasterLayer, QgsVectorLayer)
application = QgsApplication([], False)
application.initQgis()
start = sys.argv[1]
found = {"parts": [part.name() for part in
                   QgsProviderRegistry.instance().querySublayers(sys.argv[2])]}
for kind in sys.argv[3:]:
    layer = QgsRasterLayer(f"{start}_{kind}", kind)
    legend = [item[0] for item in layer.legendSymbologyItems()]
    nodata = layer.dataProvider().sourceNoDataValue(1)
    found[kind] = [layer.renderer().type(), layer.bandName(1), nodata, legend]
layer = QgsVectorLayer(sys.argv[2], "polygons", "ogr")
found["polygons"] = [[item.label(), item.symbol().color().getRgb()[:3]]
                     for item in layer.renderer().legendSymbolItems()]
layer = QgsVectorLayer(start + "_areas.csv", "areas", "ogr")
found["areas"] = {field.name(): field.typeName() for field in layer.fields()}
project = QgsProject.instance()
root = project.layerTreeRoot()
assert QgsLayerDefinition.loadLayerDefinition(start + ".qlr", project, root)[0]
found["groups"] = [group.name() for group in root.findGroups()]
found["layers"] = [
    [entry.name(), entry.isVisible(), entry.layer().isValid(), entry.layer().crs().authid(),
     entry.layer().renderer().type()] for entry in root.findLayers()]
print("FOUND", json.dumps(found))
"""


@cache
def has_qgis() -> bool:
    if not QGIS_PYTHON.exists():
        return False
    command = [QGIS_PYTHON, "-c", "import qgis.core"]
    return subprocess.run(command, capture_output=True).returncode == 0


def opened(start: Path, polygons: Path, *rasters: str) -> dict[str, Any]:
    """What QGIS makes of the files of a map by opening them and nothing else."""
    done = subprocess.run(
        [QGIS_PYTHON, "-c", OPEN, start, polygons, *rasters],
        capture_output=True,
        text=True,
        # A profile of its own: none of the user's settings.
        env={"QT_QPA_PLATFORM": "offscreen", "HOME": str(start.parents[1]), "PATH": "/usr/bin"},
        check=True,
    )
    assert "Warning 1" not in done.stderr
    return json.loads(done.stdout.partition("FOUND ")[2])


@pytest.mark.parametrize(("suffix", "form"), [("tif", "gpkg"), ("png", "gpkg"), ("tif", "fgb")])
def test_qgis_shows_classes_polygons_and_tables_as_they_are(
    brightest_file: Path, tmp_path: Path, suffix: str, form: str
) -> None:
    if not has_qgis():
        pytest.skip("needs QGIS in the system's Python")
    image, _ = coloured(70, 80)
    path = png(tmp_path / "field", image)
    if suffix == "tif":
        path = write_tiff(tmp_path / "field.tif", np.moveaxis(image, 2, 0))
    options: dict[str, Any] = {"polygons": True, "min_area": 0, "polygon_format": form}
    predict([path], model=brightest_file, out=tmp_path / "maps", **options)
    before = sorted(file.name for file in (tmp_path / "maps").iterdir())
    start = tmp_path / "maps" / "field"
    polygons = start.with_name(f"field_polygons.{form}")
    found = opened(start, polygons, f"classes.{suffix}", f"confidence.{suffix}")
    assert found["parts"] == ["classes"]
    assert found[f"classes.{suffix}"] == ["paletted", "Band 1", 255, MAPPING.names]
    kind, band, nodata, legend = found[f"confidence.{suffix}"]
    assert (kind, nodata, legend[0], legend[-1]) == ("singlebandpseudocolor", 255, "33 %", "100 %")
    assert band == ("Band 1: confidence" if suffix == "tif" else "Band 1")
    expected = [
        [name, list(color)] for name, color in zip(MAPPING.names, MAPPING.colors, strict=True)
    ]
    assert found["polygons"] == expected
    crs = "EPSG:32748" if suffix == "tif" else ""
    assert found["groups"] == ["field"]
    assert found["layers"] == [
        ["polygons", False, True, crs, "categorizedSymbol"],
        ["confidence", False, True, crs, "singlebandpseudocolor"],
        ["classes", True, True, crs, "paletted"],
        ["image", True, True, crs, "multibandcolor"],
    ]
    areas = found["areas"]
    assert (areas["class"], areas["pixels"], areas["m2"]) == ("String", "Integer64", "Real")
    # To look at a map changes nothing in its folder.
    after = sorted(file.name for file in (tmp_path / "maps").iterdir())
    assert after == before
