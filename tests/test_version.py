from importlib.metadata import version

import salakseg
from salakseg.version import VERSION


def test_the_version_is_that_of_the_installed_package() -> None:
    assert salakseg.__version__ == VERSION == version("salakseg")
