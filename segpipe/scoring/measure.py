"""One pair of files: read, checked against each other and against the names of labels, measured."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import DataError, SegpipeError
from segpipe.core.fingerprint import file_sha256
from segpipe.dataset.checks import refuse_smoothed
from segpipe.dataset.manifest import Case, FileRef
from segpipe.imaging.labels import LabelSet
from segpipe.imaging.reading import Reading
from segpipe.score.boxes import filled
from segpipe.score.case import MetricsConfig, score_case
from segpipe.scoring.maps import read_pair
from segpipe.scoring.pairs import Pair

SHOWN = 5

Scores = dict[tuple[str, str], float]


@dataclass(frozen=True)
class Job:
    """A pair and what is measured of it."""

    pair: Pair
    labels: LabelSet
    metrics: MetricsConfig
    reading: Reading
    """What pictures leave open."""


@dataclass(frozen=True)
class Measured:
    """The scores of a pair and its files, or why there are none."""

    scores: Scores | str
    case: Case | None = None
    """As the manifest holds it; subject and covariates are not known here. None where there are no scores."""
    prediction: FileRef | None = None


def measure(job: Job) -> Measured:
    """Return the scores of a pair; one that cannot be scored says why in one line."""
    pair = job.pair
    try:
        found, wanted = read_pair(pair, job.reading)
        for volume, path in ((found, pair.prediction), (wanted, pair.reference)):
            _check_values(volume.array[0], job.labels, path)
        scores = score_case(
            found.array[0],
            wanted.array[0],
            wanted.geometry.spacing,
            job.labels.groups(),
            job.metrics,
            job.labels.ignore,
        )
    except SegpipeError as error:
        return Measured(str(error))
    reference, prediction = (_ref(path) for path in (pair.reference, pair.prediction))
    volumes = {name: scores[name, "vol_ref_mm3"] for name in job.labels.names}
    affine = tuple(tuple(float(number) for number in row) for row in wanted.geometry.affine)
    case = Case(
        id=pair.case,
        subject=pair.case,
        part="test",
        images=(),
        label=reference,
        shape=wanted.geometry.shape,
        affine=affine,
        volumes_mm3=volumes,
    )
    return Measured(scores, case, prediction)


def _check_values(array: NDArray[np.integer[Any]], labels: LabelSet, path: Path) -> None:
    values = np.unique(array[filled(array)])
    refuse_smoothed(path, values, labels)
    if others := [int(value) for value in values if value not in labels.known]:
        more = ", …" if len(others) > SHOWN else ""
        named = ", ".join(f"{one.name}={'/'.join(map(str, one.values))}" for one in labels.structures[:SHOWN])
        raise DataError(
            f"{path.name}: holds values without a name ({', '.join(map(str, others[:SHOWN]))}{more}); named are "
            f"{named}. Name them with --labels, or correct the file."
        )


def _ref(path: Path) -> FileRef:
    return FileRef(path=path.name, sha256=file_sha256(path))
