"""What `index` finds wrong → problems.csv and the words for it."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from salakseg.errors import InputError
from salakseg.files import write_text

SHOWN = 3  # names in a message


@dataclass
class Problems:
    """The rows of problems.csv: severity, kind, file, detail."""

    rows: list[tuple[str, str, str, str]] = field(default_factory=list)

    def fatal(self, kind: str, file: str, detail: str) -> None:
        """Something that a person has to decide; no index is written."""
        self.rows.append(("fatal", kind, file, detail))

    def handled(self, kind: str, file: str, detail: str) -> None:
        """Something that a stated rule deals with."""
        self.rows.append(("handled", kind, file, detail))

    def as_csv(self) -> str:
        """The text of problems.csv, sorted."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("severity", "kind", "file", "detail"))
        writer.writerows(sorted(self.rows))
        return text.getvalue()

    def stop_if_fatal(self, out: Path) -> None:
        """If any problem is fatal, write OUT/problems.csv (and nothing else) and raise."""
        fatal = sorted(row for row in self.rows if row[0] == "fatal")
        if fatal:
            write_text(out / "problems.csv", self.as_csv())
            listed = [f"{file}: {kind}: {detail}" for _, kind, file, detail in fatal]
            raise InputError(
                f"{plural(len(fatal), 'problem')} to solve before this can be indexed "
                f"({out / 'problems.csv'} has all): {first_of(listed, '; ')}"
            )


def plural(count: int, one: str, many: str = "") -> str:
    """1, 'mask' → '1 mask'; 2, 'patch', 'patches' → '2 patches'."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def first_of(names: Sequence[str], separator: str = ", ") -> str:
    """The first few of `names`, and '…' where there are more."""
    return separator.join([*names[:SHOWN], "…"] if len(names) > SHOWN else names)
