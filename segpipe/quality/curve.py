"""A rising line through points: the Dice to expect, by a score."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import isotonic_regression

from segpipe.core.section import Section

KNOTS = 24


class Curve(Section):
    """A line that never falls, between knots; level beyond the first and the last."""

    at: tuple[float, ...] = ()
    """The score at each knot, ascending; empty: nothing is known."""
    value: tuple[float, ...] = ()

    def __call__(self, score: float) -> float:
        """Return the value at a score; NaN where nothing is known, or where there is no score."""
        return math.nan if math.isnan(score) or not self.at else float(np.interp(score, self.at, self.value))

    def up_to_one(self) -> "Curve":
        """Return the line as shares of its highest value."""
        highest = max(self.value, default=1.0) or 1.0
        return Curve(at=self.at, value=tuple(one / highest for one in self.value))


def rising(scores: Sequence[float], values: Sequence[float]) -> Curve:
    """Return the rising line that lies nearest to values at scores, in the mean square (isotonic regression).

    It is told at quantiles of the scores, so that a straight line joins them where many scores have one value; pairs
    of which one is NaN do not count.
    """
    pairs = sorted((x, y) for x, y in zip(scores, values, strict=True) if not (math.isnan(x) or math.isnan(y)))
    if not pairs:
        return Curve()
    x, y = np.asarray(pairs).T
    fitted = isotonic_regression(y).x
    knots = np.unique(np.quantile(np.arange(len(x)), np.linspace(0, 1, KNOTS + 1)).astype(int))
    at, value = [], []
    for first, last in itertools.pairwise(knots):
        at.append(round(float(x[first : last + 1].mean()), 5))
        value.append(round(float(fitted[first : last + 1].mean()), 5))
    return Curve(at=tuple(at), value=tuple(value)) if at else Curve(at=(float(x[0]),), value=(float(y[0]),))
