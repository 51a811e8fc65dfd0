"""One pair of files: read, checked against each other and against the names of labels, measured."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import DataError, SegpipeError
from segpipe.core.fingerprint import file_sha256
from segpipe.dataset.manifest import Case, FileRef
from segpipe.imaging.files import read_volume
from segpipe.imaging.geometry import Geometry
from segpipe.imaging.labels import LabelSet
from segpipe.imaging.volume import Volume
from segpipe.score.boxes import filled, whole_numbers
from segpipe.score.case import MetricsConfig, score_case
from segpipe.scoring.pairs import Pair

TOLERANCE_MM = 1e-2
SHOWN = 5

Scores = dict[tuple[str, str], float]


@dataclass(frozen=True)
class Job:
    """A pair and what is measured of it."""

    pair: Pair
    labels: LabelSet
    metrics: MetricsConfig


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
        found, wanted = read_labels(pair.prediction), read_labels(pair.reference)
        _check_grid(found.geometry, wanted.geometry, pair)
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


def values_in(pair: Pair) -> tuple[int, ...]:
    """Return the values that a pair's files hold; none of a file that cannot be read, which is told of later."""
    values: set[int] = set()
    for path in (pair.prediction, pair.reference):
        try:
            array = read_labels(path).array[0]
        except SegpipeError:
            continue
        values |= set(np.unique(array[filled(array)]).tolist())
    return tuple(sorted(values))


def read_labels(path: Path) -> Volume:
    """Return a label map as integers (1, *S).

    Raises:
        DataError: It cannot be read, has several channels, or holds values that are no labels.
    """
    volume = read_volume(path)
    if len(volume.array) != 1:
        raise DataError(f"{path.name}: {len(volume.array)} channels instead of one. Give label maps.")
    array = volume.array
    if not np.issubdtype(array.dtype, np.integer):
        with np.errstate(invalid="ignore"):
            whole = np.isfinite(array).all() and (array == np.round(array)).all()
        if not whole:
            raise DataError(f"{path.name}: holds values that are no whole numbers. Give label maps, not probabilities.")
    return Volume(whole_numbers(array), volume.geometry)


def _check_grid(found: Geometry, wanted: Geometry, pair: Pair) -> None:
    if found.shape != wanted.shape:
        apart = f"{found.shape} voxels instead of {wanted.shape}"
    elif not found.matches(wanted, TOLERANCE_MM):
        apart = f"the same voxel lies up to {found.gap_mm(wanted):.3g} mm away"
    else:
        return
    raise DataError(
        f"{pair.prediction.name}: lies on another grid than {pair.reference.name} ({apart}). Write it on that grid."
    )


def _check_values(array: NDArray[np.integer[Any]], labels: LabelSet, path: Path) -> None:
    values = np.unique(array[filled(array)])
    if others := [int(value) for value in values if value not in labels.known]:
        more = ", …" if len(others) > SHOWN else ""
        named = ", ".join(f"{one.name}={'/'.join(map(str, one.values))}" for one in labels.structures[:SHOWN])
        raise DataError(
            f"{path.name}: holds values without a name ({', '.join(map(str, others[:SHOWN]))}{more}); named are "
            f"{named}. Name them with --labels, or correct the file."
        )


def _ref(path: Path) -> FileRef:
    return FileRef(path=path.name, sha256=file_sha256(path))
