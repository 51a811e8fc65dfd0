"""The chapter on what to trust: flags, predicted against true Dice, and its error on held-out cases, in words."""

import json
import math
import re

import pytest
from report_artifacts import Made, cohort
from report_reading import Reader

from segpipe.core.atomic import write_json
from segpipe.core.stage import Artifact
from segpipe.quality.checks import Check, write_checks
from segpipe.quality.flag import FLAG, NAMES, PREDICTED, PREDICTED_ERROR
from segpipe.report.scores import Scores
from segpipe.score.table import read_scores
from segpipe.stages import evaluate

LIMITS = {"use": True, "accept_dice": 0.99, "reject_dice": 0.5}
WHY = "no Dice can be predicted: 4 of 10 subjects to learn it from"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("verdicts")
    made = cohort(root, 14).upto_evaluate()
    write_json(root / "qc" / "artifact.json", {"settings": {"qc": {"flags": LIMITS}}})
    made.artifacts["qc"] = Artifact("qc", "0" * 16, root / "qc", {})
    return made


def true_dice(made: Made) -> dict[str, float]:
    return Scores.read(made.artifacts["evaluate"].path / "scores.csv", ("front", "back")).overall("dice")


def judged(made: Made, flags: list[int], off: float, error: float = 0.05) -> str:
    """Return the chapter, where each case is predicted off by as much as is said."""
    checks = {}
    for (case, dice), flag in zip(true_dice(made).items(), flags, strict=True):
        predicted = dice + off
        words = NAMES[flag] if not flag else f"{NAMES[flag]}: because of <b>{case}</b>"
        checks[case] = [
            Check(PREDICTED, predicted, WHY if math.isnan(predicted) else ""),
            Check(PREDICTED_ERROR, error),
        ]
        checks[case].append(Check(FLAG, float(flag), words))
    return told(made, checks)


def told(made: Made, checks: dict[str, list[Check]]) -> str:
    infer = made.artifacts["infer"].path
    write_checks(infer / "checks.csv", checks)
    outcome = evaluate._judged(list(rows(made)), checks)
    summary = made.artifacts["evaluate"].path / "summary.json"
    kept = {key: one for key, one in json.loads(summary.read_text()).items() if key != "quality_control"}
    write_json(summary, kept | evaluate._without_nan(outcome))
    return made.report()


def rows(made: Made) -> list[evaluate.Row]:
    return read_scores(made.artifacts["evaluate"].path / "scores.csv")


def section(page: str) -> str:
    found = re.search(r'<section id="quality">.*?</section>', page, re.DOTALL)
    return found[0] if found else ""


def test_the_worst_stand_first_with_flag_prediction_error_and_reasons(made: Made) -> None:
    names = list(true_dice(made))
    chapter = section(judged(made, [0, 0, 2, 0, 1, 0, 0], off=0.01))
    table = list(Reader(chapter).table("Case"))
    assert [row[0] for row in table[:2]] == [names[2], names[4]]
    assert [row[1] for row in table] == ["reject", "review", *["accept"] * 5]
    dice = true_dice(made)[names[2]]
    assert table[0][2:3] + table[0][4:] == [f"{dice + 0.01:.2f} ± 0.05", f"{dice:.3f}", f"because of <b>{names[2]}</b>"]
    assert "<b>case" not in chapter  # what stands in a table is text


def test_the_error_on_held_out_cases_is_told_in_words(made: Made) -> None:
    text = Reader(section(judged(made, [0] * 7, off=0.02))).text
    assert "was off by 0.020 on average on 7 held-out cases" in text
    assert "(bias +0.020)" in text
    assert "within the error that was told in 100 % of them, and should in 90 %" in text
    far = Reader(section(judged(made, [0] * 7, off=-0.2))).text
    assert "in 0 % of them" in far


def test_each_case_is_a_dot_of_its_flag(made: Made) -> None:
    chapter = section(judged(made, [0, 1, 2, 0, 0, 1, 0], off=0.0))
    assert chapter.count("<circle") == 7
    assert chapter.count('class="dot out"') == 2
    assert 'class="bias"' in chapter


def test_accepted_in_vain_is_a_finding(made: Made) -> None:
    page = judged(made, [0, 0, 0, 0, 0, 0, 2], off=0.0)
    assert "accepted that should not have been" in page
    assert "1 prediction to reject" in page
    assert "accepted that should not have been" not in judged(made, [1] * 7, off=0.0)


def test_where_no_dice_could_be_predicted_it_says_why(made: Made) -> None:
    text = Reader(section(judged(made, [1] * 7, off=math.nan))).text
    assert f"No Dice was predicted: {WHY}." in text
    assert "was off by" not in text


def test_without_flags_there_is_no_chapter(made: Made) -> None:
    assert not section(told(made, {}))
    (made.artifacts["infer"].path / "checks.csv").unlink()
    assert not section(made.report())


def test_the_checklist_points_to_it(made: Made) -> None:
    judged(made, [0] * 7, off=0.0)
    assert '<a href="#quality">Quality</a>: Each prediction has its uncertainty' in made.report()
