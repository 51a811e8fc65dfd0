"""Whether some subjects fare worse than others: scores by covariate, with intervals and a corrected test."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt
from scipy import stats

from segpipe.core.section import Section
from segpipe.score.interval import Estimate, by_subject, mean_interval
from segpipe.score.paired import holm

MOST_GROUPS = 12
"""A covariate of more kinds than this divides nothing: it names subjects."""
MOST_KINDS = 6
"""A covariate of more numbers than this is divided into bands."""
THIRDS = (1 / 3, 2 / 3)
NOT_STATED = "not stated"

Floats = NDArray[np.float64]


class SubgroupsConfig(Section):
    """Subgroups of the cases that are scored."""

    covariates: tuple[str, ...] | None = None
    """Columns of the data set's table that divide the cases (site, scanner, sex, age); empty: every one that can."""
    bands: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """Where the bands of a number begin, best fixed before looking: {age: [40, 60, 80]}. Without: three bands
    with about as many subjects each."""
    fewest_shown: PositiveInt = 5
    """Groups of fewer subjects are counted, but not shown: a figure of few may tell who they are."""
    fewest_tested: PositiveInt = 10
    """Groups of fewer subjects are shown, but not tested."""


@dataclass(frozen=True)
class Group:
    """The cases of one kind."""

    name: str
    cases: int
    subjects: int
    mean: Estimate
    median: float
    q1: float
    q3: float
    tested: bool
    """Whether it is large enough to be tested."""


@dataclass(frozen=True)
class Gap:
    """The largest difference between two groups, and the test whether groups differ at all."""

    higher: str
    lower: str
    difference: Estimate
    """Of the means of subjects, with Welch's interval, widened for the number of pairs of groups."""
    p: float
    """Of Kruskal and Wallis' test over all tested groups, on the means of subjects."""
    corrected: float
    """The same after Holm's correction for the number of covariates."""


@dataclass(frozen=True)
class Subgroups:
    """One covariate."""

    covariate: str
    groups: tuple[Group, ...]
    hidden_groups: int
    """Groups that are too small to be shown."""
    hidden_subjects: int
    gap: Gap | None
    """None where nothing could be tested."""
    reason: str = ""
    """Why nothing was tested."""


def subgroups(
    values: Mapping[str, float],
    covariates: Mapping[str, Mapping[str, str]],
    subjects: Mapping[str, str],
    config: SubgroupsConfig,
    seed: int = 0,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> list[Subgroups]:  # fmt: skip
    """Divide scores by every covariate that divides them.

    Args:
        values: Case -> score; only finite ones.
        covariates: Case -> name -> value.
        subjects: Case -> subject.
        config: What divides, and how small a group may be.
        seed: Of the intervals.
        resamples: Of the intervals.
        confidence: Of the intervals, 0 to 1.
    """
    names = config.covariates or list(dict.fromkeys(n for case in sorted(values) for n in covariates.get(case, {})))
    found = []
    for name in names:
        own = {case: covariates.get(case, {}).get(name, "") for case in values}
        divided = divide(own, config.bands.get(name, ()))
        if len(divided) < 2:
            continue
        groups, sizes = [], []
        for group, cases in divided.items():
            sizes.append(len({subjects[case] for case in cases}))
            if sizes[-1] >= config.fewest_shown:
                part = {case: values[case] for case in cases}
                groups.append(_group(group, part, subjects, config, (seed, resamples, confidence)))
        hidden = [size for size in sizes if size < config.fewest_shown]
        gap, reason = _gap({g.name: divided[g.name] for g in groups if g.tested}, values, subjects, confidence)
        found.append(Subgroups(name, tuple(groups), len(hidden), sum(hidden), gap, reason))
    corrected = iter(holm([one.gap.p for one in found if one.gap]))
    return [replace(one, gap=replace(one.gap, corrected=next(corrected))) if one.gap else one for one in found]


def divide(values: Mapping[str, str], edges: Sequence[float] = ()) -> dict[str, list[str]]:
    """Return the cases of each kind of a covariate (case -> text), in order; none where there are too many kinds.

    Numbers of many kinds are divided into bands: at ``edges``, or into thirds. Cases without a value, or where a
    number is wanted and none stands, come last as "not stated".
    """
    known = {case: text for case, text in values.items() if text}
    numbers = {case: number for case, text in known.items() if math.isfinite(number := _number(text))}
    counted = len(set(numbers.values())) > MOST_KINDS and len(numbers) * 10 >= len(known) * 9
    if edges or counted:
        names = dict(_bands(numbers, edges))
        order = list(dict.fromkeys(names[case] for case in sorted(numbers, key=lambda case: numbers[case])))
    else:
        names = dict(known)
        order = sorted(set(known.values()), key=lambda text: (_number(text), text))
        if len(order) > MOST_GROUPS:
            return {}
    groups = {name: [case for case in values if names.get(case) == name] for name in order}
    unknown = [case for case in values if case not in names]
    return groups | ({NOT_STATED: unknown} if unknown else {})


def _bands(numbers: Mapping[str, float], edges: Sequence[float]) -> Iterator[tuple[str, str]]:
    """Yield each case with the name of its band."""
    if not numbers:
        return
    if not edges:
        thirds = np.quantile(list(numbers.values()), THIRDS)
        edges = [float(f"{edge:.3g}") for edge in thirds]
    at = sorted(set(edges))
    names = [f"below {at[0]:g}", *(f"{low:g} to below {high:g}" for low, high in itertools.pairwise(at))]
    names.append(f"{at[-1]:g} and above")
    for case, number in numbers.items():
        yield case, names[int(np.searchsorted(at, number, side="right"))]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.inf


def _group(
    name: str,
    values: Mapping[str, float],
    subjects: Mapping[str, str],
    config: SubgroupsConfig,
    how: tuple[int, int, float],
) -> Group:
    sums, counts = by_subject(values, subjects)
    low, high = mean_interval(sums, counts, *how)
    q1, median, q3 = (float(value) for value in np.quantile(list(values.values()), (0.25, 0.5, 0.75)))
    mean = Estimate(float(sums.sum() / counts.sum()), low, high)
    return Group(name, len(values), len(sums), mean, median, q1, q3, len(sums) >= config.fewest_tested)


def _gap(
    groups: Mapping[str, Sequence[str]], values: Mapping[str, float], subjects: Mapping[str, str], confidence: float
) -> tuple[Gap | None, str]:
    """Return the gap between groups (name -> cases), or why there is none."""
    if len(groups) < 2:
        return None, "fewer than two groups are large enough"
    owners = [{subjects[case] for case in cases} for cases in groups.values()]
    if len(set().union(*owners)) < sum(len(one) for one in owners):
        return None, "some subjects lie in several groups"
    means = {}
    for name, cases in groups.items():
        sums, counts = by_subject({case: values[case] for case in cases}, subjects)
        means[name] = sums / counts
    if np.ptp(np.concatenate(list(means.values()))) == 0:
        return None, "all scores are equal"
    order = sorted(means, key=lambda name: float(means[name].mean()))
    higher, lower = order[-1], order[0]
    pairs = len(means) * (len(means) - 1) // 2
    p = float(stats.kruskal(*means.values()).pvalue)
    apart = _welch(means[higher], means[lower], 1 - (1 - confidence) / pairs)
    return Gap(higher, lower, apart, p, p), ""


def _welch(first: Floats, second: Floats, confidence: float) -> Estimate:
    """Return the difference of two means with Welch's interval (1947)."""
    parts = [float(one.var(ddof=1)) / len(one) for one in (first, second)]
    apart, error = float(first.mean() - second.mean()), math.sqrt(sum(parts))
    if error == 0:
        return Estimate(apart, apart, apart)
    freedom = error**4 / sum(part**2 / (len(one) - 1) for part, one in zip(parts, (first, second), strict=True))
    away = float(stats.t.ppf((1 + confidence) / 2, freedom)) * error
    return Estimate(apart, apart - away, apart + away)
