"""The page in a real browser, and the form in a real QGIS, where they are installed."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from salakseg.assessment.page import KEYS, write_page
from salakseg.assessment.plan import assess_plan
from salakseg.classes import ClassMapping
from tests.assessment.samples import NAMES, class_map, labels_of
from tests.mapping.test_styles import QGIS_PYTHON, has_qgis

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
# Answers, goes back, answers anew, skips, cannot tell; and writes down what came of it.
PRESS = """
<script>
for (const key of ["1", "3", "ArrowLeft", "2", "ArrowRight", "x", "0"])
  document.dispatchEvent(new KeyboardEvent("keydown", { key }));
document.querySelector("#classes button").click();
window.onload = () => {
  document.title = JSON.stringify([
    JSON.parse(localStorage.getItem(key)), at("where").textContent, at("bar").value,
    at("near").complete && at("near").naturalWidth,
    [...document.querySelectorAll("#classes button")].map(one => one.textContent),
  ]);
};
</script></body>"""
LOOK = """
import json, sys
from qgis.core import QgsApplication, QgsVectorLayer
application = QgsApplication([], False)
application.initQgis()
layer = QgsVectorLayer(sys.argv[1] + "|layername=points", "points", "ogr")
field = layer.fields().indexOf("reference")
setup, form = layer.editorWidgetSetup(field), layer.editFormConfig()
names = [one.name() for one in layer.fields()]
print("FOUND", json.dumps([setup.type(), setup.config(), layer.displayExpression(),
                           [name for at, name in enumerate(names) if form.readOnly(at)]]))
"""


def test_a_page_has_a_key_for_each_class_and_quotes_what_it_is_given(tmp_path: Path) -> None:
    rows = tuple((f"class {n} </script>'\"", (n, n, n), False) for n in range(40))
    write_page(tmp_path, "id", ["001"], ClassMapping(rows))
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert page.count("</script>") == 1 and "http" not in page
    found = re.search(r"choices = (\[.*\]);", page)
    assert found is not None
    choices = json.loads(found[1])
    assert [one["name"] for one in choices[:40]] == [name for name, *_ in rows]
    keys = [one["key"] for one in choices if one["key"]]
    assert len(set(keys)) == len(keys) == len(KEYS) + 2


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_answers_by_key_and_click_are_kept(tmp_path: Path) -> None:
    plan = assess_plan([class_map(tmp_path / "field", labels_of())], points=20, least=2)
    page = Path("assessment/index.html")
    page.write_text(page.read_text(encoding="utf-8").replace("</body>", PRESS), encoding="utf-8")
    done = subprocess.run(
        [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
            *(f"--user-data-dir={tmp_path / 'profile'}", page.resolve().as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = re.search(r"<title>(.*?)</title>", done.stdout)
    assert found is not None
    kept, where, bar, width, buttons = json.loads(found[1].replace("&amp;", "&"))
    ids = plan.ids
    expected = [NAMES[0], NAMES[1], "cannot tell", "none of these", NAMES[0]]
    answered = [ids[0], ids[1], ids[3], ids[4], ids[5]]
    assert kept == {"answers": dict(zip(answered, expected, strict=True)), "now": 6}
    assert (bar, width) == (5, 774) and "5 answered" in where
    assert buttons == ["Water1", "Land & sand2", "Wood3", "none of these0", "cannot tellx"]


@pytest.mark.skipif(not has_qgis(), reason="needs QGIS in the system's Python")
def test_qgis_asks_for_the_reference_by_a_list(tmp_path: Path) -> None:
    assess_plan([class_map(tmp_path / "field", labels_of())], points=20, least=2)
    done = subprocess.run(
        [QGIS_PYTHON, "-c", LOOK, "assessment/points.gpkg"],
        capture_output=True,
        text=True,
        env={"QT_QPA_PLATFORM": "offscreen", "HOME": str(tmp_path), "PATH": "/usr/bin"},
        check=True,
    )
    kind, config, label, fixed = json.loads(done.stdout.partition("FOUND ")[2])
    names = [next(iter(one)) for one in config["map"]]
    assert (kind, names) == ("ValueMap", ["", *NAMES, "none of these", "cannot tell"])
    assert (label, fixed) == ('"id"', ["id", "map", "x", "y"])
    assert np.all([one == {name: name} for one, name in zip(config["map"], names, strict=True)])
