"""HOWTO.md of exported photographs: how they are labelled, and the commands that bring it back."""

from collections.abc import Sequence
from pathlib import Path

from salakseg.console import quoted
from salakseg.data.index_files import Index
from salakseg.data.patchify_record import labels_before
from salakseg.suggestion.guess_polygons import LABELS, MASKS
from salakseg.suggestion.originals import Photo

_MASK_PROGRAMS = """
- **GIMP, Krita**: open the photograph, the mask as a layer over it at half opacity; pencil,
  not brush; export the mask layer alone.
- **QGIS**: load both. With the plugin Serval the raster is painted directly. Or Raster >
  Conversion > Polygonize, correct the polygons, Rasterize to the photograph's size; row
  numbers of `class_mapping.csv` (from 0) in an 8-bit grey PNG are read as well.
- **CVAT**: a task with the images; upload annotations as *Segmentation mask 1.1*: a zip of
  `labelmap.txt`, `SegmentationClass/` (the masks) and `ImageSets/Segmentation/default.txt`
  (the names, one a line, without extension). Export the same way; `SegmentationClass/` holds
  the masks, black where nothing was drawn.
- **Labelme** draws polygons, it does not take the guess: `labelme images --labels labels.txt
  --nodata`, then its `labelme2voc.py images OUT --labels labels.txt`; `SegmentationClassPNG/`
  holds the masks. What was not drawn becomes {first}.
"""
_PROGRAMS = {
    "geopackage": """
- **QGIS**: open the photographs, and over them the GeoPackage of `labels/`, which has the
  classes' colours. Switch on editing. A click with *Identify Features* opens a polygon's form,
  which offers the classes. *Split Features*, *Reshape Features* and the *Vertex Tool* move its
  outline; a new polygon over an old one holds where both lie.
""",
    "coco": """
- **CVAT**: a task whose labels are the classes, with the images of one folder; *Upload
  annotations*, *COCO 1.0*, the JSON of that folder in `labels/`. Export as *COCO 1.0* or as
  *CVAT for images 1.1*.
- **Roboflow**: upload the images and the JSON together. Export as *COCO Segmentation*, without
  augmentation.
- **Label Studio**: `label-studio-converter import coco -i FILE.json -o tasks.json`, then import
  `tasks.json`. Export as *JSON*.
- Put what was exported in the place of the JSON in `labels/`, under any name.
""",
    "labelme": """
- **Labelme**: {commands}.
  It opens each photograph with its polygons, and saves them where they were.
""",
}


def howto(
    final: Path, index: Index, kind: str, photos: Sequence[Photo], guessed: bool, split: bool
) -> str:
    """The text.

    Args:
        final: the folder that it will lie in.
        kind: as what the guess is there, one of `guess_polygons.FORMATS`.
        guessed: whether a model has guessed.
        split: whether there is a split.csv.
    """
    data = index.data
    folders = sorted({photo.folder for photo in photos})
    if kind == MASKS:
        label = _about_masks(index, guessed) + _MASK_PROGRAMS.format(first=index.mapping.rows[0][0])
        back = _masks_back(final, index, photos, folders, guessed)
    else:
        commands = [
            f"`labelme {(Path(f) / 'images').as_posix()} --output {(Path(LABELS) / f).as_posix()} "
            "--labels labels.txt --nodata`"
            for f in folders
        ]
        label = _about_polygons(guessed) + _PROGRAMS[kind].format(commands=", ".join(commands))
        back = _polygons_back(final, index, photos, folders, guessed)
    by_split = f" --split-file {quoted(final / 'split.csv')}" if split else ""
    kept = "`split.csv` keeps the photographs that the model is scored on.\n" if split else ""
    return (
        f"# Label these photographs\n\n{label}\n# Bring the labels back\n\n{back}Then:\n\n"
        f"    salakseg index {quoted(data)}{by_split}\n"
        "    salakseg shard --overwrite\n"
        "    salakseg train --checkpoint-dir checkpoints-2\n"
        f"\n{kept}"
    )


_LEAVE = "Leave `guess/` as it is: `index` says by it how much you corrected."


def _about_masks(index: Index, guessed: bool) -> str:
    black = (0, 0, 0) in [color for _, color, _ in index.mapping.rows]
    purpose = "is for their masks (no model has guessed yet): draw them."
    if guessed:
        purpose = f"what the model takes them for: correct it.\n{_LEAVE}"
    nothing = (
        "What nobody can tell: erase it to transparent (RGBA)."
        if black
        else "What nobody can tell: black; such pixels teach nothing."
    )
    return (
        f"`images/` holds the photographs, `masks/` {purpose}\n"
        "A mask is an 8-bit RGB PNG of the photograph's size and name, each pixel in the\n"
        "colour of its class, hard edges (no anti-aliasing), in the colours of\n"
        f"`class_mapping.csv`. {nothing}\n"
    )


def _about_polygons(guessed: bool) -> str:
    purpose = "is for polygons of theirs (no model has guessed yet): draw them."
    if guessed:
        purpose = f"what the model takes them for, as polygons: correct them.\n{_LEAVE}"
    return (
        f"`images/` holds the photographs, `{LABELS}/` {purpose}\n"
        "Every polygon has a class of `class_mapping.csv`. What nobody can tell: delete the\n"
        "polygon; such ground teaches nothing.\n"
    )


def _parts(folders: list[str], *names: str) -> str:
    return ", ".join(f"`{(Path(f) / name).as_posix()}`" for f in folders for name in names)


def _originals(photos: Sequence[Photo]) -> list[tuple[Path, Path]]:
    """`patchify`'s DATA and --out of those whose full photograph is known."""
    return sorted({(p.original.data, p.original.out) for p in photos if p.original is not None})


def _masks_back(
    final: Path, index: Index, photos: Sequence[Photo], folders: list[str], guessed: bool
) -> str:
    data, size = index.data, index.patch_size
    masks = _parts(folders, *(("masks", "guess") if guessed else ("masks",)))
    loose = [photo for photo in photos if photo.original is None]
    back = ""
    for originals, patch_folders in _originals(photos):
        back += (
            f"Copy {masks} into the same folders of `{originals}`, beside the\n"
            "photographs, then cut what has changed:\n\n"
            f"    salakseg patchify {quoted(originals)} --out {quoted(patch_folders)} "
            f"--size {size}\n\n"
        )
    if any(len(photo.patches) > 1 for photo in loose):
        patches = final.with_name(f"{final.name}-patches")
        back += (
            "The full photographs are not known, so these are their patches put together. Cut\n"
            "them again:\n\n"
            f"    salakseg patchify {quoted(final)} --out {quoted(patches)} --size {size}\n\n"
            f"and copy {masks} from `{patches}` into the same folders of `{data}`.\n\n"
        )
    if any(len(photo.patches) == 1 for photo in loose):
        back += f"Single patches are not cut: copy {masks} into the same folders of `{data}`.\n\n"
    return back


def _polygons_back(
    final: Path, index: Index, photos: Sequence[Photo], folders: list[str], guessed: bool
) -> str:
    data, size, labels = index.data, index.patch_size, final / LABELS
    guess = _parts(folders, "guess")
    back = ""
    for originals, patch_folders in _originals(photos):
        if guessed:
            back += f"Copy {guess} into the same folders of `{originals}`, beside `images/`.\n"
        command = f"    salakseg patchify {quoted(originals)} --out {quoted(patch_folders)} "
        command += f"--size {size} --labels "
        before = labels_before(patch_folders)
        if before is None:
            back += f"Cut what was drawn:\n\n{command}{quoted(labels)}\n\n"
            continue
        given = Path(before.labels)
        if given.is_dir():
            back += f"Copy what is in `{labels}` into `{given}`, to the labels that you have; then:"
        else:
            back += f"Put `{given}` and `{labels}` into one folder; then:"
        command += quoted(given) if given.is_dir() else "FOLDER"
        for name, value in before.as_plain().items():
            if name != "labels" and value is not None:
                command += f' --{name.replace("_", "-")} "{value}"'
        back += f"\n\n{command}\n\n"
    if any(photo.original is None for photo in photos):
        patches = final.with_name(f"{final.name}-patches")
        parts = _parts(folders, *(("masks", "guess") if guessed else ("masks",)))
        back += (
            "Where the full photographs are not known, these are their patches put together. Cut\n"
            "them again:\n\n"
            f"    salakseg patchify {quoted(final)} --out {quoted(patches)} --size {size} "
            f"--labels {quoted(labels)}\n\n"
            f"and copy {parts} from `{patches}` into the same folders of `{data}`.\n\n"
        )
    return back
