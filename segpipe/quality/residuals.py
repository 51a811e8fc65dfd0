"""What an autoencoder leaves out of an image, in a few figures: it draws what it knows, and smooths the rest."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FINE, COARSE = 1.0, 3.0
"""Voxels of the Gaussians: what the first takes away is fine, what the second leaves is coarse."""
BLOCKS, SMALLEST_BLOCK = 5, 4
TINY = 1e-3
Floats = NDArray[np.float32]


def residuals_of(image: Floats, drawn: Floats, channels: Sequence[str]) -> dict[str, float]:
    """Return figures of an image (C, *S) and the same as an autoencoder draws it, by name; all are finite.

    The root mean square error of fine and of coarse detail, since a blurred image comes back too well (its fine error
    is small) and a flipped one too badly (its coarse one is large): what is usual has two sides. Beside them the
    correlation, after Fisher's transform, the contrast of what is drawn, whether errors are rather upwards or
    downwards, and how much better the best block is than the whole.
    """
    found: dict[str, float] = {}
    for channel, values, again in zip(channels, image, drawn, strict=True):
        before = f"{channel}: " if len(channels) > 1 else ""
        error = np.asarray(values - again, np.float32)
        whole = max(float(error.std()), TINY)
        fine = error - ndimage.gaussian_filter(error, FINE)
        coarse = ndimage.gaussian_filter(error, COARSE)
        figures = {
            "fine redrawing error": _log(float(fine.std())),
            "coarse redrawing error": _log(float(np.sqrt(np.square(coarse).mean()))),
            "agreement with its redrawing": _correlation(values, again),
            "contrast of its redrawing": _log(float(again.std())),
            "asymmetry of its redrawing error": float(np.power((error - error.mean()) / whole, 3).mean()),
            "best redrawn place": _log(_best(error) / whole),
        }
        found |= {f"{before}{name}": value for name, value in figures.items()}
    return found


def _best(error: Floats) -> float:
    """Return the least root mean square within a block."""
    edges = [max(n // BLOCKS, min(SMALLEST_BLOCK, n)) for n in error.shape]
    cut = error[tuple(slice(0, n // edge * edge) for n, edge in zip(error.shape, edges, strict=True))]
    parts = cut.reshape([size for n, edge in zip(cut.shape, edges, strict=True) for size in (n // edge, edge)])
    return math.sqrt(float(np.square(parts).mean(axis=tuple(range(1, parts.ndim, 2))).min()))


def _correlation(one: Floats, other: Floats) -> float:
    spread = float(one.std() * other.std())
    r = float((one * other).mean() - one.mean() * other.mean()) / spread if spread > TINY**2 else 0.0
    return math.atanh(min(max(r, -0.99), 0.99))


def _log(value: float) -> float:
    return math.log(max(value, TINY))
