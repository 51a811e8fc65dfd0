"""Clouds of usual figures: distance, shrinkage, borders, p-values."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.covariance import ledoit_wolf

from segpipe.quality.cloud import LEAST_SPREAD, border_of, cloud_of, share_beyond, shrunk_covariance


def rows_of(table: np.ndarray) -> list[dict[str, float]]:
    return [{f"f{column}": float(value) for column, value in enumerate(row)} for row in table]


def normal(count: int, covariance: list[list[float]], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).multivariate_normal([0.0] * len(covariance), covariance, count)


@pytest.mark.parametrize(("cases", "figures"), [(5, 12), (40, 12), (400, 3)])
def test_shrinkage_is_that_of_scikit_learn(cases: int, figures: int) -> None:
    random = np.random.default_rng(cases)
    table = random.normal(size=(cases, figures)) @ random.normal(size=(figures, figures))
    table -= table.mean(axis=0)
    wanted, _ = ledoit_wolf(table, assume_centered=True)
    assert np.allclose(shrunk_covariance(table), wanted, rtol=1e-9)


def test_a_constant_table_has_a_covariance_of_nothing() -> None:
    assert np.array_equal(shrunk_covariance(np.zeros((4, 3))), np.zeros((3, 3)))


def test_distance_is_that_of_mahalanobis() -> None:
    covariance = [[4.0, 3.0], [3.0, 4.0]]
    cloud, _ = cloud_of(rows_of(normal(300, covariance)), [str(n) for n in range(300)])
    inverse = np.linalg.inv(covariance)
    for point in ([2.0, 2.0], [2.0, -2.0], [0.0, 0.0]):
        wanted = math.sqrt(point @ inverse @ np.asarray(point))
        assert cloud.distance(rows_of(np.asarray([point]))[0]) == pytest.approx(wanted, rel=0.15, abs=0.15)


def test_figures_are_told_in_standard_deviations() -> None:
    cloud, _ = cloud_of(rows_of(np.asarray([[-1.0], [1.0], [-1.0], [1.0]])), list("abcd"))
    assert cloud.away({"f0": 3.0})["f0"] == pytest.approx(3.0, rel=1e-3)


def test_an_outlier_among_the_usual_is_seen_from_the_others() -> None:
    table = np.vstack([normal(30, [[1.0, 0.0], [0.0, 1.0]]), [[40.0, 0.0]]])
    cloud, distances = cloud_of(rows_of(table), [str(n) for n in range(31)])
    assert int(np.argmax(distances)) == 30
    assert distances[30] > 20 > cloud.distance({"f0": 40.0, "f1": 0.0})
    assert list(cloud.usual) == sorted(distances)


def test_scans_of_one_subject_do_not_vouch_for_each_other() -> None:
    table = np.vstack([normal(30, [[1.0]]), [[12.0], [12.1], [11.9]]])
    apart = cloud_of(rows_of(table), [str(n) for n in range(33)])[1]
    together = cloud_of(rows_of(table), [*(str(n) for n in range(30)), *["same"] * 3])[1]
    assert min(together[30:]) > 2 * max(apart[30:])


def test_a_figure_that_never_varies_minds_no_trifle_but_a_change() -> None:
    table = np.column_stack([normal(50, [[1.0]]), np.zeros(50)])
    cloud, _ = cloud_of(rows_of(table), [str(n) for n in range(50)])
    near, trifle, far = (cloud.distance({"f0": 0.0, "f1": value}) for value in (0.0, LEAST_SPREAD / 2, 1.0))
    assert trifle < near + 1
    assert far > 20


scores = st.lists(st.floats(0, 10, allow_nan=False), min_size=1, max_size=200)


@given(scores, st.floats(0, 12), st.floats(0.001, 0.5))
def test_beyond_the_border_is_a_p_value_of_the_alarm_or_as_small_as_can_be(
    usual: list[float], score: float, alarm: float
) -> None:
    usual.sort()
    if score > border_of(usual, alarm):
        assert share_beyond(usual, score) <= max(alarm, 1 / (len(usual) + 1)) + 1e-6
    elif score not in usual:
        assert share_beyond(usual, score) > alarm - 1e-6


@given(scores)
def test_a_p_value_falls_as_the_score_rises(usual: list[float]) -> None:
    values = [share_beyond(usual, score) for score in (-1, *sorted(usual), 11)]
    assert values == sorted(values, reverse=True)
    assert values[0] == 1
    assert values[-1] == 1 / (len(usual) + 1)


def test_false_alarms_are_as_many_as_were_allowed() -> None:
    random = np.random.default_rng(0)
    alarms = [
        random.normal() > border_of(sorted(random.normal(size=99)), 0.05)  # one more like the usual ones
        for _ in range(4000)
    ]
    assert np.mean(alarms) == pytest.approx(0.05, abs=0.011)
