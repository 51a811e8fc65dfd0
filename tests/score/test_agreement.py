"""Agreement, against the tables that others published."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import linregress

from segpipe.score.agreement import concordance, growth, intraclass, limits, reliability
from segpipe.score.volumes import compare_volumes

WRIGHT = np.array([494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427], np.float64)
MINI = np.array([512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451], np.float64)
"""Peak expiratory flow (l/min), first readings: Bland, Altman 1986, Lancet 327:307, table 1."""
JUDGES = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], np.float64)
"""Six targets rated by four judges: Shrout, Fleiss 1979, Psychological Bulletin 86:420, table 2."""


def owners(count: int) -> list[str]:
    return [f"subject{number}" for number in range(count)]


def test_bland_and_altmans_own_example() -> None:
    # Printed there: bias -2.1 (-22.0 to 17.8), SD 38.8, limits (with 2 SD) -79.7 (-114.3 to -45.1) and 75.5.
    found = limits(WRIGHT - MINI, owners(17))
    assert found.bias.value == pytest.approx(-2.1, abs=0.05)
    assert (found.bias.low, found.bias.high) == pytest.approx((-22.0, 17.8), abs=0.06)
    assert found.sd == pytest.approx(38.8, abs=0.05)
    assert found.bias.value - 2 * found.sd == pytest.approx(-79.7, abs=0.06)
    assert found.lower.value == pytest.approx(-78.1, abs=0.05)
    assert found.lower.high - found.lower.low == pytest.approx(114.3 - 45.1, rel=0.01)  # sqrt(3 / n) there
    assert (found.upper.value + found.lower.value) / 2 == pytest.approx(found.bias.value)


def test_shrout_and_fleiss_own_example() -> None:
    # Printed there: ICC(2,1) 0.29, ICC(3,1) 0.71. Intervals: Revelle's R package psych, ICC(sf).
    absolute, consistency = intraclass(JUDGES)
    assert (absolute.value, consistency.value) == pytest.approx((0.29, 0.71), abs=0.005)
    assert (absolute.low, absolute.high) == pytest.approx((0.019, 0.761), abs=0.0006)
    assert (consistency.low, consistency.high) == pytest.approx((0.342, 0.946), abs=0.0006)


def test_concordance_is_that_of_epir() -> None:
    # The formula of Lin 2000 as R's epiR::epi.ccc has it: both variances with 1 / n, u = shift / sqrt(s1 s2).
    found = concordance(WRIGHT, MINI)
    assert found.value == pytest.approx(0.94274, abs=1e-5)
    assert (found.low, found.high) == pytest.approx((0.85049, 0.97873), abs=1e-5)


def test_concordance_divides_by_n() -> None:
    first, second = np.array([1.0, 2, 3, 4]), np.array([2.0, 3, 4, 5])
    # covariance and variances 1.25 with 1 / n: 2 * 1.25 / (1.25 + 1.25 + 1)
    assert concordance(first, second).value == pytest.approx(2.5 / 3.5)


def test_a_constant_shift_hurts_absolute_agreement_only() -> None:
    shared = reliability(WRIGHT, WRIGHT + 100, owners(17))
    assert shared.consistency.value == pytest.approx(1)
    assert shared.absolute.value < 0.8
    assert shared.concordance.value < 0.8


def test_perfect_agreement_is_one_without_a_width() -> None:
    shared = reliability(WRIGHT, WRIGHT.copy(), owners(17))
    for one in (shared.absolute, shared.consistency, shared.concordance):
        assert (one.value, one.low, one.high) == pytest.approx((1, 1, 1))


def test_what_does_not_vary_has_no_reliability() -> None:
    shared = reliability(np.ones(9), np.ones(9), owners(9))
    assert math.isnan(shared.absolute.value)
    assert math.isnan(shared.concordance.value)


def test_repeating_cases_of_a_subject_does_not_narrow_intervals() -> None:
    once = limits(WRIGHT - MINI, owners(17))
    five = limits(np.repeat(WRIGHT - MINI, 5), np.repeat(owners(17), 5).tolist())
    assert five.bias.high - five.bias.low == pytest.approx(once.bias.high - once.bias.low)
    assert five.upper.high - five.upper.low > 0.8 * (once.upper.high - once.upper.low)
    shared, again = (
        reliability(np.repeat(WRIGHT, times), np.repeat(MINI, times), np.repeat(owners(17), times).tolist())
        for times in (1, 5)
    )
    assert again.concordance.value == pytest.approx(shared.concordance.value)
    assert again.concordance.low == pytest.approx(shared.concordance.low, abs=0.03)


def test_proportional_bias_is_the_regression_of_difference_on_mean() -> None:
    middle, difference = (WRIGHT + MINI) / 2, WRIGHT - MINI
    found, fitted = growth(middle, difference, owners(17)), linregress(middle, difference)
    assert (found.slope.value, found.p) == pytest.approx((fitted.slope, fitted.pvalue))
    assert found.slope.low < found.slope.value < found.slope.high


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(6, 30), st.floats(0.01, 3))
def test_estimates_lie_in_their_intervals(seed: int, count: int, noise: float) -> None:
    random = np.random.default_rng(seed)
    first = random.normal(0, 1, count)
    second = first + random.normal(0, noise, count)
    shared, lines = reliability(first, second, owners(count)), limits(second - first, owners(count))
    for one in (shared.absolute, shared.consistency, shared.concordance, lines.bias, lines.lower, lines.upper):
        assert one.low <= one.value <= one.high
    assert abs(shared.concordance.value) <= abs(float(np.corrcoef(first, second)[0, 1])) + 1e-12


def test_volumes_compare_where_both_are_known_and_one_is_not_empty() -> None:
    found = compare_volumes({"a": 10.0, "b": 0.0, "c": 5.0}, {"a": 12.0, "b": 0.0}, {})
    assert found is not None
    assert (found.cases, found.relative) == (("a",), pytest.approx(0.2))
    assert compare_volumes({"a": 0.0}, {"a": 0.0}, {}) is None
