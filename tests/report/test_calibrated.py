"""Reliability in words: too high, too low, or neither."""

import numpy as np
import pytest

from segpipe.report.calibrated import gap, sentence
from segpipe.score.calibration import Reliability, reliability


def bins(power: float, size: int = 60_000) -> Reliability:
    """Return voxels that are the structure as often as the given probability to a power."""
    random = np.random.default_rng(0)
    given = random.random(size)
    return reliability(given, random.random(size) < given**power)


def test_probabilities_that_are_right_are_called_neither() -> None:
    found = bins(1.0)
    assert gap(found) == pytest.approx(0, abs=0.01)
    assert "neither too high nor too low" in sentence("front", found)


@pytest.mark.parametrize(("power", "side"), [(2.0, "too high"), (0.5, "too low")])
def test_the_side_and_the_size_of_the_gap_are_told(power: float, side: str) -> None:
    found = bins(power)
    by = abs(1 / 2 - 1 / (power + 1))  # of uniform probabilities the means are known
    assert f"front: probabilities are {side} by {by:.2f} on the whole" in sentence("front", found)


def test_an_example_is_the_fullest_bin_above_one_half() -> None:
    given = np.concatenate([np.full(300, 0.9), np.full(20, 0.7), np.full(5000, 0.1)])
    truth = np.arange(len(given)) < 150
    assert "given 90\u202f% on average, 50\u202f% are front" in sentence("front", reliability(given, truth))


def test_certainty_that_is_not_earned_is_told_where_it_lies() -> None:
    given = np.concatenate([np.full(1000, 0.1), np.full(1000, 0.9)])
    truth = np.concatenate([np.arange(1000) < 300, np.arange(1000) < 700])
    said = sentence("front", reliability(given, truth))
    assert "neither too high nor too low on the whole, too high by 0.20 where they pass one half" in said
