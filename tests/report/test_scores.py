"""Scores are looked up as they were written, and averaged as the summary does."""

import math
from pathlib import Path

import pytest

from segpipe.report.scores import Scores
from segpipe.score.summary import OVERALL, summarise
from segpipe.score.table import Row, error_row, write_scores

NAN = math.nan
ROWS = [
    *[Row(f"c{n}", "a", "dice", value) for n, value in enumerate((0.9, 0.5, 0.0, NAN))],
    *[Row(f"c{n}", "b", "dice", value) for n, value in enumerate((0.7, 0.6, NAN, NAN))],
    *[Row(f"c{n}", "a", "vol_ref_mm3", value) for n, value in enumerate((10, 10, 10, 0))],
    *[Row(f"c{n}", "a", "vol_pred_mm3", value) for n, value in enumerate((9, 12, 0, 3))],
    *[Row("c0", "a", metric, 1.0) for metric in ("nsd_2mm", "nsd_0.5mm", "hd95_mm", "iou")],
    error_row("c9", "x.nii.gz: there is no prediction."),
]


@pytest.fixture
def scores(tmp_path: Path) -> Scores:
    write_scores(tmp_path / "scores.csv", ROWS)
    return Scores.read(tmp_path / "scores.csv", ("b", "a", "never"))


def test_structures_stand_in_the_order_of_the_labels(scores: Scores) -> None:
    assert scores.structures == ("b", "a")


def test_cases_without_scores_are_among_the_cases(scores: Scores) -> None:
    assert scores.cases == ("c0", "c1", "c2", "c3", "c9")
    assert list(scores.errors) == ["c9"]
    assert math.isnan(scores.get("c9", "a", "dice"))


def test_the_mean_of_a_case_is_that_of_the_summary(scores: Scores) -> None:
    overall = scores.overall("dice")
    assert overall == pytest.approx({"c0": 0.8, "c1": 0.55, "c2": 0.0})
    figures = summarise(ROWS, {case: case for case in scores.cases}, resamples=10)
    (figure,) = [f for f in figures if (f.label, f.metric) == (OVERALL, "dice")]
    assert sum(overall.values()) / len(overall) == pytest.approx(figure.mean)


def test_the_worst_come_first_and_undefined_ones_not_at_all(scores: Scores) -> None:
    assert scores.ranked() == ["c2", "c1", "c0"]


def test_missed_and_hallucinated_cases_are_known(scores: Scores) -> None:
    assert scores.states()["a"] == {"scored": ["c0", "c1"], "missed": ["c2"], "hallucinated": ["c3"]}


def test_the_tightest_surface_dice_leads(scores: Scores) -> None:
    assert scores.nsd == "nsd_0.5mm"
    assert scores.main == ("dice", "nsd_2mm", "nsd_0.5mm", "hd95_mm")
