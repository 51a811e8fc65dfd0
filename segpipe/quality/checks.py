"""What is known of a scan and its prediction without a reference: named values with words, and their table."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segpipe.core.atomic import write_text
from segpipe.core.errors import ArtifactError

HEADER = ("case", "check", "value", "words")
CHECKS = "checks.csv"
AGREEMENT = "agreement"
"""Name of the check that tells how well other passes over the image agree with the prediction; that of one structure
has its name behind it, in brackets."""


@dataclass(frozen=True)
class Check:
    """One value about one case, and what it means."""

    name: str
    """Of the check, such as ``scan_unusual``; the same for every case."""
    value: float
    """NaN where it is undefined."""
    words: str = ""
    """For people: what is unusual; empty where nothing is. No path and no name of a person."""


def write_checks(path: Path, checks: Mapping[str, Sequence[Check]]) -> None:
    """Write the checks of each case, a row each, ordered by case; whole or not at all."""
    rows = [
        [case, one.name, repr(float(one.value)), _line(one.words)] for case in sorted(checks) for one in checks[case]
    ]
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([HEADER, *rows])
    write_text(path, text.getvalue())


def read_checks(path: Path) -> dict[str, list[Check]]:
    """Return the checks of each case.

    Raises:
        ArtifactError: The file is missing, or a line is not what it should be.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: is missing or no text. Run infer again.") from error
    reader = csv.reader(io.StringIO(text, newline=""))
    if (header := tuple(next(reader, []))) != HEADER:
        raise ArtifactError(f"{path}: begins with {','.join(header)!r} instead of {','.join(HEADER)!r}.")
    found: dict[str, list[Check]] = {}
    for fields in reader:
        try:
            case, name, value, words = fields
            found.setdefault(case, []).append(Check(name, float(value), words))
        except ValueError as error:
            raise ArtifactError(f"{path}, line {reader.line_num}: {','.join(fields)!r} is no row of checks.") from error
    return found


def values_of(checks: Mapping[str, Iterable[Check]], name: str) -> dict[str, float]:
    """Return the finite values of one check, by case."""
    return {
        case: one.value
        for case, those in checks.items()
        for one in those
        if one.name == name and math.isfinite(one.value)
    }


def _line(text: str) -> str:
    return " ".join(text.split())
