"""A plan to be answered, and what the tests of assessment share with those of mapping."""

import shutil
from pathlib import Path

import pytest

from salakseg.assessment.plan import assess_plan
from salakseg.assessment.points import Plan, read_plan
from tests.assessment.samples import class_map, mapped
from tests.mapping.conftest import brightest, brightest_file

__all__ = ["brightest", "brightest_file"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan of that map; not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    field = class_map(folder / "field", mapped())
    assess_plan([field], points=300, out=folder / "assessment")
    return folder


@pytest.fixture
def plan(made: Path, tmp_path: Path) -> Plan:
    """A copy, in the working directory, to be answered."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return read_plan(Path("assessment"))
