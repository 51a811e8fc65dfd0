"""Names for label values where the data set itself gives none."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from segpipe.core.errors import DataError, SegpipeError
from segpipe.dataset.sources.found import reason_of
from segpipe.imaging.files import read_volume
from segpipe.imaging.labels import LabelSet

LOOKED_AT = 5
MANY = 50


def named_labels(names: Mapping[str, int], label_files: Sequence[Path]) -> LabelSet:
    """Return the label set of ``{name: value}``.

    Raises:
        DataError: No names were given; the text shows the line to add, with the values that the
            first label maps hold.
    """
    if names:
        try:
            return LabelSet.plain(names, names.get("ignore"))
        except ValidationError as error:
            raise DataError(f"ingest.source.labels={dict(names)}: {reason_of(error)}. Name each value.") from error
    values = sorted({value for path in label_files[:LOOKED_AT] for value in _values(path)})
    line = ", ".join(f"name{value}: {value}" for value in values) or "name: 1"
    raise DataError(f"the labels have no names. Add this line to the config, with names of yours: labels: {{{line}}}")


def _values(path: Path) -> list[int]:
    try:
        found = np.unique(read_volume(path).array)
    except SegpipeError:
        return []
    return [int(value) for value in found if value > 0 and value == int(value)][:MANY]
