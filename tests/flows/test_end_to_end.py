"""The whole pipeline through the command line, on phantoms: made once, found again, killed and resumed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from phantoms import Ran, segpipe, segpipe_apart

from segpipe.core.atomic import write_json
from segpipe.imaging.files import read_volume, write_volume
from segpipe.quality.checks import read_checks
from segpipe.quality.flag import FLAG
from segpipe.quality.usual import STATISTICS, UNUSUAL, UNUSUAL_P

pytestmark = pytest.mark.slow

STAGES = ("ingest", "preprocess", "train", "qc", "infer", "evaluate", "report")
SMALL = (
    "model.features=8",
    "train.fit.steps=30",
    "train.fit.validate_every=15",
    "preprocess.plan.batch=2",
    "preprocess.plan.spacing=[2,2,2]",
    "ingest.split.test_fraction=0.25",
    "run.executor.kind=serial",
    "report.pdf=false",
    "run.tracking.kind=none",
)
TRAINED = ("--pipeline", "train")


def run_small(data: Path, out: Path, *more: str) -> Ran:
    return segpipe("run", "default", "--data", data, "-o", out, *SMALL, *more)


def made(output: str) -> set[str]:
    """Return the stages that a run says it made."""
    return set(re.findall(r"^(\w+) +[0-9a-f]{16}  made in", output, re.MULTILINE))


def found(output: str) -> set[str]:
    """Return the stages that a run says it found."""
    return set(re.findall(r"^(\w+) +[0-9a-f]{16}  found, nothing to do", output, re.MULTILINE))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort") / "phantoms"
    done = segpipe("phantom", folder, "--cases", 8)
    assert done.code == 0, done.err
    return folder


@pytest.fixture(scope="module")
def finished(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("out")
    done = segpipe_apart("run", "--data", cohort, "-o", out, *SMALL, timeout=500)
    assert done.code == 0, done.out + done.err
    return out, done.out


def test_a_run_makes_every_stage_and_prints_where_everything_lies(finished: tuple[Path, str]) -> None:
    out, printed = finished
    assert made(printed) == set(STAGES)
    for name in ("report.html", "scores.csv", "summary.json", "predictions", "model", "plan.json"):
        assert (out / "latest" / name).exists(), name
        assert str(out / "latest" / name) in printed


@pytest.mark.parametrize(
    ("slip", "words"),
    [
        ("infer.clean.largest_only=[liver]", "infer.clean.largest_only: no structure is named 'liver'. There are: "),
        ("infer.window.quarter_turns=true", "quarter_turns is for 2D images"),
        ("evaluate.metrics.centreline=[vein]", "evaluate.metrics.centreline: no structure is named 'vein'"),
        ("report.channel=1", "report.channel=1: the images have one channel, 0."),
    ],
)
def test_a_slip_in_a_later_section_is_told_before_training(cohort: Path, tmp_path: Path, slip: str, words: str) -> None:
    done = run_small(cohort, tmp_path, slip)
    assert done.code == 2
    assert words in done.err
    assert made(done.out) == {"ingest", "preprocess"}
    assert not (tmp_path / "train").exists()
    planned = segpipe("plan", "--data", cohort, "-o", tmp_path, *SMALL, slip)
    assert planned.code == 2
    assert words in planned.err


def test_a_slip_in_a_section_of_no_stage_that_is_run_does_no_harm(cohort: Path, tmp_path: Path) -> None:
    done = run_small(cohort, tmp_path, "evaluate.metrics.centreline=[vein]", "--pipeline", "prepare")
    assert done.code == 0, done.err


def test_a_run_tells_of_every_segmented_scan_how_unusual_it_is(finished: tuple[Path, str]) -> None:
    latest = finished[0] / "latest"
    checks = read_checks(latest / "checks.csv")
    assert set(checks) == {path.name.removesuffix(".nii.gz") for path in (latest / "predictions").iterdir()}
    for those in checks.values():
        assert [one.name for one in those][:3] == [UNUSUAL, UNUSUAL_P, STATISTICS]
        assert those[-1].name == FLAG
        assert bool(those[0].words) == (those[0].value > 1)


def test_running_again_does_nothing_and_says_so(cohort: Path, finished: tuple[Path, str]) -> None:
    out, _ = finished
    again = run_small(cohort, out)
    assert again.code == 0
    assert found(again.out) == set(STAGES)
    assert not made(again.out)


def test_moving_the_data_makes_nothing_new(cohort: Path, finished: tuple[Path, str], tmp_path: Path) -> None:
    out, _ = finished
    moved = tmp_path / "elsewhere"
    shutil.copytree(cohort, moved, copy_function=shutil.copy2)
    assert found(run_small(moved, out).out) == set(STAGES)


def test_one_evaluation_key_redoes_only_evaluate_and_report(cohort: Path, finished: tuple[Path, str]) -> None:
    out, _ = finished
    other = run_small(cohort, out, "evaluate.metrics.nsd_tolerances_mm=[3.0]")
    assert made(other.out) == {"evaluate", "report"}
    assert "nsd_3mm" in (out / "latest" / "scores.csv").read_text()
    run_small(cohort, out)  # back to what the other tests look at


def test_predict_needs_the_model_folder_alone_and_keeps_every_grid(
    cohort: Path, finished: tuple[Path, str], tmp_path: Path
) -> None:
    out, _ = finished
    model = tmp_path / "model"
    shutil.copytree(out / "latest" / "model", model)
    scans = tmp_path / "scans"
    scans.mkdir()
    for path in sorted((cohort / "imagesTr").iterdir())[:3]:
        shutil.copy(path, scans / path.name.replace(".nii.gz", " (new).nii.gz"))
    done = segpipe("predict", model, scans, "-o", tmp_path / "maps")
    assert done.code == 0, done.err
    maps = sorted((tmp_path / "maps").glob("*.nii.gz"))
    assert len(maps) == 3
    assert set(read_checks(tmp_path / "maps" / "checks.csv")) == {path.name.removesuffix(".nii.gz") for path in maps}
    for scan, label in zip(sorted(scans.iterdir()), maps, strict=True):
        before, after = read_volume(scan).geometry, read_volume(label).geometry
        assert before.shape == after.shape
        assert np.abs(before.affine - after.affine).max() < 1e-4


def test_prediction_of_a_test_case_equals_what_the_run_stored(
    cohort: Path, finished: tuple[Path, str], tmp_path: Path
) -> None:
    out, _ = finished
    stored = sorted((out / "latest" / "predictions").iterdir())[0]
    scan = cohort / "imagesTr" / stored.name
    assert segpipe_apart("predict", out / "latest" / "model", scan, "-o", tmp_path).code == 0
    assert np.array_equal(read_volume(tmp_path / stored.name).array, read_volume(stored).array)


def test_a_bad_scan_is_named_and_the_others_are_segmented(
    finished: tuple[Path, str], cohort: Path, tmp_path: Path
) -> None:
    out, _ = finished
    scans = tmp_path / "scans"
    scans.mkdir()
    shutil.copy(next((cohort / "imagesTr").iterdir()), scans / "good.nii.gz")
    (scans / "bad.nii.gz").write_bytes(b"")
    done = segpipe("predict", out / "latest" / "model", scans, "-o", tmp_path / "maps")
    assert done.code == 3
    assert "bad.nii.gz: the file is empty" in done.err
    assert "Traceback" not in done.err
    assert (tmp_path / "maps" / "good.nii.gz").is_file()


def test_no_test_case_was_seen_in_training(finished: tuple[Path, str]) -> None:
    out, _ = finished
    train = next(path for path in (out / "train").iterdir() if path.is_dir())
    used = json.loads((train / "cases.json").read_text())
    predicted = {path.name.removesuffix(".nii.gz") for path in (out / "latest" / "predictions").iterdir()}
    assert len(predicted) == 2
    assert not predicted & {*used["training"], *used["validation"]}


def test_killed_in_training_and_run_again_gives_the_same_weights(
    cohort: Path, finished: tuple[Path, str], tmp_path: Path
) -> None:
    reference, _ = finished
    often = "train.fit.checkpoint_minutes=0.0001"  # decides nothing but where a killed run goes on
    command = [sys.executable, "-m", "segpipe", "run", "--data", cohort, "-o", tmp_path, *SMALL, *TRAINED, often]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 400
    while not _steps(tmp_path) >= 10 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    assert process.poll() is None, "training was over before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    resumed = segpipe_apart("run", "--data", cohort, "-o", tmp_path, *SMALL, *TRAINED, timeout=500)
    assert resumed.code == 0, resumed.err
    assert found(resumed.out) == {"ingest", "preprocess"}
    receipt = json.loads(next(tmp_path.glob("train/*/artifact.json")).read_text())
    assert 0 < receipt["summary"]["resumed_at"] < 30
    weights = [(root / "latest" / "model" / "weights.safetensors").read_bytes() for root in (reference, tmp_path)]
    assert weights[0] == weights[1]


def test_sigterm_saves_and_leaves_with_a_code_to_requeue_on(
    cohort: Path, finished: tuple[Path, str], tmp_path: Path
) -> None:
    reference, _ = finished
    command = [sys.executable, "-m", "segpipe", "run", "--data", cohort, "-o", tmp_path, *SMALL, *TRAINED]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 400
    while not _steps(tmp_path) >= 10 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 75
    assert re.search(r"stopped at step 1\d of 30, saved", said)
    assert segpipe_apart("run", "--data", cohort, "-o", tmp_path, *SMALL, *TRAINED, timeout=500).code == 0
    weights = [(root / "latest" / "model" / "weights.safetensors").read_bytes() for root in (reference, tmp_path)]
    assert weights[0] == weights[1]


def _steps(out: Path) -> int:
    lines = [line for path in out.glob("train/*.partial/history.jsonl") for line in path.read_text().splitlines()]
    return json.loads(lines[-1])["step"] if lines and lines[-1].endswith("}") else 0


def test_one_changed_scan_costs_one_scans_work(cohort: Path, finished: tuple[Path, str], tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(cohort, data, copy_function=shutil.copy2)
    prepare = ("--pipeline", "prepare")
    assert run_small(data, out, *prepare).code == 0
    image = data / "imagesTr" / "phantom_003.nii.gz"
    write_volume(image, type(volume := read_volume(image))(volume.array + np.int16(1), volume.geometry))
    assert run_small(data, out, *prepare).code == 0
    receipts = [json.loads(path.read_text()) for path in out.glob("preprocess/*/artifact.json")]
    assert sorted(receipt["summary"]["prepared"] for receipt in receipts) == [1, 8]


def test_a_dataset_of_nothing_usable_gives_one_line(tmp_path: Path) -> None:
    write_json(tmp_path / "data" / "dataset.json", {"name": "empty"})
    done = segpipe("run", "default", "--data", tmp_path / "data", "-o", tmp_path / "out", *SMALL)
    assert done.code == 2
    assert len(done.err.strip().splitlines()) == 1
    assert "dataset.json" in done.err
