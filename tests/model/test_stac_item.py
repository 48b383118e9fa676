"""A model's STAC Item: what MLM 1.5 wants of it, and what it says."""

from datetime import UTC, datetime
from typing import Any

from salakseg.band_set import Band, BandSet
from salakseg.classes import ClassMapping
from salakseg.model.generator import create_generator
from salakseg.model.stac_item import SCHEMA, stac_item
from salakseg.model.weights import Model

CLASSES = ClassMapping(
    (("Kebun, salak", (0, 10, 255), False), ("水", (9, 9, 9), False), ("Road", (1, 2, 3), False))
)
NIR = BandSet(
    tuple(Band(name, n, 0, 0.8) for n, name in enumerate(("red", "green", "blue", "nir"), 1)), 4
)


def item(bands: BandSet | None = None, any_size: bool = True) -> dict[str, Any]:
    model = Model(create_generator("tiny", 3, "none", bands), CLASSES, 64, 0.05)
    return stac_item(model, "best.v2.onnx", datetime(2026, 1, 2, 3, tzinfo=UTC), any_size)


def test_what_it_says() -> None:
    found = item()
    about = found["properties"]
    assert (found["id"], found["stac_extensions"]) == ("best.v2", [SCHEMA])
    assert (about["datetime"], about["gsd"]) == ("2026-01-02T03:00:00Z", 0.05)
    (given,), (result,) = about["mlm:input"], about["mlm:output"]
    assert (given["bands"], given["input"]["shape"]) == (["red", "green", "blue"], [-1, 3, -1, -1])
    assert given["value_scaling"] == [{"type": "min-max", "minimum": 0, "maximum": 255}]
    assert result["result"]["shape"] == [-1, 3, -1, -1]
    assert result["classification:classes"] == [
        {"value": 0, "name": "Kebun-salak", "description": "Kebun, salak", "color_hint": "000AFF"},
        {"value": 1, "name": "class-1", "description": "水", "color_hint": "090909"},
        {"value": 2, "name": "Road", "description": "Road", "color_hint": "010203"},
    ]
    asset = found["assets"]["model"]
    assert asset["href"] == "./best.v2.onnx" and "mlm:model" in asset["roles"]


def test_more_bands_have_a_scale_each() -> None:
    found = item(NIR, any_size=False)
    (given,) = found["properties"]["mlm:input"]
    assert given["bands"] == NIR.names and given["input"]["shape"] == [-1, 4, 64, 64]
    assert len(given["value_scaling"]) == 4
    assert {one["maximum"] for one in given["value_scaling"]} == {0.8}
    # STAC 1.1 takes bands of the Item only where an asset has some, MLM only those of the Item.
    assert found["properties"]["bands"] == found["assets"]["model"]["bands"]
