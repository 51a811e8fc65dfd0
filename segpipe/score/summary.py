"""Scores over a data set: mean with a bootstrap interval over subjects, spread, worst, what is missing."""

import math
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

from segpipe.score.case import meaning
from segpipe.score.table import Row

OVERALL = "mean"
"""The label under which each case counts with the mean over its structures."""
FEWEST_TO_CORRECT = 3
"""With fewer subjects than this the skew that BCa corrects for cannot be estimated."""
BATCH = 2_000_000
"""Numbers drawn at once: bounds the memory when there are thousands of subjects."""

Floats = NDArray[np.float64]
Scores = dict[tuple[str, str], dict[str, float]]


@dataclass(frozen=True)
class Summary:
    """One structure and metric over all cases, in the unit of the metric."""

    label: str
    metric: str
    mean: float
    sd: float
    """Over cases, with n - 1; NaN below two cases."""
    median: float
    q1: float
    q3: float
    low: float
    """Lower end of the interval of the mean; NaN below two subjects."""
    high: float
    worst: float
    """Lowest or highest value, whichever is worse; NaN where neither is (volumes)."""
    n: int
    """Cases in which the value is defined: what all numbers above are made of."""
    undefined: int
    """Cases in which it is not: a structure missed or absent, or a case that could not be scored."""


def summarise(
    rows: Iterable[Row],
    subjects: Mapping[str, str],
    seed: int = 0,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> list[Summary]:
    """Summarise every structure and metric, then each metric but volumes over structures (label "mean").

    A case counts under "mean" with the mean over those of its structures where the metric is defined:
    read a mean distance together with ``undefined`` of the structures.

    Args:
        rows: Scores of all cases; a case with an error row counts as undefined everywhere.
        subjects: Case -> subject. Cases of one subject are not independent and are drawn together.
        seed: Every interval is drawn from this seed, so that it does not depend on what else is in the table.
        resamples: Number of bootstrap resamples.
        confidence: Of the interval, 0 to 1.

    Raises:
        KeyError: A case has no subject, or a metric is unknown.
    """
    scores: Scores = defaultdict(dict)
    failed = set()
    for row in rows:
        if isinstance(row.value, str):
            failed.add(row.case)
        else:
            scores[row.label, row.metric][row.case] = row.value
    summaries = []
    for (label, metric), values in (scores | _over_structures(scores)).items():
        defined = {case: value for case, value in values.items() if not math.isnan(value)}
        sums, counts = _by_subject(defined, subjects)
        low, high = mean_interval(sums, counts, seed, resamples, confidence)
        undefined = len(values.keys() | failed) - len(defined)
        summaries.append(_summary(label, metric, list(defined.values()), (low, high), undefined))
    return summaries


def mean_interval(
    sums: Floats, counts: Floats, seed: int = 0, resamples: int = 2000, confidence: float = 0.95
) -> tuple[float, float]:
    """Return a bootstrap interval of the mean over cases, with subjects (N,) as the unit that is drawn.

    BCa (Efron 1987) on the ratio of sums; the plain percentile interval where BCa is not defined (fewer
    than three subjects, all values equal); NaN below two subjects.

    Args:
        sums: (N,) sum of the values of each subject's cases.
        counts: (N,) number of these cases, at least 1.
        seed: Of the draw.
        resamples: Number of bootstrap resamples.
        confidence: Of the interval, 0 to 1.
    """
    if len(sums) <= 1:
        return math.nan, math.nan
    # Equal subjects give a distribution of one point: BCa says so by warning and NaN, and is replaced below.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        drawn: Any = bootstrap(
            (sums, counts),
            _pooled_mean,
            paired=True,
            vectorized=True,
            n_resamples=resamples,
            batch=max(1, BATCH // len(sums)),
            confidence_level=confidence,
            method="BCa" if len(sums) >= FEWEST_TO_CORRECT else "percentile",
            rng=np.random.default_rng(seed),
        )
    low, high = drawn.confidence_interval
    if not (math.isfinite(low) and math.isfinite(high)):
        tail = (1 - confidence) / 2
        low, high = np.quantile(drawn.bootstrap_distribution, (tail, 1 - tail))
    return float(low), float(high)


def _pooled_mean(sums: Floats, counts: Floats, axis: int = -1) -> Floats:
    mean: Floats = np.sum(sums, axis=axis) / np.sum(counts, axis=axis)
    return mean


def _by_subject(values: Mapping[str, float], subjects: Mapping[str, str]) -> tuple[Floats, Floats]:
    """Gather the values of cases into sums and counts of subjects, (N,) each."""
    gathered: dict[str, list[float]] = defaultdict(list)
    for case, value in values.items():
        gathered[subjects[case]].append(value)
    sums = np.array([math.fsum(own) for own in gathered.values()])
    return sums, np.array([float(len(own)) for own in gathered.values()])


def _over_structures(scores: Scores) -> Scores:
    """Average each case over its structures, metric by metric, without volumes: their mean says nothing."""
    gathered: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (_, metric), values in scores.items():
        if meaning(metric).better != "neither":
            for case, value in values.items():
                gathered[metric][case].append(value)
    return {
        (OVERALL, metric): {case: _defined_mean(values) for case, values in cases.items()}
        for metric, cases in gathered.items()
    }


def _defined_mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan


def _summary(
    label: str, metric: str, values: Sequence[float], interval: tuple[float, float], undefined: int
) -> Summary:
    low, high = interval
    mean = sd = median = q1 = q3 = worst = math.nan
    if values:
        mean = float(np.mean(values))
        q1, median, q3 = (float(number) for number in np.quantile(values, (0.25, 0.5, 0.75)))
        worst = {"higher": min(values), "lower": max(values), "neither": math.nan}[meaning(metric).better]
    if len(values) > 1:
        sd = float(np.std(values, ddof=1))
    return Summary(label, metric, mean, sd, median, q1, q3, low, high, worst, len(values), undefined)
