"""The checklist: every item is there, nothing is called fulfilled without evidence, every pointer leads somewhere."""

import csv
import io
import re
from dataclasses import replace

import pytest
from report_artifacts import Made, cohort
from report_reading import Reader

from segpipe.core.stage import Inputs
from segpipe.report.claim import CLAIM_ITEMS, TRIPOD_ITEMS, as_csv, as_markdown, checklist, told
from segpipe.report.evidence import Answer, Evidence
from segpipe.report.material import Material, read_material
from segpipe.report.settings import ReportConfig
from segpipe.report.study import OPENING, StudyConfig

CHAPTERS = {"study", "findings", "cohort", "data", "accuracy", "pictures", "cases", "limitations", "methods"}
ALL_STATED = StudyConfig(
    **{name: f"Said of {name}." for name in OPENING}, limitations="Few cases.", raters=2, sites=2, external_test=True
)


def material_of(made: Made, without: tuple[str, ...] = ()) -> Material:
    given = {name: artifact for name, artifact in made.artifacts.items() if name not in without}
    return read_material(Inputs(given), made.source.source.folder)


def status(known: Evidence) -> dict[str, str]:
    return {one.item.number: one.answer.status for one in checklist(known) if one.guideline == "CLAIM 2024"}


@pytest.fixture(scope="module")
def known(whole: Made) -> Evidence:
    return Evidence(material_of(whole), StudyConfig(), 4, CHAPTERS)


def test_all_items_are_there_once() -> None:
    assert [item.number for item in CLAIM_ITEMS] == [str(number) for number in range(1, 45)]
    assert not {item.number for item in TRIPOD_ITEMS} & {one for item in CLAIM_ITEMS for one in item.alike.split(", ")}


def test_a_run_alone_fills_what_it_shows_and_leaves_the_rest_to_the_authors(known: Evidence) -> None:
    found = status(known)
    by_run = {number for number, said in found.items() if said == "run"}
    assert {"9", "10", "12", "19", "22", "23", "24", "25", "26", "27", "28", "29", "32", "35", "37", "39"} == by_run
    assert {found[number] for number in ("2", "3", "4", "5", "6", "11", "14", "15", "16", "17", "34", "44")} == {
        "authors"
    }
    assert {found[number] for number in ("30", "31", "33")} == {"absent"}
    assert "It is not complete: 1, 2, 3" in told(checklist(known))


def test_what_the_authors_state_fills_their_items(known: Evidence) -> None:
    found = status(replace(known, study=ALL_STATED))
    left = [number for number, said in found.items() if said not in ("run", "stated")]
    assert left == ["1", "2", "20", "32", "36", "38"]  # 32: the test cases are said to come from elsewhere
    half = status(replace(known, study=StudyConfig(aims="Whether it works.")))
    assert half["4"] == "partly"


@pytest.mark.parametrize(
    ("without", "numbers"),
    [
        (("preprocess",), ("9",)),
        (("train",), ("10", "22", "24", "25", "26")),
        (("infer",), ("27",)),
    ],
)
def test_an_item_whose_evidence_is_missing_is_not_called_fulfilled(
    whole: Made, known: Evidence, without: tuple[str, ...], numbers: tuple[str, ...]
) -> None:
    found = status(replace(known, material=material_of(whole, without)))
    assert not {found[number] for number in numbers} & {"run", "stated"}


def test_a_file_that_is_there_is_no_evidence_by_itself(known: Evidence) -> None:
    bare = replace(known.material, model={}, definitions={}, scores=known.material.scores)
    found = status(replace(known, material=bare, pictures=0))
    assert (found["22"], found["28"], found["39"]) == ("authors", "partly", "partly")


def test_a_leak_between_parts_is_named(whole: Made, known: Evidence) -> None:
    data = known.material.dataset
    test, develop = data.part("test")[0], data.part("develop")[0]
    cases = tuple(
        case.model_copy(update={"images": develop.images}) if case.id == test.id else case for case in data.cases
    )
    leaky = replace(known, material=replace(known.material, dataset=replace(data, cases=cases)))
    (answer,) = [one.answer for one in checklist(leaky) if one.item.number == "20"]
    assert answer.status == "partly"
    assert answer.text.startswith(f"Not disjoint: {test.id}")


def test_one_subject_has_no_interval_and_the_statistics_are_not_called_done(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    made = cohort(tmp_path_factory.mktemp("one"), 3, test=0.3).upto_evaluate()
    found = status(Evidence(material_of(made), StudyConfig(), 1, CHAPTERS))
    assert (found["29"], found["37"]) == ("partly", "partly")


def test_the_page_has_both_tables_and_every_pointer_leads_to_a_chapter(page: str) -> None:
    tables = [table for table in Reader(page).tables if table[0][0] == "Item"]
    assert [len(table) - 1 for table in tables] == [44, len(TRIPOD_ITEMS)]
    anchors = set(re.findall(r'<section id="(\w+)"', page))
    pointers = re.findall(r'<a href="#([\w-]+)">', page)
    assert pointers
    assert {pointer for pointer in pointers if not pointer.startswith("picture-")} <= anchors


def test_table_and_text_hold_the_same_items(known: Evidence) -> None:
    filled = checklist(known)
    rows = list(csv.DictReader(io.StringIO(as_csv(filled))))
    assert [row["item"] for row in rows] == [one.item.number for one in filled]
    assert all(row["place"] in ("", f"report.html#{one.answer.place}") for row, one in zip(rows, filled, strict=True))
    assert as_markdown(filled).count("\n| ") == len(filled) + 2


def test_the_study_opens_the_report_in_the_words_of_its_authors(whole: Made) -> None:
    nasty = StudyConfig(aims="Is <b>it</b> good?", ethics="Approved.", limitations="Only <i>ellipsoids</i>.")
    text = whole.report(ReportConfig(study=nasty))
    assert "Is &lt;b&gt;it&lt;/b&gt; good?" in text
    assert text.index('id="study"') < text.index('id="findings"')
    assert "Only &lt;i&gt;ellipsoids&lt;/i&gt;." in text
    assert "have not stated more" not in text
    assert "have not stated more" in whole.report()


GROUPED = {"covariate": "site", "groups": [{"name": "A"}], "gap": None, "reason": "few"}


def test_subgroups_and_quality_control_are_pointed_to_where_the_run_has_them(known: Evidence) -> None:
    chapters = {*CHAPTERS, "subgroups", "quality", "scans"}
    material = replace(known.material, subgroups=[GROUPED])
    found = {one.item.number: one.answer for one in checklist(replace(known, material=material, chapters=chapters))}
    assert (found["30"].status, found["30"].place) == ("partly", "subgroups")
    assert "subgroups by site, how unusual scans fare and which predictions can be trusted" in found["30"].text
    assert (found["31"].status, found["31"].place) == ("partly", "quality")
    assert "predicted Dice" not in found["31"].text, "none was predicted"
    foretold = replace(material, judged={"flags": [], "compared": 3})
    with_dice = checklist(replace(known, material=foretold, chapters=chapters))
    assert "its predicted Dice, and a flag" in next(one.answer.text for one in with_dice if one.item.number == "31")
    assert "Dice by site stands under Subgroups" in found["36"].text


def test_fairness_points_to_subgroups_or_is_for_the_authors(known: Evidence) -> None:
    def fairness(of: Evidence) -> Answer:
        return next(one.answer for one in checklist(of) if (one.guideline, one.item.number) == ("TRIPOD+AI", "14"))

    assert fairness(known).status == "authors"
    grouped = replace(known.material, subgroups=[GROUPED])
    found = fairness(replace(known, material=grouped, chapters={*CHAPTERS, "subgroups"}))
    assert (found.status, found.place) == ("partly", "subgroups")
    assert "Mean Dice by site with intervals; too few subjects for a test" in found.text
