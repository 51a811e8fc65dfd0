"""The table of scores: one row for each case, structure and metric, as a CSV file."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segpipe.core.atomic import write_text
from segpipe.core.errors import ArtifactError
from segpipe.score.case import is_metric, status

HEADER = ("case", "label", "metric", "value", "part", "status")
ERROR = "error"
"""The metric of a row that says why a case could not be scored."""


LENGTH = re.compile(r"(?:mm|um|px)([23]?)$")


def told_name(metric: str, unit: str, rank: int) -> str:
    """Return a metric's name as files tell it: ``hd95_mm`` is ``hd95_px`` where that is the unit of lengths.

    ``vol_ref_mm3`` is ``vol_ref_mm2`` in 2D.
    """
    if not is_metric(metric):
        return metric
    return LENGTH.sub(lambda found: unit + (str(rank) if found[1] else ""), metric)


def known_name(told: str) -> str:
    """Return the name by which a metric is known, whatever the unit in a file's name of it."""
    known = LENGTH.sub(lambda found: "mm" + ("3" if found[1] else ""), told)
    return known if is_metric(known) else told


@dataclass(frozen=True)
class Row:
    """One number, or the reason why a case has none."""

    case: str
    label: str
    """The structure; empty in an error row."""
    metric: str
    value: float | str
    """Unit as the metric's name says; NaN where undefined; the message in an error row."""
    part: str = "test"
    """Why the case is one that its network never saw: ``test``, or ``out_of_fold``."""
    status: str = ""
    """Of the structure in this case: scored, missed, hallucinated or absent; empty in an error row."""

    @property
    def failed(self) -> bool:
        """Whether this is an error row."""
        return self.metric == ERROR


def error_row(case: str, message: str, part: str = "test") -> Row:
    """Return the row of a case that could not be scored."""
    return Row(case, "", ERROR, message, part)


def scored_rows(case: str, scores: Mapping[tuple[str, str], float], part: str = "test") -> list[Row]:
    """Return the rows of a case from its values by (structure, metric), each with the status of its structure."""
    states = {
        label: status(scores[label, "vol_ref_mm3"], scores[label, "vol_pred_mm3"])
        for label in dict.fromkeys(label for label, _ in scores)
    }
    return [Row(case, label, metric, value, part, states[label]) for (label, metric), value in scores.items()]


def write_scores(path: Path, rows: Iterable[Row], unit: str = "mm", rank: int = 3) -> None:
    """Write rows, whole or not at all. Numbers come back exactly; an undefined one is written ``nan``.

    Args:
        path: Of the table.
        rows: By the names of metrics that are known; the table names the unit of lengths instead of mm.
        unit: That unit.
        rank: Axes of the images: the "volumes" of two are areas.
    """
    lines = [_line(HEADER)]
    for row in rows:
        value = row.value if isinstance(row.value, str) else repr(float(row.value))
        lines.append(_line((row.case, row.label, told_name(row.metric, unit, rank), value, row.part, row.status)))
    write_text(path, "".join(lines))


def _line(fields: Sequence[str]) -> str:
    text = io.StringIO(newline="")
    # Told to end lines with "\n", csv would leave a "\r" in a message unquoted, and could not read it again.
    csv.writer(text, lineterminator="\r\n").writerow(fields)
    return text.getvalue().removesuffix("\r\n") + "\n"


def read_scores(path: Path) -> list[Row]:
    """Read what ``write_scores`` wrote.

    Raises:
        ArtifactError: The file is missing, or a line is not what it should be.
    """
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} is missing. Run the evaluation again.") from error
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}.") from error
    reader = csv.reader(io.StringIO(text, newline=""))
    header = next(reader, [])
    if tuple(header) != HEADER:
        raise ArtifactError(f"{path} begins with {','.join(header)!r} instead of {','.join(HEADER)!r}.")
    return [_row(path, reader.line_num, fields) for fields in reader]


def _row(path: Path, line: int, fields: list[str]) -> Row:
    if len(fields) != len(HEADER):
        raise ArtifactError(f"{path}, line {line}: {len(fields)} fields instead of {len(HEADER)}.")
    case, label, metric, value, part, state = fields
    if metric == ERROR:
        return Row(case, label, metric, value, part, state)
    try:
        return Row(case, label, known_name(metric), float(value), part, state)
    except ValueError as error:
        raise ArtifactError(f"{path}, line {line}: {value!r} is no number.") from error
