"""Whether flags and predicted Dice were right, where there is a reference to ask."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from segpipe.quality.checks import Check, values_of
from segpipe.quality.flag import FLAG, NAMES, PREDICTED, PREDICTED_ERROR
from segpipe.quality.predicted import COVERED

LEAST = 5
"""Cases, below which no rank correlation is told."""


@dataclass(frozen=True)
class Group:
    """The cases of one flag."""

    flag: str
    cases: int
    scored: int
    """Those with a reference."""
    mean_dice: float
    """Over the scored ones; NaN without any."""
    lowest_dice: float


@dataclass(frozen=True)
class Outcome:
    """What became of what was predicted."""

    flags: tuple[Group, ...]
    """Empty where nothing was flagged."""
    compared: int
    """Cases with a predicted and a true Dice; without any, what follows is NaN."""
    mean_absolute_error: float
    bias: float
    """Mean of predicted less true Dice: above 0, predictions were too kind."""
    within: float
    """Share of cases whose true Dice lies within the error that was told."""
    wanted: float
    """The share that should."""
    rank_correlation: float


def outcome(checks: Mapping[str, Sequence[Check]], dice: Mapping[str, float]) -> Outcome | None:
    """Return how flags and predicted Dice compare with the true one; None where nothing was flagged or predicted.

    Args:
        checks: Of each case.
        dice: The true Dice of cases, in the mean over their structures.
    """
    true = {case: value for case, value in dice.items() if math.isfinite(value)}
    flags, predicted = values_of(checks, FLAG), values_of(checks, PREDICTED)
    if not flags and not predicted:
        return None
    groups = tuple(_group(place, flags, true) for place in range(len(NAMES))) if flags else ()
    both = [case for case in sorted(predicted) if case in true]
    if not both:
        return Outcome(groups, 0, math.nan, math.nan, math.nan, COVERED, math.nan)
    errors = values_of(checks, PREDICTED_ERROR)
    told, found = (np.asarray([column[case] for case in both]) for column in (predicted, true))
    off = told - found
    ranked = len(both) >= LEAST and min(np.ptp(told), np.ptp(found)) > 0
    return Outcome(
        flags=groups,
        compared=len(both),
        mean_absolute_error=float(np.abs(off).mean()),
        bias=float(off.mean()),
        within=float(np.mean([abs(gap) <= errors.get(case, math.nan) for case, gap in zip(both, off, strict=True)])),
        wanted=COVERED,
        rank_correlation=float(stats.spearmanr(told, found).statistic) if ranked else math.nan,
    )


def _group(place: int, flags: Mapping[str, float], true: Mapping[str, float]) -> Group:
    mine = [case for case, value in flags.items() if value == place]
    dice = [true[case] for case in mine if case in true]
    mean, lowest = (float(np.mean(dice)), min(dice)) if dice else (math.nan, math.nan)
    return Group(NAMES[place], len(mine), len(dice), mean, lowest)
