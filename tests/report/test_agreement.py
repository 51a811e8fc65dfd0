"""Bias, limits and slope, against numbers worked out by hand."""

import math
import re
from collections.abc import Mapping

import numpy as np
import pytest
from scipy.stats import linregress

from segpipe.report.agreement import Agreement, agreements, bland_altman
from segpipe.report.scores import Scores


def scores(reference: Mapping[str, float], predicted: Mapping[str, float]) -> Scores:
    values = {("organ", "vol_ref_mm3"): reference, ("organ", "vol_pred_mm3"): predicted}
    return Scores(tuple(sorted(reference)), ("organ",), ("vol_ref_mm3", "vol_pred_mm3"), values, {})


def cohort(count: int) -> tuple[dict[str, float], dict[str, float]]:
    rng = np.random.default_rng(3)
    reference = {f"c{n:03d}": float(value) for n, value in enumerate(rng.uniform(1000, 3000, count))}
    return reference, {case: 500 + 0.7 * volume + rng.normal(0, 20) for case, volume in reference.items()}


def only(reference: Mapping[str, float], predicted: Mapping[str, float]) -> Agreement:
    (found,) = agreements(scores(reference, predicted), {case: case for case in reference})
    return found


def test_bias_limits_and_slope_are_those_of_numpy_and_scipy() -> None:
    reference, predicted = cohort(40)
    found = only(reference, predicted)
    truth, other = np.asarray(list(reference.values())), np.asarray(list(predicted.values()))
    difference = other - truth
    assert found.bias == pytest.approx(difference.mean())
    assert found.limits == pytest.approx(difference.mean() + np.asarray([-1.96, 1.96]) * difference.std(ddof=1))
    assert found.relative == pytest.approx(difference.mean() / truth.mean())
    fitted = linregress((truth + other) / 2, difference)
    assert (found.slope, found.p) == pytest.approx((fitted.slope, fitted.pvalue))
    assert found.slope < -0.2


def test_several_cases_of_one_subject_count_once_in_the_regression() -> None:
    reference, predicted = cohort(12)
    (single,) = agreements(scores(reference, predicted), {case: case for case in reference})
    twice = {f"{case}{visit}": value for case, value in reference.items() for visit in "ab"}
    again = {f"{case}{visit}": value for case, value in predicted.items() for visit in "ab"}
    (double,) = agreements(scores(twice, again), {case: case[:-1] for case in twice})
    assert (double.slope, double.p) == pytest.approx((single.slope, single.p))


def test_a_few_cases_have_a_bias_but_no_limits_and_no_slope() -> None:
    found = only({"a": 10.0, "b": 20.0}, {"a": 11.0, "b": 22.0})
    assert found.bias == 1.5
    assert math.isnan(found.limits[0])
    assert math.isnan(found.p)


def test_cases_in_which_both_are_empty_do_not_count() -> None:
    assert only({"a": 10.0, "b": 0.0}, {"a": 11.0, "b": 0.0}).volumes.cases == ("a",)


@pytest.mark.parametrize("count", [1, 6, 40])
def test_the_chart_has_a_dot_for_each_case(count: int) -> None:
    reference, predicted = cohort(count)
    drawn = bland_altman(only(reference, predicted), {case: n for n, case in enumerate(reference)}, "mm³")
    assert drawn.count("<circle") == count
    assert ("1.96 SD" in drawn) == (count > 1)
    assert ('class="fit"' in drawn) == (count > 10)


def test_words_stand_beside_the_plot_where_no_line_reaches() -> None:
    reference, predicted = cohort(40)
    drawn = bland_altman(only(reference, predicted), {case: n for n, case in enumerate(reference)}, "mm³")
    words = re.findall(r'<text x="([\d.]+)"[^>]*>(?:bias|.1\.96 SD)', drawn)
    lines = re.findall(r'<line x1="([\d.]+)"[^>]* x2="([\d.]+)"[^>]*class="(?:fit|bias|limit)"', drawn)
    dots = re.findall(r'cx="([\d.]+)"', drawn)
    assert len(words) == 3
    assert len(lines) == 4
    rightmost = max(float(place) for place in (*dots, *[end for line in lines for end in line]))
    assert min(map(float, words)) > rightmost
