"""Scores over a data set: mean and median with intervals over subjects, spread, worst, what is missing."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from segpipe.score.case import meaning
from segpipe.score.interval import by_subject, mean_interval, median_interval
from segpipe.score.table import Row

OVERALL = "mean"
"""The label under which each case counts with the mean over its structures."""

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
    median_low: float = math.nan
    """Lower end of the interval of the median; NaN below two subjects."""
    median_high: float = math.nan
    subjects: int = 0
    """To whom the ``n`` cases belong."""


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
    scores, errors = columns(rows)
    failed = errors.keys()
    summaries = []
    for (label, metric), values in (scores | over_structures(scores)).items():
        defined = {case: value for case, value in values.items() if not math.isnan(value)}
        sums, counts = by_subject(defined, subjects)
        least, most = natural_bounds(metric)
        low, high = (min(max(end, least), most) for end in mean_interval(sums, counts, seed, resamples, confidence))
        median_low, median_high = median_interval(defined, subjects, confidence)
        summaries.append(
            replace(
                _summary(label, metric, list(defined.values())),
                low=low,
                high=high,
                median_low=median_low,
                median_high=median_high,
                undefined=len(values.keys() | failed) - len(defined),
                subjects=len(sums),
            )
        )
    return summaries


def columns(rows: Iterable[Row]) -> tuple[Scores, dict[str, str]]:
    """Return the values by (label, metric) and case, NaN where undefined, and why other cases have none."""
    scores: Scores = defaultdict(dict)
    errors = {}
    for row in rows:
        if isinstance(row.value, str):
            errors[row.case] = row.value
        else:
            scores[row.label, row.metric][row.case] = row.value
    return dict(scores), errors


def natural_bounds(metric: str) -> tuple[float, float]:
    """Return the least and the largest value that a metric can have: shares lie in 0 to 1, distances above 0."""
    known = meaning(metric)
    if known.better == "higher":
        return (0.0, math.inf if known.unit else 1.0)
    return (0.0 if known.better == "lower" else -math.inf, math.inf)


def over_structures(scores: Scores) -> Scores:
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


def _summary(label: str, metric: str, values: Sequence[float]) -> Summary:
    """Return what needs no subjects."""
    mean = sd = median = q1 = q3 = worst = math.nan
    if values:
        mean = float(np.mean(values))
        q1, median, q3 = (float(number) for number in np.quantile(values, (0.25, 0.5, 0.75)))
        worst = {"higher": min(values), "lower": max(values), "neither": math.nan}[meaning(metric).better]
    if len(values) > 1:
        sd = float(np.std(values, ddof=1))
    return Summary(label, metric, mean, sd, median, q1, q3, math.nan, math.nan, worst, len(values), 0)
