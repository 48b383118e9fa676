"""Which files of a folder are labels, and of which format."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from salakseg.data.labels_files import read_label_files
from salakseg.errors import InputError
from tests.data.labelling import write_json, write_layer
from tests.data.test_labels_coco import ENCODED, coco
from tests.data.test_labels_cvat import cvat
from tests.data.test_labels_geographic import BOX
from tests.data.test_labels_labelme import labelme, shape


def test_a_folder_of_all_kinds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_layer(tmp_path / "z.gpkg", [BOX], what=["Road"])
    (tmp_path / "deep").mkdir()
    cvat(tmp_path / "deep" / "annotations.xml")
    coco(tmp_path / "c.json", [[0, 0, 9, 0, 9, 9]])
    labelme(tmp_path / "l.json", shape("Road", "rectangle", [[0, 0], [9, 9]]))
    write_json(tmp_path / "meta.json", {"classes": []})
    (tmp_path / "sensor.xml").write_text("<voc/>", encoding="utf-8")
    (tmp_path / ".hidden.json").write_text("{", encoding="utf-8")
    (tmp_path / "a.jpg").write_bytes(b"")
    found = read_label_files(tmp_path, None, None)
    assert len(found.ground) == 1
    names = [one.path.name for one in found.images]
    assert names == ["c.json", "c.json", "annotations.xml", "l.json"]
    out = " ".join(capsys.readouterr().out.split())
    assert "2 files without labels in a known format passed over" in out


def test_archives_in_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cvat(tmp_path / "task_1.zip")
    for name, inside in (("layer.zip", "a.geojson"), ("photos.zip", "a.jpg")):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.write(write_layer(tmp_path / "a.geojson", [BOX], what=["Road"]), inside)
    (tmp_path / "a.geojson").unlink()
    found = read_label_files(tmp_path, None, None)
    assert {one.path.name for one in found.images} == {"task_1.zip"} and len(found.ground) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "1 file without labels in a known format passed over" in out
    with pytest.raises(InputError, match=r"photos\.zip: no labels in a known format"):
        read_label_files(tmp_path / "photos.zip", None, None)


@pytest.mark.parametrize(
    "name", ["c.json", "l.json", "a.xml", "a.zip", "a.gpkg", "a.geojson", "a.fgb", "a.shp", "a.kml"]
)
def test_a_damaged_file_is_read_or_refused_in_a_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "c.json":
        images = [{"id": 3, "file_name": "a.jpg", "width": 5, "height": 7}]
        coco(path, [[0, 0, 9, 0, 9, 9]], {"counts": ENCODED, "size": [7, 5]}, images=images)
    elif name == "l.json":
        labelme(path, shape("Road", "rectangle", [[0, 0], [9, 9]], 1))
    elif path.suffix in (".xml", ".zip"):
        cvat(path)
    else:
        write_layer(path, [BOX, BOX], **{"Name" if name == "a.kml" else "what": ["Road", "Water"]})
    content = path.read_bytes()
    random = np.random.default_rng(0)
    for turn in range(40):
        damaged = bytearray(content)
        place = int(random.integers(len(content)))
        if turn % 2:
            damaged = damaged[:place]
        else:
            damaged[place : place + 3] = random.bytes(3)
        path.write_bytes(damaged)
        try:
            read_label_files(path, None, None)
        except InputError as error:
            assert str(path) in str(error) and "\n" not in str(error)


def test_what_is_no_file_of_labels(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder; --labels takes GeoPackage"):
        read_label_files(tmp_path / "none", None, None)
    with pytest.raises(InputError, match="no labels in it"):
        read_label_files(tmp_path, None, None)
    path = write_json(tmp_path / "a.json", {"classes": []})
    with pytest.raises(InputError, match=r"a\.json: no labels in a known format: GeoPackage"):
        read_label_files(path, None, None)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.json: damaged, or no file of JSON"):
        read_label_files(path, None, None)
    path = tmp_path / "a.zip"
    path.write_bytes(b"PK")
    with pytest.raises(InputError, match=r"a\.zip: damaged"):
        read_label_files(path, None, None)
