"""The how-to beside exported photographs: its commands are commands."""

import shlex
from pathlib import Path

import pytest
import typer

from salakseg.cli import app
from salakseg.data.index_files import read_index
from salakseg.suggestion.guess_polygons import FORMATS, MASKS
from salakseg.suggestion.howto import howto
from salakseg.suggestion.originals import find_photo

PROGRAMS = {MASKS: "GIMP", "geopackage": "QGIS", "coco": "CVAT", "labelme": "Labelme"}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("guessed", [True, False])
def test_it_names_the_program_and_the_way_back(index_dir: Path, kind: str, guessed: bool) -> None:
    found = read_index(index_dir)
    photo = find_photo(found, ".", "tile6_part008")
    text = howto(Path("to label"), found, kind, [photo], guessed=guessed, split=True)
    assert f"**{PROGRAMS[kind]}" in text
    assert "{" not in text
    assert ("no model has guessed yet" in text) != guessed
    assert ("guess/" in text) == guessed
    commands = [line.split(maxsplit=1)[1] for line in text.splitlines() if line[:4] == "    "]
    names = []
    for command in commands:
        name, *words = shlex.split(command)
        context = typer.main.get_command(app).commands[name].make_context(name, words)
        names.append(name)
        if name == "patchify":
            assert (context.params["labels"] is not None) == (kind != MASKS)
            assert context.params["size"] == found.patch_size
        if name == "index":
            assert context.params["split_file"] == Path("to label/split.csv")
    assert names == ["patchify", "index", "shard", "train"]
    text = howto(Path("label"), found, kind, [photo], guessed=guessed, split=False)
    assert "--split-file" not in text
