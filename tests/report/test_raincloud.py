"""Rainclouds show every case, whatever the values are."""

import math

import numpy as np
import pytest

from segpipe.report.raincloud import MOST_DOTS, Cloud, beyond, crowded, raincloud
from segpipe.score.summary import Summary


def cloud(values: list[float], name: str = "organ", metric: str = "dice") -> Cloud:
    q1, median, q3 = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    mean = float(np.mean(values))
    low = math.nan if len(values) < 2 else min(values)
    figure = Summary(name, metric, mean, 0.1, median, q1, q3, low, low + 0.1, min(values), len(values), 0)
    return Cloud(name, 0, {f"c{n:04d}": value for n, value in enumerate(values)}, figure)


def drawn(clouds: list[Cloud], metric: str = "dice") -> str:
    index = {case: n for n, case in enumerate(dict.fromkeys(case for one in clouds for case in one.values))}
    return str(raincloud(clouds, metric, index, 3))


@pytest.mark.parametrize("values", [[0.5], [0.0, 0.0], [1.0] * 20, [0.2, 0.9, 0.95] * 5])
def test_each_case_has_its_dot(values: list[float]) -> None:
    assert drawn([cloud(values)]).count("data-c=") == len(values)


def test_equal_values_have_no_shape() -> None:
    assert "violin" not in drawn([cloud([0.5] * 30)])
    assert "violin" in drawn([cloud(np.linspace(0.4, 0.9, 30).tolist())])


def test_a_far_distance_is_drawn_at_the_end_of_the_axis_and_told_of() -> None:
    clouds = [cloud([1.0, 1.1, 1.2, 1.3, 1.4, 90.0], metric="hd95_mm")]
    assert beyond(clouds, "hd95_mm") == 1
    assert drawn(clouds, "hd95_mm").count("dot out") == 1


def test_a_structure_without_values_is_left_out() -> None:
    assert "never" not in drawn([cloud([0.5, 0.6]), Cloud("never", 1, {}, None)])


def test_names_are_escaped() -> None:
    assert "<script>" not in drawn([cloud([0.5, 0.6], name="<script>")])


def test_thousands_of_dots_are_thinned() -> None:
    values = np.random.default_rng(0).normal(0.8, 0.02, MOST_DOTS + 1).clip(0, 1).tolist()
    clouds = [cloud([*values, 0.1])]
    assert crowded(clouds)
    assert 0 < drawn(clouds).count("data-c=") < 100
