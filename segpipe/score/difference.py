"""Two models on the same cases: mean difference with interval, two tests, effect size, non-inferiority."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from segpipe.score.interval import Estimate, jackknife_error

FLIPS = 20_000
"""Random sign flips of a permutation test."""
MOST_EXACT = 16
"""Up to so many subjects all flips are taken."""
BATCH = 2_000_000
"""Numbers drawn at once."""
SLACK = 1e-9
"""Share by which two sums that differ in rounding only may differ, to be called equal."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """One model minus another, over the cases that both have, in the unit of the scores."""

    mean: Estimate
    """Over cases; Student's interval with the jackknife over subjects."""
    median: float
    """Of the subjects' mean differences."""
    p: float
    """Two-sided, of the permutation test: the signs of subjects' differences flipped."""
    p_ranks: float
    """Two-sided, of Wilcoxon's signed-rank test on subjects' mean differences."""
    effect: float
    """Matched-pairs rank-biserial correlation, -1 to 1: ranks of gains minus ranks of losses, as a share of all."""
    sd: float
    """Of the subjects' mean differences; NaN below two."""
    gains: int
    """Subjects with a positive mean difference."""
    losses: int
    subjects: int
    cases: int


def difference(
    scores: Mapping[str, float],
    others: Mapping[str, float],
    subjects: Mapping[str, str],
    confidence: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Compare scores (case -> value) with others, on the cases that both have.

    Raises:
        ValueError: They share no case.
        KeyError: A case has no subject.
    """
    shared = sorted(scores.keys() & others.keys())
    if not shared:
        raise ValueError("there is no case that both have scores of")
    sums, counts = paired_sums(np.array([scores[c] - others[c] for c in shared]), [subjects[c] for c in shared])
    each = sums / counts
    p_ranks, effect = signed_ranks(each)
    return Difference(
        mean_difference(sums, counts, confidence),
        float(np.median(each)),
        sign_flip(sums, seed),
        p_ranks,
        effect,
        float(np.std(each, ddof=1)) if len(each) > 1 else math.nan,
        int((each > 0).sum()),
        int((each < 0).sum()),
        len(each),
        len(shared),
    )


def paired_sums(values: Floats, subjects: Sequence[str]) -> tuple[Floats, Floats]:
    """Return the sum of each subject's values (N,) and how many they are (N,)."""
    _, index, counts = np.unique(np.asarray(subjects), return_inverse=True, return_counts=True)
    sums = np.zeros(len(counts))
    np.add.at(sums, index, values)
    return sums, counts.astype(np.float64)


def mean_difference(sums: Floats, counts: Floats, confidence: float = 0.95) -> Estimate:
    """Return the mean over cases with Student's interval; differences are less skewed than scores are.

    Args:
        sums: (N,) sum of the differences of each subject's cases.
        counts: (N,) how many these are.
        confidence: Of the interval, 0 to 1.
    """
    mean = float(sums.sum() / counts.sum())
    if len(sums) < 2:
        return Estimate(mean, math.nan, math.nan)
    away = float(stats.t.ppf((1 + confidence) / 2, len(sums) - 1)) * float(jackknife_error(sums, counts))
    return Estimate(mean, mean - away, mean + away)


def sign_flip(values: Floats, seed: int = 0, flips: int = FLIPS) -> float:
    """Return the two-sided p of the permutation test that flips the signs of differences (N,) of subjects.

    Fisher 1935 (The Design of Experiments, section 21): if both models were the same, each subject's difference
    could as well have had the other sign. Exact up to 16 subjects; else by ``flips`` random
    ones, the observed one counted among them, so that p is never too small (Phipson, Smyth 2010,
    doi:10.2202/1544-6115.1585). Own code: scipy's ``permutation_test`` gives the same, 100 times slower.
    """
    values = values[values != 0]
    size, seen = len(values), abs(float(values.sum()))
    if size == 0:
        return 1.0
    limit = seen - SLACK * float(np.abs(values).sum())
    if size <= MOST_EXACT:
        codes = np.arange(2**size)[:, None] >> np.arange(size) & 1
        return float(np.mean(_flipped(codes, values) >= limit))
    random, extreme = np.random.default_rng(seed), 0
    at_once = max(1, BATCH // size)
    for start in range(0, flips, at_once):
        rows = min(at_once, flips - start)
        bits = np.unpackbits(np.frombuffer(random.bytes(-(-rows * size // 8)), np.uint8), count=rows * size)
        extreme += int((_flipped(bits.reshape(rows, size), values) >= limit).sum())
    return (extreme + 1) / (flips + 1)


def _flipped(signs: NDArray[np.integer[Any]], values: Floats) -> Floats:
    """Return the absolute sums (B,) of values (N,) where a sign of (B, N) is 1 instead of 0."""
    sums: Floats = np.abs(values.sum() - 2 * (signs @ values))
    return sums


def signed_ranks(values: Floats) -> tuple[float, float]:
    """Return the two-sided p of Wilcoxon's signed-rank test and the rank-biserial correlation of values (N,).

    The correlation is (W+ - W-) / (W+ + W-) over the ranks of what is not zero (Kerby 2014,
    doi:10.2466/11.IT.3.1).
    """
    moved = values[values != 0]
    if len(moved) == 0:
        return 1.0, 0.0
    ranks = stats.rankdata(np.abs(moved))
    effect = float((ranks * np.sign(moved)).sum() / ranks.sum())
    return float(stats.wilcoxon(moved).pvalue), effect


def omnibus(scores: Sequence[Mapping[str, float]], subjects: Mapping[str, str]) -> float:
    """Return the p of Friedman's test (1937) that three or more models differ at all, on subjects' means.

    Args:
        scores: Case -> value, of each model; only cases that all have count.
        subjects: Subject of each case.

    Returns:
        NaN where fewer than three models or two subjects are there; 1 where all values are alike.
    """
    shared = sorted(set.intersection(*(set(one) for one in scores))) if scores else []
    owners = [subjects[case] for case in shared]
    if len(scores) < 3 or len(set(owners)) < 2:
        return math.nan
    columns = []
    for one in scores:
        sums, counts = paired_sums(np.array([one[case] for case in shared]), owners)
        columns.append(sums / counts)
    if np.ptp(np.stack(columns), axis=0).max() == 0:
        return 1.0
    return float(stats.friedmanchisquare(*columns).pvalue)


def non_inferior(gain: Estimate, margin: float) -> bool:
    """Tell whether a model is shown to be worse by less than a margin that was given beforehand.

    Args:
        gain: Its mean score minus the other's, positive where it is better; of a 95 % interval the lower end is the
            one-sided bound at 2.5 %.
        margin: The largest loss that would be accepted, in the unit of the scores.
    """
    return gain.sure and gain.low > -margin
