"""What became of flags and predicted Dice: by hand."""

import math

import pytest

from segpipe.quality.checks import Check
from segpipe.quality.flag import FLAG, PREDICTED, PREDICTED_ERROR
from segpipe.quality.outcome import outcome


def checks(flag: float, predicted: float, error: float = 0.05) -> list[Check]:
    return [Check(PREDICTED, predicted), Check(PREDICTED_ERROR, error), Check(FLAG, flag)]


def test_error_bias_and_share_within() -> None:
    given = {"a": checks(0, 0.9), "b": checks(0, 0.8), "c": checks(1, 0.7), "d": checks(2, 0.2)}
    found = outcome(given, {"a": 0.88, "b": 0.84, "c": 0.5, "z": 0.1})
    assert found is not None
    assert found.compared == 3
    assert found.mean_absolute_error == pytest.approx((0.02 + 0.04 + 0.2) / 3)
    assert found.bias == pytest.approx((0.02 - 0.04 + 0.2) / 3)
    assert found.within == pytest.approx(2 / 3)
    assert math.isnan(found.rank_correlation)  # of three cases none
    accepted, reviewed, rejected = found.flags
    assert (accepted.cases, accepted.scored, accepted.lowest_dice) == (2, 2, 0.84)
    assert accepted.mean_dice == pytest.approx(0.86)
    assert (reviewed.flag, reviewed.mean_dice) == ("review", 0.5)
    assert (rejected.cases, rejected.scored) == (1, 0)
    assert math.isnan(rejected.mean_dice)


def test_of_many_cases_the_ranks_are_compared() -> None:
    given = {str(n): checks(0, n / 10) for n in range(8)}
    found = outcome(given, {str(n): n / 20 for n in range(8)})
    assert found is not None
    assert found.rank_correlation == pytest.approx(1)


def test_flags_alone_are_counted_and_nothing_is_none() -> None:
    found = outcome({"a": [Check(FLAG, 1), Check(PREDICTED, math.nan)]}, {"a": 0.9})
    assert found is not None
    assert (found.compared, found.flags[1].cases) == (0, 1)
    assert outcome({"a": [Check("scan_unusual", 0.3)]}, {"a": 0.9}) is None
    assert outcome({}, {}) is None
