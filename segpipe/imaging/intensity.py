"""Intensity normalisation, and the statistics of a data set that it needs."""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat

from segpipe.core.section import Section

MIN_SD = 1e-6
SAMPLES = 20_000
"""Foreground voxels kept of each case for the percentiles of the whole set."""


class ZScore(Section):
    """Mean 0 and standard deviation 1 in each image: MR and other arbitrary units."""

    kind: Literal["z_score"] = "z_score"

    def __call__(self, channel: NDArray[np.floating], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return (*S) float32; the statistics are those of the voxels ``inside`` (*S)."""
        values = channel[inside] if inside.any() else channel
        mean, sd = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
        scaled = (channel - np.float32(mean)) / np.float32(max(sd, MIN_SD))
        return np.asarray(scaled, np.float32)


class Window(Section):
    """Clipped to a range, then shifted and scaled by fixed numbers: CT, whose units (HU) mean something."""

    kind: Literal["window"] = "window"
    low: float
    """Values below are set to it: the 0.5th percentile of the foreground of all training cases."""
    high: float
    """Values above are set to it: the 99.5th percentile."""
    mean: float
    """Subtracted: the mean of the foreground."""
    sd: PositiveFloat
    """Divided by: the standard deviation of the foreground."""

    def __call__(self, channel: NDArray[np.floating], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return (*S) float32; ``inside`` plays no part."""
        return np.asarray((np.clip(channel, self.low, self.high) - self.mean) / self.sd, np.float32)


class Unchanged(Section):
    """Values as they are."""

    kind: Literal["unchanged"] = "unchanged"

    def __call__(self, channel: NDArray[np.floating], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return (*S) float32."""
        return channel.astype(np.float32)


Normalise = Annotated[ZScore | Window | Unchanged, Field(discriminator="kind")]
"""How one channel becomes network input."""


def foreground_samples(channel: NDArray[np.generic], foreground: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return up to ``SAMPLES`` values (n,) of the labelled voxels, evenly spread and the same each time."""
    values = np.asarray(channel[foreground], np.float32)
    chosen = np.linspace(0, len(values) - 1, min(len(values), SAMPLES)).astype(int)
    return np.asarray(values[chosen], np.float32)


def window_of(samples: Sequence[NDArray[np.float32]]) -> Window:
    """Return the CT window of a data set from the foreground values of its cases (Isensee et al. 2021)."""
    values = np.concatenate(samples)
    low, high = np.percentile(values, [0.5, 99.5])
    mean, sd = values.mean(dtype=np.float64), max(values.std(dtype=np.float64), MIN_SD)
    low, high, mean, sd = (float(f"{value:.6g}") for value in (low, high, mean, sd))  # people read them
    return Window(low=low, high=high, mean=mean, sd=sd)
