"""Scores of a whole case: names, the rule for the empty, regions, ignored voxels."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from segpipe.core.errors import ConfigError, GeometryError
from segpipe.score.case import MetricsConfig, check_structures, definition, meaning, score_case, status

Labels = NDArray[np.uint8]
NAMES = [
    *("dice", "iou", "sensitivity", "precision"),
    *("hd95_mm", "hd100_mm", "assd_mm", "nsd_1mm", "nsd_2mm"),
    *("vol_ref_mm3", "vol_pred_mm3", "vol_diff_mm3", "vol_diff_percent"),
]
DISTANCES = ("hd95_mm", "hd100_mm", "assd_mm")
SPACING = (1.0, 0.5, 2.0)
ORGAN = {"organ": (1,)}


def empty() -> Labels:
    return np.zeros((8, 9, 10), np.uint8)


def block(label: int = 1) -> Labels:
    labels = empty()
    labels[2:6, 2:6, 2:6] = label
    return labels


def organ_scores(prediction: Labels, truth: Labels) -> dict[str, float]:
    scores = score_case(prediction, truth, SPACING, ORGAN, MetricsConfig())
    return {metric: value for (_, metric), value in scores.items()}


def test_every_metric_has_its_name_and_place() -> None:
    assert list(organ_scores(block(), block())) == NAMES


def test_a_perfect_prediction_is_perfect() -> None:
    scores = organ_scores(block(), block())
    assert [scores[name] for name in NAMES] == [1, 1, 1, 1, 0, 0, 0, 1, 1, 64, 64, 0, 0]


def test_a_missed_structure_scores_zero_and_has_no_distance() -> None:
    scores = organ_scores(empty(), block())
    assert [scores[name] for name in ("dice", "iou", "sensitivity", "nsd_1mm", "nsd_2mm")] == [0] * 5
    assert all(math.isnan(scores[name]) for name in (*DISTANCES, "precision"))
    assert (scores["vol_diff_mm3"], scores["vol_diff_percent"]) == (-64, -100)


def test_a_hallucinated_structure_scores_zero_and_has_no_distance() -> None:
    scores = organ_scores(block(), empty())
    assert [scores[name] for name in ("dice", "iou", "precision", "nsd_1mm", "nsd_2mm")] == [0] * 5
    assert all(math.isnan(scores[name]) for name in (*DISTANCES, "sensitivity", "vol_diff_percent"))
    assert scores["vol_diff_mm3"] == 64


def test_a_correct_absence_is_undefined_and_has_no_volume() -> None:
    scores = organ_scores(empty(), empty())
    assert all(math.isnan(scores[name]) for name in NAMES[:9])
    assert [scores[name] for name in NAMES[9:12]] == [0, 0, 0]
    assert math.isnan(scores["vol_diff_percent"])


def test_status_names_the_four_situations() -> None:
    assert [status(*volumes) for volumes in ((2, 1), (2, 0), (0, 1), (0, 0))] == [
        "scored",
        "missed",
        "hallucinated",
        "absent",
    ]


def test_regions_may_overlap_and_count_all_their_labels() -> None:
    truth = block()
    truth[4:6] *= 2
    prediction = block()
    structures = {"whole": (1, 2), "core": (2,)}
    scores = score_case(prediction, truth, SPACING, structures, MetricsConfig())
    assert scores["whole", "dice"] == 1
    assert scores["core", "dice"] == 0
    assert scores["core", "vol_ref_mm3"] == 32


def test_ignored_voxels_count_on_neither_side() -> None:
    truth, prediction = block(), block()
    prediction[2:6, 2:6, 6:9] = 1
    truth[2:6, 2:6, 5:9] = 255
    scores = score_case(prediction, truth, SPACING, ORGAN, MetricsConfig(), ignore=255)
    assert scores["organ", "dice"] == 1
    assert scores["organ", "hd100_mm"] == 0
    assert scores["organ", "vol_pred_mm3"] == 48


def test_the_background_can_be_a_structure() -> None:
    scores = score_case(empty(), block(), SPACING, {"rest": (0,)}, MetricsConfig())
    assert scores["rest", "vol_ref_mm3"] == 8 * 9 * 10 - 64
    assert scores["rest", "sensitivity"] == 1


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int64])
def test_any_integer_type_does_and_the_two_may_differ(kind: type[np.integer]) -> None:
    scores = score_case(block().astype(kind), block(), SPACING, ORGAN, MetricsConfig())
    assert scores["organ", "dice"] == 1


def test_negative_labels_are_no_structure() -> None:
    truth = block().astype(np.int16)
    truth[0] = -1
    scores = score_case(block(), truth, SPACING, ORGAN, MetricsConfig(), ignore=-1)
    assert scores["organ", "dice"] == 1


def test_the_place_of_other_structures_changes_nothing() -> None:
    truth, prediction = block(), np.roll(block(), 1, axis=0)
    alone = score_case(prediction, truth, SPACING, ORGAN, MetricsConfig())
    truth[7, 8, 9] = prediction[0, 0, 0] = 2
    together = score_case(prediction, truth, SPACING, {**ORGAN, "speck": (2,)}, MetricsConfig())
    assert {key: together[key] for key in alone} == alone


def test_two_dimensions_do() -> None:
    scores = score_case(block()[3], np.roll(block()[3], 1, axis=0), SPACING[1:], ORGAN, MetricsConfig())
    assert scores["organ", "hd100_mm"] == 0.5
    assert scores["organ", "vol_ref_mm3"] == 16


def test_tolerances_name_themselves() -> None:
    scores = score_case(block(), block(), SPACING, ORGAN, MetricsConfig(nsd_tolerances_mm=(0.5, 3)))
    assert {name for _, name in scores if name.startswith("nsd")} == {"nsd_0.5mm", "nsd_3mm"}


def test_surfaces_can_be_left_out() -> None:
    scores = score_case(block(), block(), SPACING, ORGAN, MetricsConfig(surface=False))
    assert [name for _, name in scores] == NAMES[:4] + NAMES[9:]


def test_a_tolerance_of_nothing_is_refused() -> None:
    with pytest.raises(ValidationError):
        MetricsConfig(nsd_tolerances_mm=(0.0,))


@pytest.mark.parametrize(("shape", "spacing"), [((8, 9, 9), SPACING), ((8, 9, 10), SPACING[:2])])
def test_grids_that_do_not_fit_are_refused(shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    with pytest.raises(GeometryError, match="one grid"):
        score_case(np.zeros(shape, np.uint8), empty(), spacing, ORGAN, MetricsConfig())


def test_definitions_state_their_variant() -> None:
    assert definition("nsd_1mm") == "nsd[surfel,1mm]"
    assert definition("nsd_0.5mm") == "nsd[surfel,0.5mm]"
    assert definition("hd95_mm") == "hd95[voxel,max]"


@pytest.mark.parametrize("name", [*NAMES, "cldice", "lesion_f1_iou0.1", "lesion_fp_iou0.5", "vrand", "vinfo_split"])
def test_every_metric_has_a_meaning(name: str) -> None:
    known = meaning(name)
    units = {"_mm": "mm", "_mm3": "mm3", "_percent": "%"}
    assert known.unit == next((unit for end, unit in units.items() if name.endswith(end) and "nsd" not in name), "")
    assert known.better == {"mm": "lower", "": "lower" if "_fp_" in name else "higher"}.get(known.unit, "neither")
    assert known.definition.endswith("]")


def test_tubes_lesions_and_cells_are_measured_where_they_are_wanted() -> None:
    config = MetricsConfig.model_validate(
        {
            "centreline": ["organ"],
            "lesions": {"structures": ["organ"], "iou": [0.5]},
            "instances": {"inside": ["organ"]},
        }
    )
    truth, prediction = block(), block()
    prediction[7, 8, 9] = 1
    scores = {metric: value for (_, metric), value in score_case(prediction, truth, SPACING, ORGAN, config).items()}
    assert [scores[f"lesion_{key}_iou0.5"] for key in ("tp", "fp", "fn", "f1")] == [1, 1, 0, 2 / 3]
    assert (scores["vrand"], scores["vinfo"]) == (1, 1)
    assert scores["cldice"] == pytest.approx(1.0, abs=0.05)
    assert scores["pixel_error"] == 1 / truth.size
    assert not {"cldice", "vrand"} & organ_scores(prediction, truth).keys()


def test_borders_are_the_other_side_of_what_they_part() -> None:
    config = MetricsConfig.model_validate({"instances": {"borders": ["organ"]}})
    walls = empty()[0]
    walls[4] = 1
    gap = walls.copy()
    gap[4, 3] = 0
    scores = score_case(gap, walls, (1.0, 1.0), ORGAN, config)
    assert scores["organ", "vrand_split"] == 1 > scores["organ", "vrand_merge"]


@pytest.mark.parametrize("key", ["centreline", "lesions", "instances"])
def test_a_structure_that_there_is_not_is_named(key: str) -> None:
    named = {"centreline": ["vein"], "lesions": {"structures": ["vein"]}, "instances": {"borders": ["vein"]}}
    config = MetricsConfig.model_validate({key: named[key]})
    with pytest.raises(ConfigError, match=f"{key}.*no structure is named 'vein'. There are: organ"):
        check_structures(config, ["organ"])


def test_an_unknown_metric_is_an_error() -> None:
    with pytest.raises(KeyError):
        definition("beauty")
