"""What the training cases decide: spacing, normalisation, patch, depth and batch, with the reasons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt

from segpipe.core.errors import ConfigError, DataError
from segpipe.core.section import Section
from segpipe.dataset.manifest import CaseFiles, Channel, DatasetHeader
from segpipe.dataset.topology import Topology, fit_patch, topology_for
from segpipe.imaging.files import read_volume
from segpipe.imaging.intensity import Normalise, Unchanged, ZScore, foreground_samples, window_of
from segpipe.imaging.labels import LabelSet
from segpipe.imaging.masks import box_of, inside_of
from segpipe.imaging.targets import Classes, Regions, Target
from segpipe.imaging.volume import Volume

ANISOTROPIC = 3.0
"""Ratio of coarsest to finest spacing from which an axis counts as anisotropic (Isensee et al. 2021)."""
COARSE_PERCENTILE = 10
ROUNDED_MM = 3


class PlanConfig(Section):
    """What is decided by you and not by the data; empty values are planned."""

    spacing: tuple[PositiveFloat, ...] | None = None
    """Spacing (mm) along R, A, S at which the network works."""
    normalise: Literal["auto", "z_score", "window", "unchanged"] = "auto"
    """`auto`: `window` for a channel named CT, `z_score` for every other."""
    patch: tuple[PositiveInt, ...] | None = None
    """Voxels of a training patch."""
    batch: PositiveInt | None = None
    """Patches a training step."""
    depth: Annotated[int, Field(ge=1, le=7)] = 4
    """Encoding steps, at most; small images get fewer, so that something is left to see at the bottom."""
    memory_gib: PositiveFloat = 2.0
    """Memory (GiB) that the activations of one training step may take."""


class Plan(Section):
    """Everything needed to turn a scan into network input; it goes into the model file."""

    dataset: str
    channels: tuple[Channel, ...]
    labels: LabelSet
    target: Target
    spacing: tuple[float, ...]
    normalise: tuple[Normalise, ...]
    median_shape: tuple[int, ...]
    patch: tuple[int, ...]
    batch: int
    topology: Topology
    reasons: dict[str, str]
    """Why each value is what it is."""

    @property
    def out_channels(self) -> int:
        """Score channels the network draws."""
        return self.target.channels(self.labels)


@dataclass(frozen=True, eq=False)
class CaseMeasure:
    """What one case contributes to the plan."""

    shape: tuple[int, ...]
    """Voxels after cropping, along R, A, S."""
    spacing: tuple[float, ...]
    samples: tuple[NDArray[np.float32], ...]
    """Foreground intensities by channel."""


def load_image(files: CaseFiles, tolerance_mm: float | None = None) -> Volume:
    """Return all channels of a case as one volume (C, *S) on the grid of the first.

    Args:
        files: Of the case.
        tolerance_mm: How far apart the channels may put a voxel; None where ingest has checked it.

    Raises:
        DataError: The channels lie on different grids.
    """
    volumes = [read_volume(path) for path in files.images]
    if len(volumes) == 1:
        return volumes[0]
    for path, volume in zip(files.images, volumes, strict=True):
        if tolerance_mm is not None and not volume.geometry.matches(volumes[0].geometry, tolerance_mm):
            raise DataError(
                f"{path.name}: its grid ({volume.geometry}) is not that of {files.images[0].name} "
                f"({volumes[0].geometry}). Resample it onto that image."
            )
    return Volume(np.concatenate([volume.array for volume in volumes]), volumes[0].geometry)


def measure_case(files: CaseFiles, ignore: int | None = None) -> CaseMeasure:
    """Return the measures of one labelled case; voxels of the value ``ignore`` are no foreground."""
    image = load_image(files)
    box = box_of(inside_of(image.array))
    turned = (image.cropped(*box) if box else image).geometry.canonical()
    assert files.label is not None, "only labelled cases are measured"
    labels = read_volume(files.label).array[0]
    foreground = (labels > 0) & (labels != ignore)
    samples = tuple(foreground_samples(channel, foreground) for channel in image.array)
    return CaseMeasure(turned.shape, turned.spacing, samples)


def make_plan(
    header: DatasetHeader, measures: Mapping[str, CaseMeasure], config: PlanConfig, target: Target | None
) -> Plan:
    """Return the plan of a data set from the measures of its develop cases.

    Raises:
        ConfigError: A setting has another rank than the images.
    """
    rank = len(next(iter(measures.values())).shape)
    for name, value in (("spacing", config.spacing), ("patch", config.patch)):
        if value is not None and len(value) != rank:
            raise ConfigError(f"preprocess.plan.{name}={list(value)}: the images have {rank} axes.")
    ordered = [measures[case] for case in sorted(measures)]
    reasons: dict[str, str] = {}
    spacing = _spacing(ordered, config, reasons)
    shapes = np.asarray([np.asarray(m.shape) * np.asarray(m.spacing) / np.asarray(spacing) for m in ordered])
    median = tuple(int(n) for n in np.maximum(np.round(np.median(shapes, axis=0)), 1))
    topology, patch, batch = _network(median, spacing, config, reasons)
    return Plan(
        dataset=header.name,
        channels=header.channels,
        labels=header.labels,
        target=target or _target(header.labels, reasons),
        spacing=spacing,
        normalise=_normalisation(header, ordered, config, reasons),
        median_shape=median,
        patch=patch,
        batch=batch,
        topology=topology,
        reasons=reasons,
    )


def _spacing(measures: Sequence[CaseMeasure], config: PlanConfig, reasons: dict[str, str]) -> tuple[float, ...]:
    if config.spacing is not None:
        reasons["spacing"] = "set in the config"
        return config.spacing
    all_spacings = np.asarray([measure.spacing for measure in measures])
    spacing = np.median(all_spacings, axis=0)
    coarse = int(spacing.argmax())
    reasons["spacing"] = f"median of {len(measures)} cases, axis by axis"
    if spacing[coarse] > ANISOTROPIC * spacing.min():
        finer = max(
            float(np.percentile(all_spacings[:, coarse], COARSE_PERCENTILE)),
            float(np.delete(spacing, coarse).max()),
        )
        reasons["spacing"] += (
            f"; {spacing[coarse]:g} mm along {'RAS'[coarse]} is over {ANISOTROPIC:g} times the finest: there the "
            f"{COARSE_PERCENTILE}th percentile is taken"
        )
        spacing[coarse] = finer
    return tuple(round(float(value), ROUNDED_MM) for value in spacing)


def _network(
    median: tuple[int, ...], spacing: tuple[float, ...], config: PlanConfig, reasons: dict[str, str]
) -> tuple[Topology, tuple[int, ...], int]:
    if config.patch is not None:
        patch = config.patch
        topology = topology_for(patch, spacing, config.depth)
        reasons["patch"] = "set in the config"
    else:
        patch, topology = fit_patch(median, spacing, config.depth, config.memory_gib)
        whole = all(p >= m for p, m in zip(patch, median, strict=True))
        reasons["patch"] = (
            f"the median image ({'x'.join(map(str, median))} voxels at this spacing)"
            + ("" if whole else f" does not fit into {config.memory_gib:g} GiB: the largest part of its form that does")
            + ", rounded up to what pooling divides"
        )
    reasons["depth"] = (
        f"{topology.depth} encoding steps (at most {config.depth}): an axis is pooled while 4 voxels are left and "
        "while its spacing is at most twice the finest"
    )
    batch = config.batch or topology.batch_for(patch, config.memory_gib)
    reasons["batch"] = "set in the config" if config.batch else f"what fits into {config.memory_gib:g} GiB, from 2 to 4"
    return topology, patch, batch


def _target(labels: LabelSet, reasons: dict[str, str]) -> Target:
    if labels.overlapping:
        reasons["target"] = "regions: some structures are made of several label values"
        return Regions()
    reasons["target"] = "classes: every label value is a structure of its own"
    return Classes()


def _normalisation(
    header: DatasetHeader, measures: Sequence[CaseMeasure], config: PlanConfig, reasons: dict[str, str]
) -> tuple[Normalise, ...]:
    chosen: list[Normalise] = []
    for index, channel in enumerate(header.channels):
        kind = config.normalise
        if kind == "auto":
            kind = "window" if channel.is_ct else "z_score"
        reasons[f"normalise {channel.name}"] = {
            "window": "Hounsfield units: one window for all, from percentiles 0.5 and 99.5 of the foreground",
            "z_score": "arbitrary units: each image by its own mean and standard deviation",
            "unchanged": "set in the config",
        }[kind]
        if kind == "window":
            chosen.append(window_of([measure.samples[index] for measure in measures]))
        else:
            chosen.append(ZScore() if kind == "z_score" else Unchanged())
    return tuple(chosen)
