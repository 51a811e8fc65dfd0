"""A table about cases, such as subject, site and age: one row a case."""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from segpipe.core.errors import DataError
from segpipe.dataset.sources.found import safe_id
from segpipe.dataset.sources.table import table_rows


@dataclass(frozen=True)
class Covariates:
    """What a table tells about cases."""

    subjects: dict[str, str] = field(default_factory=dict)
    """Subject of a case; cases of one are not independent."""
    others: dict[str, dict[str, str]] = field(default_factory=dict)
    """Every other column of a case, as text; empty cells are left out."""
    remarks: tuple[str, ...] = ()
    """What does not fit the cases, one line each."""


def read_covariates(path: Path, cases: Collection[str]) -> Covariates:
    """Return what a CSV file with a column ``case``, and as you like ``subject`` and others, tells about ``cases``.

    Raises:
        DataError: It cannot be read, has no column ``case``, or names a case twice.
    """
    rows, columns = table_rows(path)
    if "case" not in columns:
        raise DataError(f"{path}: no column 'case' (found: {', '.join(columns)}). Name one so.")
    told: dict[str, dict[str, str]] = {}
    for number, row in enumerate(rows, start=2):
        case = safe_id(row.pop("case", ""))
        if case in told:
            raise DataError(f"{path}: line {number} names case '{case}' again. Keep one row a case.")
        told[case] = {name: value for name, value in row.items() if name and value}
    remarks = [f"{path.name}: no case is named '{case}'." for case in told if case not in cases]
    remarks += [f"{path.name}: has no row of case '{case}'." for case in cases if case not in told]
    inside = {case: row for case, row in told.items() if case in cases}
    subjects = {case: row.pop("subject") for case, row in inside.items() if "subject" in row}
    return Covariates(subjects, inside, tuple(remarks))
