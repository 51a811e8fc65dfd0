"""The golden cases P1 to P11: numbers on which several libraries agree, 3D, with and without anisotropy.

Voxel columns: MONAI, Metrics Reloaded, MedPy and SciPy agree to 1e-6. Surfel: surface-distance and MONAI to
2e-7. Dice and IoU: SimpleITK, MONAI and counts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from segpipe.score.case import MetricsConfig, score_case
from segpipe.score.surface import average_distance, surface_dice, surfel_distances, voxel_distances

Mask = NDArray[np.bool_]
Masks = tuple[Mask, Mask]
SIX_DIGITS = 1e-6
"""The table was printed with six decimals."""


def blocks(*boxes: tuple[slice, slice, slice], shape: tuple[int, int, int] = (20, 20, 20)) -> Mask:
    mask = np.zeros(shape, bool)
    for box in boxes:
        mask[box] = True
    return mask


def ball(centre: int, radius: int) -> Mask:
    axes = np.indices((24, 24, 24)) - np.array([centre, 11, 11])[:, None, None, None]
    return np.asarray((axes**2).sum(axis=0) <= radius**2)


def box_pair() -> Masks:
    return blocks(np.s_[4:10, 5:12, 6:11]), blocks(np.s_[5:11, 5:12, 6:12])


def hole() -> Masks:
    whole = blocks(np.s_[4:14, 4:14, 4:14])
    return whole & ~blocks(np.s_[8:10, 8:10, 8:10]), whole


def voxel_gap() -> Masks:
    return blocks(np.s_[9:10, 9:10, 9:10]), blocks(np.s_[9:10, 9:10, 11:12])


def plate() -> Masks:
    return blocks(np.s_[3:17, 3:17, 9:10]), blocks(np.s_[3:17, 3:17, 9:11])


def two_against_one() -> Masks:
    first, second = np.s_[2:6, 2:6, 2:6], np.s_[12:16, 12:16, 12:16]
    return blocks(first, second), blocks(first)


def at_the_border() -> Masks:
    shape = (10, 6, 7)
    return blocks(np.s_[0:5, :, :], shape=shape), blocks(np.s_[0:7, :, :], shape=shape)


def almost_full() -> Masks:
    shape = (8, 9, 10)
    return np.ones(shape, bool), blocks(np.s_[:, :, 0:9], shape=shape)


def balls() -> Masks:
    return ball(11, 6), ball(12, 7)


def cross() -> Masks:
    bar = np.s_[9:11, 2:18, 9:11]
    return blocks(bar, np.s_[2:18, 9:11, 9:11]), blocks(bar, np.s_[4:18, 9:11, 9:11])


@dataclass(frozen=True)
class Golden:
    name: str
    masks: Callable[[], Masks]
    """Reference and prediction."""
    spacing: tuple[float, float, float]
    dice: float
    iou: float
    hd95: float
    hd100: float
    assd_voxel: float
    assd_surfel: float
    nsd_voxel: float
    nsd_surfel: float


G = Golden
CASES = (
    G("P1", box_pair, (1, 1, 1), 0.757576, 0.609756, 1, 1.414214, 0.51211, 0.501916, 0.978261, 0.988572),
    G("P2", box_pair, (0.8, 0.8, 3), 0.757576, 0.609756, 3, 3.104835, 0.706627, 0.563932, 0.850932, 0.92331),
    G("P3", hole, (1, 1, 1), 0.995984, 0.992, 0, 3, 0.072, 0.056683, 0.976, 0.985829),
    G("P4", voxel_gap, (1, 1, 2), 0, 0, 4, 4, 4, 3, 0, 0),
    G("P5", plate, (1, 1, 1.5), 0.666667, 0.5, 1.5, 1.5, 0.5, 0.584022, 0.666667, 0.644321),
    G(
        "P6",
        two_against_one,
        (1, 1, 1),
        0.666667,
        0.5,
        16.248077,
        17.320508,
        4.938971,
        4.671009,
        0.666667,
        0.666667,
    ),
    G("P7", at_the_border, (1, 2, 1), 0.833333, 0.714286, 2, 2, 0.401163, 0.43635, 0.843023, 0.82099),
    G("P8", almost_full, (1, 1, 1), 0.947368, 0.9, 1, 1, 0.154472, 0.154043, 1, 1),
    G("P9", balls, (1, 1, 1), 0.789249, 0.651868, 2, 2.236068, 0.981573, 0.713843, 0.6675, 0.814194),
    G(
        "P10",
        balls,
        (0.7, 0.7, 2.5),
        0.789249,
        0.651868,
        2.523886,
        2.688866,
        0.898303,
        0.576015,
        0.66875,
        0.859319,
    ),
    G("P11", cross, (1, 1, 1), 0.965517, 0.933333, 1, 2, 0.051724, 0.04351, 0.982759, 0.988137),
)


@pytest.mark.parametrize("golden", CASES, ids=lambda golden: golden.name)
class TestGolden:
    def test_case_scores_are_those_of_the_other_libraries(self, golden: Golden) -> None:
        truth, prediction = golden.masks()
        scores = score_case(
            prediction.astype(np.uint8), truth.astype(np.uint8), golden.spacing, {"it": (1,)}, MetricsConfig()
        )
        expected = {
            "dice": golden.dice,
            "iou": golden.iou,
            "hd95_mm": golden.hd95,
            "hd100_mm": golden.hd100,
            "assd_mm": golden.assd_voxel,
            "nsd_1mm": golden.nsd_surfel,
        }
        found = {metric: scores["it", metric] for metric in expected}
        assert found == pytest.approx(expected, abs=SIX_DIGITS)

    def test_both_families_measure_like_their_libraries(self, golden: Golden) -> None:
        truth, prediction = golden.masks()
        surfels = surfel_distances(prediction, truth, golden.spacing)
        voxels = voxel_distances(prediction, truth, golden.spacing)
        assert average_distance(surfels) == pytest.approx(golden.assd_surfel, abs=SIX_DIGITS)
        assert surface_dice(voxels, 1.0) == pytest.approx(golden.nsd_voxel, abs=SIX_DIGITS)
