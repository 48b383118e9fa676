"""Layers as GeoPackages, which old GDAL and QGIS read too, and their styles."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray

# GDAL of a few years ago, as QGIS 3.22 has it, warns of newer ones.
GPKG_VERSION = "1.2"


def write_layer(
    path: Path,
    layer: str,
    kind: str,
    geometries: NDArray[np.object_],
    columns: dict[str, NDArray[Any]],
    crs: str | None,
    tags: dict[str, str],
    append: bool = False,
) -> None:
    """Write a layer, or append to it; the file is there afterwards, even with nothing in it.

    Args:
        kind: of all geometries (N,), Polygon, MultiPolygon or Point.
        columns: (N,) each.
        tags: of the layer, where it is not there yet.

    Raises:
        DataSourceError, DataLayerError: it cannot be written.
    """
    with warnings.catch_warnings():
        # A photograph has no CRS, and need not be told so.
        warnings.filterwarnings("ignore", "'crs' was not provided", UserWarning)
        pyogrio.raw.write(
            path,
            shapely.to_wkb(geometries),
            list(columns.values()),
            list(columns),
            layer=layer,
            driver="GPKG",
            geometry_type=kind,
            crs=crs,
            append=append,
            # Tags of the whole file GDAL 3.12 copies to an `.aux.xml` by reading them.
            layer_metadata=None if append else tags,
            dataset_options=None if append else {"VERSION": GPKG_VERSION},
        )


def write_style(path: Path, layer: str, qml: str) -> None:
    """Give a layer its style, in the table where QGIS looks for it."""
    row = {
        "f_table_catalog": "",
        "f_table_schema": "",
        "f_table_name": layer,
        "f_geometry_column": "geom",
        "styleName": layer,
        "styleQML": qml,
        "styleSLD": "",
        "useAsDefault": True,
        "description": "",
        "owner": "",
        "ui": "",
        "update_time": np.datetime64("now", "ms"),
    }
    values = [
        np.array([value], object if isinstance(value, str) else None) for value in row.values()
    ]
    pyogrio.raw.write(
        path,
        None,
        values,
        list(row),
        layer="layer_styles",
        driver="GPKG",
        layer_options={"FID": "id"},
    )
