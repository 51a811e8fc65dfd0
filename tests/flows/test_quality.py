"""A run that learns shapes and asks other passes: the table of checks, the report, and the model folder by itself."""

import csv
import json
import math
from pathlib import Path

import pytest
from phantoms import QUIET, Ran, scans, segpipe, write_msd

from segpipe.quality.checks import AGREEMENT, read_checks
from segpipe.quality.flag import FLAG, NAMES, PREDICTED, UNCERTAINTY
from segpipe.quality.known import PLAUSIBLE
from segpipe.quality.predicted import read_held
from segpipe.score.table import read_scores

pytestmark = pytest.mark.slow

SMALL = (
    *("model.features=4", "train.fit.steps=8", "train.fit.validate_every=8", "ingest.split.test_fraction=0.2"),
    *("preprocess.plan.patch=[16,16,16]", "preprocess.plan.batch=2", "infer.agreement=true"),
    *("qc.shapes.use=true", "qc.shapes.features=4", "qc.shapes.voxels=3000", "qc.shapes.fit.steps=10"),
    "qc.shapes.damaged=2",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Ran]:
    root = tmp_path_factory.mktemp("quality")
    data = write_msd(root / "data", scans(10))
    ran = segpipe("run", "default", "--data", data, "-o", root / "out", *QUIET, *SMALL)
    assert ran.code == 0, ran.out + ran.err
    return data, root / "out", ran


def test_every_prediction_is_judged_and_the_report_says_so(finished: tuple[Path, Path, Ran]) -> None:
    _, out, _ = finished
    checks = read_checks(out / "latest" / "checks.csv")
    assert len(checks) == 2
    for those in checks.values():
        values = {one.name: one.value for one in those}
        assert 0 <= values[PLAUSIBLE] <= 1
        assert 0 <= values[AGREEMENT] <= 1
        assert not math.isnan(values[f"{AGREEMENT}[front]"])
    page = (out / "latest" / "report.html").read_text()
    assert "Are the predictions plausible?" in page


def test_every_prediction_is_flagged_and_says_why_no_dice_is_predicted(finished: tuple[Path, Path, Ran]) -> None:
    _, out, ran = finished
    why = "2 of 10 subjects to learn it from"
    assert f"no Dice is predicted: {why}" in ran.out + ran.err
    for those in read_checks(out / "latest" / "checks.csv").values():
        told = {one.name: one for one in those}
        assert told[PREDICTED].words == why
        assert 0 <= told[UNCERTAINTY].value <= 1
        assert NAMES[int(told[FLAG].value)] in ("review", "reject")
    assert "Which predictions to trust" in (out / "latest" / "report.html").read_text()


def test_the_model_folder_brings_what_held_out_cases_taught_but_no_name(finished: tuple[Path, Path, Ran]) -> None:
    _, out, _ = finished
    held = read_held(out / "latest" / "model" / "validation.json")
    named = read_held(next((out / "train").iterdir()) / "validation.json")
    assert held is not None
    assert named is not None
    assert len(held.cases) == len(named.cases) == 2
    assert all(one.case for one in named.cases)
    assert not any(one.case for one in held.cases)
    assert {one.subject for one in held.cases} == {"0", "1"}


def test_calibration_is_scored_case_by_case_and_measured_again_by_verify(finished: tuple[Path, Path, Ran]) -> None:
    data, out, _ = finished
    rows = [row for row in read_scores(out / "latest" / "scores.csv") if row.metric == "ece"]
    assert [row.label for row in rows] == ["front", "back"] * 2
    assert all(0 <= float(row.value) <= 1 for row in rows)
    summary = json.loads((out / "latest" / "summary.json").read_text())
    assert [one["label"] for one in summary["calibration"]] == ["front", "back"]
    assert "Do probabilities mean what they say?" in (out / "latest" / "report.html").read_text()
    ran = segpipe("verify", out, "--data", data, "--scores")
    assert ran.code == 0, ran.out + ran.err


def test_the_model_folder_judges_by_itself(finished: tuple[Path, Path, Ran], tmp_path: Path) -> None:
    data, out, _ = finished
    ran = segpipe("predict", out / "latest" / "model", data / "imagesTr", "-o", tmp_path / "maps")
    assert ran.code == 0, ran.err
    with (tmp_path / "maps" / "checks.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["check"] == PLAUSIBLE]
    assert len(rows) == 10
    low = [row["case"] for row in rows if float(row["value"]) < 0.7]
    assert [line.split(":")[1].strip() for line in ran.err.splitlines() if "implausible" in line] == low


def test_damaged_shapes_are_one_line(finished: tuple[Path, Path, Ran], tmp_path: Path) -> None:
    data, out, _ = finished
    model = tmp_path / "model"
    model.mkdir()
    for path in (out / "latest" / "model").iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    (model / "shapes.safetensors").write_bytes(b"no weights")
    ran = segpipe("predict", model, data / "imagesTr", "-o", tmp_path / "maps")
    assert ran.code == 2
    assert len(ran.err.splitlines()) == 1
    assert "shapes.safetensors: the weights are missing or not those of shapes.json" in ran.err
