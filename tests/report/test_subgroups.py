"""The chapter on subgroups: drawn from what the evaluation wrote, in a run with covariates."""

import json
from pathlib import Path

import pytest
from report_artifacts import cohort
from report_reading import Reader

from segpipe.dataset.settings import IngestConfig
from segpipe.dataset.sources.table import Csv
from segpipe.report.forest import Line, forest
from segpipe.report.subgroups import sentence
from segpipe.score.interval import Estimate

GAP = {
    "higher": "A",
    "lower": "B",
    "difference": {"value": 0.05, "low": 0.01, "high": 0.09},
    "p": 0.004,
    "corrected": 0.008,
}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, object]]:
    """Return the report on a table with a covariate, and what the evaluation wrote of it."""
    root: Path = tmp_path_factory.mktemp("covariates")
    made = cohort(root, 16, test=0.9)
    lines = ["case,image,label,site,initials"]
    for number in range(16):
        name = f"case_{number:03d}.nii.gz"
        site = "north" if number < 7 else "south" if number < 14 else "far"
        lines.append(f"c{number:02d},imagesTr/{name},labelsTr/{name},{site},secret{number}")
    (root / "data" / "cases.csv").write_text("\n".join(lines))
    source = Csv(root=root / "data" / "cases.csv", labels={"front": 1, "back": 2})
    made.source = IngestConfig(source=source, split=made.source.split)
    made.predict = lambda case, truth: truth
    made.upto_evaluate()
    return made.report(), made.summary()


def test_groups_stand_with_their_subjects_and_small_ones_are_not_named(page: tuple[str, dict[str, object]]) -> None:
    text, summary = page
    (site,) = summary["subgroups"]  # type: ignore[misc]
    assert site["covariate"] == "site"
    shown = {group["name"] for group in site["groups"]}
    assert shown == {"north", "south"}
    assert 'id="subgroups"' in text
    chapter = text.split('id="subgroups"')[1].split("</section>")[0]
    assert all(f">{name}</text>" in chapter for name in shown)
    assert "Not tested:" in chapter
    assert "secret" not in text
    assert "secret" not in json.dumps(summary)


def test_agreement_of_volumes_stands_in_the_summary_and_in_the_report(page: tuple[str, dict[str, object]]) -> None:
    text, summary = page
    front = summary["agreement"][0]  # type: ignore[index]
    assert (front["label"], front["bias_mm3"]["value"], front["ccc"]["value"]) == ("front", 0.0, pytest.approx(1))
    header = next(table for table in Reader(text).tables if "CCC" in table[0])
    assert [row[0] for row in header[1:]] == ["front", "back"]


def test_without_covariates_there_is_no_chapter(tmp_path: Path) -> None:
    assert 'id="subgroups"' not in cohort(tmp_path, 4).upto_evaluate().report()


def test_a_gap_is_told_with_interval_and_corrected_p() -> None:
    one = {"covariate": "site", "gap": GAP, "hidden_groups": 1, "hidden_subjects": 3, "reason": "", "groups": []}
    assert sentence(one)["text"] == (
        "A is ahead of B by 0.050 (interval +0.010 to +0.090); that groups differ at all: p = 0.008 after Holm's "
        "correction. 1 group of 3 subjects in all is too small to be shown."
    )


def test_a_forest_draws_a_line_for_each_interval_and_none_where_it_is_unknown() -> None:
    rows = [
        Line("site", "subjects"),
        Line("A", "12", Estimate(0.9, 0.88, 0.92), "0.900"),
        Line("B", "1", Estimate(0.8, float("nan"), float("nan")), "0.800", faint=True),
    ]
    drawn = forest(rows, "mean Dice", "by site", guides=[(0.87, "limit")], bounds=(0, 1))
    assert (drawn.count('class="reach"'), drawn.count("<circle"), drawn.count('class="limit"')) == (1, 2, 1)
    assert drawn.count('class="code unknown"') == 1
