"""How sure a network is: entropy and the promised Dice, by hand."""

import math

import numpy as np
import pytest

from segpipe.quality.confidence import confidence_of

STRUCTURES = {"front": (1,), "back": (2, 3)}


def block(low: int, high: int, shape: tuple[int, ...] = (12, 12, 12)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[(slice(low, high),) * len(shape)] = True
    return mask


def test_a_network_that_is_sure_promises_a_dice_of_one() -> None:
    mask = block(3, 8)
    found = confidence_of(np.stack([mask, 0 * mask]).astype(np.float32), mask.astype(np.uint8), STRUCTURES)["front"]
    assert found.promised == pytest.approx(1)
    assert found.uncertainty == pytest.approx(0, abs=1e-6)


def test_the_promise_is_what_many_truths_drawn_from_the_probabilities_have() -> None:
    random = np.random.default_rng(0)
    given = np.where(block(2, 9), random.uniform(0.4, 1, (12, 12, 12)), random.uniform(0.02, 0.3, (12, 12, 12)))
    drawn = given > 0.5
    truths = [random.random(given.shape) < given for _ in range(50)]
    dice = np.mean([2 * (drawn & truth).sum() / (drawn.sum() + truth.sum()) for truth in truths])
    found = confidence_of(given[None], drawn.astype(np.uint8), {"front": (1,)})["front"]
    assert found.promised == pytest.approx(dice, abs=0.005)


def test_uncertainty_is_the_mean_entropy_within_and_one_voxel_around() -> None:
    mask = block(4, 5, (9, 9))
    given = np.zeros((9, 9))
    given[4, 4], given[4, 5] = 0.5, 0.25  # 1 bit, and 0.811 bits in the rim of four
    given[0, 0] = 0.5  # too far away to count
    found = confidence_of(given[None], mask.astype(np.uint8), {"front": (1,)})["front"]
    assert found.uncertainty == pytest.approx((1 + 0.8113) / 5, abs=1e-4)


def test_of_a_structure_that_was_not_drawn_nothing_is_known() -> None:
    found = confidence_of(np.full((2, 6, 6), 0.3), np.full((6, 6), 1, np.uint8), STRUCTURES)
    assert math.isnan(found["back"].promised)
    assert math.isnan(found["back"].uncertainty)
    assert math.isfinite(found["front"].promised)


def test_a_faint_background_adds_nothing() -> None:
    mask = block(3, 8)
    given = np.where(mask, 1.0, 0.009)
    assert confidence_of(given[None], mask.astype(np.uint8), {"front": (1,)})["front"].promised == pytest.approx(1)
