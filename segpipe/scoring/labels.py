"""What the label maps of two folders hold, and what it is called."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segpipe.core.errors import DataError, SegpipeError
from segpipe.core.parallel import run_cases
from segpipe.core.stage import Workspace
from segpipe.dataset.sources.naming import ONLY, smoothed
from segpipe.imaging.labels import LabelSet
from segpipe.imaging.pictures import is_picture
from segpipe.score.boxes import filled
from segpipe.scoring.maps import read_map
from segpipe.scoring.names import described_names, found_file, given_names, names_of_values
from segpipe.scoring.pairs import Pair


@dataclass(frozen=True)
class Values:
    """The values beside 0 in the two files of a pair, and what is wrong with a file that cannot be read."""

    prediction: tuple[int, ...]
    reference: tuple[int, ...]
    faults: tuple[str, ...]


def labels_of_folders(
    said: str | None, folders: tuple[Path, Path], pairs: list[Pair], work: Workspace
) -> tuple[LabelSet, list[str], dict[str, str]]:
    """Return the names of labels, a line on where they are from if nobody said them, and what is wrong by case.

    Args:
        said: As ``names.given_names`` reads it; None: from a dataset.json at hand, or the values in the files.
        folders: Of predictions and of references.
        pairs: Whose values are looked at.
        work: What they are looked at with.

    Raises:
        DataError: What was said makes no sense, or the files hold nothing that can be named.
    """
    if said:
        return given_names(said), [], {}
    if path := found_file(*folders):
        return described_names(path), [f"Labels are named as in {path.parent.name}/{path.name}."], {}
    seen: dict[str, Values] = {}
    with work.progress("looking for labels", len(pairs)) as advance:
        for case, found in run_cases(work.executor, values_in, ((pair.case, pair) for pair in pairs)):
            seen[case] = found
            advance(1)
    faults = {case: " ".join(found.faults) for case, found in sorted(seen.items()) if found.faults}
    if len(faults) == len(pairs):  # the name is never used, and each case tells its own fault
        return LabelSet.plain({ONLY: 1}), [], faults
    try:
        labels = _named(seen, pictures=all(is_picture(pair.reference) for pair in pairs))
    except DataError as error:
        first = next(iter(faults.values()), "")
        raise DataError(f"{error} {len(faults)} pair(s) cannot be read: {first}" if faults else str(error)) from error
    how = f"by their values ({', '.join(labels.names)})"
    if labels.names == (ONLY,):
        how = f"{ONLY}={labels.values[0]}, the only value"
    return labels, [f"Labels are named {how}. --labels names them."], faults


def _named(seen: Mapping[str, Values], *, pictures: bool) -> LabelSet:
    predicted = {value for found in seen.values() for value in found.prediction}
    wanted = {value for found in seen.values() for value in found.reference}
    if pictures and len(predicted) == len(wanted) == 1 and predicted != wanted:
        one, other = predicted.pop(), wanted.pop()
        raise DataError(
            f"the predictions hold {one} beside 0, the references {other}: one structure, written in two ways? Write "
            f"both with one value, or name two structures: --labels a={one},b={other}"
        )
    return names_of_values(predicted | wanted, pictures=pictures)


def values_in(pair: Pair) -> Values:
    """Return the values that a pair's files hold; none of a file that cannot be read, or of a smoothed mask."""
    values: list[tuple[int, ...]] = []
    faults = []
    for path in (pair.prediction, pair.reference):
        found: tuple[int, ...] = ()
        try:
            found = _values(path)
        except SegpipeError as error:
            faults.append(str(error))
        values.append(found)
    return Values(values[0], values[1], tuple(faults))


def _values(path: Path) -> tuple[int, ...]:
    array = read_map(path).array[0]
    found = tuple(value for value in np.unique(array[filled(array)]).tolist() if value > 0)
    if smoothed(found, path):
        raise DataError(
            f"{path.name}: a mask of many grey values, as anti-aliasing or JPEG leave them. Export it as PNG without "
            "smoothing; if they are label values, name them with --labels."
        )
    return found
