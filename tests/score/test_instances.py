"""Objects between borders: scores that agree with scikit-image, and cases whose answer is known."""

import importlib
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

from segpipe.core.errors import GeometryError
from segpipe.score.instances import (
    SplitMerge,
    information_score,
    objects,
    over_thresholds,
    pixel_error,
    rand_score,
    score_interiors,
    thinned,
)

Labels = NDArray[np.int64]
quick = settings(max_examples=30, deadline=None)
skimage_metrics: Any = importlib.import_module("skimage.metrics")


def their_rand(reference: Labels, prediction: Labels) -> tuple[float, float, float]:
    """Return error, precision and recall of scikit-image, by their meaning in its own documentation.

    Up to 0.26 at least it returns the two the other way round (scikit-image issue 6485).
    """
    whole, halves = np.ones((2, 2), int), np.array([[1, 1], [2, 2]])
    swapped = skimage_metrics.adapted_rand_error(whole, halves)[1] < 1
    with np.errstate(all="ignore"):
        error, *shares = skimage_metrics.adapted_rand_error(reference, prediction)
    precision, recall = reversed(shares) if swapped else shares
    return error, precision, recall


@st.composite
def partitions(draw: st.DrawFn) -> tuple[Labels, Labels]:
    """Two numbered images of one shape, of which the first holds some object."""
    shape = draw(array_shapes(min_dims=2, max_dims=3, min_side=2, max_side=7))
    first, second = (draw(arrays(np.int64, shape, elements=st.integers(0, 4))) for _ in range(2))
    first[(0,) * len(shape)] = 1
    return first, second


def cells(walls: tuple[int, ...] = (10, 20), width: int = 30) -> NDArray[np.bool_]:
    """Cells side by side, with walls three pixels thick."""
    mask = np.ones((12, width), bool)
    for wall in walls:
        mask[:, wall - 1 : wall + 2] = False
    return mask


def apart(labels: Labels) -> Labels:
    """Give each border pixel a number of its own: what this project means, as scikit-image has to be told it."""
    alone = labels == 0
    result = labels.copy()
    result[alone] = labels.max() + 1 + np.arange(np.count_nonzero(alone))
    return result


@quick
@given(partitions())
def test_rand_is_that_of_scikit_image_with_pairs_of_a_pixel_and_itself(pair: tuple[Labels, Labels]) -> None:
    reference, prediction = pair
    inside = reference > 0
    pixels = np.count_nonzero(inside)
    sides = (apart(prediction), reference)
    squares = [float((np.unique(side[inside], return_counts=True)[1] ** 2).sum()) for side in sides]
    _, precision, recall = their_rand(reference, apart(prediction))
    ours = rand_score(reference, prediction)
    if math.isfinite(precision):
        assert ours.merge == pytest.approx((precision * (squares[0] - pixels) + pixels) / squares[0], abs=1e-12)
    if math.isfinite(recall):
        assert ours.split == pytest.approx((recall * (squares[1] - pixels) + pixels) / squares[1], abs=1e-12)
    assert ours.score == pytest.approx(2 * ours.merge * ours.split / (ours.merge + ours.split), abs=1e-12)


def test_rand_of_a_large_image_is_that_of_scikit_image() -> None:
    blocks = np.random.default_rng(0).integers(0, 5, (2, 8, 8)).repeat(40, axis=1).repeat(40, axis=2)
    reference, prediction = blocks[0], blocks[1] + 1
    error, precision, recall = their_rand(reference, prediction)
    ours = rand_score(reference, prediction)
    assert (1 - ours.score, ours.merge, ours.split) == pytest.approx((error, precision, recall), abs=1e-4)


@quick
@given(partitions())
def test_information_is_what_variation_of_information_leaves(pair: tuple[Labels, Labels]) -> None:
    reference, prediction = pair
    inside = reference > 0
    sides = (apart(prediction), reference)
    shares = [np.unique(side[inside], return_counts=True)[1] / np.count_nonzero(inside) for side in sides]
    found, wanted = (-float((share * np.log2(share)).sum()) for share in shares)
    splits, merges = skimage_metrics.variation_of_information(reference, apart(prediction), ignore_labels=[0])
    ours = information_score(reference, prediction)
    if found > 1e-9:
        assert ours.split == pytest.approx(1 - splits / found, abs=1e-9)
    if wanted > 1e-9:
        assert ours.merge == pytest.approx(1 - merges / wanted, abs=1e-9)
    if found + wanted > 1e-9:
        assert ours.score == pytest.approx(1 - (splits + merges) / (found + wanted), abs=1e-9)


@quick
@given(partitions())
def test_numbers_are_only_names(pair: tuple[Labels, Labels]) -> None:
    reference, prediction = pair
    named = np.where(prediction > 0, 100 - 7 * prediction, 0)
    assert rand_score(reference, named) == rand_score(reference, prediction)
    assert information_score(reference, named).score == pytest.approx(information_score(reference, prediction).score)


@quick
@given(partitions())
def test_every_score_lies_between_nothing_and_all(pair: tuple[Labels, Labels]) -> None:
    for one in (rand_score(*pair), information_score(*pair)):
        assert all(0 <= value <= 1 for value in (one.score, one.split, one.merge))


def test_a_missing_wall_merges_and_a_wall_too_many_splits() -> None:
    merged = rand_score(objects(cells()), objects(cells((10,))))
    split = rand_score(objects(cells((10,))), thinned(objects(cells())))
    assert merged.split == 1.0 > merged.merge
    assert split.merge == 1.0 > split.split


def test_two_halves_of_one_cell() -> None:
    whole, halves = np.ones((4, 6), int), np.ones((4, 6), int)
    halves[:, 3:] = 2
    assert rand_score(whole, halves) == SplitMerge(2 / 3, 0.5, 1.0)
    assert rand_score(halves, whole) == SplitMerge(2 / 3, 1.0, 0.5)
    assert information_score(halves, whole) == SplitMerge(0.0, 1.0, 0.0)


def test_thick_walls_cost_nothing_once_they_are_thinned() -> None:
    truth, thick = cells(), binary_erosion(cells(), border_value=1)
    scores, unthinned = score_interiors(truth, thick), score_interiors(truth, thick, thin=False)
    assert (scores["vrand"], scores["vinfo"]) == (1.0, 1.0)
    assert unthinned["vrand"] < 0.9
    assert scores["pixel_error"] == pytest.approx(4 * 12 / truth.size)


@quick
@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=12)))
def test_thinning_keeps_objects_and_what_parts_them(mask: NDArray[np.bool_]) -> None:
    labels = objects(mask)
    grown = thinned(labels)
    assert (grown[labels > 0] == labels[labels > 0]).all()
    for first, second in ((grown[1:], grown[:-1]), (grown[:, 1:], grown[:, :-1])):
        assert ((first == second) | (first == 0) | (second == 0)).all()


def test_a_thick_border_becomes_one_pixel_wide() -> None:
    assert (np.count_nonzero(thinned(objects(cells((10,)))) == 0, axis=1) == 1).all()


def test_pixels_that_nobody_annotated_do_not_count() -> None:
    kept = np.ones(cells().shape, bool)
    kept[:, 16:] = False
    scores = score_interiors(cells(), cells((10,)), kept)
    assert scores["vrand"] == 1.0
    assert scores["pixel_error"] == 0.0
    assert score_interiors(cells(), cells((10,)))["vrand"] < 1.0


def test_without_objects_there_is_nothing_to_score() -> None:
    nothing = np.zeros((5, 5), bool)
    scores = score_interiors(nothing, cells()[:5, :5])
    assert all(math.isnan(value) for name, value in scores.items() if name != "pixel_error")
    assert scores["pixel_error"] == 1.0
    missed = score_interiors(~nothing, nothing)
    assert missed["vrand_split"] == pytest.approx(1 / 25)


def test_one_object_that_is_found_is_perfect() -> None:
    whole = np.ones((3, 3), int)
    assert information_score(whole, whole) == SplitMerge(1.0, 1.0, 1.0)


def test_the_best_threshold_can_be_found() -> None:
    probability = np.where(cells(), 0.9, np.where(cells((10,)), 0.4, 0.1))
    found = over_thresholds(cells(), probability, (0.2, 0.5))
    assert found[0.5]["vrand"] == 1.0 > found[0.2]["vrand"]


@pytest.mark.parametrize("measure", [rand_score, information_score, pixel_error])
def test_images_of_two_shapes_are_refused(measure: Any) -> None:
    with pytest.raises(GeometryError, match="shape"):
        measure(np.ones((3, 3), int), np.ones((3, 4), int))
