"""The networks' names."""

import subprocess
import sys

from salakseg.model.names import DEFAULT_GENERATOR, SHORT_NAMES, whole_name


def test_a_short_name_stands_for_a_whole_one() -> None:
    for short, whole in SHORT_NAMES.items():
        assert whole_name(short) == whole != short
        assert whole_name(whole) == whole
    assert whole_name(DEFAULT_GENERATOR) == DEFAULT_GENERATOR


def test_they_are_known_without_torch() -> None:
    code = "import sys, salakseg.model.names; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
