"""Calibration: bins and errors that are known, those of MONAI, and the region that keeps easy background out."""

import importlib
import math
from typing import Any

import numpy as np
import pytest
import torch

from segpipe.core.errors import GeometryError
from segpipe.score.calibration import region, reliabilities, reliability, together

monai_metrics: Any = importlib.import_module("monai.metrics")


def test_bins_and_errors_by_hand() -> None:
    given = np.array([0.05, 0.15, 0.15, 0.95, 0.0, 1.0, 0.1])
    truth = np.array([0, 1, 0, 1, 0, 1, 0], bool)
    found = reliability(given, truth, bins=10)
    assert found.count.tolist() == [3, 2, 0, 0, 0, 0, 0, 0, 0, 2]
    assert found.frequency[[0, 1, 9]].tolist() == [0, 0.5, 1]
    assert found.ece == pytest.approx((3 * 0.05 + 2 * 0.35 + 2 * 0.025) / 7)
    assert found.brier == pytest.approx(np.mean((given - truth) ** 2))


def test_monai_finds_the_same_error() -> None:
    random = np.random.default_rng(0)
    given = random.random((40, 41))
    truth = random.random((40, 41)) < given**1.5
    channels = [torch.as_tensor(np.stack([1 - part, part])[None]) for part in (given, truth.astype(float))]
    theirs = monai_metrics.calibration_binning(*channels, num_bins=15, right=True)
    gaps = (theirs[0] - theirs[1]).abs()[0, 1]
    count = theirs[2][0, 1]
    assert reliability(given, truth).ece == pytest.approx(float((gaps * count).sum() / count.sum()), abs=1e-6)


def test_honest_probabilities_have_no_error() -> None:
    random = np.random.default_rng(1)
    given = random.random(200_000)
    honest = reliability(given, random.random(200_000) < given)
    boastful = reliability(np.where(given > 0.5, 0.99, 0.01), random.random(200_000) < given)
    assert honest.ece < 0.01
    assert boastful.ece > 0.2


def test_easy_background_is_kept_out_by_the_region() -> None:
    truth = np.zeros((60, 60), bool)
    truth[28:32, 28:32] = True
    given = np.where(np.roll(truth, 2, axis=0), 0.7, 0.01)
    inside = region(given > 0.5, truth, (1.0, 1.0), margin_mm=3)
    assert reliability(given, truth, inside).ece > 3 * reliability(given, truth).ece


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 2.5)])
def test_the_region_ends_at_the_margin(spacing: tuple[float, float]) -> None:
    truth, nothing = np.zeros((2, 31, 31), bool)
    truth[15, 15] = True
    apart = np.sqrt(sum(((axis - 15) * size) ** 2 for axis, size in zip(np.indices(truth.shape), spacing, strict=True)))
    assert (region(nothing, truth, spacing) == (apart <= 5)).all()
    assert not region(nothing, nothing, spacing).any()


def test_cases_can_be_put_together() -> None:
    random = np.random.default_rng(2)
    given, truth = random.random((2, 50)), random.random((2, 50)) < 0.3
    parts = [reliability(*one) for one in zip(given, truth, strict=True)]
    nothing = reliability(np.zeros(0), np.zeros(0, bool))
    whole, joined = reliability(given, truth), together([*parts, nothing])
    assert (joined.ece, joined.brier) == pytest.approx((whole.ece, whole.brier))


def test_without_voxels_nothing_is_known() -> None:
    found = reliability(np.zeros(3), np.zeros(3, bool), np.zeros(3, bool))
    assert math.isnan(found.ece)
    assert math.isnan(found.brier)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(GeometryError, match="shape"):
        reliability(np.zeros(3), np.zeros(4, bool))
    with pytest.raises(GeometryError, match="shape"):
        region(np.zeros(3, bool), np.zeros(4, bool), (1.0,))
    with pytest.raises(ValueError, match="between 0 and 1"):
        reliability(np.array([1.2]), np.ones(1, bool))


def test_each_structure_is_counted_within_its_own_margin_and_without_what_nobody_annotated() -> None:
    truth = np.zeros((30, 10), np.uint8)
    truth[3:6, 3:6], truth[24:27, 3:6] = 1, 2
    drawn = truth.copy()
    drawn[5, 3:6] = 0
    given = np.stack([np.where(drawn == value, 0.9, 0.1) for value in (1, 2)])
    found = reliabilities(given, (drawn, truth), {"front": (1,), "back": (2,)}, (1.0, 1.0))
    assert found["back"].ece == pytest.approx(0.1)
    assert found["front"].count.sum() == region(drawn == 1, truth == 1, (1.0, 1.0)).sum() < truth.size
    assert found["front"].count[-2] == 6  # 0.9 was given to six voxels, all of them right
    masked = truth.copy()
    masked[4, 3:6] = 9
    fewer = reliabilities(given, (drawn, masked), {"front": (1,), "back": (2,)}, (1.0, 1.0), ignore=9)
    assert fewer["front"].count[-2] == 3
