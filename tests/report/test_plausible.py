"""The chapter on plausible predictions: what it says is what stands in checks.csv."""

import math
import re
from pathlib import Path

import pytest
from report_artifacts import Made, cohort
from report_reading import Reader

from segpipe.core.atomic import write_json
from segpipe.core.stage import Artifact
from segpipe.quality.checks import AGREEMENT, Check, write_checks
from segpipe.quality.known import PLAUSIBLE

WORDS = "front: 3 components, reference masks 1; <b>back</b>: 12 mm from where it usually lies"
APART = "front: another pass draws it otherwise (Dice 0.31)"


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("judged")
    made = cohort(root, 14).upto_evaluate()
    write_json(root / "qc" / "artifact.json", {"summary": {"shape_cases": 9, "shape_held_out": 4}})
    made.artifacts["qc"] = Artifact("qc", "0" * 16, root / "qc", {})
    return made


def table(made: Made) -> Path:
    return made.artifacts["infer"].path / "checks.csv"


def names(made: Made) -> list[str]:
    folder = made.artifacts["infer"].path / "predictions"
    return sorted(path.name.removesuffix(".nii.gz") for path in folder.iterdir())


def fill(made: Made, plausible: list[float], agreement: list[float] | None = None) -> None:
    checks = {}
    for index, case in enumerate(names(made)):
        those = [Check(PLAUSIBLE, plausible[index], WORDS if plausible[index] < 0.7 else "")]
        if agreement:
            those.append(Check(AGREEMENT, agreement[index], APART if agreement[index] < 0.7 else ""))
        checks[case] = those
    write_checks(table(made), checks)


def section(page: str) -> str:
    found = re.search(r'<section id="shapes">.*?</section>', page, re.DOTALL)
    return found[0] if found else ""


def test_implausible_predictions_are_named_with_scores_reasons_and_dice(judged: Made) -> None:
    fill(judged, [0.9, 0.35, 0.8, 0.85, 0.9, 0.82, 0.88], [0.9, 0.95, 0.8, 0.2, 0.9, 0.9, 0.9])
    page = judged.report()
    text = section(page)
    rows = Reader(text).table("Case")
    assert [row[:4] for row in rows] == [
        [names(judged)[3], "0.85", "0.20", APART],
        [names(judged)[1], "0.35", "0.95", WORDS],
    ]
    assert all(0 < float(row[4]) < 1 for row in rows)
    assert "<b>back</b>" not in text
    assert "2 of 7 predictions are below 0.7" in Reader(text).text
    whole = Reader(page).text
    assert "2 predictions not plausible, whatever the reference says." in whole
    assert "of 9 training cases" in whole
    assert "of 4 other cases that were damaged by known amounts" in whole


def test_each_score_has_a_chart_with_a_dot_for_each_case(judged: Made) -> None:
    fill(judged, [0.9, 0.35, 0.8, 0.85, math.nan, 0.82, 0.88], [0.9, 0.95, 0.8, 0.2, 0.9, 0.9, 0.9])
    text = section(judged.report())
    assert text.count("<circle") == 6 + 7
    assert "Dice over the plausibility of the shape" in text
    assert "Dice over the agreement of other passes" in text


def test_without_agreement_there_is_one_chart_and_nothing_is_found_where_all_are_plausible(judged: Made) -> None:
    fill(judged, [0.9] * 7)
    page = judged.report()
    assert section(page).count("<circle") == 7
    assert "0 of 7 predictions are below 0.7" in Reader(section(page)).text
    assert "not plausible" not in page
    assert "Agreement is the mean Dice" not in page


def test_where_nothing_was_judged_the_chapter_is_left_out(judged: Made) -> None:
    write_checks(table(judged), {case: [Check("scan_unusual", 0.5)] for case in names(judged)})
    page = judged.report()
    assert not section(page)
    assert "Are the predictions plausible?" not in page
