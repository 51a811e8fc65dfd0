"""Random numbers of one patch at one step: from the seed, the step, the purpose and the patch's place alone."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, NonNegativeFloat, PositiveFloat


def _ordered(values: tuple[float, float]) -> tuple[float, float]:
    if values[0] > values[1]:
        raise ValueError(f"a range runs from small to large: [{values[1]:g}, {values[0]:g}]")
    return values


Share = Annotated[float, Field(ge=0, le=1)]
"""How many of the patches are changed."""
Range = Annotated[tuple[float, float], AfterValidator(_ordered)]
SizeRange = Annotated[tuple[NonNegativeFloat, NonNegativeFloat], AfterValidator(_ordered)]
ZoomRange = Annotated[
    tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]], AfterValidator(_ordered)
]
FactorRange = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_ordered)]


class Purpose(IntEnum):
    """What random numbers are for; two purposes share none, so that one setting does not disturb another."""

    CROP = 0
    TURN = 1
    BEND = 2
    MIRROR = 3
    BIAS = 4
    NOISE = 5
    BLUR = 6
    BRIGHTNESS = 7
    CONTRAST = 8
    LOW_RESOLUTION = 9
    GAMMA_INVERTED = 10
    GAMMA = 11
    LISTED = 12


@dataclass(frozen=True)
class Chance:
    """The random numbers of one patch; the same ones however the batch is divided over processes."""

    seed: int
    step: int
    index: int
    """Of the patch in the whole batch of the step."""

    def of(self, purpose: Purpose) -> np.random.Generator:
        """Return the numbers for a purpose, from the first one on."""
        return np.random.default_rng([self.seed, self.step, purpose, self.index])

    def chosen(self, purpose: Purpose, share: float) -> np.random.Generator | None:
        """Return the numbers for a purpose in a ``share`` of the patches, None in the others."""
        if share == 0:
            return None
        rng = self.of(purpose)
        return rng if rng.random() < share else None


def log_uniform(rng: np.random.Generator, low: float, high: float, count: int) -> NDArray[np.float64]:
    """Return factors (count,) between two: a half is drawn as often as a double."""
    return np.asarray(np.exp(rng.uniform(np.log(low), np.log(high), count)), np.float64)
