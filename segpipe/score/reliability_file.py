"""The bins of reliability diagrams in a file: a line for each case and structure."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from segpipe.core.atomic import write_text
from segpipe.core.errors import ArtifactError
from segpipe.score.calibration import Reliability

RELIABILITY = "reliability.jsonl"

Cases = Mapping[str, Mapping[str, Reliability]]
"""Case -> structure -> its bins."""


def write_reliability(path: Path, cases: Cases) -> None:
    """Write the bins of all cases, whole or not at all."""
    rows = ({"case": case, "label": name} | as_row(one) for case in sorted(cases) for name, one in cases[case].items())
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def read_reliability(path: Path) -> dict[str, dict[str, Reliability]]:
    """Return the bins by case and structure; empty where there is no such file: the network drew no probabilities.

    Raises:
        ArtifactError: A line is not what it should be.
    """
    if not path.is_file():
        return {}
    found: dict[str, dict[str, Reliability]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            found.setdefault(row["case"], {})[row["label"]] = of_row(row)
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{path}, line {number}: no bins of a case. Run infer again.") from error
    return found


def as_row(bins: Reliability) -> dict[str, Any]:
    """Return bins as JSON values; what is undefined is null."""
    shares = {"confidence": bins.confidence, "frequency": bins.frequency}
    told: dict[str, Any] = {"voxels": bins.count.tolist()}
    told |= {name: list(_told(values.tolist())) for name, values in shares.items()}
    return told | {"brier": next(_told([bins.brier]))}


def of_row(row: Mapping[str, Any]) -> Reliability:
    """Return the bins that ``as_row`` told."""
    confidence, frequency = (
        np.asarray([math.nan if value is None else value for value in row[name]], np.float64)
        for name in ("confidence", "frequency")
    )
    brier = math.nan if row["brier"] is None else float(row["brier"])
    return Reliability(np.asarray(row["voxels"], np.int64), confidence, frequency, brier)


def _told(values: list[float]) -> Iterator[float | None]:
    return (None if math.isnan(value) else value for value in values)
