"""Rising lines: never falling, right in the mean, quiet where nothing is known."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.quality.curve import Curve, rising


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0, 1)), min_size=1, max_size=60))
def test_a_rising_line_never_falls_and_stays_within_its_values(pairs: list[tuple[float, float]]) -> None:
    scores, values = zip(*pairs, strict=True)
    line = rising(scores, values)
    drawn = [line(x) for x in np.linspace(-6, 6, 50)]
    assert all(after >= before - 1e-9 for before, after in itertools.pairwise(drawn))
    assert min(values) - 1e-4 <= min(drawn)
    assert max(drawn) <= max(values) + 1e-4


def test_a_rising_line_finds_the_mean_of_noisy_values() -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(0, 1, 2000)
    line = rising(list(scores), list(scores**2 + rng.normal(0, 0.1, 2000)))
    for at in (0.2, 0.5, 0.8):
        assert line(at) == pytest.approx(at**2, abs=0.04)


def test_what_is_not_known_is_no_number() -> None:
    assert math.isnan(Curve()(0.5))
    assert math.isnan(rising([math.nan], [0.5])(0.5))
    assert math.isnan(rising([0.1, 0.9], [0.2, 0.8])(math.nan))
    assert rising([0.3], [0.7])(0.9) == 0.7
