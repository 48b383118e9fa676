"""Imports run one way, from the command line down to the errors, and in no circle."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1] / "salakseg"
# From top to bottom; what stands on one floor may not import each other.
FLOORS = (
    ("__main__",),
    ("cli",),
    ("__init__",),
    ("demonstration",),
    ("suggestion", "training"),
    ("evaluation", "assessment"),
    ("mapping",),
    ("data",),
    ("model", "imagery"),
    ("mask_sets",),
    ("classes", "device", "band_set"),
    ("grey_masks",),
    ("mask_meaning",),
    ("masks",),
    ("files", "bucket"),
    ("distributed",),
    ("metrics", "console", "signals"),
    ("errors", "version"),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def modules() -> dict[str, Path]:
    """Every module by name, `salakseg.data.index`; packages with their `__init__`."""
    return {
        ".".join(path.relative_to(ROOT.parent).with_suffix("").parts): path
        for path in sorted(ROOT.rglob("*.py"))
    }


def imports() -> dict[str, dict[str, int]]:
    """Module → the modules of ours that it imports, wherever in it, with the line."""
    known = modules()
    found: dict[str, dict[str, int]] = {}
    for name, path in known.items():
        found[name] = {}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            for imported in names:
                if imported.split(".")[0] == "salakseg":
                    whole = (imported, imported.rpartition(".")[0])
                    home = next((one for one in whole if one in known), "salakseg.__init__")
                    found[name].setdefault(home, node.lineno)
    return found


def room(module: str) -> str:
    return module.split(".")[1]


def test_every_room_has_a_floor() -> None:
    assert {room(module) for module in modules()} == set(FLOOR)


def test_imports_run_down_the_house() -> None:
    upward = [
        f"{module}:{line} imports {imported}"
        for module, targets in imports().items()
        for imported, line in targets.items()
        if room(module) != room(imported) and FLOOR[room(module)] >= FLOOR[room(imported)]
    ]
    assert upward == []


def test_no_module_imports_itself_in_a_circle() -> None:
    left = {module: set(targets) for module, targets in imports().items()}
    while free := {module for module, targets in left.items() if not targets & left.keys()}:
        left = {module: targets for module, targets in left.items() if module not in free}
    assert sorted(left) == []


def test_a_name_of_a_module_is_that_of_one() -> None:
    names = [name.rpartition(".")[2] for name in modules()]
    assert {name for name in names if names.count(name) > 1} == {"__init__"}


# Files that say in their first lines why they are long.
LONG = {"salakseg.cli", "salakseg.training.step"}


def test_rooms_are_small() -> None:
    lines = {name: path.read_text(encoding="utf-8").count("\n") for name, path in modules().items()}
    assert {name for name, count in lines.items() if count > 400} == LONG
