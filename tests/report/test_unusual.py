"""The chapter on unusual scans: what it says is what stands in checks.csv."""

import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from report_artifacts import Made, cohort
from report_reading import Reader

from segpipe.core.atomic import write_json
from segpipe.core.stage import Artifact
from segpipe.quality.checks import Check, write_checks
from segpipe.quality.usual import UNUSUAL, UNUSUAL_P

WORDS = "noise 9.1 SD above training; <b>axes</b> look swapped"
TITLE = "Were the scans like those trained on?"


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("checked")
    made = cohort(root, 14).upto_evaluate()
    summary = {"subjects": 7, "figures": 24, "reconstructed": 0}
    receipt = {"summary": summary, "settings": {"qc": {"alarm": 0.01}}}
    write_json(root / "qc" / "artifact.json", receipt)
    made.artifacts["qc"] = Artifact("qc", "0" * 16, root / "qc", {})
    return made


@pytest.fixture
def table(checked: Made) -> Iterator[Path]:
    path = checked.artifacts["infer"].path / "checks.csv"
    yield path
    path.unlink(missing_ok=True)


def names(made: Made) -> list[str]:
    folder = made.artifacts["infer"].path / "predictions"
    return sorted(path.name.removesuffix(".nii.gz") for path in folder.iterdir())


def fill(table: Path, made: Made, values: list[float]) -> None:
    checks = {
        case: [Check(UNUSUAL, value, WORDS if value > 1 else ""), Check(UNUSUAL_P, 0.125)]
        for case, value in zip(names(made), values, strict=True)
    }
    write_checks(table, checks)


def section(page: str) -> str:
    found = re.search(r'<section id="scans">.*?</section>', page, re.DOTALL)
    return found[0] if found else ""


def test_unusual_scans_are_named_with_score_reason_and_dice(checked: Made, table: Path) -> None:
    fill(table, checked, [0.5, 2.25, 0.7, 0.4, 3.5, 0.6, 0.3])
    page = checked.report()
    text = section(page)
    rows = Reader(text).table("Case")
    assert [row[:4] for row in rows] == [
        [names(checked)[4], "3.50", "0.125", WORDS],
        [names(checked)[1], "2.25", "0.125", WORDS],
    ]
    assert all(0 < float(row[4]) < 1 for row in rows)
    assert "<b>axes</b>" not in page
    lead = Reader(text).text
    assert "with the scans of 7 subjects to develop, by 24 image statistics" in lead
    assert "2 of 7 scans are beyond it" in lead


def test_they_are_a_finding(checked: Made, table: Path) -> None:
    fill(table, checked, [0.5, 2.25, 0.7, 0.4, 0.5, 0.6, 0.3])
    text = Reader(checked.report()).text
    assert f"1 scan unlike those trained on. {names(checked)[1]} ({WORDS})" in text


def test_nothing_is_said_where_all_are_usual_but_in_the_chapter(checked: Made, table: Path) -> None:
    fill(table, checked, [0.5] * 7)
    page = checked.report()
    assert "0 of 7 scans are beyond it" in Reader(section(page)).text
    assert "unlike those trained on" not in page.replace(TITLE, "")


@pytest.mark.parametrize("values", [[0.5, 0.9, 0.7, 0.4, 3.5, 0.6, 0.3], [0.5, 90.0, 0.7, 0.4, 3.5, 0.6, 0.3]])
def test_the_chart_has_a_dot_for_each_case_in_the_order_of_scores(
    checked: Made, table: Path, values: list[float]
) -> None:
    fill(table, checked, values)
    dots = re.findall(r'<circle class="dot" cx="([\d.]+)" cy="[\d.]+" r="3" data-c="(\d+)"', section(checked.report()))
    assert len(dots) == 7
    order = [int(case) for _, case in sorted(dots, key=lambda found: float(found[0]))]
    assert order == sorted(range(7), key=lambda case: values[case])


def test_an_undefined_score_has_no_dot(checked: Made, table: Path) -> None:
    fill(table, checked, [0.5, math.nan, 0.7, 0.4, 3.5, 0.6, 0.3])
    text = section(checked.report())
    assert text.count("<circle") == 6
    assert "1 of 6 scans is beyond it" in Reader(text).text


@pytest.mark.parametrize("content", [None, "case,check\n", "\x00"])
def test_without_a_table_or_with_a_damaged_one_the_chapter_is_left_out(
    checked: Made, table: Path, content: str | None
) -> None:
    if content is not None:
        table.write_text(content)
    page = checked.report()
    assert not section(page)
    assert TITLE not in page
