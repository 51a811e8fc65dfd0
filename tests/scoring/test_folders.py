"""segpipe score: two folders in, scores, summary and report out, whatever is wrong with single files."""

import csv
import json
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from phantoms import Ran, segpipe

SHAPE = (14, 15, 16)
Labels = NDArray[np.uint8]


def bodies(shift: int = 0) -> Labels:
    labels = np.zeros(SHAPE, np.uint8)
    labels[3 + shift : 9 + shift, 3:9, 3:9] = 1
    labels[3 + shift : 9 + shift, 9:12, 3:9] = 2
    return labels


def write(path: Path, array: NDArray[np.generic], spacing: float = 1.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([spacing, spacing, spacing, 1])), path)


def cohort(root: Path, cases: int = 3) -> tuple[Path, Path]:
    """Write predictions that are moved by a voxel, as nnU-Net names them, and their references."""
    for number in range(cases):
        write(root / "predictions" / f"case_{number}.nii.gz", bodies(1))
        write(root / "references" / f"case_{number}.nii.gz", bodies())
    return root / "predictions", root / "references"


def score(root: Path, *more: str) -> Ran:
    return segpipe(
        "score",
        root / "predictions",
        root / "references",
        "-o",
        root / "out",
        "run.executor.kind=serial",
        "evaluate.resamples=50",
        "report.pdf=false",
        *more,
    )


def table(root: Path) -> list[dict[str, str]]:
    with (root / "out" / "scores.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def errors(root: Path) -> dict[str, str]:
    return {row["case"]: row["value"] for row in table(root) if row["metric"] == "error"}


def test_two_folders_become_scores_summary_and_report(tmp_path: Path) -> None:
    cohort(tmp_path)
    ran = score(tmp_path, "--labels", "body=1,tail=2")
    assert (ran.code, ran.err) == (0, "")
    assert "3 scored, 0 set aside" in ran.out
    rows = {(row["case"], row["label"], row["metric"]): float(row["value"]) for row in table(tmp_path)}
    assert rows["case_0", "body", "dice"] == pytest.approx(10 / 12)
    assert rows["case_0", "tail", "hd100_mm"] == 1.0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["definitions"]["nsd_1mm"] == "nsd[surfel,1mm]"
    assert {(row["label"], row["n"]) for row in summary["scores"] if row["metric"] == "dice"} == {
        ("body", 3),
        ("tail", 3),
        ("mean", 3),
    }
    page = (tmp_path / "out" / "report.html").read_text()
    for heading in ('id="accuracy"', 'id="volumes"', 'id="cases"', "Empty masks."):
        assert heading in page
    assert str(tmp_path) not in page


def test_every_fault_is_one_row_and_one_line_and_the_others_go_on(tmp_path: Path) -> None:
    predictions, references = cohort(tmp_path, 7)
    (predictions / "case_0.nii.gz").unlink()
    write(predictions / "other.nii.gz", bodies())
    write(predictions / "case_1.nii.gz", bodies()[:-1])
    write(predictions / "case_2.nii.gz", bodies(), spacing=1.1)
    write(predictions / "case_3.nii.gz", bodies() * 3)
    write(predictions / "case_4.nii.gz", bodies().astype(np.float32) / 2)
    (references / "case_5.nii.gz").write_bytes(b"no image")
    ran = score(tmp_path, "--labels", "body=1,tail=2")
    assert ran.code == 3
    assert "1 scored, 7 set aside" in ran.out
    wanted = {
        "case_0": "case_0.nii.gz: there is no prediction",
        "case_1": "another grid than case_1.nii.gz ((13, 15, 16) voxels instead of (14, 15, 16))",
        "case_2": "the same voxel lies up to",
        "case_3": "values without a name (3, 6); named are body=1, tail=2",
        "case_4": "no whole numbers. Give label maps, not probabilities",
        "case_5": "case_5.nii.gz: the gzip file is damaged",
        "other": "other.nii.gz: there is no reference",
    }
    told = errors(tmp_path)
    assert told.keys() == wanted.keys()
    assert all(words in told[case] for case, words in wanted.items())
    assert [line.split()[2] for line in ran.err.splitlines()] == sorted(wanted)
    assert all(row["label"] == "" for row in table(tmp_path) if row["metric"] == "error")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["errors"].keys() == wanted.keys()
    assert {(row["n"], row["undefined"]) for row in summary["scores"] if row["metric"] == "dice"} == {(1, 7)}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "there is no prediction of this name" in page


def test_where_nothing_can_be_scored_it_says_so_and_still_reports(tmp_path: Path) -> None:
    predictions, _ = cohort(tmp_path, 1)
    write(predictions / "case_0.nii.gz", bodies()[:-1])
    ran = score(tmp_path, "--labels", "body=1,tail=2")
    assert ran.code == 2
    assert errors(tmp_path).keys() == {"case_0"}
    assert "No test case could be scored." in (tmp_path / "out" / "report.html").read_text()


def test_structures_that_are_missing_follow_the_rule(tmp_path: Path) -> None:
    predictions, references = cohort(tmp_path, 3)
    write(predictions / "case_0.nii.gz", bodies() % 2)
    write(references / "case_1.nii.gz", bodies() % 2)
    write(predictions / "case_2.nii.gz", bodies() % 2)
    write(references / "case_2.nii.gz", bodies() % 2)
    assert score(tmp_path, "--labels", "body=1,tail=2").code == 0
    tail = {
        (row["case"], row["metric"]): (float(row["value"]), row["status"])
        for row in table(tmp_path)
        if row["label"] == "tail"
    }
    assert tail["case_0", "dice"] == tail["case_0", "nsd_1mm"] == (0.0, "missed")
    assert tail["case_1", "dice"] == tail["case_1", "nsd_1mm"] == (0.0, "hallucinated")
    assert tail["case_2", "dice"][1] == "absent"
    assert all(math.isnan(tail[f"case_{number}", "hd95_mm"][0]) for number in range(3))
    assert math.isnan(tail["case_2", "dice"][0])


def test_labels_nobody_named_are_called_by_their_values(tmp_path: Path) -> None:
    cohort(tmp_path, 1)
    ran = score(tmp_path)
    assert "Labels are named by their values (1, 2)" in ran.err
    assert {row["label"] for row in table(tmp_path)} == {"1", "2"}


def test_a_description_beside_the_references_names_them(tmp_path: Path) -> None:
    cohort(tmp_path, 1)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "body", "2": "tail"}}))
    assert "dataset.json" in score(tmp_path).err
    assert {row["label"] for row in table(tmp_path)} == {"body", "tail"}


def test_subjects_and_covariates_come_from_a_table(tmp_path: Path) -> None:
    cohort(tmp_path)
    (tmp_path / "table.csv").write_text("case,subject,site\ncase_0,s,north\ncase_1,s,south\ncase_2,s,south\n")
    assert score(tmp_path, "--labels", "body=1,tail=2", "--covariates", str(tmp_path / "table.csv")).code == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert {row["low"] for row in summary["scores"]} == {None}, "one subject has no interval"
    manifest = [json.loads(line) for line in (tmp_path / "out" / "dataset" / "manifest.jsonl").read_text().splitlines()]
    assert [case["covariates"]["site"] for case in manifest] == ["north", "south", "south"]
    assert all(len(case["label"]["sha256"]) == 64 for case in manifest)


def test_scoring_again_gives_the_same_bytes(tmp_path: Path) -> None:
    cohort(tmp_path)
    first, second = (
        score(tmp_path, "--labels", "body=1,tail=2") and (tmp_path / "out" / "scores.csv").read_bytes()
        for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--labels", "body"], "no names of labels"),
        (["--labels", "body=1,tail=2", "evaluate.metrics.centreline=[vein]"], "no structure is named 'vein'"),
        (["--covariates", "nowhere.csv"], "nowhere.csv: cannot be read"),
        (["evaluate.metrics.surfaces=false"], "Did you mean surface?"),
    ],
)
def test_wrong_usage_is_one_line(tmp_path: Path, more: list[str], words: str) -> None:
    cohort(tmp_path, 1)
    ran = score(tmp_path, *more)
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert words in line
    assert not (tmp_path / "out" / "scores.csv").exists()


def test_a_folder_that_is_missing_is_one_line(tmp_path: Path) -> None:
    cohort(tmp_path, 1)
    ran = segpipe("score", tmp_path / "nowhere", tmp_path / "references", "-o", tmp_path / "out")
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert "there is no such folder" in ran.err
