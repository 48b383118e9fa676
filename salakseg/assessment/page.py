"""What the interpreter gets besides the pictures: the page that asks, and a how-to."""

from importlib.resources import files as package_files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from salakseg.assessment.chips import SIDE
from salakseg.assessment.points import CANNOT_TELL, NONE_OF_THESE
from salakseg.classes import ClassMapping
from salakseg.files import write_text

KEYS = "123456789abcdefghijklmnopqrstuvw"
NONE_KEY, CANNOT_KEY = "0", "x"

HOW_TO = """\
# Check {count} points

Say for each point what is there in truth, by the image or on the ground. Do not look at the map:
the figures are worth nothing if it tells you the answers.

- **In a browser**: open `index.html`, on a phone too (copy the whole folder). Press the key or the
  button of what is at the middle of the cross. At the end download `reference.csv` into this
  folder.
- **In QGIS**: open `points.gpkg` over the image, switch on editing, and choose `reference` in each
  point's form.
- **By hand**: `reference.csv` has two columns, `id` and `reference`.

The answers are: {names}; `{none}` for ground that is no class of the map; `{cannot}` where it
cannot be told, which counts as missing, as no answer does.

Where a pixel holds two classes, take the one that most of it is. Decide by one rule all the way
through, such as how dense trees must stand to be trees. The points come in random order: whoever
stops halfway has a smaller sample, but a good one.

Then, from the folder that holds this one: `salakseg assess score {folder}`
"""


def write_page(folder: Path, plan_id: str, ids: list[str], mapping: ClassMapping) -> None:
    """Write `index.html`."""
    choices: list[dict[str, str]] = []
    for number, (name, color) in enumerate(zip(mapping.names, mapping.colors, strict=True)):
        key = KEYS[number] if number < len(KEYS) else ""
        choices.append({"name": name, "color": "#{:02x}{:02x}{:02x}".format(*color), "key": key})
    choices.append({"name": NONE_OF_THESE, "color": "", "key": NONE_KEY})
    choices.append({"name": CANNOT_TELL, "color": "", "key": CANNOT_KEY})
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    template = (package_files("salakseg.assessment") / "page.html.j2").read_text(encoding="utf-8")
    page = environment.from_string(template).render(
        plan=plan_id, ids=ids, choices=choices, side=SIDE
    )
    write_text(folder / "index.html", page)


def write_how_to(folder: Path, name: str, count: int, mapping: ClassMapping) -> None:
    """Write `HOW-TO.md` into `folder`, which will be called `name`."""
    text = HOW_TO.format(
        count=count,
        names=", ".join(f"`{one}`" for one in mapping.names),
        none=NONE_OF_THESE,
        cannot=CANNOT_TELL,
        folder=name,
    )
    write_text(folder / "HOW-TO.md", text)
