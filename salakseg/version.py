"""Which salakseg this is, as installed."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("salakseg")
except PackageNotFoundError:  # run from a source tree without installing
    VERSION = "0+unknown"
