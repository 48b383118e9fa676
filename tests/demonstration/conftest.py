"""A farm drawn once, with photographs of one patch each."""

from pathlib import Path

import pytest

import salakseg


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `demo --only-data` writes; not to be changed."""
    out = tmp_path_factory.mktemp("drawn") / "farm"
    assert salakseg.demo(out, only_data=True, photo_patches=(1, 1)) == {}
    return out
