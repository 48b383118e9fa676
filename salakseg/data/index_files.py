"""index/: the files that `index` writes, and what is read back from them."""

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from salakseg.band_set import BandSet
from salakseg.classes import ClassMapping
from salakseg.data.problems import Problems
from salakseg.errors import InputError
from salakseg.files import atomic_path, sha256_of
from salakseg.imagery.drawing import Picture

FORMAT = "salakseg-index-1"
PATCH_COLUMNS = ["folder", "base_image", "row", "column", "image", "mask", "width", "height"]
PATCH_COLUMNS += ["bytes", "split", "pixel_size", "x", "y"]


@dataclass(frozen=True)
class Index:
    """What `index` wrote.

    `patches` has the columns of patches.csv: text columns hold strings ('' for none), width, height
    and bytes int64, row, column, x, y and the pixel counts Int64 (NA where not known), pixel_size
    float64 in metres (NaN where not known).
    """

    data: Path
    mapping: ClassMapping
    patches: pd.DataFrame
    patch_size: int
    summary: dict[str, Any]

    @property
    def band_set(self) -> BandSet | None:
        """Of patches of more than three bands; None of red, green and blue."""
        bands = self.summary.get("bands")
        return None if bands is None else BandSet.from_plain(bands)


def read_index(index_dir: Path) -> Index:
    """Read what `index` wrote.

    Raises:
        InputError: no index there, a damaged one, or one whose data is gone.
    """
    path = index_dir / "summary.json"
    if not path.is_file():
        raise InputError(f"{index_dir}: no index there; run salakseg index DATA first")
    again = "run salakseg index DATA again"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        if summary["format"] != FORMAT:
            raise InputError(f"{path}: the format {summary['format']!r} is not known here; {again}")
        mapping = ClassMapping.from_plain(summary["classes"], str(path))
        data, patch_size = Path(summary["data"]), int(summary["patch_size"])
        checksum = summary["patches_sha256"]
        if "bands" in summary:
            BandSet.from_plain(summary["bands"])
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged; {again}") from error
    table = index_dir / "patches.csv"
    if not table.is_file() or sha256_of(table) != checksum:
        raise InputError(
            f"{table}: missing, or not as salakseg index wrote it; {again} "
            "(to change the split, edit base_images.csv and give it to --split-file)"
        )
    if not data.is_dir():
        raise InputError(f"{data}: the data of {index_dir} is gone; {again} with its new place")
    optional = ["row", "column", "x", "y", *_counts(mapping)]
    types = {
        **dict.fromkeys(("folder", "base_image", "image", "mask", "split"), "str"),
        **dict.fromkeys(("width", "height", "bytes"), "int64"),
        **dict.fromkeys(optional, "Int64"),
        "pixel_size": "float64",
    }
    # A folder or photograph may be called NA or null: only numbers have missing values.
    missing = {name: [""] for name in (*optional, "pixel_size")}
    try:
        patches = pd.read_csv(
            table, dtype=types, keep_default_na=False, na_values=missing, encoding="utf-8"
        )
    except ValueError as error:  # the table is as written, so its classes are others
        raise InputError(f"{path}: does not fit {table}; {again}") from error
    if gone := types.keys() - set(patches.columns):
        raise InputError(f"{path}: does not fit {table}, which has no {min(gone)}; {again}")
    return Index(data, mapping, patches, patch_size, summary)


def _counts(mapping: ClassMapping) -> list[str]:
    """The columns of pixels, of both tables."""
    return ["ignored", *(f"pixels {name}" for name in mapping.names)]


def tables(
    patches: pd.DataFrame,
    bases: pd.DataFrame,
    mapping: ClassMapping,
    pixels: NDArray[np.int64],
    base_pixels: NDArray[np.int64],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """patches.csv and base_images.csv.

    Args:
        pixels, base_pixels: int64 (patches, 1 + K) and (base images, 1 + K), ignored and by class;
            a patch without a mask has none.
    """
    names = _counts(mapping)
    counts = pd.DataFrame(pixels, columns=names, index=patches.index).astype("Int64")
    counts[patches["mask"] == ""] = pd.NA
    words = bases[["folder", "base_image", "split", "patches", "labelled"]]
    of_bases = pd.DataFrame(base_pixels, columns=names)
    return (
        pd.concat([patches[PATCH_COLUMNS], counts], axis=1),
        pd.concat([words, of_bases], axis=1),
    )


def write_index(
    out: Path,
    table: pd.DataFrame,
    base_table: pd.DataFrame,
    problems: Problems,
    preview: Picture,
    summary: dict[str, Any],
) -> None:
    """All files or none: each is whole under a temporary name before the first gets its own."""
    with ExitStack() as stack:
        # The stack renames from the last to the first: the summary, which vouches for the rest,
        # comes last.
        names = ("summary.json", "preview.png", "problems.csv", "base_images.csv", "patches.csv")
        paths = {name: stack.enter_context(atomic_path(out / name)) for name in names}
        for name, frame in (("patches.csv", table), ("base_images.csv", base_table)):
            frame.to_csv(paths[name], index=False, encoding="utf-8", lineterminator="\n")
        paths["problems.csv"].write_text(problems.as_csv(), encoding="utf-8", newline="\n")
        Image.fromarray(preview).save(paths["preview.png"])
        summary["patches_sha256"] = sha256_of(paths["patches.csv"])
        text = json.dumps(summary, indent=2, ensure_ascii=False) + "\n"
        paths["summary.json"].write_text(text, encoding="utf-8", newline="\n")
