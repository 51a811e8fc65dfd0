"""Counts, overlap and volumes."""

import importlib
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from segpipe.core.errors import GeometryError
from segpipe.score.overlap import Counts, count, dice, iou, precision, sensitivity, volume_mm3

Pair = tuple[NDArray[np.bool_], NDArray[np.bool_]]
sitk: Any = importlib.import_module("SimpleITK")
quick = settings(max_examples=40, deadline=None)


@st.composite
def mask_pairs(draw: st.DrawFn) -> Pair:
    shape = draw(array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=6))
    return draw(arrays(np.bool_, shape)), draw(arrays(np.bool_, shape))


def test_counts_by_hand_give_the_textbook_ratios() -> None:
    counts = Counts(both=6, prediction=8, truth=12)
    assert dice(counts) == 12 / 20
    assert iou(counts) == 6 / 14
    assert sensitivity(counts) == 0.5
    assert precision(counts) == 0.75


def test_ratios_without_a_denominator_are_not_a_number() -> None:
    empty = Counts(0, 0, 0)
    assert all(math.isnan(metric(empty)) for metric in (dice, iou, sensitivity, precision))
    assert math.isnan(precision(Counts(both=0, prediction=0, truth=5)))
    assert math.isnan(sensitivity(Counts(both=0, prediction=5, truth=0)))


def test_masks_of_different_shape_are_refused() -> None:
    with pytest.raises(GeometryError, match=r"\(2, 3\)"):
        count(np.zeros((2, 3), bool), np.zeros((3, 2), bool))


def test_volume_is_voxels_times_their_size() -> None:
    assert volume_mm3(10, (0.5, 0.5, 4.0)) == 10.0


@quick
@given(mask_pairs())
def test_dice_and_iou_are_one_another_rewritten(pair: Pair) -> None:
    counts = count(*pair)
    expected = 2 * iou(counts) / (1 + iou(counts))
    assert dice(counts) == pytest.approx(expected, nan_ok=True)


@quick
@given(mask_pairs())
def test_swapping_the_masks_swaps_sensitivity_and_precision_only(pair: Pair) -> None:
    there, back = count(*pair), count(*pair[::-1])
    assert dice(there) == pytest.approx(dice(back), nan_ok=True)
    assert iou(there) == pytest.approx(iou(back), nan_ok=True)
    assert sensitivity(there) == pytest.approx(precision(back), nan_ok=True)


@pytest.mark.parametrize("seed", range(3))
def test_simpleitk_finds_the_same_overlap_and_volume(seed: int) -> None:
    random = np.random.default_rng(seed)
    prediction, truth = (random.random((2, 9, 8, 7)) < 0.4).astype(np.uint8)
    images = [sitk.GetImageFromArray(mask) for mask in (prediction, truth)]
    for image in images:
        image.SetSpacing((2.5, 0.8, 0.7))
    measure, shape = sitk.LabelOverlapMeasuresImageFilter(), sitk.LabelShapeStatisticsImageFilter()
    measure.Execute(*images)
    shape.Execute(images[1])
    counts = count(prediction.astype(bool), truth.astype(bool))
    assert dice(counts) == pytest.approx(measure.GetDiceCoefficient(1))
    assert iou(counts) == pytest.approx(measure.GetJaccardCoefficient(1))
    assert sensitivity(counts) == pytest.approx(1 - measure.GetFalseNegativeError(1))
    assert volume_mm3(counts.truth, (0.7, 0.8, 2.5)) == pytest.approx(shape.GetPhysicalSize(1))
