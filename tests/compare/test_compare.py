"""Comparing models: the figures, the verdict, the page, and what is refused."""

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from phantoms import Ran, segpipe
from report_reading import Reader
from scipy import stats

from segpipe.score.difference import sign_flip
from segpipe.score.paired import holm
from segpipe.score.table import read_scores
from tests.compare.scored import write_folder, write_manifest

MINUS = "\N{MINUS SIGN}"


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    return {
        "old": write_folder(tmp_path / "old", seed=1),
        "new": write_folder(tmp_path / "new", 0.03, seed=2),
        "same": write_folder(tmp_path / "same", 0.001, seed=3),
    }


def compare(*arguments: object) -> Ran:
    return segpipe("compare", *arguments)


def found(out: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((out / "compare.json").read_text())
    return value


def means(folder: Path, metric: str = "dice") -> dict[str, float]:
    gathered: dict[str, list[float]] = {}
    for row in read_scores(folder / "scores.csv"):
        if row.metric == metric:
            gathered.setdefault(row.case, []).append(float(row.value))
    return {case: math.fsum(values) / len(values) for case, values in gathered.items()}


def test_figures_are_those_of_scipy_on_the_means_of_cases(folders: dict[str, Path], tmp_path: Path) -> None:
    assert compare(folders["old"], folders["new"], "-o", tmp_path / "out").code == 0
    (pair,) = [one for one in found(tmp_path / "out")["pairs"] if one["family"] == "primary"]
    old, new = means(folders["old"]), means(folders["new"])
    each = [new[case] - old[case] for case in sorted(old)]
    assert pair["difference"] == pytest.approx(sum(each) / len(each))
    assert (pair["low"], pair["high"]) == pytest.approx(
        tuple(stats.t.interval(0.95, len(each) - 1, sum(each) / len(each), stats.sem(each)))
    )
    assert pair["p_wilcoxon"] == pytest.approx(stats.wilcoxon(each).pvalue)
    assert pair["p_permutation"] == pytest.approx(sign_flip(np.asarray(each)), abs=2e-4)
    assert (pair["model"], pair["other"], pair["subjects"], pair["evidence"]) == ("new", "old", 20, True)


def test_the_verdict_names_test_subjects_interval_and_p(folders: dict[str, Path], tmp_path: Path) -> None:
    ran = compare(folders["old"], folders["new"], "-o", tmp_path / "out")
    first = ran.out.splitlines()[0].replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert first.startswith(f"new is ahead of old. Dice, mean of 2 structures: new {MINUS} old is +0.0")
    assert re.search(r"\(95 % CI \+0\.0\d+ to \+0\.0\d+; permutation test over 20 subjects, p < 0\.0001\)", first)
    said = found(tmp_path / "out")["cautions"]
    assert said[0].startswith("One split and one training of each")


def test_no_evidence_is_not_equality(folders: dict[str, Path], tmp_path: Path) -> None:
    ran = compare(folders["old"], folders["same"], "-o", tmp_path / "out")
    assert "same and old: no evidence of a difference." in ran.out
    assert "This does not show that they are equal: the interval leaves room for" in ran.out


def test_holm_runs_over_the_primary_and_over_the_others(folders: dict[str, Path], tmp_path: Path) -> None:
    compare(*folders.values(), "-o", tmp_path / "out")
    told = found(tmp_path / "out")
    assert set(told["friedman_p"]) == {"mean:dice"}
    for family in ("primary", "exploratory"):
        own = [pair for pair in told["pairs"] if pair["family"] == family]
        assert [one["p_corrected"] for one in own] == pytest.approx(holm([one["p_permutation"] for one in own]))
    primary = [pair for pair in told["pairs"] if pair["family"] == "primary"]
    assert [(one["model"], one["other"]) for one in primary] == [("new", "old"), ("same", "old"), ("same", "new")]
    assert {one["label"] for one in primary} == {"mean"}


def test_a_baseline_leaves_out_the_other_pairs(folders: dict[str, Path], tmp_path: Path) -> None:
    compare(*folders.values(), "-o", tmp_path / "out", "--baseline", "new")
    assert {(one["model"], one["other"]) for one in found(tmp_path / "out")["pairs"]} == {
        ("old", "new"),
        ("same", "new"),
    }


@pytest.mark.parametrize(
    ("model", "margin", "said", "shown"),
    [
        ("same", "0.02", "is not worse than old by more than the margin of 0.020", True),
        ("same", "0.0001", "Non-inferiority is not shown", False),
        ("worse", "0.01", "is worse than old by more than the margin of 0.010", False),
    ],
)
def test_non_inferiority_is_judged_by_the_margin(
    folders: dict[str, Path], tmp_path: Path, model: str, margin: str, said: str, shown: bool
) -> None:
    write_folder(tmp_path / "worse", -0.05, seed=4)
    ran = compare(folders["old"], tmp_path / model, "-o", tmp_path / "out", "--margin", margin)
    assert said in ran.out
    (pair,) = [one for one in found(tmp_path / "out")["pairs"] if one["family"] == "primary"]
    assert pair["non_inferior"] is shown


def test_for_distances_less_is_better(folders: dict[str, Path], tmp_path: Path) -> None:
    ran = compare(folders["old"], folders["new"], "-o", tmp_path / "out", "--primary", "front:hd95_mm")
    assert ran.out.startswith(f"new is ahead of old. HD95 of front: new {MINUS} old is {MINUS}0.")
    assert "new is better in " in ran.out


def test_scans_of_a_subject_count_once(folders: dict[str, Path], tmp_path: Path) -> None:
    for name in ("old", "new"):
        write_manifest(folders[name], scans=2)
    compare(folders["old"], folders["new"], "-o", tmp_path / "out")
    told = found(tmp_path / "out")
    assert (told["subjects"], told["subjects_known"], len(told["cases"])) == (10, True, 20)
    assert {pair["subjects"] for pair in told["pairs"]} == {10}


def test_a_table_says_who_the_subjects_are(folders: dict[str, Path], tmp_path: Path) -> None:
    table = tmp_path / "subjects.csv"
    table.write_text("case,subject\n" + "".join(f"case_{n:02d},p{n // 4}\n" for n in range(20)))
    compare(folders["old"], folders["new"], "-o", tmp_path / "out", "--subjects", table)
    assert found(tmp_path / "out")["subjects"] == 5
    table.write_text("case,subject\ncase_00,p\n")
    ran = compare(folders["old"], folders["new"], "-o", tmp_path / "out", "--subjects", table)
    assert (ran.code, "no subject of case_01" in ran.err) == (2, True)


def test_missing_cases_are_named_and_left_out(folders: dict[str, Path], tmp_path: Path) -> None:
    part = write_folder(tmp_path / "part", 0.03, failed=["case_03"], cases=19)
    ran = compare(folders["old"], part, "-o", tmp_path / "out")
    assert ran.code == 3
    assert "left out, no scores in part: case_03 and case_19" in ran.out
    told = found(tmp_path / "out")
    assert (len(told["cases"]), told["missing"]["part"]) == (18, ["case_03", "case_19"])
    assert any("part has no scores of 2 cases" in caution for caution in told["cautions"])
    rows = {row[0]: row for row in Reader((tmp_path / "out" / "compare.html").read_text()).table("Case")}
    assert rows["case_03"][-1] == "no scores in part: left out"


def test_scores_that_only_one_model_has_are_left_out_everywhere(folders: dict[str, Path], tmp_path: Path) -> None:
    hole = write_folder(tmp_path / "hole", changed={("case_05", "front", "dice"): math.nan})
    compare(folders["old"], hole, "-o", tmp_path / "out")
    told = {(one["label"], one["metric"]): one for one in found(tmp_path / "out")["pairs"]}
    assert (told["front", "dice"]["cases"], told["front", "dice"]["left_out"]) == (19, 1)
    assert told["back", "dice"]["cases"] == 20
    # over structures case_05 counts with "back" alone, in both models
    assert told["mean", "dice"]["cases"] == 20


def test_equal_runs_are_told_to_be_equal_in_every_case(folders: dict[str, Path], tmp_path: Path) -> None:
    twin = write_folder(tmp_path / "twin", seed=1)
    ran = compare(folders["old"], twin, "-o", tmp_path / "out")
    assert ran.code == 0
    assert f"twin {MINUS} old is 0.000" in ran.out
    assert "equal in 20" in ran.out


def test_two_subjects_are_too_few_for_any_verdict(tmp_path: Path) -> None:
    few = [write_folder(tmp_path / name, shift, cases=2) for name, shift in (("a", 0.0), ("b", 0.1))]
    ran = compare(*few, "-o", tmp_path / "out")
    assert "no evidence of a difference" in ran.out
    assert "With 2 subjects no p below 0.5 is possible." in ran.out


def test_the_table_holds_every_comparison(folders: dict[str, Path], tmp_path: Path) -> None:
    compare(folders["old"], folders["new"], "-o", tmp_path / "out")
    with (tmp_path / "out" / "compare.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(rows[0]["label"], rows[0]["metric"], rows[0]["family"])] == [("mean", "dice", "primary")]
    assert {(row["label"], row["metric"]) for row in rows} == {
        (label, metric) for label in ("front", "back", "mean") for metric in ("dice", "nsd_1mm", "hd95_mm")
    }
    assert len(rows) == 9
    assert float(rows[0]["mean_model"]) - float(rows[0]["mean_other"]) == pytest.approx(float(rows[0]["difference"]))


def test_the_page_is_closed_complete_and_names_no_folder(folders: dict[str, Path], tmp_path: Path) -> None:
    compare(f"<b>&odd={folders['old']}", folders["new"], "-o", tmp_path / "out")
    page = (tmp_path / "out" / "compare.html").read_text()
    assert "<b>&odd" not in page
    assert "&lt;b&gt;&amp;odd" in page
    assert not re.search(r"https?:|@import|<link[^>]+href=\"(?!data:)", page)
    assert str(tmp_path) not in page
    assert "script-src &#39;sha256-" in page
    assert len(Reader(page).table("Case")) == 20
    for chapter in ("verdict", "cautions", "differences", "models", "all", "cases", "methods"):
        assert f'id="{chapter}"' in page
    assert page.count('class="stem"') == 20


def test_the_same_scores_give_the_same_bytes(folders: dict[str, Path], tmp_path: Path) -> None:
    for out in ("one", "two"):
        compare(*folders.values(), "-o", tmp_path / out)
    for name in ("compare.html", "compare.json", "compare.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_single_structure_is_its_own_mean(tmp_path: Path) -> None:
    pair = [write_folder(tmp_path / name, shift, labels=("organ",), cases=9) for name, shift in (("a", 0), ("b", 0.02))]
    ran = compare(*pair, "-o", tmp_path / "out")
    assert f"Dice of organ: b {MINUS} a" in ran.out
    assert {one["label"] for one in found(tmp_path / "out")["pairs"]} == {"mean"}


def test_structures_that_one_run_lacks_are_named(folders: dict[str, Path], tmp_path: Path) -> None:
    more = write_folder(tmp_path / "more", labels=("front", "back", "tail"))
    assert compare(folders["old"], more, "-o", tmp_path / "out").code == 0
    assert any("left out: tail" in caution for caution in found(tmp_path / "out")["cautions"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["old"], "1 given: compare takes 2 to 8 runs"),
        (["old", "nowhere"], "there is no scores.csv, nor in latest/"),
        (["old", "other/old"], "two runs are called 'old'. Give them names"),
        (["old", "elsewhere"], "no case has scores in all of them"),
        (["old", "labels"], "no label in common (old: front, back; labels: liver)"),
        (["old", "volumes"], "were scored on other references: case_07 differ"),
        (["old", "hashed"], "were scored on other references: case_00 and 19 more differ"),
        (["old", "defined"], "dice is dice[voxel] in one and dice[surfel] in the other"),
        (["old", "new", "--primary", "front:volume"], "--primary front:volume: there is no such score"),
        (["old", "new", "--primary", "vol_pred_mm3"], "--primary mean:vol_pred_mm3: there is no such score"),
        (["old", "new", "--baseline", "older"], "--baseline older: there is no such run. There are: old, new."),
        (["old", "new", "--margin", "1", "--primary", "dice", "--primary", "hd95_mm"], "--margin goes with a single"),
        (["old", "cut"], "fields instead of 6"),
        (["old", "empty"], "no case has scores"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(
    folders: dict[str, Path], tmp_path: Path, arguments: list[str], said: str
) -> None:
    write_folder(tmp_path / "other" / "old")
    write_folder(tmp_path / "elsewhere", first=50)
    write_folder(tmp_path / "labels", labels=("liver",))
    write_folder(tmp_path / "volumes", changed={("case_07", "back", "vol_ref_mm3"): 7.0})
    write_manifest(folders["old"])
    write_manifest(write_folder(tmp_path / "hashed"), sha="ff")
    defined = write_folder(tmp_path / "defined") / "summary.json"
    defined.write_text(json.dumps({"definitions": {"dice": "dice[surfel]"}}))
    cut = write_folder(tmp_path / "cut") / "scores.csv"
    cut.write_text(cut.read_text()[:-20])
    write_folder(tmp_path / "empty", cases=0)
    given = [tmp_path / one if (tmp_path / one).is_dir() or one == "nowhere" else one for one in arguments]
    ran = compare(*given, "-o", tmp_path / "out")
    assert ran.code == 2
    assert said in ran.err
    assert len(ran.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_cross_validation_is_told_to_be_an_approximation(folders: dict[str, Path], tmp_path: Path) -> None:
    folds = write_folder(tmp_path / "folds", part="out_of_fold")
    compare(folders["old"], folds, "-o", tmp_path / "out")
    assert any("cross-validation" in caution for caution in found(tmp_path / "out")["cautions"])


def test_a_run_is_found_by_its_folder_and_tells_its_settings(folders: dict[str, Path], tmp_path: Path) -> None:
    for name in ("old", "new"):
        store = tmp_path / "runs" / name
        evaluated = store / "evaluate" / "e0"
        evaluated.parent.mkdir(parents=True)
        folders[name].rename(evaluated)
        steps = {"old": 100, "new": 200}[name]
        receipts = {
            "evaluate/e0": {"stage": "evaluate", "fingerprint": "e0", "inputs": {"train": "t0", "ingest": "i0"}},
            "train/t0": {
                "stage": "train",
                "fingerprint": "t0",
                "settings": {"train": {"fit": {"steps": steps}, "data": f"/home/jane/{name}"}},
                "made": {"cpu_seconds": 12.0},
            },
            "ingest/i0": {"stage": "ingest", "fingerprint": "i0"},
        }
        for place, receipt in receipts.items():
            (store / place).mkdir(parents=True, exist_ok=True)
            (store / place / "artifact.json").write_text(json.dumps(receipt))
        write_manifest(store / "ingest" / "i0", scans=2)
        (store / "latest").mkdir()
        (store / "latest" / "scores.csv").symlink_to("../evaluate/e0/scores.csv")
        (store / "latest" / "summary.json").symlink_to("../evaluate/e0/summary.json")
    ran = compare(tmp_path / "runs" / "old", tmp_path / "runs" / "new" / "latest", "-o", tmp_path / "out")
    assert ran.out.startswith("new is ahead of old.")
    assert found(tmp_path / "out")["subjects"] == 10
    page = (tmp_path / "out" / "compare.html").read_text()
    rows = Reader(page).table("Setting")
    assert ["train.fit.steps", "100", "200"] in rows
    assert ["processor time of training", "12 s", "12 s"] in rows
    assert "jane" not in page
