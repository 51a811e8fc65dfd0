"""Comparisons: what they find, how often they are wrong where nothing is, and the correction for many."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from segpipe.score.paired import Interval, compare, crossed_interval, holm, verdict

Floats = NDArray[np.float64]
P = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def alone(count: int) -> list[str]:
    return [f"subject{number}" for number in range(count)]


def study(
    random: np.random.Generator, *, effect: float = 0, of_subject: float = 2, of_seed: float = 1, cases: int = 40
) -> Floats:
    """Return differences (cases, 3 seeds) in which subjects, seeds and pairs of both vary."""
    return (
        effect
        + random.normal(0, of_subject, (cases, 1))
        + random.normal(0, of_seed, (1, 3))
        + random.normal(0, 2, (cases, 3))
    )


def judged(differences: Floats) -> str:
    found = compare(differences, np.zeros_like(differences), alone(len(differences)))
    return verdict(found.difference, found.p)


def test_where_nothing_differs_evidence_is_rare() -> None:
    random = np.random.default_rng(1)
    told = [judged(study(random)) for _ in range(300)]
    assert told.count("no evidence") >= 0.93 * len(told)


def test_seeds_alone_do_not_make_evidence() -> None:
    # Every case moves by the same amount with a seed: a test over cases is sure of itself, the interval is not.
    random = np.random.default_rng(2)
    shifts = [study(random, of_subject=0.2, of_seed=2) for _ in range(200)]
    tested = [compare(shift, np.zeros_like(shift), alone(len(shift))).p < 0.05 for shift in shifts]
    assert np.mean(tested) > 0.3
    assert np.mean([judged(shift) == "no evidence" for shift in shifts]) >= 0.91


@pytest.mark.parametrize(("effect", "told"), [(5.0, "helped"), (-5.0, "harmed")])
def test_a_large_difference_is_found(effect: float, told: str) -> None:
    random = np.random.default_rng(3)
    found = [judged(study(random, effect=effect, of_seed=0.5)) for _ in range(40)]
    assert found.count(told) >= 0.95 * len(found)


def test_a_single_seed_is_the_ordinary_bootstrap_of_the_mean() -> None:
    values = np.random.default_rng(4).normal(1, 1, 60)
    found = crossed_interval(values[:, None], alone(60), resamples=20_000)
    direct = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=0).confidence_interval
    wider = math.sqrt(60 / 59) * stats.t.ppf(0.975, 59) / stats.norm.ppf(0.975)
    assert found.mean == pytest.approx(values.mean())
    assert found.high - found.mean == pytest.approx(wider * (direct.high - values.mean()), rel=0.04)
    assert found.mean - found.low == pytest.approx(wider * (values.mean() - direct.low), rel=0.04)


def test_where_seeds_alone_vary_the_interval_is_about_students() -> None:
    of_seed = np.random.default_rng(5).normal(0, 1, 12)
    found = crossed_interval(np.tile(of_seed, (30, 1)), alone(30), resamples=20_000)
    low, high = stats.t.interval(0.95, 11, of_seed.mean(), stats.sem(of_seed))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.1 * (high - low))


def test_cases_of_a_subject_are_drawn_together_and_weigh_as_many() -> None:
    random = np.random.default_rng(6)
    of_subject = random.normal(0, 1, (10, 3))
    together = crossed_interval(np.repeat(of_subject, 4, axis=0), np.repeat(alone(10), 4).tolist())
    once = crossed_interval(of_subject, alone(10))
    assert (together.low, together.high) == pytest.approx((once.low, once.high))
    uneven = crossed_interval(np.array([[0.0], [0.0], [0.0], [1.0]]), ["a", "a", "a", "b"])
    assert uneven.mean == pytest.approx(0.25)


def test_the_test_is_the_signed_rank_test_on_means_over_seeds() -> None:
    random = np.random.default_rng(7)
    scores, others = random.normal(0.5, 1, (20, 4)), random.normal(0, 1, (20, 4))
    found = compare(scores, others, alone(20))
    assert found.p == pytest.approx(stats.wilcoxon(scores.mean(axis=1), others.mean(axis=1)).pvalue)
    assert (found.subjects, found.seeds) == (20, 4)
    back = compare(others, scores, alone(20))
    assert (back.p, back.difference.mean) == pytest.approx((found.p, -found.difference.mean))


def test_equal_scores_are_no_evidence() -> None:
    scores = np.random.default_rng(8).random((12, 3))
    found = compare(scores, scores, alone(12))
    assert (found.p, found.difference) == (1.0, Interval(0.0, 0.0, 0.0))
    assert verdict(found.difference, found.p) == "no evidence"


def test_one_subject_has_no_interval_and_proves_nothing() -> None:
    found = compare(np.ones((2, 3)), np.zeros((2, 3)), ["a", "a"])
    assert math.isnan(found.difference.low)
    assert verdict(found.difference, 0.0) == "no evidence"


@pytest.mark.parametrize("others", [(3, 1), (2, 2)])
def test_scores_that_do_not_pair_are_refused(others: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="one shape"):
        compare(np.zeros((3, 2)), np.zeros(others), alone(3))


@pytest.mark.parametrize(
    ("raw", "corrected"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.01, 0.02, 0.03], [0.03, 0.04, 0.04]),
        ([0.5, 0.6], [1.0, 1.0]),
        ([0.2], [0.2]),
        ([], []),
    ],
)
def test_holm_by_hand(raw: Sequence[float], corrected: Sequence[float]) -> None:
    assert holm(raw) == pytest.approx(corrected)


@given(P)
def test_holm_never_falls_below_the_raw_p_and_keeps_the_order(raw: list[float]) -> None:
    corrected = holm(raw)
    assert all(one <= other <= 1 for one, other in zip(raw, corrected, strict=True))
    in_order = [corrected[index] for index in np.argsort(raw, kind="stable")]
    assert in_order == sorted(in_order)
    assert max(corrected) <= min(len(raw) * max(raw), 1)


@given(P, st.floats(0, 1))
def test_one_more_comparison_makes_none_more_certain(raw: list[float], extra: float) -> None:
    assert all(more >= less for less, more in zip(holm(raw), holm([*raw, extra])[:-1], strict=True))


def test_evidence_needs_both_the_test_and_the_interval() -> None:
    assert verdict(Interval(1, 0.5, 1.5), 0.04) == "helped"
    assert verdict(Interval(-1, -1.5, -0.5), 0.04) == "harmed"
    assert verdict(Interval(1, 0.5, 1.5), 0.06) == "no evidence"
    assert verdict(Interval(1, -0.1, 2.1), 0.001) == "no evidence"
