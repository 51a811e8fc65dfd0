"""Training curves, and the history they are read from."""

import json
from pathlib import Path

from segpipe.report.curves import charts
from segpipe.report.material import read_curves


def write_history(path: Path, rows: list[dict[str, float]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_of_two_lines_for_one_step_the_later_one_holds(tmp_path: Path) -> None:
    write_history(tmp_path / "h", [{"step": 20, "loss": 9.0}, {"step": 10, "loss": 2.0}, {"step": 20, "loss": 1.0}])
    assert read_curves(tmp_path / "h") == {"loss": [(10, 2.0), (20, 1.0)]}


def test_a_line_that_was_cut_off_and_values_that_are_none_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "h").write_text(
        '{"step": 10, "lo\n{"step": 20, "loss": NaN}\n[]\n{"loss": 1}\n{"step": 30, "loss": 1}\n'
    )
    assert read_curves(tmp_path / "h") == {"loss": [(30, 1.0)]}


def test_there_may_be_no_history(tmp_path: Path) -> None:
    assert read_curves(tmp_path / "h") == {}
    assert charts({}, "training") == []


def test_the_best_step_is_named() -> None:
    made = charts({"validation_dice": [(200, 0.5), (400, 0.8), (600, 0.7)]}, "training")
    assert [chart["title"] for chart in made] == ["Validation Dice"]
    assert "0.800" in made[0]["note"]
    assert "step 400" in made[0]["note"]


def test_a_long_training_is_drawn_with_few_points() -> None:
    made = charts({"loss": [(step, 1 / step) for step in range(1, 100_001)]}, "training")
    assert len(made[0]["svg"]) < 12_000


def test_a_single_point_is_enough() -> None:
    assert len(charts({"loss": [(0, 1.0)], "validation_dice": [(0, 0.0)]}, "training")) == 2


def test_the_caption_says_which_weights_were_kept() -> None:
    training = {"validation_dice": [(10, 0.7), (20, 0.9), (30, 0.8)]}
    (best,), (last,) = (charts(training, "training", last=kept) for kept in (False, True))
    assert best["note"] == "whole images, mean 0.900 at best (step 20, whose weights were kept)"
    assert last["note"] == "whole images, mean 0.800 at the end, whose weights were kept"
