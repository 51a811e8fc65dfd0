"""Damage: of every degree, by the seed alone, and nothing of what was given is written to."""

import numpy as np
import pytest

from segpipe.quality.damage import damaged, moved
from segpipe.quality.known import dice_of
from tests.bodies import bodies, body, shapes


def dices(change: object, rank: int, count: int = 40) -> list[float]:
    found = []
    for index, one in enumerate(bodies(count, rank)):
        now = change(one, np.random.default_rng(index))  # type: ignore[operator]
        found.append(dice_of(now.mask("front"), one.mask("front")))
    return found


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("change", [damaged, moved])
def test_damage_is_of_every_degree(change: object, rank: int) -> None:
    found = np.asarray(dices(change, rank))
    counts, _ = np.histogram(found, [0, 0.34, 0.67, 1.001])
    assert counts.min() >= 4, counts


def test_damage_follows_the_seed_and_spares_what_was_given() -> None:
    one = body(0)
    before = one.classes.copy()
    first, again, other = (damaged(one, np.random.default_rng(seed)).classes for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    np.testing.assert_array_equal(one.classes, before)


def test_damage_leaves_no_class_that_there_was_not() -> None:
    for seed in range(60):
        now = damaged(body(seed % 5, 2), np.random.default_rng(seed))
        assert set(np.unique(now.classes)) <= {0, 1, 2}
        assert now.classes.dtype == np.uint8


def test_nothing_is_damaged_where_nothing_is_drawn() -> None:
    empty = shapes(np.zeros((28, 26, 24)))
    assert not damaged(empty, np.random.default_rng(0)).classes.any()
    assert not moved(empty, np.random.default_rng(0)).classes.any()


def test_what_is_moved_keeps_its_form() -> None:
    one = body(2)
    now = moved(one, np.random.default_rng(3))
    assert np.count_nonzero(now.classes) > 0
    steps = np.subtract(now.centre, one.centre)
    np.testing.assert_array_equal(now.classes, _pushed(one.classes, steps))


def _pushed(classes: np.ndarray, steps: np.ndarray) -> np.ndarray:
    result = np.zeros_like(classes)
    for place in np.argwhere(classes > 0):
        there = place + steps
        if (there >= 0).all() and (there < classes.shape).all():
            result[tuple(there)] = classes[tuple(place)]
    return result


def test_a_second_damage_after_all_was_lost_is_no_error() -> None:
    tiny = np.zeros((28, 26), np.uint8)
    tiny[10:12, 10:12] = 1
    for seed in range(100):
        damaged(shapes(tiny), np.random.default_rng(seed))
