"""Intervals: by subject, around the estimate, where there is none, and how often they cover the truth."""

import math
import warnings
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmarks.intervals import DIFFERENCES, SCORES, covered, covered_agreement, covered_difference, false_gaps
from segpipe.score.interval import by_subject, jackknife_error, mean_interval, median_interval, without_each

VALUES = st.lists(st.floats(0, 1).map(lambda value: round(value, 6)), min_size=2, max_size=30)


def alone(values: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(values, np.float64), np.ones(len(values))


def test_with_one_case_a_subject_the_jackknife_is_sd_over_root_n() -> None:
    values = np.random.default_rng(0).beta(8, 2, 23)
    assert float(jackknife_error(*alone(values.tolist()))) == pytest.approx(stats.sem(values))


def test_below_five_subjects_it_is_students_interval() -> None:
    values = [0.7, 0.8, 0.95, 0.6]
    expected = stats.t.interval(0.9, 3, np.mean(values), stats.sem(values))
    assert mean_interval(*alone(values), confidence=0.9) == pytest.approx(expected)


def test_it_is_the_textbooks_bootstrap_t() -> None:
    values = np.random.default_rng(1).beta(8, 2, 15)
    low, high = mean_interval(*alone(values.tolist()), resamples=20_000)
    random = np.random.default_rng(99)
    drawn = values[random.integers(0, 15, (20_000, 15))]
    t = (drawn.mean(axis=1) - values.mean()) / stats.sem(drawn, axis=1)
    upper, lower = np.quantile(t, (0.975, 0.025))
    assert (low, high) == pytest.approx(
        (values.mean() - upper * stats.sem(values), values.mean() - lower * stats.sem(values)), abs=0.002
    )


def test_of_few_subjects_of_whom_most_are_alike_no_end_runs_away() -> None:
    values = [1.0, 1.01, 1.0, 1.0, 1.0, 9.0]  # resamples without the last one hardly vary
    _, farthest = stats.t.interval(1 - 0.05 / 10, 5, np.mean(values), stats.sem(values))
    _, high = mean_interval(*alone(values))
    assert max(values) * 0.9 < high <= farthest + 1e-9


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_the_interval_contains_the_mean_and_warns_of_nothing(values: list[float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        low, high = mean_interval(*alone(values), resamples=200)
    assert low <= np.mean(values) + 1e-12
    assert high >= np.mean(values) - 1e-12


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_the_interval_of_the_median_contains_it_and_ends_at_values(values: list[float]) -> None:
    cases = {str(number): value for number, value in enumerate(values)}
    low, high = median_interval(cases, {case: case for case in cases})
    assert low <= np.median(values) <= high
    assert {low, high} <= set(values)


def test_the_interval_of_the_median_is_about_that_of_order_statistics() -> None:
    # 25 values: the binomial interval runs from the 8th to the 18th (Conover 1999, table A3).
    cases = {str(number): float(number) for number in range(1, 26)}
    low, high = median_interval(cases, {case: case for case in cases})
    assert abs(low - 8) <= 1
    assert abs(high - 18) <= 1


def test_more_cases_of_the_same_subjects_do_not_narrow_the_interval_of_the_median() -> None:
    values = np.random.default_rng(2).random(12)
    once = {str(n): float(value) for n, value in enumerate(values)}
    five = {f"{n}-{again}": float(value) for n, value in enumerate(values) for again in range(5)}
    clustered = median_interval(five, {case: case.split("-")[0] for case in five})
    pretended = median_interval(five, {case: case for case in five})
    narrow = pretended[1] - pretended[0]
    assert (
        clustered[1] - clustered[0] >= median_interval(once, {c: c for c in once})[1] - np.median(values) > narrow / 2
    )
    assert clustered[1] - clustered[0] > 1.5 * narrow


def test_nothing_is_known_of_one_subject() -> None:
    assert all(map(math.isnan, mean_interval(np.array([1.5]), np.array([2.0]))))
    assert all(map(math.isnan, median_interval({"a": 0.5, "b": 0.6}, {"a": "x", "b": "x"})))


def test_the_jackknife_of_a_mean_is_students_interval() -> None:
    values = np.random.default_rng(3).random(11)
    found = without_each(lambda cases: float(values[cases].mean()), [str(n) for n in range(11)], 0.95)
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, 10, values.mean(), stats.sem(values)))


def test_cases_gather_under_their_subject() -> None:
    sums, counts = by_subject({"a1": 0.5, "b1": 0.2, "a2": 0.7}, {"a1": "a", "a2": "a", "b1": "b"})
    assert sums.tolist() == pytest.approx([1.2, 0.2])
    assert counts.tolist() == [2, 1]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "subjects"), [("skewed", 15), ("very skewed", 20), ("one scan each", 40)])
def test_the_interval_covers_the_truth_as_often_as_it_says(kind: str, subjects: int) -> None:
    figures = covered(SCORES[kind], subjects, 500, 400, others=False)
    assert 0.93 <= figures["default"] <= 0.97
    assert figures["median"] >= 0.93


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(DIFFERENCES))
def test_equal_models_are_told_apart_about_one_time_in_twenty(kind: str) -> None:
    figures = covered_difference(DIFFERENCES[kind], 20, 500)
    assert 0.93 <= figures["interval"] <= 0.975
    assert 0.03 <= figures["permutation"] <= 0.07
    assert 0.03 <= figures["Wilcoxon"] <= 0.07


@pytest.mark.slow
def test_intervals_of_agreement_cover_and_equal_subgroups_are_rarely_told_apart() -> None:
    assert all(0.93 <= share <= 0.975 for share in covered_agreement(30, 400).values())
    gaps = false_gaps(45, 120)
    assert gaps["any of three"] <= 0.08
