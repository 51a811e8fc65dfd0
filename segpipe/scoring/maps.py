"""Reading the label maps of a pair: scans tell where they lie, pictures at most the size of a pixel."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segpipe.core.errors import DataError
from segpipe.dataset.survey import PicturesConfig, looks_at, reading_of
from segpipe.imaging.files import read_labels
from segpipe.imaging.geometry import Geometry
from segpipe.imaging.pictures import grid_of, is_picture, look_at
from segpipe.imaging.reading import Reading
from segpipe.imaging.volume import Volume
from segpipe.score.boxes import whole_numbers
from segpipe.scoring.pairs import Pair

TOLERANCE_MM = 1e-2


def reading_of_pairs(pairs: Sequence[Pair], config: PicturesConfig) -> Reading:
    """Return the unit of all lengths: mm of scans; of pictures as the settings say, the files tell, or the pixel."""
    if not pairs or not all(is_picture(pair.reference) for pair in pairs):
        return Reading()
    looks = looks_at(path for pair in pairs for path in (pair.reference, pair.prediction) if is_picture(path))
    return reading_of(list(looks.values()), config)


def read_pair(pair: Pair, reading: Reading) -> tuple[Volume, Volume]:
    """Return prediction and reference (1, *S) on their common grid.

    Raises:
        DataError: A file is no label map, both lie on different grids, or pictures tell no size of a pixel where
            lengths are physical.
    """
    found, wanted = read_map(pair.prediction), read_map(pair.reference)
    _check_grid(found.geometry, wanted.geometry, pair)
    if not is_picture(pair.reference):
        return found, wanted
    # tools seldom write the size of a pixel into a mask: what either file tells holds for both
    telling = (path for path in (pair.reference, pair.prediction) if is_picture(path) and look_at(path).pixel_mm)
    grid = grid_of(next(telling, pair.reference), reading)
    return Volume(found.array, grid), Volume(wanted.array, grid)


def read_map(path: Path) -> Volume:
    """Return a label map as integers (1, *S); a picture lies on a grid of pixels.

    Raises:
        DataError: It cannot be read, has several channels, or holds values that are no labels.
    """
    volume = read_labels(path)
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
        apart = f"{found.shape} {'pixels' if wanted.ndim == 2 else 'voxels'} instead of {wanted.shape}"
    elif not found.matches(wanted, TOLERANCE_MM):
        apart = f"the same voxel lies up to {found.gap_mm(wanted):.3g} mm away"
    else:
        return
    raise DataError(
        f"{pair.prediction.name}: lies on another grid than {pair.reference.name} ({apart}). Write it on that grid."
    )
