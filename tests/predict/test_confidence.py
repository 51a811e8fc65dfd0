"""A judge: what it tells of a case, from whom it learned, and of which cases it says nothing."""

import math
from pathlib import Path

import numpy as np
import pytest

from segpipe.imaging.targets import SignedDistance
from segpipe.predict.confidence import TRAINED_ON, Judge, confidence_in, judge_of
from segpipe.predict.seen import segmented
from segpipe.quality.checks import Check
from segpipe.quality.flag import FLAG, PREDICTED, PREDICTED_ERROR, UNCERTAINTY, FlagsConfig, write_flags
from segpipe.quality.predicted import VALIDATION, DicePredictor, HeldOut, Measured, write_held
from segpipe.quality.usual import UNUSUAL
from tests.predict.test_segmenter import BALL, grid, plan_of, scan_of, segmenter

HELD = HeldOut(
    structures=("ball",),
    cases=tuple(
        Measured(
            case=f"c{n}", subject=f"s{n}", promised={"ball": 0.7 + n / 60}, dice={"ball": 0.6 + n / 60}, shown=("ball",)
        )
        for n in range(15)
    ),
)


def judged(**more: object) -> dict[str, Check]:
    scan, _ = scan_of(grid())
    found = segmenter()
    judge = Judge(**({"checkers": (), "predictor": DicePredictor([HELD]), "plan": found.plan} | more))  # type: ignore[arg-type]
    return {one.name: one for one in judge(segmented("case", scan, found))}


def test_every_case_gets_its_uncertainty_and_its_predicted_dice() -> None:
    found = judged()
    assert list(found) == [UNCERTAINTY, f"{UNCERTAINTY}[ball]", PREDICTED, PREDICTED_ERROR, f"{PREDICTED}[ball]"]
    assert 0 <= found[UNCERTAINTY].value <= 1
    assert 0 < found[PREDICTED].value <= 0.6 + 14 / 60
    assert 0 < found[PREDICTED_ERROR].value < 0.1


def test_a_flag_weighs_what_the_other_checkers_found() -> None:
    limits = FlagsConfig(accept_dice=0.3, reject_dice=0.1)
    assert judged(flags=limits)[FLAG].words == "accept"
    odd = judged(flags=limits, checkers=(lambda seen: [Check(UNUSUAL, 1.5, "noise")],))
    assert odd[FLAG].words == "review: scan unlike the training scans (noise)"


def test_of_a_case_that_was_trained_on_no_dice_is_predicted() -> None:
    found = judged(trained={"case"}, flags=FlagsConfig())
    assert math.isnan(found[PREDICTED].value)
    assert found[FLAG].words == f"review: no Dice can be predicted: {TRAINED_ON}"


def test_distances_are_no_probabilities() -> None:
    scores = np.full((1, 6, 6, 6), -0.5, np.float32)
    distances = plan_of().model_copy(update={"target": SignedDistance()})
    assert (distances.target.decode(scores, BALL) > 0).all()  # drawn, and yet
    assert math.isnan(confidence_in(scores, distances)["ball"].promised)


def test_a_model_folder_brings_its_validation_cases_and_its_borders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segpipe.predict.confidence.model_folders", lambda folder: (folder / "a", folder / "b"))
    assert not judge_of(tmp_path, (), plan_of()).knows
    for name in "ab":
        write_held(tmp_path / name / VALIDATION, HELD.nameless())
    write_flags(tmp_path / "flags.json", FlagsConfig(accept_dice=0.9))
    judge = judge_of(tmp_path, (), plan_of())
    assert judge.knows
    assert len(judge.predictor.residuals) == 30
    assert judge.flags == FlagsConfig(accept_dice=0.9)
