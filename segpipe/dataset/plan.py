"""What the training cases decide: spacing, normalisation, patch, depth and batch, with the reasons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt

from segpipe.core.errors import ConfigError
from segpipe.core.section import Section
from segpipe.dataset.load import load_image, load_labels
from segpipe.dataset.manifest import CaseFiles, Channel, DatasetHeader
from segpipe.dataset.topology import SMALLEST, Axes, Topology, fit_patch, flat_axes, topology_for
from segpipe.imaging.intensity import Normalise, Unchanged, ZScore, foreground_samples, window_of
from segpipe.imaging.labels import LabelSet
from segpipe.imaging.masks import box_of, inside_of
from segpipe.imaging.reading import Reading
from segpipe.imaging.targets import Classes, Regions, Target
from segpipe.nets.cost import GIB, training_bytes

ANISOTROPIC = 3.0
"""Ratio of coarsest to finest spacing from which an axis counts as anisotropic (Isensee et al. 2021)."""
COARSE_PERCENTILE = 10
DIGITS, SMALL = 3, 0.1
LEAST_BATCH = 2
MOST_BATCH = {2: 8, 3: 4}
"""Patches a step at most, by the number of axes that are not flat: more cost time, and change little."""


class PlanConfig(Section):
    """What is decided by you and not by the data; empty values are planned."""

    spacing: tuple[PositiveFloat, ...] | None = None
    """Spacing (mm) along R, A, S at which the network works."""
    normalise: Literal["auto", "z_score", "window", "unchanged"] = "auto"
    """`auto`: `window` for a channel named CT, `z_score` for every other."""
    patch: tuple[PositiveInt, ...] | None = None
    """Voxels of a training patch."""
    batch: PositiveInt | None = None
    """Patches a training step; planned: 2, or more where the patch covers the image (4 at most, of 2D images 8)."""
    depth: Annotated[int, Field(ge=1, le=7)] = 4
    """Encoding steps, at most; small images get fewer, so that something is left to see at the bottom."""
    memory_gib: PositiveFloat = 8.0
    """Memory (GiB) that training may take in all, at its peak: a small GPU or a laptop. Patch and batch are planned
    for it with the default network (`model.features=32`) in bfloat16, whatever the machine and the `model` section,
    so that a plan means the same everywhere; in float32 training takes up to twice as much."""


class Plan(Section):
    """Everything needed to turn a scan into network input; it goes into the model file."""

    dataset: str
    channels: tuple[Channel, ...]
    labels: LabelSet
    reading: Reading = Reading()
    """How image files are read where their form leaves it open; its unit is that of the spacing."""
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


def measure_case(files: CaseFiles, ignore: int | None = None) -> CaseMeasure:
    """Return the measures of one labelled case; voxels of the value ``ignore`` are no foreground."""
    image = load_image(files)
    box = box_of(inside_of(image.array))
    turned = (image.cropped(*box) if box else image).geometry.canonical()
    labels = load_labels(files).array[0]
    foreground = (labels > 0) & (labels != ignore)
    samples = tuple(foreground_samples(channel, foreground) for channel in image.array)
    return CaseMeasure(turned.shape, turned.spacing, samples)


def make_plan(
    header: DatasetHeader, measures: Mapping[str, CaseMeasure], config: PlanConfig, target: Target | None
) -> Plan:
    """Return the plan of a data set from the measures of its develop cases.

    Raises:
        ConfigError: A setting has another rank than the images, or no patch fits into the memory.
    """
    rank = len(next(iter(measures.values())).shape)
    for name, value in (("spacing", config.spacing), ("patch", config.patch)):
        if value is not None and len(value) != rank:
            raise ConfigError(f"preprocess.plan.{name}={list(value)}: the images have {rank} axes.")
    ordered = [measures[case] for case in sorted(measures)]
    reasons: dict[str, str] = {}
    spacing = _spacing(ordered, config, header.reading.sign, reasons)
    shapes = np.asarray([np.asarray(m.shape) * np.asarray(m.spacing) / np.asarray(spacing) for m in ordered])
    median = tuple(int(n) for n in np.maximum(np.round(np.median(shapes, axis=0)), 1))
    target = target or _target(header.labels, reasons)
    reference = _Reference(len(header.channels), target.channels(header.labels))
    topology, patch, batch = _network(median, spacing, config, reference, reasons)
    return Plan(
        dataset=header.name,
        channels=header.channels,
        labels=header.labels,
        reading=header.reading,
        target=target,
        spacing=spacing,
        normalise=_normalisation(header, ordered, config, reasons),
        median_shape=median,
        patch=patch,
        batch=batch,
        topology=topology,
        reasons=reasons,
    )


def _spacing(
    measures: Sequence[CaseMeasure], config: PlanConfig, unit: str, reasons: dict[str, str]
) -> tuple[float, ...]:
    if config.spacing is not None:
        reasons["spacing"] = "set in the config"
        return config.spacing
    all_spacings = np.asarray([measure.spacing for measure in measures])
    spacing = np.median(all_spacings, axis=0)
    coarse = int(spacing.argmax())
    ranges = [f"{low:g} to {high:g}" if low < high else f"{low:g}" for low, high in _ranges(all_spacings)]
    reasons["spacing"] = f"median of {len(measures)} case(s), axis by axis ({', '.join(ranges)} {unit})"
    if spacing[coarse] > ANISOTROPIC * spacing.min():
        finer = max(
            float(np.percentile(all_spacings[:, coarse], COARSE_PERCENTILE)),
            float(np.delete(spacing, coarse).max()),
        )
        reasons["spacing"] += (
            f"; {spacing[coarse]:g} {unit} along {'RAS'[coarse]} is over {ANISOTROPIC:g} times the finest: there the "
            f"{COARSE_PERCENTILE}th percentile is taken"
        )
        spacing[coarse] = finer
    return tuple(_rounded(value) for value in spacing)


def _rounded(spacing: float) -> float:
    """Return a spacing to three digits after the point, or four in all where that says more."""
    return float(f"{spacing:.4g}") if spacing < SMALL else round(float(spacing), DIGITS)


def _ranges(spacings: NDArray[np.float64]) -> list[tuple[float, float]]:
    return [(_rounded(axis.min()), _rounded(axis.max())) for axis in spacings.T]


@dataclass(frozen=True)
class _Reference:
    """The network by which memory is planned: the default one, so that other widths leave patch and batch alone."""

    channels: int
    out_channels: int

    def gib(self, patch: Axes, topology: Topology, batch: int) -> float:
        from segpipe.nets.unet import UNetConfig  # noqa: PLC0415 - it loads torch, which preparing does without

        spec = UNetConfig().spec(self.channels, self.out_channels, topology.strides, topology.kernels)
        return training_bytes(spec, patch, batch, bf16=True) / GIB


def _network(
    median: Axes, spacing: tuple[float, ...], config: PlanConfig, reference: _Reference, reasons: dict[str, str]
) -> tuple[Topology, Axes, int]:
    budget = config.memory_gib
    most = LEAST_BATCH
    if config.patch is not None:
        patch, topology = config.patch, topology_for(config.patch, spacing, config.depth)
        reasons["patch"] = "set in the config"
    else:
        patch, topology = _largest_patch(median, spacing, config, reference, reasons)
    if config.patch is not None or all(p >= m for p, m in zip(patch, median, strict=True)):
        most = MOST_BATCH[max(len(patch) - sum(flat_axes(patch)), 2)]
    reasons["depth"] = _why_so_deep(patch, topology, config)
    fitting = [n for n in range(LEAST_BATCH, most + 1) if reference.gib(patch, topology, n) <= budget]
    batch = config.batch or max(fitting, default=LEAST_BATCH)
    reasons["batch"] = (
        "set in the config" if config.batch else f"what fits into {budget:g} GiB, from {LEAST_BATCH} to {most}"
    )
    reasons["memory"] = (
        f"training is expected to take {reference.gib(patch, topology, batch):.1f} of {budget:g} GiB at its peak, "
        "with the default network in bfloat16"
    )
    return topology, patch, batch


def _largest_patch(
    median: Axes, spacing: tuple[float, ...], config: PlanConfig, reference: _Reference, reasons: dict[str, str]
) -> tuple[Axes, Topology]:
    budget, count = config.memory_gib, config.batch or LEAST_BATCH
    patch, topology = fit_patch(
        median, spacing, config.depth, lambda size, form: reference.gib(size, form, count) <= budget
    )
    if (needed := reference.gib(patch, topology, count)) > budget:
        raise ConfigError(
            f"preprocess.plan.memory_gib={budget:g}: even {count} patches of {_times(patch)} {_dots(patch)} take "
            f"{needed:.2f} GiB. Set more, or set preprocess.plan.patch."
        )
    reasons["patch"] = f"the median image ({_times(median)} {_dots(median)} at this spacing)"
    if any(p < m for p, m in zip(patch, median, strict=True)):
        reasons["patch"] += f" does not fit into {budget:g} GiB {count} times: the largest part of its form that does"
    reasons["patch"] += f", in multiples of {_times(topology.total)}"
    return patch, topology


def _why_so_deep(patch: Axes, topology: Topology, config: PlanConfig) -> str:
    left = tuple(-(-n // total) for n, total in zip(patch, topology.total, strict=True))
    text = (
        f"{topology.depth} encoding steps (at most {config.depth}): an axis is pooled while {SMALLEST} {_dots(patch)} "
        f"are left and while its spacing is at most twice the finest; {_times(left)} {_dots(patch)} are left"
    )
    for name, n, flat in zip("RAS", patch, flat_axes(patch), strict=False):
        if flat:
            text += f"; along {name} there are {n}, fewer than {SMALLEST}: no pooling there, and kernels of 1"
    return text


def _dots(size: Axes) -> str:
    return "pixels" if len(size) == 2 else "voxels"


def _times(size: Axes) -> str:
    return "x".join(map(str, size))


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
        if config.normalise != "auto":
            reason = "set in the config"
        elif kind == "window":
            reason = "Hounsfield units: one window for all, from percentiles 0.5 and 99.5 of the foreground"
        else:
            reason = "arbitrary units: each image by its own mean and standard deviation"
        if kind == "window":
            window = window_of([measure.samples[index] for measure in measures])
            reason += f" ({window.low:g} to {window.high:g})"
            chosen.append(window)
        else:
            chosen.append(ZScore() if kind == "z_score" else Unchanged())
        reasons[f"normalise {channel.name}"] = reason
    return tuple(chosen)
