"""Layers as GeoPackages, which old GDAL and QGIS read too, and their styles."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError

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
    with crs_or_none():
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


@contextmanager
def crs_or_none() -> Iterator[None]:
    """A photograph has no CRS, and need not be told so."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided", UserWarning)
        yield


def write_style(path: Path, layer: str, qml: str) -> None:
    """Give a layer its style, in the table where QGIS looks for it; once all of it is written."""
    sql = f"SELECT last_change FROM gpkg_contents WHERE table_name = {_quoted(layer)}"
    [[changed]] = pyogrio.raw.read(path, sql=sql)[3]
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
        # By which `is_as_written` knows.
        "update_time": changed,
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


def is_as_written(path: Path, layer: str) -> bool:
    """Whether nobody has edited a layer since `write_style`: what looks at it leaves it so."""
    sql = (
        "SELECT 1 AS one FROM gpkg_contents JOIN layer_styles ON f_table_name = table_name "
        f"WHERE table_name = {_quoted(layer)} AND julianday(update_time) = julianday(last_change)"
    )
    try:
        return len(pyogrio.raw.read(path, sql=sql)[3][0]) == 1
    except (DataSourceError, DataLayerError):
        return False


def _quoted(name: str) -> str:
    """As a text in SQL."""
    return "'" + name.replace("'", "''") + "'"
