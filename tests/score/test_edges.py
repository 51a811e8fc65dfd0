"""Edge cases whose every number is that of the library that its definition follows, measured here and now.

Dice and IoU: SimpleITK; voxel distances: MONAI; NSD: MONAI's sub-voxel surfaces, and DeepMind's surface-distance 0.1,
whose numbers stand here because it does not run beside a current SciPy everywhere.
"""

import importlib
import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from segpipe.score.case import MetricsConfig, score_case

Mask = NDArray[np.bool_]
Case = tuple[Mask, Mask, tuple[float, float, float], float, float]
monai_metrics: Any = importlib.import_module("monai.metrics")
sitk: Any = importlib.import_module("SimpleITK")


def box(*slices: Any) -> Mask:
    mask = np.zeros((12, 13, 10), bool)
    mask[slices] = True
    return mask


CASES: dict[str, Case] = {
    "single voxel": (box(5, 6, 4), box(5, 6, 4), (1, 1, 1), 1.0, 1.0),
    "single voxel in a block": (box(5, 6, 4), box(*np.s_[4:7, 5:8, 3:6]), (0.7, 0.8, 1.5), 0.465539332, 1.0),
    "touching the border": (box(*np.s_[:5, :, 3:]), box(*np.s_[:6, 1:, 4:]), (1, 1, 1), 0.995225436, 1.0),
    "anisotropic": (box(*np.s_[2:9, 3:10, 2:7]), box(*np.s_[3:9, 3:11, 2:8]), (0.5, 0.5, 5), 0.945982841, 0.946960897),
    "shifted by a voxel": (box(*np.s_[2:8, 3:9, 2:7]), box(*np.s_[3:9, 3:9, 2:7]), (1, 1, 1), 1.0, 1.0),
    "shifted by a thick voxel": (
        box(*np.s_[2:8, 3:9, 2:7]),
        box(*np.s_[2:8, 3:9, 3:8]),
        (0.5, 0.5, 5),
        0.886628096,
        0.887476768,
    ),
    "disjoint": (box(*np.s_[1:4, 1:4, 1:4]), box(*np.s_[8:11, 8:12, 6:9]), (0.8, 0.8, 2), 0.0, 0.0),
    "nested": (box(*np.s_[1:11, 1:12, 1:9]), box(*np.s_[4:8, 4:8, 3:6]), (1, 1, 2), 0.0, 0.0),
}
"""Reference, prediction, spacing, NSD at 1 and at 2 mm of surface-distance 0.1."""


def ours(truth: Mask, prediction: Mask, spacing: tuple[float, float, float]) -> dict[str, float]:
    scores = score_case(prediction.astype(np.uint8), truth.astype(np.uint8), spacing, {"it": (1,)}, MetricsConfig())
    return {metric: value for (_, metric), value in scores.items()}


def of_monai(truth: Mask, prediction: Mask, spacing: tuple[float, float, float]) -> dict[str, float]:
    channels = [torch.as_tensor(np.stack([~mask, mask])[None]) for mask in (prediction, truth)]
    told: dict[str, Any] = {"include_background": False, "spacing": [float(size) for size in spacing]}
    with warnings.catch_warnings():
        # MONAI 1.6 calls itself with an argument that it deprecated.
        warnings.filterwarnings("ignore", "monai.metrics.utils get_mask_edges", FutureWarning)
        found = {
            "hd95_mm": monai_metrics.compute_hausdorff_distance(*channels, percentile=95, **told),
            "hd100_mm": monai_metrics.compute_hausdorff_distance(*channels, **told),
            "assd_mm": monai_metrics.compute_average_surface_distance(*channels, symmetric=True, **told),
        }
        for limit in (1.0, 2.0):
            found[f"nsd_{limit:g}mm"] = monai_metrics.compute_surface_dice(
                *channels, class_thresholds=[limit], use_subvoxels=True, **told
            )
    return {name: float(value[0, 0]) for name, value in found.items()}


def of_itk(truth: Mask, prediction: Mask) -> dict[str, float]:
    measure = sitk.LabelOverlapMeasuresImageFilter()
    measure.Execute(*[sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in (prediction, truth)])
    return {"dice": measure.GetDiceCoefficient(), "iou": measure.GetJaccardCoefficient()}


@pytest.mark.parametrize("case", list(CASES.values()), ids=list(CASES))
def test_edges_are_measured_as_the_libraries_do(case: Case) -> None:
    truth, prediction, spacing, close, wide = case
    scores = ours(truth, prediction, spacing)
    expected = of_monai(truth, prediction, spacing) | of_itk(truth, prediction)
    assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert (scores["nsd_1mm"], scores["nsd_2mm"]) == pytest.approx((close, wide), abs=1e-6)
    size = math.prod(spacing)
    assert scores["vol_ref_mm3"] == pytest.approx(np.count_nonzero(truth) * size)
    assert scores["vol_diff_mm3"] == pytest.approx((np.count_nonzero(prediction) - np.count_nonzero(truth)) * size)


def test_one_voxel_aside_is_one_voxel_far() -> None:
    scores = ours(*CASES["shifted by a thick voxel"][:3])
    assert (scores["hd95_mm"], scores["hd100_mm"]) == (5.0, 5.0)
    # two of the five slices are on one side only; in the other four the masks are the same
    assert scores["dice"] == 0.8


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 0.5, 5.0)])
def test_nothing_on_one_side_follows_the_rule_for_empty_masks(spacing: tuple[float, float, float]) -> None:
    nothing, something = np.zeros((12, 13, 10), bool), box(*np.s_[2:5, 2:5, 2:5])
    undefined = {"hd95_mm", "hd100_mm", "assd_mm"}
    for truth, prediction, also in (
        (something, nothing, {"precision"}),
        (nothing, something, {"sensitivity", "vol_diff_percent"}),
    ):
        scores = ours(truth, prediction, spacing)
        assert {name for name, value in scores.items() if math.isnan(value)} == undefined | also
        assert [scores[name] for name in ("dice", "iou", "nsd_1mm", "nsd_2mm")] == [0, 0, 0, 0]
    both = ours(nothing, nothing, spacing)
    assert {name for name, value in both.items() if not math.isnan(value)} == {
        "vol_ref_mm3",
        "vol_pred_mm3",
        "vol_diff_mm3",
    }
