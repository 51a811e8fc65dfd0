"""Agreement of two measurements of one quantity: Bland-Altman limits, proportional bias, ICC, Lin's CCC."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from segpipe.score.interval import UNKNOWN, Estimate, Indices, without_each

FEWEST_FOR_LIMITS = 5
FEWEST_FOR_SLOPE = 10
"""Subjects below which no regression is attempted."""
Z = 1.96
"""Limits of agreement lie this many SD from the bias."""
PERFECT = 1 - 1e-12
"""Coefficients from here on are 1 but for rounding: Fisher's z is endless."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Limits:
    """Bias and limits of agreement (Bland, Altman 1986, doi:10.1016/S0140-6736(86)90837-8), in the values' unit."""

    bias: Estimate
    lower: Estimate
    upper: Estimate
    sd: float
    """Of the differences; NaN below five cases, and so are the limits."""


@dataclass(frozen=True)
class Growth:
    """Regression of the difference on the mean of both measurements: whether the bias grows with size."""

    slope: Estimate
    intercept: float
    p: float
    """Two-sided, of no slope."""


@dataclass(frozen=True)
class Reliability:
    """How much of what varies between cases both measurements share: 1 is perfect, 0 none."""

    absolute: Estimate
    """ICC(A,1), also ICC(2,1): a constant shift counts as disagreement."""
    consistency: Estimate
    """ICC(C,1), also ICC(3,1): a constant shift does not count."""
    concordance: Estimate
    """Lin's CCC."""


def limits(difference: Floats, subjects: Sequence[str], confidence: float = 0.95) -> Limits:
    """Return bias and limits of agreement of differences (N,), each with its interval.

    With one case a subject: Student's interval of the bias, and limits of variance
    SD^2 (1 / n + 1.96^2 / (2 (n - 1))) (Bland, Altman 1999, doi:10.1177/096228029900800204). With several, both
    from the jackknife over subjects.
    """
    count, bias = len(difference), float(np.mean(difference))
    if count < FEWEST_FOR_LIMITS:
        return Limits(Estimate(bias, math.nan, math.nan), UNKNOWN, UNKNOWN, math.nan)
    sd = float(np.std(difference, ddof=1))
    if len(set(subjects)) < count:

        def shifted(by: float) -> Estimate:
            return without_each(lambda cases: _line(difference[cases], by), subjects, confidence)

        return Limits(shifted(0.0), shifted(-Z), shifted(Z), sd)
    t = float(stats.t.ppf((1 + confidence) / 2, count - 1))
    away = t * sd / math.sqrt(count)
    further = t * sd * math.sqrt(1 / count + Z**2 / (2 * (count - 1)))
    lower, upper = bias - Z * sd, bias + Z * sd
    return Limits(
        Estimate(bias, bias - away, bias + away),
        Estimate(lower, lower - further, lower + further),
        Estimate(upper, upper - further, upper + further),
        sd,
    )


def _line(difference: Floats, shift: float) -> float:
    spread = float(np.std(difference, ddof=1)) if len(difference) > 1 else math.nan
    return float(np.mean(difference)) + (shift * spread if shift else 0.0)


def growth(middle: Floats, difference: Floats, subjects: Sequence[str], confidence: float = 0.95) -> Growth:
    """Return the regression over subjects, each with the mean of its cases; NaN where it was not attempted.

    Args:
        middle: (N,) mean of both measurements of each case.
        difference: (N,) one minus the other.
        subjects: (N) subject of each case.
        confidence: Of the interval of the slope.
    """
    own: dict[str, list[int]] = defaultdict(list)
    for number, subject in enumerate(subjects):
        own[subject].append(number)
    x = np.asarray([middle[numbers].mean() for numbers in own.values()])
    y = np.asarray([difference[numbers].mean() for numbers in own.values()])
    if len(x) < FEWEST_FOR_SLOPE or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Growth(UNKNOWN, math.nan, math.nan)
    fitted = stats.linregress(x, y)
    slope, away = float(fitted.slope), float(stats.t.ppf((1 + confidence) / 2, len(x) - 2) * fitted.stderr)
    return Growth(Estimate(slope, slope - away, slope + away), float(fitted.intercept), float(fitted.pvalue))


def reliability(first: Floats, second: Floats, subjects: Sequence[str], confidence: float = 0.95) -> Reliability:
    """Return ICC(A,1), ICC(C,1) and CCC of two measurements (N,); NaN below five cases, or where nothing varies.

    With one case a subject: intervals of McGraw and Wong (1996, by F) and of Lin (by Fisher's z). With several, the
    jackknife over subjects of Fisher's z.
    """
    if len(first) < FEWEST_FOR_LIMITS or (np.ptp(first) == 0 and np.ptp(second) == 0):
        return Reliability(UNKNOWN, UNKNOWN, UNKNOWN)
    if len(set(subjects)) == len(first):
        both = np.stack([first, second], axis=1)
        return Reliability(*intraclass(both, confidence), concordance(first, second, confidence))
    found = []
    for kind in range(3):

        def on_z(cases: Indices, kind: int = kind) -> float:
            coefficient = _coefficients(first[cases], second[cases])[kind]
            return math.atanh(min(max(coefficient, -PERFECT), PERFECT))

        estimate = without_each(on_z, subjects, confidence)
        found.append(Estimate(*(math.tanh(end) for end in vars(estimate).values())))
    return Reliability(*found)


def _coefficients(first: Floats, second: Floats) -> tuple[float, float, float]:
    absolute, consistency = _intraclass(*_mean_squares(np.stack([first, second], axis=1)))
    return absolute, consistency, _concordance(first, second)


def intraclass(ratings: Floats, confidence: float = 0.95) -> tuple[Estimate, Estimate]:
    """Return ICC(A,1) and ICC(C,1) of ratings (cases, raters), two-way, single rater.

    Shrout and Fleiss 1979 (doi:10.1037/0033-2909.86.2.420) call them ICC(2,1) and ICC(3,1); intervals: McGraw and
    Wong 1996 (doi:10.1037/1082-989X.1.1.30), table 7.
    """
    cases, raters = ratings.shape
    rows, columns, error, *_ = squares = _mean_squares(ratings)
    absolute, consistency = _intraclass(*squares)
    if error <= 0 or absolute >= PERFECT:
        return Estimate(absolute, absolute, absolute), Estimate(consistency, consistency, consistency)
    rim = (1 + confidence) / 2
    between, within = cases - 1, (cases - 1) * (raters - 1)
    ratio = rows / error
    low, high = ratio / stats.f.ppf(rim, between, within), ratio * stats.f.ppf(rim, within, between)
    consistent = Estimate(consistency, *(float((f - 1) / (f + raters - 1)) for f in (low, high)))
    a = raters * absolute / (cases * (1 - absolute))
    b = 1 + raters * absolute * (cases - 1) / (cases * (1 - absolute))
    freedom = (a * columns + b * error) ** 2 / ((a * columns) ** 2 / (raters - 1) + (b * error) ** 2 / within)
    noise = raters * columns + (raters * cases - raters - cases) * error
    below, above = stats.f.ppf(rim, between, freedom), stats.f.ppf(rim, freedom, between)
    ends = (
        cases * (rows - below * error) / (below * noise + cases * rows),
        cases * (above * rows - error) / (noise + cases * above * rows),
    )
    return Estimate(absolute, *(float(end) for end in ends)), consistent


def _mean_squares(ratings: Floats) -> tuple[float, float, float, int, int]:
    """Return the mean squares of rows, columns and the rest of a two-way table, and its shape."""
    cases, raters = ratings.shape
    mean = ratings.mean()
    of_row, of_column = ratings.mean(axis=1), ratings.mean(axis=0)
    rest = ratings - of_row[:, None] - of_column + mean
    rows = raters * float(((of_row - mean) ** 2).sum()) / (cases - 1)
    columns = cases * float(((of_column - mean) ** 2).sum()) / (raters - 1)
    return rows, columns, float((rest**2).sum()) / ((cases - 1) * (raters - 1)), cases, raters


def _intraclass(rows: float, columns: float, error: float, cases: int, raters: int) -> tuple[float, float]:
    steady = rows + (raters - 1) * error
    whole = steady + raters * (columns - error) / cases
    return (
        (rows - error) / whole if whole > 0 else math.nan,
        (rows - error) / steady if steady > 0 else math.nan,
    )


def concordance(first: Floats, second: Floats, confidence: float = 0.95) -> Estimate:
    """Return Lin's concordance correlation coefficient of two measurements (N,), with Fisher's z interval.

    Lin 1989 (doi:10.2307/2532051), variances with 1 / n; the variance of z as corrected in Lin 2000
    (doi:10.1111/j.0006-341X.2000.00324.x).
    """
    coefficient = _concordance(first, second)
    count, spread = len(first), math.sqrt(float(np.std(first)) * float(np.std(second)))
    if not math.isfinite(coefficient) or count < 4 or spread == 0:
        return Estimate(coefficient, math.nan, math.nan)
    r = float(np.corrcoef(first, second)[0, 1])
    if abs(coefficient) >= PERFECT or r == 0:
        return Estimate(coefficient, coefficient, coefficient)
    c, u = coefficient, float(np.mean(first) - np.mean(second)) / spread
    left = 1 - c * c
    variance = (
        (1 - r * r) * c * c / (left * r * r)
        + 2 * c**3 * (1 - c) * u * u / (r * left**2)
        - c**4 * u**4 / (2 * r * r * left**2)
    ) / (count - 2)
    away = float(stats.norm.ppf((1 + confidence) / 2)) * math.sqrt(max(variance, 0.0))
    middle = math.atanh(c)
    return Estimate(c, math.tanh(middle - away), math.tanh(middle + away))


def _concordance(first: Floats, second: Floats) -> float:
    shared = 2 * float(np.mean((first - first.mean()) * (second - second.mean())))
    whole = float(np.var(first) + np.var(second) + (first.mean() - second.mean()) ** 2)
    return shared / whole if whole > 0 else math.nan
