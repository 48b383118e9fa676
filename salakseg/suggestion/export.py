"""Chosen photographs → a folder in which a person labels them, and what brings the masks back.

Under DIR, by folder of the data: `images/`, `masks/` with the model's guess in the mapping's
colours, to be corrected, and `guess/`, the same again, so that what was corrected can be told. In
DIR itself `class_mapping.csv`, `labelmap.txt` (CVAT), `labels.txt` (Labelme), `split.csv` for
`index --split-file`, and HOWTO.md, with the commands for this very data.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from numpy import uint8
from numpy.typing import NDArray
from PIL import Image

from salakseg.console import quoted
from salakseg.data.index_files import Index
from salakseg.errors import InputError
from salakseg.files import write_text
from salakseg.imagery.drawing import colorize
from salakseg.suggestion.originals import Photo


def require_new(folder: Path) -> None:
    """Raise `InputError` where masks that a person corrected could be overwritten."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            f"--export {folder}: is there already; what was corrected in it would be lost: "
            "give a new folder"
        )


@dataclass
class Export:
    """A folder being filled."""

    folder: Path
    index: Index
    photos: list[Photo] = field(default_factory=list)
    guessed: bool = False

    def add(self, photo: Photo, labels: NDArray[uint8] | None) -> None:
        """Lay out a photograph, with a guess (H, W) where there is one."""
        self.photos.append(photo)
        place = self.folder / photo.folder
        for part in ("images", "masks"):
            (place / part).mkdir(parents=True, exist_ok=True)
        file = None if photo.original is None else photo.original.file
        if file is None and len(photo.patches) == 1:
            file = self.index.data / photo.patches.image.iloc[0]
        if file is not None:
            # With its time: patchify must not take it for another photograph.
            shutil.copy2(file, place / "images" / file.name)
        else:
            with photo.open() as source:
                pixels = source.shown(source.read(0, 0, source.height, source.width)[0])
            Image.fromarray(pixels).save(place / "images" / f"{photo.name}.png")
        if labels is None:
            return
        self.guessed = True
        photo.draw_known(labels)
        name = f"{photo.name if file is None else file.stem}.png"
        Image.fromarray(colorize(labels, self.index.mapping)).save(place / "masks" / name)
        (place / "guess").mkdir(exist_ok=True)
        shutil.copyfile(place / "masks" / name, place / "guess" / name)

    def finish(self, final: Path) -> None:
        """Write what belongs to all photographs; `final` is what the folder will be called."""
        rows = self.index.mapping.rows
        lines = ["class_name,class_color,ignore"]
        for name, color, ignored in rows:
            quoted = f'"{name}"' if "," in name else name
            lines.append(f"{quoted},{' '.join(map(str, color))},{'yes' if ignored else 'no'}")
        write_text(self.folder / "class_mapping.csv", "\n".join(lines) + "\n")
        labelmap = ["# label:color_rgb:parts:actions"]
        labelmap += [f"{name}:{','.join(map(str, color))}::" for name, color, _ in rows]
        write_text(self.folder / "labelmap.txt", "\n".join(labelmap) + "\n")
        # labelme2voc numbers the labels from the second one; its name is fixed.
        labels = ["__ignore__", "_background_", *(name for name, _, _ in rows[1:])]
        write_text(self.folder / "labels.txt", "\n".join(labels) + "\n")
        split = self._split()
        if split is not None:
            write_text(self.folder / "split.csv", split.to_csv(index=False, lineterminator="\n"))
        write_text(self.folder / "HOWTO.md", self._howto(final, split is not None))

    def _split(self) -> pd.DataFrame | None:
        """The split of the index by base image, with these ones in train; None where it has none.

        So the photographs that the model is scored on stay the same.
        """
        table = self.index.patches
        chosen = {(photo.folder, photo.patches.base_image.iloc[0]) for photo in self.photos}
        rows = []
        for (folder, base), splits in table.groupby(["folder", "base_image"], sort=True).split:
            words = set(splits) - {"exclude"}
            held = words & {"val", "test"}
            if len(held) > 1 or (held and len(words) > 1):
                return None  # made by --split-by patch
            word = held.pop() if held else "train" if "train" in words else "".join(words)
            if (folder, base) in chosen:
                word = "train"
            rows.append((folder, base, word or "exclude"))
        return pd.DataFrame(rows, columns=["folder", "base_image", "split"])

    def _howto(self, final: Path, split: bool) -> str:
        data, size = self.index.data, self.index.patch_size
        cut = {(p.original.data, p.original.out) for p in self.photos if p.original is not None}
        loose = [photo for photo in self.photos if photo.original is None]
        folders = sorted({photo.folder for photo in self.photos})
        parts = ("masks", "guess") if self.guessed else ("masks",)
        masks = ", ".join(f"`{(Path(f) / part).as_posix()}`" for f in folders for part in parts)
        first = self.index.mapping.rows[0][0]
        black = (0, 0, 0) in [color for _, color, _ in self.index.mapping.rows]
        back: list[str] = []
        for originals, patch_folders in sorted(cut):
            back += [
                f"Copy {masks} into the same folders of `{originals}`, beside the",
                "photographs, then cut what has changed:",
                "",
                f"    salakseg patchify {quoted(originals)} --out {quoted(patch_folders)} "
                f"--size {size}",
                "",
            ]
        if any(len(photo.patches) > 1 for photo in loose):
            patches = final.with_name(f"{final.name}-patches")
            back += [
                "The full photographs are not known, so these are their patches put together. Cut",
                "them again:",
                "",
                f"    salakseg patchify {quoted(final)} --out {quoted(patches)} --size {size}",
                "",
                f"and copy {masks} from `{patches}` into the same folders of `{data}`.",
                "",
            ]
        if any(len(photo.patches) == 1 for photo in loose):
            back += [
                f"Single patches are not cut: copy {masks} into the same folders of `{data}`.",
                "",
            ]
        by_split = f" --split-file {quoted(final / 'split.csv')}" if split else ""
        return "\n".join(
            [
                "# Label these photographs",
                "",
                "`images/` holds the photographs, `masks/` "
                + (
                    "what the model takes them for: correct it.\nLeave `guess/` as it is: `index` "
                    "says by it how much you corrected."
                    if self.guessed
                    else "is for their masks (no model has guessed yet): draw them."
                ),
                "A mask is an 8-bit RGB PNG of the photograph's size and name, each pixel in the",
                "colour of its class, hard edges (no anti-aliasing), in the colours of",
                "`class_mapping.csv`. "
                + (
                    "What nobody can tell: erase it to transparent (RGBA)."
                    if black
                    else "What nobody can tell: black; such pixels teach nothing."
                ),
                "",
                "- **GIMP, Krita**: open the photograph, the mask as a layer over it at half "
                "opacity; pencil,",
                "  not brush; export the mask layer alone.",
                "- **QGIS**: load both. With the plugin Serval the raster is painted directly. Or "
                "Raster >",
                "  Conversion > Polygonize, correct the polygons, Rasterize to the photograph's "
                "size; row",
                "  numbers of `class_mapping.csv` (from 0) in an 8-bit grey PNG are read as well.",
                "- **CVAT**: a task with the images; upload annotations as *Segmentation mask "
                "1.1*: a zip of",
                "  `labelmap.txt`, `SegmentationClass/` (the masks) and "
                "`ImageSets/Segmentation/default.txt`",
                "  (the names, one a line, without extension). Export the same way; "
                "`SegmentationClass/` holds",
                "  the masks, black where nothing was drawn.",
                "- **Labelme** draws polygons, it does not take the guess: `labelme images "
                "--labels labels.txt",
                "  --nodata`, then its `labelme2voc.py images OUT --labels labels.txt`; "
                "`SegmentationClassPNG/`",
                f"  holds the masks. What was not drawn becomes {first}.",
                "",
                "# Bring the masks back",
                "",
                *back,
                "Then:",
                "",
                f"    salakseg index {quoted(data)}{by_split}",
                "    salakseg shard --overwrite",
                "    salakseg train --checkpoint-dir checkpoints-2",
                "",
                *(
                    ["`split.csv` keeps the photographs that the model is scored on.", ""]
                    if split
                    else []
                ),
            ]
        )


@contextmanager
def exporting(folder: Path | None, index: Index) -> Iterator[Export | None]:
    """A folder to fill, which gets its name when it is whole; None for none.

    Raises:
        InputError: the folder is there already.
    """
    if folder is None:
        yield None
        return
    require_new(folder)
    temporary = folder.with_name(f".partial-{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        export = Export(temporary, index)
        yield export
        export.finish(folder)
        if folder.exists():
            folder.rmdir()
        os.replace(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
