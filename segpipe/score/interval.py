"""How sure a figure over cases is: intervals of means, medians and other figures, with subjects as the unit."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

FEWEST_TO_STUDENTISE = 5
"""With fewer subjects than this there are too few different resamples for a bootstrap: Student's t serves."""
FARTHEST = 10
"""Of a few subjects, some resamples vary hardly at all, and their errors are no measure: an end lies no farther away
than that of Student's interval with so many times fewer misses."""
FEWEST_RESAMPLES = 100
"""With fewer resamples in which anything varies their quantiles say nothing."""
BATCH = 2_000_000
"""Numbers drawn at once: bounds the memory when there are thousands of subjects."""
METHOD = "bootstrap-t over subjects"
"""The method of ``mean_interval``, as a report has to name it."""

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Estimate:
    """A figure with the interval in which it lies, in its own unit."""

    value: float
    low: float
    """NaN where there is no interval."""
    high: float

    @property
    def sure(self) -> bool:
        """Whether there is an interval."""
        return math.isfinite(self.low) and math.isfinite(self.high)


UNKNOWN = Estimate(math.nan, math.nan, math.nan)


def by_subject(values: Mapping[str, float], subjects: Mapping[str, str]) -> tuple[Floats, Floats]:
    """Gather the values of cases into sums and counts of subjects, (N,) each, in the order of the first cases.

    Raises:
        KeyError: A case has no subject.
    """
    gathered: dict[str, list[float]] = defaultdict(list)
    for case, value in values.items():
        gathered[subjects[case]].append(value)
    sums = np.array([math.fsum(own) for own in gathered.values()])
    return sums, np.array([float(len(own)) for own in gathered.values()])


def mean_interval(
    sums: Floats, counts: Floats, seed: int = 0, resamples: int = 2000, confidence: float = 0.95
) -> tuple[float, float]:
    """Return an interval of the mean over cases, with subjects (N,) as the unit that is drawn.

    Bootstrap-t (Efron, Tibshirani 1993, chapter 12): the error of the mean of each resample over its own standard
    error, which the jackknife over subjects gives. Scores are skewed, and percentile, BCa and Student's intervals
    of few subjects miss the truth too often on the side of the tail; docs/statistics.md holds what was measured.
    No end lies farther away than that of Student's interval with a tenth of the misses.
    Below five subjects, and where hardly any resample varies, Student's t with the same standard error. NaN below
    two subjects.

    Args:
        sums: (N,) sum of the values of each subject's cases.
        counts: (N,) number of these cases, at least 1.
        seed: Of the draw.
        resamples: Number of bootstrap resamples.
        confidence: Of the interval, 0 to 1.
    """
    subjects = len(sums)
    if subjects < 2:
        return math.nan, math.nan
    mean, error = float(sums.sum() / counts.sum()), float(jackknife_error(sums, counts))
    tails = ((1 + confidence) / 2, (1 - confidence) / 2)
    if subjects >= FEWEST_TO_STUDENTISE:
        drawn = _studentised(sums, counts, np.random.default_rng(seed), resamples)
        if len(drawn) >= FEWEST_RESAMPLES:
            most = stats.t.ppf(1 - (1 - confidence) / 2 / FARTHEST, subjects - 1)
            return _ends(mean, error, np.clip(np.quantile(drawn, tails), -most, most))
    return _ends(mean, error, stats.t.ppf(tails, subjects - 1))


def _ends(mean: float, error: float, tails: Any) -> tuple[float, float]:
    return mean - float(tails[0]) * error, mean - float(tails[1]) * error


def jackknife_error(sums: Floats, counts: Floats) -> Floats:
    """Return the standard error (*B) of the means sums / counts (*B, N), by leaving out each subject in turn.

    With one case a subject it is SD / sqrt(n).
    """
    total, cases = (part.sum(axis=-1, keepdims=True) for part in (sums, counts))
    without = (total - sums) / (cases - counts)
    subjects = sums.shape[-1]
    spread = ((without - without.mean(axis=-1, keepdims=True)) ** 2).sum(axis=-1)
    error: Floats = np.sqrt((subjects - 1) / subjects * spread)
    return error


def _studentised(sums: Floats, counts: Floats, random: np.random.Generator, resamples: int) -> Floats:
    """Return (error of the mean) / (its standard error) of each resample in which subjects differ."""
    mean, subjects = sums.sum() / counts.sum(), len(sums)
    rounding = 1e-12 * float(np.abs(sums / counts).max())
    found = []
    at_once = max(1, BATCH // subjects)
    for start in range(0, resamples, at_once):
        chosen = random.integers(0, subjects, (min(at_once, resamples - start), subjects))
        drawn, cases = sums[chosen], counts[chosen]
        errors = jackknife_error(drawn, cases)
        varied = errors > rounding
        means = drawn.sum(axis=1) / cases.sum(axis=1)
        found.append((means[varied] - mean) / errors[varied])
    return np.concatenate(found)


def median_interval(
    values: Mapping[str, float], subjects: Mapping[str, str], confidence: float = 0.95
) -> tuple[float, float]:
    """Return an interval of the median over cases, between two of their values.

    Woodruff 1952 (doi:10.1080/01621459.1952.10483443): how far the share of cases below the median may be from
    one half, given that cases of one subject lie on the same side, and the quantiles at these shares. With one case
    a subject it is nearly that of the order statistics. NaN below two subjects.
    """
    if len(values) < 2:
        return math.nan, math.nan
    sorted_values = np.sort(np.fromiter(values.values(), np.float64))
    median = float(np.median(sorted_values))
    sides = {case: 0.5 * float(np.sign(value - median)) for case, value in values.items()}
    sums, _ = by_subject(sides, subjects)
    known, cases = len(sums), len(sorted_values)
    if known < 2:
        return math.nan, math.nan
    error = math.sqrt(known / (known - 1) * float((sums**2).sum())) / cases
    away = float(stats.t.ppf((1 + confidence) / 2, known - 1)) * error
    first = max(math.floor((0.5 - away) * cases), 0)
    last = min(math.ceil((0.5 + away) * cases), cases) - 1
    return float(sorted_values[first]), float(sorted_values[last])


def without_each(figure: Callable[[Indices], float], subjects: Sequence[str], confidence: float) -> Estimate:
    """Return any figure over cases with Student's interval from the jackknife over subjects.

    Args:
        figure: From the indices of cases to the figure, on a scale where its error is about normal.
        subjects: (N) subject of each case, left out with all its cases.
        confidence: Of the interval, 0 to 1.
    """
    _, own = np.unique(np.asarray(subjects), return_inverse=True)
    value, known = figure(np.arange(len(own))), int(own.max()) + 1
    if known < FEWEST_TO_STUDENTISE:
        return Estimate(value, math.nan, math.nan)
    each = np.asarray([figure(np.flatnonzero(own != left_out)) for left_out in range(known)])
    error = math.sqrt((known - 1) / known * float(((each - each.mean()) ** 2).sum()))
    away = float(stats.t.ppf((1 + confidence) / 2, known - 1)) * error
    return Estimate(value, value - away, value + away)
