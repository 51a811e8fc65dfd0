"""What is checked of each case before anything expensive: every fault gets one clear line."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat

from segpipe.core.errors import DataError, SegpipeError
from segpipe.core.fingerprint import file_sha256
from segpipe.core.section import Section
from segpipe.dataset.manifest import Case, DatasetHeader, FileRef, RawCase, Refusal
from segpipe.imaging.files import read_labels, read_volume
from segpipe.imaging.geometry import Geometry
from segpipe.imaging.labels import LabelSet
from segpipe.imaging.pictures import is_picture
from segpipe.imaging.reading import Reading
from segpipe.imaging.volume import Volume

PLAUSIBLE = {"mm": (0.005, 50.0), "um": (1e-4, 50_000.0), "px": (0.0, math.inf)}
"""Spacings that can be, by their unit."""
STRAY = 3
"""So many values between those that are declared are no mistake of a hand, but the work of a filter."""
SAME_SPACING = 0.01
"""Share by which two spacings may differ before they are named as the reason."""
SHOWN = 5
SAMPLED = 200_000
"""Voxels by which the brightness of an image is told."""


class CheckConfig(Section):
    """What still counts as the same grid, and what may be missing."""

    tolerance_mm: PositiveFloat = 0.05
    """Largest distance between the same voxel of image and label."""
    tolerance_degrees: PositiveFloat = 0.1
    """Largest angle between their axes."""
    allow_empty_labels: bool = False
    """Whether a label map without any structure is a case (a healthy control) and not a fault."""


@dataclass(frozen=True)
class CheckJob:
    """One case to check, and what it is checked against."""

    raw: RawCase
    root: Path
    header: DatasetHeader
    config: CheckConfig


def check_case(job: CheckJob) -> Case | Refusal:
    """Return the checked case, or the reason why it is set aside. Never raises for bad data."""
    try:
        return _checked(job)
    except SegpipeError as error:
        return Refusal(job.raw.id, str(error))
    except (MemoryError, OSError) as error:
        name = job.raw.images[0].name
        return Refusal(job.raw.id, f"{name}: cannot be read ({str(error) or type(error).__name__}). Fetch it again.")


def _checked(job: CheckJob) -> Case:
    raw = job.raw
    if raw.label is None and not raw.unlabelled:
        image = raw.images[0].relative_to(job.root).as_posix()
        raise DataError(f"{image}: has no label file. Add one with the same name, or take the case out.")
    grid, intensities = _check_images(job)
    volumes: dict[str, float] = {}
    if raw.label is not None:
        with _named(raw.label, job.root):
            volumes = _check_label(raw.label, raw.images[0], grid, job)
    return Case(
        id=raw.id,
        subject=raw.subject,
        part="unlabelled" if raw.label is None else "develop",
        images=tuple(_reference(path, job.root) for path in raw.images),
        label=_reference(raw.label, job.root) if raw.label else None,
        shape=grid.shape,
        affine=tuple(tuple(row) for row in grid.affine.tolist()),
        covariates=dict(raw.covariates),
        page=raw.page,
        volumes_mm3=volumes,
        intensities=intensities,
    )


def _reference(path: Path, root: Path) -> FileRef:
    return FileRef(path=path.relative_to(root).as_posix(), sha256=file_sha256(path))


@contextmanager
def _named(path: Path, root: Path) -> Iterator[None]:
    """Tell the files of one name apart in an error: imagesTr/a.nii.gz and labelsTr/a.nii.gz."""
    try:
        yield
    except SegpipeError as error:
        relative = path.relative_to(root).as_posix()
        raise DataError(relative + str(error).removeprefix(path.name)) from error


def _check_images(job: CheckJob) -> tuple[Geometry, tuple[tuple[float, float, float], ...]]:
    """Return the grid of images that are as they should be, and how bright each channel is."""
    paths, channels = job.raw.images, len(job.header.channels)
    volumes = []
    for path in paths:
        with _named(path, job.root):
            volumes.append(read_volume(path, job.header.reading, job.raw.page))
    found = sum(len(volume.array) for volume in volumes)
    if found != channels:
        raise DataError(
            f"{paths[0].relative_to(job.root).as_posix()}: {found} channel(s), but the data set declares {channels}. "
            "Add the missing files, or correct the list of channels."
        )
    for path, volume in zip(paths, volumes, strict=True):
        with _named(path, job.root):
            _check_values(path, volume, job.header.reading)
            _check_grid(path, volume.geometry, paths[0], volumes[0].geometry, job.config)
    return volumes[0].geometry, tuple(_spread(channel) for volume in volumes for channel in volume.array)


def _spread(channel: NDArray[np.generic]) -> tuple[float, float, float]:
    """Return the 5th percentile, the median and the 95th of what is not 0, from voxels that lie evenly."""
    seen = channel.reshape(-1)[:: max(channel.size // SAMPLED, 1)].astype(np.float64)
    low, middle, high = np.percentile(seen[seen != 0] if seen.any() else seen, (5, 50, 95)).tolist()
    return low, middle, high


def _check_values(path: Path, volume: Volume, reading: Reading) -> None:
    array = volume.array
    spacing = volume.geometry.spacing
    least, most = PLAUSIBLE[reading.unit]
    if min(spacing) < least or max(spacing) > most:
        raise DataError(f"{path.name}: implausible spacing {spacing} {reading.sign}. Correct the header.")
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise DataError(
            f"{path.name}: {bad} {_dot(volume.geometry)}(s) are not numbers (NaN or infinite). Replace them, or "
            "export the image again."
        )
    for number, channel in enumerate(array, start=1):
        if (channel == channel.flat[0]).all():
            where = f" of channel {number}" if len(array) > 1 else ""
            raise DataError(
                f"{path.name}: every {_dot(volume.geometry)}{where} is {channel.flat[0]:g}; there is nothing to "
                "see. Export it again."
            )


def _dot(grid: Geometry) -> str:
    return "pixel" if grid.ndim == 2 else "voxel"


def _check_grid(path: Path, grid: Geometry, against: Path, wanted: Geometry, config: CheckConfig) -> None:
    """Compare two grids in millimetres and degrees; a header's rounding is no difference."""
    problem: str | None = None
    if grid.shape != wanted.shape:
        problem = f"shape {grid.shape} differs from {wanted.shape}"
    elif (angle := grid.angle_to(wanted)) > config.tolerance_degrees:
        problem = f"axes are turned by {angle:.2f} degrees against those"
    elif (gap := grid.gap_mm(wanted)) > config.tolerance_mm:
        scaled = not np.allclose(grid.spacing, wanted.spacing, rtol=SAME_SPACING)
        problem = f"voxels lie up to {gap:.2f} mm away from those" + (
            f" (spacing {grid.spacing} mm differs from {wanted.spacing} mm)" if scaled else ""
        )
    if problem:
        raise DataError(
            f"{path.name}: {problem} of {against.name}. Resample it onto that image, or set "
            "ingest.check.tolerance_mm / tolerance_degrees."
        )


def _check_label(path: Path, image: Path, grid: Geometry, job: CheckJob) -> dict[str, float]:
    """Return the volume of each structure (mm³) of a label map that is as it should be."""
    label = read_labels(path, job.header.reading, job.raw.page, grid)
    if len(label.array) != 1:
        raise DataError(f"{path.name}: a label map has one channel, this has {len(label.array)}. Merge them first.")
    _check_grid(path, label.geometry, image, grid, job.config)
    values, counts = np.unique(label.array, return_counts=True)
    if (kind := _unusable(values)) is not None:
        shown = ", ".join(f"{value:g}" for value in values[:SHOWN])
        raise DataError(f"{path.name}: {kind} label values ({shown}, …). Save the label map as integers, unsmoothed.")
    refuse_smoothed(path, values, job.header.labels)
    unknown = [
        f"{int(value)} ({count} {_dot(grid)}s)"
        for value, count in zip(values, counts, strict=True)
        if int(value) not in job.header.labels.known
    ]
    if unknown:
        raise DataError(
            f"{path.name}: label value {', '.join(unknown[:SHOWN])} is not declared "
            f"({_declared(job.header.labels)}). Declare it, or correct the label map."
        )
    if not set(values.astype(int)) & set(job.header.labels.values) and not job.config.allow_empty_labels:
        raise DataError(
            f"{path.name}: the label map is empty. Annotate it, take the case out, or set "
            "ingest.check.allow_empty_labels=true if nothing is to be seen."
        )
    voxels = dict(zip(values.astype(int).tolist(), counts.tolist(), strict=True))
    size = math.prod(grid.spacing)
    return {
        structure.name: round(sum(voxels.get(value, 0) for value in structure.values) * size, 3)
        for structure in job.header.labels.structures
    }


def refuse_smoothed(path: Path, values: NDArray[np.generic], labels: LabelSet) -> None:
    """Refuse a mask in which a filter left values between those that are declared.

    Raises:
        DataError: The file is a picture, and several lie between.
    """
    highest = max(labels.known)
    between = sum(value < highest and value not in labels.known for value in values.astype(int).tolist())
    if is_picture(path) and between >= STRAY:
        raise DataError(
            f"{path.name}: {between} values lie between the label values 0 and {highest}, as anti-aliasing or JPEG "
            "leave them. Export the mask as PNG without smoothing, or set each pixel to the nearest label value."
        )


def _unusable(values: NDArray[np.generic]) -> Literal["non-finite", "fractional", "negative"] | None:
    floats = values.astype(np.float64)
    if not np.isfinite(floats).all():
        return "non-finite"
    if (floats != np.round(floats)).any():
        return "fractional"
    return "negative" if (floats < 0).any() else None


def _declared(labels: LabelSet) -> str:
    return ", ".join(f"{'/'.join(map(str, s.values))} {s.name}" for s in labels.structures)
