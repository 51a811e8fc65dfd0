"""The files of a case -> its image and its label map, on the grid of the image."""

from pathlib import Path

import numpy as np

from segpipe.core.errors import DataError
from segpipe.dataset.manifest import CaseFiles
from segpipe.imaging.files import read_labels, read_volume
from segpipe.imaging.geometry import Geometry
from segpipe.imaging.pictures import grid_of, is_picture
from segpipe.imaging.volume import Volume


def load_image(files: CaseFiles, tolerance_mm: float | None = None) -> Volume:
    """Return all channels of a case as one volume (C, *S) on the grid of the first.

    Args:
        files: Of the case.
        tolerance_mm: How far apart the channels may put a voxel; None where ingest has checked it.

    Raises:
        DataError: The channels lie on different grids.
    """
    volumes = [read_volume(path, files.reading, files.page) for path in files.images]
    if len(volumes) == 1:
        return volumes[0]
    for path, volume in zip(files.images, volumes, strict=True):
        if tolerance_mm is not None and not volume.geometry.matches(volumes[0].geometry, tolerance_mm):
            raise DataError(
                f"{path.name}: its grid ({volume.geometry}) is not that of {files.images[0].name} "
                f"({volumes[0].geometry}). Resample it onto that image."
            )
    return Volume(np.concatenate([volume.array for volume in volumes]), volumes[0].geometry)


def load_labels(files: CaseFiles) -> Volume:
    """Return the label map (1, *S) of a labelled case.

    Raises:
        DataError: It is missing or damaged, or a picture of another size than the image.
    """
    assert files.label is not None, "only labelled cases have one"
    return read_labels(files.label, files.reading, files.page, _grid(files))


def load_prediction(path: Path, files: CaseFiles) -> Volume:
    """Return a predicted label map (1, *S) of a case.

    Raises:
        DataError: It is missing or damaged, or a picture of another size than the image.
    """
    return read_labels(path, files.reading, grid=_grid(files))


def _grid(files: CaseFiles) -> Geometry | None:
    """Return where the image's pixels lie; None where label maps say so themselves."""
    return grid_of(files.images[0], files.reading) if is_picture(files.images[0]) else None
