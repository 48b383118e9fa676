"""Chosen photographs → a folder in which a person labels them, and what brings the masks back.

Under DIR, by folder of the data: `images/`, `masks/` with the model's guess in the mapping's
colours, to be corrected, and `guess/`, the same again, so that what was corrected can be told. In
DIR itself `class_mapping.csv`, `labelmap.txt` (CVAT), `labels.txt` (Labelme), `split.csv` for
`index --split-file`, and HOWTO.md, with the commands for this very data. In place of `masks/` there
may be `labels/`, the guess as polygons (`guess_polygons`).
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy import uint8
from numpy.typing import NDArray
from PIL import Image

from salakseg.classes import IGNORE_INDEX
from salakseg.data.index_files import Index
from salakseg.errors import InputError
from salakseg.files import write_text
from salakseg.imagery.drawing import colorize
from salakseg.imagery.raster import header_of
from salakseg.suggestion.guess_polygons import LABELS, MASKS, writer_of
from salakseg.suggestion.howto import howto
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
    """A folder being filled.

    Attributes:
        folder: where it is filled; `final`: what it will be called.
        kind: one of `guess_polygons.FORMATS`.
    """

    folder: Path
    final: Path
    index: Index
    kind: str = MASKS
    photos: list[Photo] = field(default_factory=list)
    guessed: bool = False

    def __post_init__(self) -> None:
        self._polygons = writer_of(
            self.kind, self.folder / LABELS, self.final.name, self.index.mapping
        )

    def add(self, photo: Photo, labels: NDArray[uint8] | None) -> None:
        """Lay out a photograph, with a guess (H, W) where there is one.

        Raises:
            InputError: it cannot be corrected as `kind`.
        """
        if self._polygons is not None and photo.original is None and len(photo.patches) == 1:
            raise InputError(
                f"{photo.name}: is a single patch, whose full photograph is not known; patches are "
                "corrected as masks: --export-as masks"
            )
        self.photos.append(photo)
        place = self.folder / photo.folder
        for part in ("images",) if self._polygons is not None else ("images", "masks"):
            (place / part).mkdir(parents=True, exist_ok=True)
        file = None if photo.original is None else photo.original.file
        if file is None and len(photo.patches) == 1:
            file = self.index.data / photo.patches.image.iloc[0]
        image = place / "images" / (f"{photo.name}.png" if file is None else file.name)
        if file is not None:
            # With its time: patchify must not take it for another photograph.
            shutil.copy2(file, image)
        else:
            with photo.open() as source:
                pixels = source.shown(source.read(0, 0, source.height, source.width)[0])
            Image.fromarray(pixels).save(image)
        if labels is not None:
            self.guessed = True
            photo.draw_known(labels)
            guess = place / "guess" / f"{image.stem}.png"
            guess.parent.mkdir(exist_ok=True)
            Image.fromarray(colorize(labels, self.index.mapping)).save(guess)
            if self._polygons is None:
                shutil.copyfile(guess, place / "masks" / guess.name)
        if self._polygons is not None:
            # Without a guess, an empty file, which offers the classes.
            drawn = np.full(header_of(image)[:2], IGNORE_INDEX, uint8) if labels is None else labels
            self._polygons.add(photo.folder, image.name, file or image, drawn)

    def finish(self) -> None:
        """Write what belongs to all photographs."""
        if self._polygons is not None:
            self._polygons.finish()
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
        text = howto(
            self.final, self.index, self.kind, self.photos, self.guessed, split is not None
        )
        write_text(self.folder / "HOWTO.md", text)

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


@contextmanager
def exporting(folder: Path | None, index: Index, kind: str = MASKS) -> Iterator[Export | None]:
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
        export = Export(temporary, folder, index, kind)
        yield export
        export.finish()
        if folder.exists():
            folder.rmdir()
        os.replace(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
