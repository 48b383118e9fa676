"""README.md and docs/: their commands, links and tables against the code, their recipes run."""

import csv
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from salakseg.assessment.outcome import AREA_COLUMNS
from salakseg.classes import packaged_class_mapping, read_class_mapping
from salakseg.cli import app
from salakseg.data.index_files import PATCH_COLUMNS
from salakseg.data.layout import LAYOUT_COLUMNS, WHITE_LEVEL
from salakseg.mapping.area_tables import HEADER
from salakseg.model.generator import create_generator
from salakseg.model.weights import Model, model_content
from salakseg.training import checkpoint
from salakseg.training.run_log import LOG_COLUMNS, TIMING_COLUMNS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Of those who work on the program.
ASIDE = [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "benchmarks").glob("*.md"))]
FORMATS = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
BENCHMARK = re.compile(r"benchmarks/[\w/]+\.(?:py|csv|md)")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def command_lines(page: Path) -> list[str]:
    """Each salakseg command in the page's blocks of shell and in its sentences."""
    text = text_of(page)
    found = []
    for block in re.findall(r"```(?:sh|powershell)\n(.*?)```", text, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            found += [part.strip() for part in re.split(r"&&|;", line.partition(" #")[0])]
    outside = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    found += [" ".join(line.split()) for line in re.findall(r"`(salakseg [^`]+)`", outside)]
    return [line for line in found if line.startswith("salakseg ")]


COMMANDS = [(page.name, line) for page in PAGES for line in command_lines(page)]


def parse(line: str) -> None:
    """Take a command line apart as the program would, without running anything."""
    group: Any = get_command(app)
    words = shlex.split(line)[1:]
    if words[0].startswith("--"):
        group.make_context("salakseg", list(words), resilient_parsing=True)
        assert words[0] in {"--help", *(n for option in group.params for n in option.opts)}, line
        return
    command = group.commands[words[0]]
    if hasattr(command, "commands") and len(words) > 1:
        words = words[1:]
        command = command.commands[words[0]]
    # A sentence may name an option alone, without its value or the arguments.
    if len(words) == 2 and words[1].startswith("--"):
        assert words[1] in {"--help", *(name for option in command.params for name in option.opts)}
    else:
        command.make_context(words[0], words[1:], resilient_parsing="…" in line or len(words) == 1)


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_every_command_line_names_what_there_is(page: str, line: str) -> None:
    parse(line.replace(" COMMAND", " train"))


def test_a_command_line_with_a_wrong_option_is_found() -> None:
    with pytest.raises(Exception, match="--batchsize"):
        parse("salakseg train --batchsize 3")
    with pytest.raises(KeyError, match="trian"):
        parse("salakseg trian")


def anchors(page: Path) -> set[str]:
    """What a heading is called in a link."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.replace("`", "")) for heading in headings)
    return {re.sub(r"[\s-]+", "-", heading.strip().lower()) for heading in plain}


@pytest.mark.parametrize("page", [*PAGES, *ASIDE], ids=lambda page: page.name)
def test_every_link_and_picture_is_there(page: Path) -> None:
    outside = re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)
    for target in LINK.findall(outside):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(path), f"{page.name}: {target}"


def test_every_benchmark_that_a_page_names_is_there() -> None:
    named = {name for page in [*PAGES, *ASIDE] for name in BENCHMARK.findall(text_of(page))}
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_benchmark_has_its_claim_in_the_table() -> None:
    told = set(
        re.findall(r"(?:speed|quality|reliability)/\w+\.py", text_of(ROOT / "benchmarks/README.md"))
    )
    programs = (ROOT / "benchmarks").glob("*/*.py")
    assert told == {f"{path.parent.name}/{path.name}" for path in programs}


def test_every_page_is_in_the_sites_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    assert sorted(re.findall(r": (\S+\.md)$", navigation, re.MULTILINE)) == [
        page.name for page in PAGES[1:]
    ]


def table(heading: str, page: str = FORMATS) -> list[str]:
    """The names in the first column of the table under a heading of the formats' page."""
    section = re.split(r"\n#+ ", page.partition(f"# {heading}\n")[2])[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


def with_classes(columns: list[str]) -> list[str]:
    """The columns of a real file, classes' names replaced by NAME, once each."""
    return list(dict.fromkeys(re.sub(r"^(pixels|iou) .*", r"\1 NAME", name) for name in columns))


def header(path: Path) -> list[str]:
    with open(path, encoding="utf-8", newline="") as file:
        return with_classes(next(csv.reader(file)))


def test_tables_of_formats_are_the_codes() -> None:
    assert table("layout.csv") == [*LAYOUT_COLUMNS, WHITE_LEVEL]
    assert sorted(table("patches.csv")) == sorted([*PATCH_COLUMNS, "ignored", "pixels NAME"])
    assert table("log.csv") == [*LOG_COLUMNS, "iou NAME"]
    assert table("timing.csv") == list(TIMING_COLUMNS)
    assert [name for name in table("areas.csv") if name in HEADER] == HEADER
    assert table("areas.csv of an assessment") == AREA_COLUMNS
    assert checkpoint.__doc__ is not None
    keys = checkpoint.__doc__.partition("| key | what it is |")[2]
    assert table("Full checkpoint") == table("key", f"# key\n{keys}")
    mapping = read_class_mapping(packaged_class_mapping())
    content = model_content(Model(create_generator("tiny", mapping.num_classes, "none"), mapping))
    assert table("Model file") == list(content)


def test_tables_of_formats_are_the_files(index_dir: Path, shards_dir: Path) -> None:
    for name in ("base_images.csv", "problems.csv"):
        assert table(name) == header(index_dir / name)
    assert sorted(table("samples.csv")) == sorted(header(shards_dir / "samples.csv"))
