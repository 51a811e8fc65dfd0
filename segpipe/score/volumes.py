"""Agreement of predicted with reference volumes, structure by structure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.score.agreement import Growth, Limits, Reliability, growth, limits, reliability

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Volumes:
    """Predicted against reference volumes of one structure, in mm3."""

    cases: tuple[str, ...]
    middle: Floats
    """(N,) mean of reference and prediction."""
    difference: Floats
    """(N,) prediction minus reference."""
    relative: float
    """Mean difference as a share of the mean reference volume."""
    limits: Limits
    growth: Growth
    reliability: Reliability


def compare_volumes(
    reference: Mapping[str, float],
    predicted: Mapping[str, float],
    subjects: Mapping[str, str],
    confidence: float = 0.95,
) -> Volumes | None:
    """Compare volumes (case -> mm3) over the cases that have both, one at least above zero; None where none has.

    Args:
        reference: Finite volumes of the reference.
        predicted: Finite volumes of the prediction.
        subjects: Subject of each case; a case without one is its own.
        confidence: Of all intervals, 0 to 1.
    """
    cases = tuple(case for case in sorted(reference.keys() & predicted) if reference[case] + predicted[case] > 0)
    if not cases:
        return None
    truth = np.asarray([reference[case] for case in cases])
    other = np.asarray([predicted[case] for case in cases])
    middle, difference = (truth + other) / 2, other - truth
    owners = [subjects.get(case, case) for case in cases]
    return Volumes(
        cases,
        middle,
        difference,
        float(difference.mean() / truth.mean()) if truth.mean() > 0 else math.nan,
        limits(difference, owners, confidence),
        growth(middle, difference, owners, confidence),
        reliability(truth, other, owners, confidence),
    )


def described(structure: str, volumes: Volumes) -> dict[str, Any]:
    """Return the figures as they stand in summary.json, NaN left as it is."""
    found = volumes
    return {
        "label": structure,
        "cases": len(found.cases),
        "bias_mm3": vars(found.limits.bias),
        "lower_limit_mm3": vars(found.limits.lower),
        "upper_limit_mm3": vars(found.limits.upper),
        "bias_share": found.relative,
        "slope": vars(found.growth.slope),
        "slope_p": found.growth.p,
        "icc_a1": vars(found.reliability.absolute),
        "icc_c1": vars(found.reliability.consistency),
        "ccc": vars(found.reliability.concordance),
    }
