"""Names for label values where the data set itself gives none."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from segpipe.core.errors import DataError, SegpipeError
from segpipe.dataset.sources.found import reason_of
from segpipe.imaging.files import read_labels
from segpipe.imaging.labels import LabelSet
from segpipe.imaging.pictures import is_picture, look_at

LOOKED_AT = 5
MANY = 50
SMOOTH, BRIGHT = 16, 128
"""A picture with more values than the one, up to more than the other, was smoothed: masks have few, or small ones."""
ONLY = "foreground"
"""Name of the one structure of masks that nobody named."""
ASSUMED = "masks hold 0 and one other value; this line in the config would name it: labels: {"


def named_labels(names: Mapping[str, int], label_files: Sequence[Path]) -> tuple[LabelSet, tuple[str, ...]]:
    """Return the label set of ``{name: value}``, and the line for people where a name was made up.

    Masks of pictures that hold one value beside 0, such as 255, need no name: it is ``foreground``.

    Raises:
        DataError: No names were given; the text shows the line to add, with the values that the
            first label maps hold.
    """
    if names:
        try:
            return LabelSet.plain(names, names.get("ignore")), ()
        except ValidationError as error:
            raise DataError(f"ingest.source.labels={dict(names)}: {reason_of(error)}. Name each value.") from error
    looked_at = label_files[:LOOKED_AT]
    found = [values for path in looked_at if not smoothed(values := _values(path), path)]
    values = sorted({value for some in found for value in some})[:MANY]
    if looked_at and not found:
        raise DataError(
            f"{looked_at[0].name}: a mask of many grey values, as anti-aliasing or JPEG leave them. Export the masks "
            "as PNG without smoothing; if they are label values, name them: ingest.source.labels={name: value, …}"
        )
    if len(values) == 1 and all(map(is_picture, label_files)):
        line = f"{ASSUMED}{ONLY}: {values[0]}}}"
        return LabelSet.plain({ONLY: values[0]}), (line,)
    line = ", ".join(f"name{value}: {value}" for value in values) or "name: 1"
    raise DataError(f"the labels have no names. Add this line to the config, with names of yours: labels: {{{line}}}")


def _values(path: Path) -> list[int]:
    try:
        pages = look_at(path).pages if is_picture(path) else 1
        found = np.unique(read_labels(path, page=0 if pages > 1 else None).array)
    except SegpipeError:
        return []
    return [int(value) for value in found if value > 0 and value == int(value)]


def smoothed(values: Sequence[int], path: Path) -> bool:
    """Tell whether a picture holds the many grey values that anti-aliasing or JPEG leave in a mask."""
    return is_picture(path) and len(values) > SMOOTH and max(values) > BRIGHT
