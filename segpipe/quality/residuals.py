"""What an autoencoder leaves out of an image, in a few figures: it draws what it knows, and smooths the rest."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FINE, COARSE = 1.0, 3.0
"""Voxels of the Gaussians that part fine, middle and coarse errors."""
BLOCKS, SMALLEST_BLOCK = 5, 4
TINY = 1e-3
TOLD = {
    "fine error": "fine detail that the autoencoder leaves out",
    "middle error": "middle-sized detail that the autoencoder leaves out",
    "coarse error": "large shapes that the autoencoder leaves out",
    "agreement": "agreement with what the autoencoder draws",
    "worst place": "error of the autoencoder at its worst place",
}
"""The figures, in words."""

Floats = NDArray[np.float32]


def residuals_of(image: Floats, drawn: Floats, channels: Sequence[str]) -> dict[str, float]:
    """Return figures of an image (C, *S) and the same as an autoencoder draws it, by name; all are finite.

    The root mean square error in three bands, since a blurred image comes back too well (its fine error is small) and
    a flipped one too badly (its coarse one is large): what is usual has two sides. Beside them the correlation, after
    Fisher's transform, and how much worse the worst block is than the whole.
    """
    found: dict[str, float] = {}
    for channel, values, again in zip(channels, image, drawn, strict=True):
        before = f"{channel}: " if len(channels) > 1 else ""
        error = np.asarray(values - again, np.float32)
        smooth, smoother = (ndimage.gaussian_filter(error, sigma) for sigma in (FINE, COARSE))
        whole = max(float(error.std()), TINY)
        figures = {
            "fine error": _log(float((error - smooth).std())),
            "middle error": _log(float((smooth - smoother).std())),
            "coarse error": _log(float(np.sqrt(np.square(smoother).mean()))),
            "agreement": _correlation(values, again),
            "worst place": _log(_worst(error) / whole),
        }
        found |= {f"{before}{name}": value for name, value in figures.items()}
    return found


def _worst(error: Floats) -> float:
    """Return the largest root mean square within a block."""
    edges = [max(n // BLOCKS, min(SMALLEST_BLOCK, n)) for n in error.shape]
    cut = error[tuple(slice(0, n // edge * edge) for n, edge in zip(error.shape, edges, strict=True))]
    parts = cut.reshape([size for n, edge in zip(cut.shape, edges, strict=True) for size in (n // edge, edge)])
    return math.sqrt(float(np.square(parts).mean(axis=tuple(range(1, parts.ndim, 2))).max()))


def _correlation(one: Floats, other: Floats) -> float:
    spread = float(one.std() * other.std())
    r = float((one * other).mean() - one.mean() * other.mean()) / spread if spread > TINY**2 else 0.0
    return math.atanh(min(max(r, -0.99), 0.99))


def _log(value: float) -> float:
    return math.log(max(value, TINY))
