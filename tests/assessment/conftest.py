"""What the tests of assessment share with those of mapping."""

from tests.mapping.conftest import brightest, brightest_file

__all__ = ["brightest", "brightest_file"]
