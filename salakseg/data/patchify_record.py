"""What an earlier run of `patchify` has done, and the files that say so.

`.patchify.json` at the root of the output holds the options, and of each photograph that is done by
which files it was cut, by which white level (None: 8 bits) or set of bands (a checksum) and, where
its mask is smeared, by which class mapping (a checksum). A photograph of which any of that is
another now is cut again: patches cut in two ways are never mixed. Before it is called done, its
patches are on the disk.
"""

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from salakseg.band_set import BandSet
from salakseg.console import console
from salakseg.data.labels import LabelOptions
from salakseg.data.layout import LAYOUT, LayoutRow, read_whole_layout, write_layout
from salakseg.data.patch_names import composed
from salakseg.data.patchify_check import CutOptions, PhotoToCut
from salakseg.data.patchify_cut import written
from salakseg.data.problems import first_of, plural
from salakseg.errors import InputError
from salakseg.files import flush, write_text

PATCH_FILE = re.compile(r"(?:\.partial-\d+-)?(.*)_patch_\d+_\d+\.(?:png|tif)", re.DOTALL)
RECORD = ".patchify.json"
FORMATS = ("salakseg-patchify-1", "salakseg-patchify-2")


@dataclass
class Record:
    """The state of an output folder.

    Attributes:
        out: the folder.
        data: what it was cut from, as a resolved path.
        options: how it is cut: this run's, or where that is told nothing those of the first one.
        labels: `LabelOptions.as_plain` of the labels that it is cut with; None without.
        photos: source → "files" (its fingerprint), "white_level" and "masks", of what is done.
        rows: source → its rows of layout.csv.
        band_set: of what is cut with more than three bands; None of others.
    """

    out: Path
    data: str
    options: CutOptions
    labels: dict[str, Any] | None = None
    photos: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: dict[str, list[LayoutRow]] = field(default_factory=dict)
    band_set: BandSet | None = None
    _unflushed: list[Path] = field(default_factory=list)

    def is_done(self, photo: PhotoToCut, present: set[Path]) -> bool:
        """Whether a photo is unchanged since it was cut and all its patches are `present`."""
        if self.photos.get(photo.source, {}).get("files") != photo.fingerprint():
            return False
        # An older version did not know of white levels, nor of what is not there.
        if "white_level" not in self.photos[photo.source]:
            return False
        return set(self._written(photo, self.rows.get(photo.source, ()))) == present

    def _written(self, photo: PhotoToCut, rows: Sequence[LayoutRow]) -> list[Path]:
        return written(photo, rows, self.out, self.options.image_suffix)

    def forget(self, photo: PhotoToCut, present: set[Path]) -> None:
        """Before it is cut again: one that became smaller must leave no patches of the former."""
        self.photos.pop(photo.source, None)
        self.rows.pop(photo.source, None)
        for patch in present:
            patch.unlink(missing_ok=True)

    def add(self, photo: PhotoToCut, rows: list[LayoutRow], **by: Any) -> None:
        """A photo is done; `by` is what it was cut by."""
        self.rows[photo.source], self.photos[photo.source] = rows, by
        self._unflushed += self._written(photo, rows)

    def save(self, photos: Sequence[PhotoToCut]) -> None:
        """Flush patches, write the layout files, then the record: what it calls done is there."""
        if self._unflushed:
            flush(self._unflushed)
        self._unflushed = []
        by_folder: dict[str, list[LayoutRow]] = defaultdict(list)
        for photo in photos:
            by_folder[photo.folder] += self.rows.get(photo.source, ())
        for folder, lines in by_folder.items():
            write_layout(self.out / folder / LAYOUT, lines)
        content = {"format": FORMATS[-1], "data": self.data, **asdict(self.options)}
        if self.labels is not None:
            content["labels"] = self.labels
        if self.band_set is not None:
            content["band_set"] = self.band_set.as_plain()
        content["photos"] = self.photos
        write_text(self.out / RECORD, json.dumps(content, indent=1, sort_keys=True) + "\n")


def labels_before(out: Path) -> LabelOptions | None:
    """The labels of an earlier run into `out`; None where it had none, or cannot be read."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return LabelOptions(**json.loads((out / RECORD).read_text(encoding="utf-8"))["labels"])
    return None


def read_record(
    out: Path,
    data: Path,
    options: CutOptions,
    photos: Sequence[PhotoToCut],
    labels: dict[str, Any] | None = None,
) -> Record:
    """What an earlier run into `out` did; `InputError` where its patches may not stay.

    Args:
        labels: of this run, as the record keeps them.
    """
    path, here = out / RECORD, str(data.resolve())
    give_another = "give another folder, or delete that one"
    if not path.is_file():
        folders = [out / photo.folder / "images" for photo in photos]
        if foreign := next((folder for folder in folders if folder.exists()), None):
            raise InputError(
                f"--out {out}: {foreign} was not written by this command; {give_another}"
            )
        return Record(out, here, options, labels)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] not in FORMATS:
            raise ValueError(content["format"])
        done = {
            source: by if isinstance(by, dict) else {"files": list(by)}
            for source, by in dict(content["photos"]).items()
        }
        bands = content.get("bands")
        earlier = CutOptions(
            int(content["size"]),
            None if bands is None else tuple(bands),
            content.get("nodata"),
            content.get("gsd"),
            content.get("white_level"),
        )
        other_data = content["data"]
        band_set = content.get("band_set")
        band_set = None if band_set is None else BandSet.from_plain(band_set)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); {give_another}") from error
    if done:
        options = _as_earlier(out, options, earlier, give_another)
    if done and content["format"] != FORMATS[-1]:
        console.print(
            f"{out}: cut by an older version, which made black pixels of what is not there: all is "
            "cut again"
        )
    now = {photo.source: photo.fingerprint() for photo in photos}
    if gone := sorted(done.keys() - now.keys()):
        raise InputError(
            f"--out {out}: holds patches of {plural(len(gone), 'photo')} not in {data} "
            f"({gone[0]}); {give_another}"
        )
    changed = [source for source in done if done[source].get("files") != now[source]]
    if changed and other_data != here:
        raise InputError(
            f"--out {out}: holds patches of {other_data}, whose {changed[0]} is another photo than "
            f"that of {data}; {give_another}"
        )
    bare = {photo.source for photo in photos if not photo.has_mask}
    # What is drawn adds one number to those of files, of which each has two.
    drawn = [source for source in changed if len(done[source].get("files") or ()) % 2]
    lost = [source for source in drawn if source in bare]
    if lost:
        console.print(
            f"WARNING: {plural(len(lost), 'photo')} had labels that --labels does not hold any "
            f"more ({first_of(lost)}): without a mask now; labels of all photos belong into one "
            "folder"
        )
    if changed:
        console.print(
            f"{plural(len(changed), 'photo is', 'photos are')} cut again: image, mask, labels or "
            "guess changed"
        )
    return Record(out, here, options, labels, done, _read_layouts(out, photos), band_set)


def _as_earlier(
    out: Path, options: CutOptions, earlier: CutOptions, give_another: str
) -> CutOptions:
    """With what the earlier run was told where this one is told nothing; `InputError` where it is
    told something else."""
    if earlier.size != options.size:
        raise InputError(
            f"--out {out}: holds patches of {earlier.size} pixels, --size is {options.size}; "
            f"{give_another}"
        )
    told, before = asdict(options), asdict(earlier)
    unsaid = {name: value for name, value in before.items() if told[name] is None}
    for name in told.keys() - unsaid:
        if told[name] != before[name]:
            with_it = f"without {_option(name)}"
            if before[name] is not None:
                with_it = f"with {_option(name, before[name])}"
            raise InputError(
                f"--out {out}: holds patches cut {with_it}, not with "
                f"{_option(name, told[name])}; {give_another}"
            )
    as_before = [_option(name, value) for name, value in unsaid.items() if value is not None]
    if as_before:
        console.print(f"{out}: as in the first run, with {' '.join(as_before)}")
    return replace(options, **unsaid)


def _option(name: str, value: Any = None) -> str:
    """As one types it."""
    words = [f"--{name.replace('_', '-')}"]
    if value is not None:
        words.append(",".join(map(str, value)) if isinstance(value, tuple) else f"{value:.10g}")
    return " ".join(words)


def _read_layouts(out: Path, photos: Sequence[PhotoToCut]) -> dict[str, list[LayoutRow]]:
    """Rows of the layout files of an earlier run, by source."""
    rows: dict[str, list[LayoutRow]] = defaultdict(list)
    for folder in {photo.folder for photo in photos}:
        path = out / folder / LAYOUT
        if path.is_file():
            for row in read_whole_layout(path):
                rows[row.source].append(row)
    return rows


def patches_present(out: Path, photos: Sequence[PhotoToCut]) -> dict[tuple[str, str], set[Path]]:
    """Every patch under `out`, and what a killed run left of one, by folder and base image."""
    present: dict[tuple[str, str], set[Path]] = defaultdict(set)
    for folder in {photo.folder for photo in photos}:
        for parent in (out / folder / kind for kind in ("images", "masks", "guess")):
            for path in parent.iterdir() if parent.is_dir() else ():
                if match := PATCH_FILE.fullmatch(path.name):
                    present[folder, composed(match[1])].add(path)
    return present
