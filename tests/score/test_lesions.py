"""Objects found one by one: pairs, counts, and what MONAI says of the same."""

import importlib
import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import label

from segpipe.core.errors import GeometryError
from segpipe.score.lesions import detect, overlaps

Mask = NDArray[np.bool_]
monai_metrics: Any = importlib.import_module("monai.metrics")


def spots(*places: tuple[int, int], size: int = 4, shape: tuple[int, int] = (40, 40)) -> Mask:
    mask = np.zeros(shape, bool)
    for row, column in places:
        mask[row : row + size, column : column + size] = True
    return mask


TRUTH = spots((2, 2), (2, 20), (20, 2), (30, 30))
FOUND = spots((2, 2), (3, 22), (12, 12)) | spots((29, 29), size=7)


def test_every_object_is_found_missed_or_made_up() -> None:
    # IoU of the pairs: 1, 6 / 26 = 0.23, and 16 / 49 = 0.33
    counts = {limit: detect(overlaps(FOUND, TRUTH), limit) for limit in (0.1, 0.25, 0.5)}
    assert {limit: (one.tp, one.fp, one.fn) for limit, one in counts.items()} == {
        0.1: (3, 1, 1),
        0.25: (2, 2, 2),
        0.5: (1, 3, 3),
    }
    assert counts[0.5].f1 == counts[0.5].sensitivity == counts[0.5].precision == 0.25


@pytest.mark.parametrize("limit", [0.1, 0.3, 0.5])
def test_monai_finds_the_same(limit: float) -> None:
    random = np.random.default_rng(3)
    truth, prediction = (spots(*random.integers(0, 34, (9, 2)).tolist(), size=5) for _ in range(2))
    numbered = [torch.as_tensor(np.asarray(label(mask, np.ones((3, 3)))[0])) for mask in (prediction, truth)]
    ours = detect(overlaps(prediction, truth), limit)
    theirs = {
        name: float(monai_metrics.compute_panoptic_quality(*numbered, metric_name=name, match_iou_threshold=limit))
        for name in ("rq", "sq", "pq")
    }
    assert (ours.f1, ours.pq) == pytest.approx((theirs["rq"], theirs["pq"]), abs=1e-5)
    assert ours.tp + ours.fn == numbered[1].max()


def test_pairs_are_the_best_of_all_together_and_not_the_first() -> None:
    truth = np.array([[1, 1, 1, 1, 0, 1, 1, 0]], bool)
    prediction = np.array([[0, 0, 0, 1, 1, 1, 1, 0]], bool)
    found = overlaps(prediction, truth)
    assert found.iou.tolist() == [[1 / 7], [2 / 4]]
    one = detect(found, 0.1)
    assert (one.tp, one.fp, one.fn, one.iou) == (1, 0, 1, 0.5)


@pytest.mark.parametrize("rank", [2, 3])
def test_a_corner_connects(rank: int) -> None:
    mask = np.zeros((3,) * rank, bool)
    mask[(0,) * rank] = mask[(1,) * rank] = True
    assert overlaps(mask, mask).iou.tolist() == [[1.0]]


def test_the_order_of_the_masks_only_swaps_the_errors() -> None:
    one, other = detect(overlaps(FOUND, TRUTH), 0.1), detect(overlaps(TRUTH, FOUND), 0.1)
    assert (one.tp, one.fp, one.fn, one.iou) == (other.tp, other.fn, other.fp, other.iou)


def test_without_objects_on_a_side() -> None:
    nothing = np.zeros_like(TRUTH)
    missed, made_up, absent = (
        detect(overlaps(*pair), 0.1) for pair in ((nothing, TRUTH), (TRUTH, nothing), (nothing,) * 2)
    )
    assert (missed.fn, missed.f1, missed.pq) == (4, 0, 0)
    assert (made_up.fp, made_up.f1) == (4, 0)
    assert math.isnan(missed.precision)
    assert math.isnan(made_up.sensitivity)
    assert math.isnan(absent.f1)


def test_masks_of_two_shapes_are_refused() -> None:
    with pytest.raises(GeometryError, match="shape"):
        overlaps(TRUTH, TRUTH[1:])
