"""Labels in an image's own pixels: what the readers of all formats give, and what they refuse."""

from dataclasses import dataclass
from pathlib import Path

from salakseg.data.labels_draw import Shape
from salakseg.errors import InputError


@dataclass(frozen=True)
class Labelled:
    """The labels of one image.

    Attributes:
        path: the file that says so.
        names: the image's, as the file writes it, also with folders; the first that a photograph
            has is taken.
        size: width and height; None where no shape tells.
        shapes: later ones over earlier ones.
    """

    path: Path
    names: tuple[str, ...]
    size: tuple[int, int] | None
    shapes: list[Shape]


def no_area(path: Path, name: str, kind: str, where: str = "") -> InputError:
    """What to say of a point or line."""
    of = f" of {where}" if where else ""
    return InputError(
        f"{path}: {name}{of}, a {kind}, has no area; draw around what it stands for, or delete it"
    )
