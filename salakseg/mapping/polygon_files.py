"""Files of polygons: from the GeoPackage to other formats, and what one says of its making.

In: the GeoPackage of `mapping.polygons`. Out: its rows and tags as FlatGeobuf, for maps on the web,
or as GeoParquet 1.1, for DuckDB and pandas, batch by batch; beside it the style in a `.qml`. These
formats cannot be written to block by block, or not in an order that their readers want.

GeoParquet without geopandas, whose `to_parquet` takes a whole layer into memory. GDAL writes it
too, but not the one that pyogrio brings.
"""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyogrio
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError
from pyproj import CRS

from salakseg.errors import InputError
from salakseg.files import write_text
from salakseg.mapping.geopackage import crs_or_none, is_as_written
from salakseg.mapping.polygons import LAYER

FORMATS = ("gpkg", "fgb", "parquet")
# The tag that tells by which options, or by which zones, a layer was made.
SHAPED_BY = "SHAPED_BY"
INSTALL = 'pip install "salakseg[parquet]"'
# What GeoPandas and others call the column.
GEOMETRY = "geometry"


def checked_format(name: str | None) -> str:
    """One of `FORMATS`; the first one for None.

    Raises:
        InputError: there is no such format, or what writes it is not installed.
    """
    if name is None:
        return FORMATS[0]
    if name not in FORMATS:
        raise InputError(f"--polygon-format {name}: must be one of {', '.join(FORMATS)}")
    if name == "parquet" and find_spec("pyarrow") is None:
        raise InputError(f"--polygon-format {name}: needs pyarrow, not installed here: {INSTALL}")
    return name


def write_other(gpkg: Path, path: Path, crs: str | None, qml: str) -> None:
    """Write the polygons of a GeoPackage in the format of the suffix of `path`, and their style.

    Args:
        crs: of the image, WKT.

    Raises:
        DataSourceError, DataLayerError, OSError: it cannot be written.
    """
    info = pyogrio.read_info(gpkg, layer=LAYER, force_total_bounds=True)
    if path.suffix == ".parquet":
        _write_parquet(gpkg, path, crs, info)
    else:
        arrow = pyogrio.open_arrow(gpkg, layer=LAYER, use_pyarrow=False)
        with arrow as (_, batches), crs_or_none():
            pyogrio.write_arrow(
                batches,
                path,
                layer=LAYER,
                driver="FlatGeobuf",
                geometry_type=info["geometry_type"],
                geometry_name=info["geometry_name"],
                crs=crs,
                layer_metadata=info["layer_metadata"],
            )
        _require_whole(path, info["features"])
    write_text(path.with_suffix(".qml"), qml)


def _write_parquet(gpkg: Path, path: Path, crs: str | None, info: dict[str, Any]) -> None:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    column = {
        "encoding": "WKB",
        "geometry_types": [info["geometry_type"]],
        # None is a CRS that nobody knows; without any GeoParquet takes degrees for granted.
        "crs": None if crs is None else CRS(crs).to_json_dict(),
    }
    if info["features"]:
        column["bbox"] = list(info["total_bounds"])
    geo = {"version": "1.1.0", "primary_column": GEOMETRY, "columns": {GEOMETRY: column}}
    tags = info["layer_metadata"] | {"geo": json.dumps(geo)}
    with pyogrio.open_arrow(gpkg, layer=LAYER, use_pyarrow=True) as (_, batches):
        fields = [
            pa.field(GEOMETRY if field.name == info["geometry_name"] else field.name, field.type)
            for field in batches.schema
        ]
        schema = pa.schema(fields, metadata=tags)
        with ParquetWriter(path, schema, compression="zstd") as file:
            for batch in batches:
                file.write_batch(pa.record_batch(batch.columns, schema=schema))


def _require_whole(path: Path, features: int) -> None:
    """Raise `OSError` where a FlatGeobuf is cut off: GDAL says nothing of a disk that fills as the
    file is closed."""
    try:
        # They lie in the file one after the other.
        whole = not features or len(pyogrio.raw.read(path, skip_features=features - 1)[2]) == 1
    except (DataSourceError, DataLayerError, FeatureError, ValueError):
        whole = False
    if not whole:
        raise OSError(f"{path.name}: cut off; is the disk full?")


def tags_of(path: Path, layer: str = LAYER) -> dict[str, str]:
    """The tags of a layer of polygons that is there; {} where it is none."""
    try:
        if path.suffix == ".parquet":
            from pyarrow.parquet import read_schema

            tags = read_schema(path).metadata or {}
            return {name.decode(): value.decode() for name, value in tags.items()}
        return pyogrio.read_info(path, layer=layer)["layer_metadata"] or {}
    except (DataSourceError, DataLayerError, OSError, ValueError):
        return {}


def is_left_as_made(path: Path) -> bool:
    """Whether a file of polygons is one of ours that nobody has edited since."""
    if SHAPED_BY not in tags_of(path):
        return False
    return path.suffix != ".gpkg" or is_as_written(path, LAYER)
