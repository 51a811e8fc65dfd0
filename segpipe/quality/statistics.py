"""Simple statistics of a prepared image: noise, sharpness, histogram, spikes, blank parts, and where things lie.

Each reacts to one way in which a scan may differ from those that a network knows; a few numbers are enough, since
what counts is whether they lie where those of the training scans do.
"""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

CELLS = 12
"""Cells along each axis of the coarse image: enough to tell which side is up, too few to tell who it is."""
SPECTRUM = 96
"""Voxels along an axis, at most, of the middle part whose spectrum is looked at."""
BLOCKS, SMALLEST_BLOCK = 10, 4
"""Blocks along an axis, about, and least voxels of one."""
LOW = 0.1
"""Cycles a voxel below which the spectrum is the anatomy's, and no spike is looked for."""
TINY = 1e-3
"""What is less, in units of the normalised image, is float16's rounding: logarithms begin here."""
AXES = ("left-right", "back-front", "feet-head")
TOLD = {
    "brightness": "brightness",
    "contrast": "contrast",
    "skewness": "skewness of the histogram",
    "tails": "tails of the histogram",
    "noise": "noise",
    "spikes": "spikes in the spectrum",
    "blank": "contrast of the blankest part",
    "likeness": "likeness to the mean training scan",
    "swapped": "likeness, against itself with axes swapped",
    "edges": "edges",
    "sharpness": "sharpness",
    "slope": "brightness gradient",
    "flipped": "likeness, against itself flipped",
    "extent": "field of view",
}
"""The statistics, in words; those below ``swapped`` have a value for each axis."""

Floats = NDArray[np.float32]


def statistics_of(image: NDArray[np.floating], spacing: Sequence[float], channels: Sequence[str]) -> dict[str, float]:
    """Return the statistics of a prepared image (C, *S) that need no other image, by name.

    Of several channels each name begins with that of the channel. All are finite.
    """
    found = {f"extent {AXES[axis]}": math.log(n * mm) for axis, (n, mm) in enumerate(_sizes(image, spacing))}
    for channel, values in zip(channels, _finite(image), strict=True):
        before = f"{channel}: " if len(channels) > 1 else ""
        found |= {f"{before}{name}": float(value) for name, value in _of_channel(values)}
    return found


def likeness_of(coarse: Floats, mean: Floats, channels: Sequence[str]) -> dict[str, float]:
    """Return how much a coarse image (C, *K) is like the mean of others: as it is, flipped, with axes swapped.

    Correlations, after Fisher's transform. ``flipped`` and ``swapped`` are by how much the image as it is correlates
    better than the other way round: negative where it is better flipped.
    """
    found: dict[str, float] = {}
    for channel, values, wanted in zip(channels, coarse, mean, strict=True):
        before = f"{channel}: " if len(channels) > 1 else ""
        found |= {f"{before}{name}": value for name, value in _likeness(values, wanted)}
    return found


def coarse_of(image: NDArray[np.floating]) -> Floats:
    """Return the image (C, *S) as means over ``CELLS`` cells along each axis, each channel of mean 0 and SD 1."""
    cells = _finite(image)
    for axis, n in enumerate(image.shape[1:], start=1):
        cells = np.moveaxis(np.tensordot(_cells(n), cells, axes=(1, axis)), 0, axis)
    over = tuple(range(1, cells.ndim))
    cells = cells - cells.mean(axis=over, keepdims=True)
    return np.asarray(cells / np.maximum(cells.std(axis=over, keepdims=True), TINY), np.float32)


def in_words(name: str) -> str:
    """Return what a statistic is called by people: ``edges left-right`` is "edges left-right"."""
    channel, _, rest = name.rpartition(": ")
    kind, _, axis = rest.partition(" ")
    text = f"{TOLD.get(kind, kind)} {axis}".strip()
    return f"{text} of {channel}" if channel else text


def _of_channel(values: Floats) -> Iterator[tuple[str, float]]:
    thinned = values[tuple(slice(None, None, max(n // 128, 1)) for n in values.shape)].ravel()
    low, dark, middle, bright, high = np.quantile(thinned, (0.01, 0.1, 0.5, 0.9, 0.99))
    width = max(bright - dark, TINY)
    yield "brightness", thinned.mean()
    yield "contrast", _log(thinned.std())
    yield "skewness", (bright + dark - 2 * middle) / width  # Kelly's, of quantiles: few voxels do not move it
    yield "tails", _log((high - low) / width)
    yield "noise", _log(_noise(values))
    yield "spikes", _spikes(values)
    yield "blank", _log(_blankest(values))
    for axis in range(values.ndim):
        first = np.diff(values, axis=axis)
        energy, bend = _mean_square(first), _mean_square(np.diff(first, axis=axis))
        yield f"edges {AXES[axis]}", _log(math.sqrt(energy))
        yield f"sharpness {AXES[axis]}", 0.5 * math.log((bend + TINY**2) / (energy + TINY**2))
        yield f"slope {AXES[axis]}", _slope(values, axis)


def _mean_square(values: Floats) -> float:
    return float(np.square(values).mean()) if values.size else 0.0


def _noise(values: Floats) -> float:
    """Return the SD of noise: the median of the finest diagonal wavelet (Haar), over that of N(0, 1).

    Donoho and Johnstone 1994: anatomy is sparse there, noise is not.
    """
    detail = values
    for axis, n in enumerate(values.shape):
        if n > 1:
            detail = np.diff(detail, axis=axis) / math.sqrt(2)
    return float(np.median(np.abs(detail))) / 0.6745


def _spikes(values: Floats) -> float:
    """Return by how much, in nats, the power of a wave rises above that of waves of nearly the same length."""
    middle: NDArray[np.floating] = values[
        tuple(slice((n - min(n, SPECTRUM)) // 2, (n + min(n, SPECTRUM)) // 2) for n in values.shape)
    ]
    for axis, n in enumerate(middle.shape):
        middle = middle * np.hanning(n + 2)[1:-1].reshape([-1 if other == axis else 1 for other in range(middle.ndim)])
    power = np.log(np.square(np.abs(np.fft.fftn(middle - middle.mean()))) + TINY**2)
    width = 5
    around = ndimage.uniform_filter(power, width, mode="wrap")
    away = np.sqrt(sum(np.square(f) for f in np.meshgrid(*map(np.fft.fftfreq, power.shape), indexing="ij"))) > LOW
    return float((power - around)[away].max()) if away.any() else 0.0


def _blankest(values: Floats) -> float:
    """Return the least SD within a block."""
    edges = [max(n // BLOCKS, min(SMALLEST_BLOCK, n)) for n in values.shape]
    cut = values[tuple(slice(0, n // edge * edge) for n, edge in zip(values.shape, edges, strict=True))]
    parts = cut.reshape([size for n, edge in zip(cut.shape, edges, strict=True) for size in (n // edge, edge)])
    return float(parts.std(axis=tuple(range(1, parts.ndim, 2))).min())


def _slope(values: Floats, axis: int) -> float:
    """Return the correlation of brightness and position along an axis."""
    n = values.shape[axis]
    along = values.mean(axis=tuple(other for other in range(values.ndim) if other != axis))
    place = (np.arange(n) - (n - 1) / 2) / max(math.sqrt((n * n - 1) / 12), 1.0)
    return float((along * place).mean() / max(float(values.std()), TINY))


def _likeness(values: Floats, wanted: Floats) -> Iterator[tuple[str, float]]:
    as_it_is = _correlation(values, wanted)
    yield "likeness", as_it_is
    orders = [order for order in itertools.permutations(range(values.ndim)) if order != tuple(range(values.ndim))]
    yield "swapped", as_it_is - max(_correlation(values.transpose(order), wanted) for order in orders)
    for axis in range(values.ndim):
        yield f"flipped {AXES[axis]}", as_it_is - _correlation(np.flip(values, axis), wanted)


def _correlation(one: Floats, other: Floats) -> float:
    spread = float(one.std() * other.std())
    r = float((one * other).mean() - one.mean() * other.mean()) / spread if spread > TINY**2 else 0.0
    return math.atanh(min(max(r, -0.99), 0.99))


def _cells(n: int) -> Floats:
    """Return the (CELLS, n) matrix that gives the mean over each cell; voxels on a border count in part."""
    edges = np.linspace(0, n, CELLS + 1)
    starts, ends = np.maximum(edges[:-1, None], np.arange(n)), np.minimum(edges[1:, None], np.arange(1, n + 1))
    share = np.maximum(ends - starts, 0)
    return np.asarray(share / share.sum(axis=1, keepdims=True), np.float32)


def _finite(image: NDArray[np.floating]) -> Floats:
    """Return the image in float32; what float16 could not hold is as large as it could."""
    largest = float(np.finfo(np.float16).max)
    return np.nan_to_num(np.asarray(image, np.float32), nan=0.0, posinf=largest, neginf=-largest)


def _sizes(image: NDArray[np.floating], spacing: Sequence[float]) -> Iterator[tuple[int, float]]:
    yield from zip(image.shape[1:], spacing, strict=True)


def _log(value: float) -> float:
    return math.log(max(float(value), TINY))
