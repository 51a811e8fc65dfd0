"""Paired tests, against examples from textbooks, and what must hold for any data."""

import math
import warnings
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from segpipe.score.difference import difference, mean_difference, non_inferior, omnibus, sign_flip, signed_ranks
from segpipe.score.interval import Estimate
from segpipe.score.planning import subjects_for_difference, subjects_for_width

DARWIN = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48], np.float64)
"""Heights of crossed minus self-fertilised maize, in eighths of an inch: Fisher 1935, The Design of Experiments."""
BASES = [
    (5.40, 5.50, 5.55), (5.85, 5.70, 5.75), (5.20, 5.60, 5.50), (5.55, 5.50, 5.40), (5.90, 5.85, 5.70),
    (5.45, 5.55, 5.60), (5.40, 5.40, 5.35), (5.45, 5.50, 5.35), (5.25, 5.15, 5.00), (5.85, 5.80, 5.70),
    (5.25, 5.20, 5.10), (5.65, 5.55, 5.45), (5.60, 5.35, 5.45), (5.05, 5.00, 4.95), (5.50, 5.50, 5.40),
    (5.45, 5.55, 5.50), (5.55, 5.55, 5.35), (5.45, 5.50, 5.55), (5.50, 5.45, 5.25), (5.65, 5.60, 5.40),
    (5.70, 5.65, 5.55), (6.30, 6.30, 6.25),
]  # fmt: skip
"""Seconds to round first base in three ways: Hollander, Wolfe 1973, p. 140 (the example of R's friedman.test)."""
VALUES = st.lists(st.integers(-20, 20).map(float), min_size=1, max_size=11).map(np.asarray)


def named(values: np.ndarray) -> dict[str, float]:
    return {f"case{number:02d}": float(value) for number, value in enumerate(values)}


def alone(count: int) -> dict[str, str]:
    return {f"case{number:02d}": f"subject{number}" for number in range(count)}


def test_fishers_own_permutation_test() -> None:
    # Of 32768 ways to sign, 863 have a sum of 314 or more (section 21): twice that on both sides.
    assert sign_flip(DARWIN) == pytest.approx(2 * 863 / 32768)


def test_wilcoxon_on_the_same_plants() -> None:
    # W- = 24 of 120 (Wilcoxon's table: 0.05 > p > 0.02); exact p 0.0413, as in scipy's documentation.
    p, effect = signed_ranks(DARWIN)
    assert p == pytest.approx(0.041259765625)
    assert effect == pytest.approx((120 - 2 * 24) / 120)


def test_rank_biserial_is_kerbys_simple_difference() -> None:
    # Ranks 1 to 4 of which the two smallest are losses: (7 - 3) / 10.
    assert signed_ranks(np.array([-1.0, -2.0, 3.0, 4.0]))[1] == pytest.approx(0.4)


def test_friedman_on_first_base() -> None:
    columns = [named(np.asarray(column)) for column in zip(*BASES, strict=True)]
    assert omnibus(columns, alone(22)) == pytest.approx(0.003805, abs=1e-6)


def test_friedman_needs_three_models_and_two_subjects() -> None:
    one = named(np.arange(4.0))
    assert math.isnan(omnibus([one, one], alone(4)))
    assert math.isnan(omnibus([one, one, one], dict.fromkeys(one, "a")))
    assert omnibus([one, one, one], alone(4)) == 1


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_the_exact_permutation_test_is_the_share_of_all_signs(values: np.ndarray) -> None:
    seen = abs(values.sum())
    every = [abs(float(np.dot(signs, values))) for signs in product((1, -1), repeat=len(values))]
    assert sign_flip(values) == pytest.approx(np.mean(np.asarray(every) >= seen - 1e-9))


@settings(max_examples=40, deadline=None)
@given(VALUES, st.floats(0.1, 1000))
def test_p_does_not_know_which_model_is_named_first_nor_the_unit(values: np.ndarray, factor: float) -> None:
    assert sign_flip(values) == pytest.approx(sign_flip(-values))
    assert sign_flip(values) == pytest.approx(sign_flip(values * factor))


def test_random_flips_agree_with_scipys_and_never_say_zero() -> None:
    values = np.random.default_rng(0).normal(0.35, 1, 24)
    theirs = stats.permutation_test(
        (values,), lambda one, axis: one.mean(axis=axis), permutation_type="samples", n_resamples=20_000, rng=1,
        vectorized=True,
    )  # fmt: skip
    assert sign_flip(values, seed=3) == pytest.approx(theirs.pvalue, abs=0.01)
    assert sign_flip(values, seed=3) == sign_flip(values, seed=3)
    assert sign_flip(np.full(40, 0.1), flips=999) == 1 / 1000


def test_the_interval_is_the_paired_t_interval_where_each_subject_has_one_case() -> None:
    found = mean_difference(DARWIN, np.ones(15))
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, 14, DARWIN.mean(), stats.sem(DARWIN)))


def test_scans_of_one_subject_count_as_one_in_the_tests() -> None:
    scores, subjects = named(DARWIN), alone(15)
    five = {f"{case}-{again}": value for case, value in scores.items() for again in range(5)}
    once = difference(scores, dict.fromkeys(scores, 0.0), subjects)
    again = difference(five, dict.fromkeys(five, 0.0), {case: subjects[case[:6]] for case in five})
    assert (again.p, again.p_ranks, again.effect) == pytest.approx((once.p, once.p_ranks, once.effect))
    assert (again.mean.low, again.mean.high) == pytest.approx((once.mean.low, once.mean.high))
    assert (once.subjects, once.cases, again.subjects, again.cases) == (15, 15, 15, 75)


def test_only_cases_that_both_have_are_compared() -> None:
    found = difference({"a": 0.9, "b": 0.5, "c": 0.1}, {"a": 0.8, "b": 0.4, "d": 1.0}, {c: c for c in "abcd"})
    assert (found.cases, found.gains, found.mean.value) == (2, 2, pytest.approx(0.1))
    with pytest.raises(ValueError, match="no case"):
        difference({"a": 1.0}, {"b": 1.0}, {"a": "a", "b": "b"})


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12))
def test_turned_around_all_signs_turn_and_nothing_warns(pairs: list[tuple[int, int]]) -> None:
    first = named(np.asarray([one / 9 for one, _ in pairs]))
    second = named(np.asarray([other / 9 for _, other in pairs]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        there, back = (difference(*both, alone(len(pairs))) for both in ((first, second), (second, first)))
    assert back.mean.value == pytest.approx(-there.mean.value)
    assert back.effect == pytest.approx(-there.effect)
    assert (back.p, back.p_ranks) == pytest.approx((there.p, there.p_ranks))
    assert (back.gains, back.losses) == (there.losses, there.gains)
    assert not there.mean.sure or there.mean.low <= there.mean.value <= there.mean.high


def test_equal_scores_are_no_evidence() -> None:
    one = named(np.linspace(0, 1, 9))
    found = difference(one, one, alone(9))
    assert (found.p, found.p_ranks, found.effect, found.mean.value) == (1, 1, 0, 0)


@pytest.mark.parametrize(
    ("low", "high", "shown"), [(-0.009, 0.03, True), (-0.011, 0.03, False), (-0.01, 0.0, False), (0.001, 0.02, True)]
)
def test_non_inferiority_is_a_bound_above_the_margin(low: float, high: float, shown: bool) -> None:
    assert non_inferior(Estimate((low + high) / 2, low, high), 0.01) is shown
    assert not non_inferior(Estimate(0.0, math.nan, math.nan), 0.01)


def test_subjects_for_an_interval_and_for_a_difference() -> None:
    # SD 3 %, 1 % wide: the nnU-Net hippocampus of arXiv:2307.10926 needs 100 to 200 cases.
    assert 138 <= subjects_for_width(0.03, 0.005) <= 142
    # Machin et al. 2018, Sample Sizes for Clinical Studies: effect 0.5, power 80 %, paired: 34 (G*Power says 34).
    assert subjects_for_difference(1.0, 0.5) == 34
    assert subjects_for_difference(1.0, -0.5, power=0.9) == 44
