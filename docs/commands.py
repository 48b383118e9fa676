"""Writes the page of commands from the command line itself, when the site is built."""

from typing import Any

from typer.main import get_command

from salakseg.cli import app

MARK = "<!-- commands -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs with the text of each page."""
    return markdown.replace(MARK, commands()) if MARK in markdown else markdown


def commands() -> str:
    """A section for each command: what it does, a table of its options, an example."""
    group: Any = get_command(app)
    context = group.make_context("salakseg", [], resilient_parsing=True)
    parts = ["## salakseg", *_table(group, context)]
    inner = [
        (f"{name} {inside}", command)
        for name, outer in group.commands.items()
        for inside, command in getattr(outer, "commands", {}).items()
    ]
    alone = [one for one in group.commands.items() if not hasattr(one[1], "commands")]
    for name, command in [*alone, *inner]:
        if command.hidden:
            continue
        inside = type(context)(command, info_name=name, parent=context)
        parts += ["", f"## salakseg {name}", "", " ".join(command.help.split())]
        parts += _table(command, inside)
        if command.epilog:
            parts += ["", f"    {command.epilog.removeprefix('Example: ')}"]
    return "\n".join(parts)


def _table(command: Any, context: Any) -> list[str]:
    lines = ["", "| option | is |", "|---|---|"]
    group = None
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is None or "--help" in parameter.opts:
            continue
        panel = getattr(parameter, "rich_help_panel", None)
        if panel != group:
            lines.append(f"| **{panel or 'Options'}** | |")
            group = panel
        name, text = (" ".join(part.split()).replace("|", r"\|") for part in record)
        text = text.replace("<", "&lt;").replace("[", r"\[").replace("*", r"\*").replace("_", r"\_")
        lines.append(f"| `{name}` | {text} |")
    return lines
