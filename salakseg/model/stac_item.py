"""A model as a STAC Item with the extension MLM (Machine Learning Model), for catalogues of models.

https://github.com/stac-extensions/mlm, whose bands are those of STAC 1.1 and whose classes those of
the extension `classification` 1.1.
"""

import re
from datetime import datetime
from typing import Any

from salakseg.band_set import COLOURS
from salakseg.model.onnx_network import IMAGE, PROBABILITIES
from salakseg.model.weights import Model

SCHEMA = "https://stac-extensions.github.io/mlm/v1.5.2/schema.json"
TASK = "semantic-segmentation"
# What a STAC name of a class may not hold.
OTHER = re.compile(r"[^0-9A-Za-z_-]+")


def stac_item(model: Model, file: str, made: datetime, any_size: bool) -> dict[str, Any]:
    """The Item that lies beside an ONNX file.

    Args:
        file: the ONNX file's name.
        made: when the model was, with its time zone.
        any_size: whether it takes tiles of any size, or of the model's patch size alone.
    """
    names, band_set = model.mapping.names, model.band_set
    bands = list(COLOURS) if band_set is None else band_set.names
    scales = [(0, 255)] if band_set is None else [(one.low, one.high) for one in band_set.bands]
    # Of the Item, where MLM looks for them, and of the asset, without which STAC has them nowhere.
    described = [{"name": name} for name in bands]
    sides = [-1, -1] if any_size else [model.patch_size] * 2
    classes = [
        {
            "value": number,
            "name": OTHER.sub("-", name).strip("-") or f"class-{number}",
            "description": name,
            "color_hint": "{:02X}{:02X}{:02X}".format(*color),
        }
        for number, (name, color) in enumerate(zip(names, model.mapping.colors, strict=True))
    ]
    properties = {
        "datetime": made.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "description": f"Land cover of {', '.join(names)}",
        **({} if model.pixel_size is None else {"gsd": model.pixel_size}),
        "bands": described,
        "mlm:name": f"salakseg-{OTHER.sub('-', model.generator.name)}",
        "mlm:architecture": model.generator.name,
        "mlm:tasks": [TASK],
        "mlm:framework": "ONNX",
        "mlm:total_parameters": sum(one.numel() for one in model.generator.network.parameters()),
        "mlm:accelerator": None,
        "mlm:accelerator_constrained": False,
        "mlm:input": [
            {
                "name": IMAGE,
                "bands": bands,
                "input": {
                    "shape": [-1, len(bands), *sides],
                    "dim_order": ["batch", "bands", "height", "width"],
                    "data_type": "float32",
                },
                "value_scaling": [
                    {"type": "min-max", "minimum": low, "maximum": high} for low, high in scales
                ],
                "resize_type": None,
            }
        ],
        "mlm:output": [
            {
                "name": PROBABILITIES,
                "tasks": [TASK],
                "result": {
                    "shape": [-1, len(names), *sides],
                    "dim_order": ["batch", "class", "height", "width"],
                    "data_type": "float32",
                },
                "classification:classes": classes,
            }
        ],
    }
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [SCHEMA],
        "id": file.rpartition(".")[0],
        # Where it was trained it does not know.
        "geometry": None,
        "properties": properties,
        "links": [],
        "assets": {
            "model": {
                "href": f"./{file}",
                "type": "application/octet-stream; application=onnx",
                "title": "ONNX: normalisation, network and softmax",
                "roles": ["mlm:model", "mlm:weights"],
                "mlm:artifact_type": "onnx",
                "bands": described,
            }
        },
    }
