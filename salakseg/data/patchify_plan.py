"""What a run of `patchify` cuts, and by what: the white level or the scale of each band, one for
all photos, and the class mapping by which smeared masks are read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salakseg.band_set import BandSet
from salakseg.classes import ClassMapping
from salakseg.console import console
from salakseg.data.patchify_check import (
    Checked,
    CutOptions,
    PhotoToCut,
    check_photos,
    mapping_of,
    mark_of,
)
from salakseg.data.patchify_record import Record
from salakseg.data.problems import first_of, plural
from salakseg.data.workers import Workers
from salakseg.imagery.band_facts import made_of


@dataclass(frozen=True)
class Plan:
    """What this run cuts, and by what: see `patchify_record`.

    Attributes:
        todo: the photos to cut.
        checked: source → what is in them.
        white_level: the one for all photos of 16 bits; None where there are none.
        band_set: of all photos, where more than three bands are taken; else None.
        mapping: the class mapping by which smeared masks are read; None where there is none.
    """

    todo: list[PhotoToCut]
    checked: dict[str, Checked]
    white_level: int | None
    band_set: BandSet | None
    mapping: ClassMapping | None

    def cut_by(self, photo: PhotoToCut) -> dict[str, Any]:
        """What the record keeps of a photo."""
        checked = self.checked[photo.source]
        several = {} if self.band_set is None else {"bands": self.band_set.mark}
        return several | {
            "files": photo.fingerprint(),
            "white_level": None if checked.white_level is None else self.white_level,
            "masks": mark_of(self.mapping) if checked.lossy else None,
        }


def plan_of(
    workers: Workers,
    data: Path,
    photos: list[PhotoToCut],
    record: Record,
    present: dict[tuple[str, str], set[Path]],
) -> Plan:
    """What is not done, or was cut by another white level, scale or class mapping than now."""
    todo = [
        photo
        for photo in photos
        if not record.is_done(photo, present[photo.folder, photo.base_image])
    ]
    checked = check_photos(workers, todo, record.options)
    kept = {source: by for source, by in record.photos.items() if source not in checked}
    level = record.options.white_level
    if level is None:
        levels = [one.white_level for one in checked.values()]
        levels += [by["white_level"] for by in kept.values()]
        level = max((level for level in levels if level is not None), default=None)
    band_set = None
    if options := record.options.several:
        band_set = _band_set(workers, photos, record, checked, options)
    smeared = [
        photo.mask
        for photo in photos
        if (photo.source in kept and kept[photo.source]["masks"] is not None)
        or (photo.source in checked and checked[photo.source].lossy)
    ]
    mapping = mapping_of(workers, data, photos, smeared[0] if smeared else None)
    otherwise = {
        source
        for source, by in kept.items()
        if by["white_level"] not in (None, level)
        or by["masks"] not in (None, mark_of(mapping))
        or (band_set is not None and by.get("bands") != band_set.mark)
    }
    if otherwise:
        console.print(
            f"{plural(len(otherwise), 'photo')} cut with another white level, scale or class "
            f"mapping ({first_of(sorted(otherwise))}): cut again"
        )
        again = [photo for photo in photos if photo.source in otherwise]
        checked |= check_photos(workers, again, record.options)
        todo = [photo for photo in photos if photo.source in checked]
    return Plan(todo, checked, level, band_set, mapping)


def _band_set(
    workers: Workers,
    photos: list[PhotoToCut],
    record: Record,
    checked: dict[str, Checked],
    numbers: tuple[int, ...],
) -> BandSet | None:
    """The record's, if it holds for what is to be cut; else that of all photos together."""
    facts = {one: of.bands for one, of in checked.items() if of.bands is not None}
    if not facts:
        return record.band_set
    found = made_of(facts, numbers, record.band_set)
    if found != record.band_set and len(facts) < len(photos):
        every = check_photos(workers, photos, record.options)
        found = made_of({one: of.bands for one, of in every.items() if of.bands}, numbers)
    record.band_set = found
    return found


def say_scale(plan: Plan, options: CutOptions) -> None:
    """What is full brightness, or the scale of each band, where that was to be found out."""
    if plan.band_set is not None and plan.todo:
        console.print(f"Bands, in 8 bits by one scale for all photos: {plan.band_set.described()}")
    own = [one.white_level for one in plan.checked.values() if one.white_level is not None]
    if not own:
        return
    keep_to = f"by themselves they keep to {', '.join(map(str, sorted(set(own))))}"
    how = f"{keep_to}; --white-level sets another"
    if options.white_level is not None:
        how = f"as --white-level says; {keep_to}"
    console.print(
        f"{plural(len(own), 'photo')} of 16 bits: {plan.white_level} is full brightness ({how})"
    )
