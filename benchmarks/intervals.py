"""Whether intervals cover the truth as often as they say, and tests raise false alarms as rarely as they say.

Simulates studies of which the truth is known: subjects with one to five scans each, Dice-like scores that are bounded
and skewed. Prints the share of studies in which each interval held the true value (wanted: 0.95), and in which each
test found a difference that was not there (wanted: 0.05). The standard error of a share is 0.007 with 1000 studies.

    python benchmarks/intervals.py [--studies 1000] [--resamples 1000] [--only means]
"""

import argparse
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from segpipe.score.agreement import limits, reliability
from segpipe.score.difference import mean_difference, paired_sums, sign_flip, signed_ranks
from segpipe.score.interval import mean_interval, median_interval
from segpipe.score.subgroups import SubgroupsConfig, subgroups

Floats = NDArray[np.float64]
Population = Callable[[np.random.Generator, int], tuple[Floats, NDArray[np.intp]]]
"""Draws subjects: the scores of all cases, and the subject of each."""
SUBJECTS = (6, 10, 20, 40, 60)
MANY = 300_000
"""Subjects from whom the truth is known."""


def dice(spread: float, *, failures: float = 0.0, most: int = 5) -> Population:
    """Return a population: logistic-normal scores about 0.9, subjects and scans varying, some subjects failing."""

    def draw(random: np.random.Generator, subjects: int) -> tuple[Floats, NDArray[np.intp]]:
        owner = np.repeat(np.arange(subjects), random.integers(1, most + 1, subjects))
        of_subject = spread * random.standard_normal(subjects)[owner]
        scores = 1 / (1 + np.exp(-(2.3 + of_subject + 0.7 * spread * random.standard_normal(len(owner)))))
        failed = random.random(subjects) < failures
        share = np.where(failed, 0.7 * random.random(subjects), 1.0)
        return scores * share[owner], owner

    return draw


def gains(heavy: float, shift: float = 0.0) -> Population:
    """Return a population of differences between two models: symmetric about ``shift``, with heavy tails."""

    def draw(random: np.random.Generator, subjects: int) -> tuple[Floats, NDArray[np.intp]]:
        owner = np.repeat(np.arange(subjects), random.integers(1, 6, subjects))
        scale = 0.01 * np.exp(heavy * random.standard_normal(subjects))
        moved = (scale * random.standard_normal(subjects))[owner] + 0.007 * random.standard_normal(len(owner))
        return moved + shift, owner

    return draw


SCORES = {
    "skewed": dice(0.5),
    "very skewed": dice(0.9),
    "one scan each": dice(0.5, most=1),
    "5 % failures": dice(0.5, failures=0.05),
}
DIFFERENCES = {"normal": gains(0.0), "heavy tails": gains(0.6)}


def covered(
    population: Population, subjects: int, studies: int, resamples: int, *, others: bool = True
) -> dict[str, float]:
    """Return the share of studies in which each interval of the mean over cases holds the truth."""
    whole, _ = population(np.random.default_rng(1), MANY)
    truth, middle = float(whole.mean()), float(np.median(whole))
    hits: dict[str, int] = {}
    for study in range(studies):
        scores, owner = population(np.random.default_rng([subjects, study]), subjects)
        sums, counts = paired_sums(scores, [str(one) for one in owner])
        found = {"default": mean_interval(sums, counts, study, resamples)}
        if others:
            found |= rivals(sums, counts, study, resamples)
        for name, (low, high) in found.items():
            hits[name] = hits.get(name, 0) + (low <= truth <= high)
        cases = {str(number): float(score) for number, score in enumerate(scores)}
        low, high = median_interval(cases, {str(number): str(one) for number, one in enumerate(owner)})
        hits["median"] = hits.get("median", 0) + (low <= middle <= high)
    return {name: count / studies for name, count in hits.items()}


def rivals(sums: Floats, counts: Floats, seed: int, resamples: int) -> dict[str, tuple[float, float]]:
    """Return the intervals that were not chosen."""

    def mean(total: Floats, cases: Floats, axis: int = -1) -> Any:
        return total.sum(axis=axis) / cases.sum(axis=axis)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        drawn: Any = stats.bootstrap(
            (sums, counts), mean, paired=True, vectorized=True, n_resamples=resamples, rng=np.random.default_rng(seed)
        )
    student = mean_difference(sums, counts)
    return {
        "BCa": tuple(drawn.confidence_interval),
        "percentile": tuple(np.quantile(drawn.bootstrap_distribution, (0.025, 0.975))),
        "Student": (student.low, student.high),
        "scans as subjects": _scans(sums, counts),
    }


def _scans(sums: Floats, counts: Floats) -> tuple[float, float]:
    """Return Student's interval where each scan is taken for a subject with the mean of its own."""
    scans = np.repeat(sums / counts, counts.astype(int))
    away = stats.t.ppf(0.975, len(scans) - 1) * scans.std(ddof=1) / np.sqrt(len(scans))
    return float(scans.mean() - away), float(scans.mean() + away)


def covered_difference(population: Population, subjects: int, studies: int) -> dict[str, float]:
    """Return how often the interval of a mean difference holds the truth, which is zero, and tests deny it."""
    hits = {"interval": 0, "permutation": 0, "Wilcoxon": 0}
    for study in range(studies):
        moved, owner = population(np.random.default_rng([subjects, study]), subjects)
        sums, counts = paired_sums(moved, [str(one) for one in owner])
        one = mean_difference(sums, counts)
        hits["interval"] += one.low <= 0 <= one.high
        hits["permutation"] += sign_flip(sums, study, 2000) < 0.05
        hits["Wilcoxon"] += signed_ranks(sums / counts)[0] < 0.05
    return {name: count / studies for name, count in hits.items()}


def covered_agreement(subjects: int, studies: int) -> dict[str, float]:
    """Return how often the intervals of limits, ICC and CCC hold the truth: volumes of SD 1, bias 0.2, error 0.4."""
    error, bias, spread = 0.4, 0.2, 1.0
    consistency = spread**2 / (spread**2 + error**2 / 2)
    between = 2 * spread**2 + error**2
    truths = {"ICC(C,1)": consistency, "CCC": 2 * spread**2 / (between + bias**2)}
    hits = dict.fromkeys(("bias", "upper limit", "ICC(C,1)", "CCC"), 0)
    for study in range(studies):
        random = np.random.default_rng([subjects, study])
        size = spread * random.standard_normal(subjects)
        first, second = (size + error / np.sqrt(2) * random.standard_normal(subjects) for _ in range(2))
        owners = [str(number) for number in range(subjects)]
        lines, shared = limits(second + bias - first, owners), reliability(first, second + bias, owners)
        found = {"bias": lines.bias, "upper limit": lines.upper}
        found |= {"ICC(C,1)": shared.consistency, "CCC": shared.concordance}
        for name, one in found.items():
            hits[name] += one.low <= (truths | {"bias": bias, "upper limit": bias + 1.96 * error})[name] <= one.high
    return {name: count / studies for name, count in hits.items()}


def false_gaps(subjects: int, studies: int) -> dict[str, float]:
    """Return how often three subgroups that do not differ are told apart, and two covariates at least one of them."""
    draw, hits = dice(0.9, most=1), {"one covariate": 0, "any of three": 0}
    for study in range(studies):
        random = np.random.default_rng([subjects, study])
        scores, _ = draw(random, subjects)
        cases = {str(number): float(score) for number, score in enumerate(scores)}
        sites = {case: {name: random.choice(["a", "b", "c"]) for name in ("site", "scanner", "sex")} for case in cases}
        found = subgroups(cases, sites, {case: case for case in cases}, SubgroupsConfig(fewest_tested=5), 0, 2)
        hits["one covariate"] += bool(found[0].gap and found[0].gap.p < 0.05)
        hits["any of three"] += any(one.gap.corrected < 0.05 for one in found if one.gap)
    return {name: count / studies for name, count in hits.items()}


def table(title: str, rows: Iterator[tuple[str, dict[str, float]]]) -> None:
    """Print a table as Markdown, row by row as they are measured."""
    print(f"\n{title}\n")
    for number, (name, figures) in enumerate(rows):
        if number == 0:
            print(f"| | {' | '.join(figures)} |\n|---{'|---' * len(figures)}|")
        print(f"| {name} | {' | '.join(f'{value:.3f}' for value in figures.values())} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--only", choices=("means", "differences", "agreement", "subgroups"))
    options = parser.parse_args()
    studies, resamples = options.studies, options.resamples
    tables = {
        "means": (
            "Share of studies in which the interval of the mean holds the truth (and that of the median)",
            (
                (f"{kind}, {n} subjects", covered(population, n, studies, resamples))
                for kind, population in SCORES.items()
                for n in SUBJECTS
            ),
        ),
        "differences": (
            "Two equal models: share in which the interval holds zero, and in which tests see a difference",
            (
                (f"{kind}, {n} subjects", covered_difference(population, n, studies))
                for kind, population in DIFFERENCES.items()
                for n in SUBJECTS
            ),
        ),
        "agreement": (
            "Agreement: share of studies in which the interval holds the truth",
            ((f"{n} subjects", covered_agreement(n, studies)) for n in SUBJECTS),
        ),
        "subgroups": (
            "Subgroups that do not differ: share of studies in which they are told apart",
            ((f"{n} subjects", false_gaps(n, studies)) for n in SUBJECTS[1:]),
        ),
    }
    for name, (title, rows) in tables.items():
        if options.only in (None, name):
            table(title, rows)


if __name__ == "__main__":
    main()
