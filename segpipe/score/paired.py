"""Two ways to train, compared on the same cases with the same seeds: interval, test, correction, verdict."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Verdict = Literal["helped", "harmed", "no evidence"]

LEVEL = 0.05
"""Largest corrected p that counts as evidence."""
RESAMPLES = 2000
BATCH = 2_000_000
"""Numbers drawn at once."""


@dataclass(frozen=True)
class Interval:
    """A mean over cases and seeds, in the unit of the scores."""

    mean: float
    low: float
    """Lower end of the 95 % interval; NaN below two subjects."""
    high: float


@dataclass(frozen=True)
class Comparison:
    """Scores of one way minus those of another, case by case and seed by seed."""

    difference: Interval
    p: float
    """Two-sided, over subjects, not corrected."""
    subjects: int
    seeds: int


def compare(scores: Floats, others: Floats, subjects: Sequence[str], draw: int = 0) -> Comparison:
    """Compare two ways to train.

    The test is Wilcoxon's signed-rank test (1945) on each subject's mean difference over cases and seeds. It takes
    the seeds as given; what another seed would change is in the interval, see ``crossed_interval``.

    Args:
        scores: (N, S) score of each case with each seed; no NaN.
        others: (N, S) the same of the other way.
        subjects: (N) subject of each case; cases of one subject are not independent.
        draw: Seed of the bootstrap.

    Raises:
        ValueError: The shapes differ, or nothing is there to compare.
    """
    if scores.shape != others.shape or scores.ndim != 2 or not scores.size:
        raise ValueError(f"scores {scores.shape} and {others.shape} must be of one shape (cases, seeds)")
    differences = scores - others
    each, _ = _of_subjects(differences, subjects)
    return Comparison(crossed_interval(differences, subjects, draw), _signed_rank(each), len(each), scores.shape[1])


def crossed_interval(values: Floats, subjects: Sequence[str], draw: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Return the mean over cases and seeds with a 95 % interval that covers other subjects and other seeds.

    Subjects and seeds are drawn with replacement, each for itself (the crossed bootstrap: Owen, Eckles 2012,
    "Bootstrapping data arrays of arbitrary order"); the interval is that of the percentiles. A plain percentile
    interval of three seeds would cover the truth four times out of five only, so the effects of subjects and of
    seeds are widened before they are added up, each by sqrt(n / (n - 1)) t(n - 1) / z: as wide as Student's
    interval where one of them alone varies (Hesterberg 2015, "What teachers should know about the bootstrap",
    on narrowness). With a single seed only subjects are drawn.

    Args:
        values: (N, S) value of each case with each seed; no NaN.
        subjects: (N) subject of each case, drawn together with all its cases.
        draw: Seed of the draw.
        resamples: How often is drawn.
    """
    each, weights = _of_subjects(values, subjects)
    shares = weights / weights.sum()
    mean = float(shares @ each.mean(axis=1))
    count, seeds = each.shape
    if count < 2:
        return Interval(mean, np.nan, np.nan)
    of_subject = each.mean(axis=1) - mean
    of_seed = shares @ each - mean
    rest = each - mean - of_subject[:, None] - of_seed
    random = np.random.default_rng(draw)
    drawn = []
    for part in _batches(resamples, each.size):
        chosen = random.multinomial(count, np.full(count, 1 / count), part) * shares
        chosen /= chosen.sum(axis=1, keepdims=True)
        again = random.multinomial(seeds, np.full(seeds, 1 / seeds), part) / seeds
        moved = _widening(count) * chosen @ of_subject + _widening(seeds) * again @ of_seed
        drawn.append(moved + ((chosen @ rest) * again).sum(axis=1))
    low, high = mean + np.quantile(np.concatenate(drawn), (LEVEL / 2, 1 - LEVEL / 2))
    return Interval(mean, float(low), float(high))


def holm(p: Sequence[float]) -> list[float]:
    """Return p corrected for how many there are (Holm 1979): the chance of even one false alarm stays below 5 %.

    The smallest of m is taken m times, the next m - 1 times, and so on; none comes out below a smaller one.
    """
    order = np.argsort(p, kind="stable")
    factors = np.arange(len(p), 0, -1)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(np.asarray(p, np.float64)[order] * factors), 1.0)
    return [float(value) for value in corrected]


def verdict(difference: Interval, corrected: float) -> Verdict:
    """Return what a comparison shows: evidence needs a corrected p below 5 % and an interval without zero."""
    if corrected < LEVEL and difference.low > 0:
        return "helped"
    if corrected < LEVEL and difference.high < 0:
        return "harmed"
    return "no evidence"


def _of_subjects(values: Floats, subjects: Sequence[str]) -> tuple[Floats, Floats]:
    """Return the mean of each subject's cases with each seed (N, S), and how many cases it has (N)."""
    _, index, counts = np.unique(np.asarray(subjects), return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), values.shape[1]))
    np.add.at(sums, index, values)
    return sums / counts[:, None], counts.astype(np.float64)


def _signed_rank(differences: Floats) -> float:
    """Return the two-sided p of Wilcoxon's signed-rank test on the means over seeds of (N, S)."""
    of_subject = differences.mean(axis=1)
    if not of_subject.any():
        return 1.0  # nothing differs: there are no ranks to sign
    return float(stats.wilcoxon(of_subject).pvalue)


def _widening(count: int) -> float:
    if count < 2:
        return 1.0
    rim = 1 - LEVEL / 2
    return float(np.sqrt(count / (count - 1)) * stats.t.ppf(rim, count - 1) / stats.norm.ppf(rim))


def _batches(resamples: int, size: int) -> list[int]:
    most = max(1, BATCH // size)
    return [min(most, resamples - start) for start in range(0, resamples, most)]
