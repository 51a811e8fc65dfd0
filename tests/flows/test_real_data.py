"""The pipeline on real MRI, and on the demo's phantoms to the accuracy that the README promises."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

DATA = Path(os.environ.get("SEGPIPE_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
HIPPOCAMPUS = DATA / "Task04_Hippocampus"
ROOT = Path(__file__).parents[2]


def dice_of(out: Path) -> dict[str, float]:
    summary = json.loads((out / "latest" / "summary.json").read_text())
    return {row["label"]: row["mean"] for row in summary["scores"] if row["metric"] == "dice"}


def run(*arguments: object) -> None:
    command = [sys.executable, "-m", "segpipe", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(not HIPPOCAMPUS.is_dir(), reason=f"no real data at {HIPPOCAMPUS} (set SEGPIPE_TEST_DATA)")
def test_real_mri_is_learned_in_a_short_run(tmp_path: Path) -> None:
    short = ("model.features=16", "train.fit.steps=150", "train.fit.validate_every=75", "preprocess.plan.batch=4")
    run("run", ROOT / "configs" / "hippocampus.yaml", "--data", HIPPOCAMPUS, "-o", tmp_path, *short)
    dice = dice_of(tmp_path)
    assert dice["Anterior"] > 0.75
    assert dice["Posterior"] > 0.75


def test_the_demo_segments_phantoms_it_never_trained_on(tmp_path: Path) -> None:
    run("phantom", tmp_path / "phantoms")
    run("run", ROOT / "configs" / "demo.yaml", "--data", tmp_path / "phantoms", "-o", tmp_path / "out")
    dice = dice_of(tmp_path / "out")
    assert dice["mean"] >= 0.85
