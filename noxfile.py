"""`nox` runs what has to pass, lint and tests; `nox -l` names the other sessions."""

import subprocess
from pathlib import Path

import nox
from packaging.requirements import Requirement

nox.options.sessions = ["lint", "tests"]


@nox.session
def tests(session: nox.Session) -> None:
    """The test suite; further words go to pytest."""
    session.install("-e", ".[dev]")
    session.run("pytest", *session.posargs)


@nox.session(python="3.11")
def lowest(session: nox.Session) -> None:
    """The test suite on the oldest versions that pyproject.toml allows, each a release."""
    project = nox.project.load_toml("pyproject.toml")["project"]
    constraints = Path(session.create_tmp()) / "lowest.txt"
    lines = []
    for line in project["dependencies"]:
        requirement = Requirement(line)
        (version,) = (one.version for one in requirement.specifier if one.operator == ">=")
        lines.append(f"{requirement.name}=={version}\n")
    constraints.write_text("".join(lines), encoding="utf-8")
    session.install("-e", ".[dev]", "-c", str(constraints))
    session.run("pytest", *session.posargs)


@nox.session
def qgis(session: nox.Session) -> None:
    """What QGIS makes of a map by opening its files, where the system's Python has QGIS."""
    python = Path("/usr/bin/python3")
    look = [python, "-c", "import qgis.core"]
    if not python.exists() or subprocess.run(look, capture_output=True).returncode:
        session.skip(f"{python} has no QGIS")
    session.install("-e", ".[dev]")
    files = ("tests/mapping/test_styles.py", "tests/assessment/test_page.py")
    session.run("pytest", *files, *session.posargs)


@nox.session
def tutorial(session: nox.Session) -> None:
    """What docs/tutorial.md says, done as it says."""
    session.install("-e", ".")
    session.run("python", "docs/run_tutorial.py")


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmarks of speed, under twenty minutes; names of some of them may follow."""
    session.install("-e", ".[dev,bench]")
    session.run("python", "benchmarks/speed/all.py", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The site, into site/; opens from disk."""
    session.install("-e", ".[docs]")
    session.run("mkdocs", "build", "--strict", env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def lint(session: nox.Session) -> None:
    """Style and types."""
    session.install("-e", ".[dev]")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("mypy")
