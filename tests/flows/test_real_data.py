"""The pipeline on real MRI."""

import json
import os
import shutil
from pathlib import Path

import pytest
from phantoms import QUIET, mean_dice, segpipe

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

DATA = Path(os.environ.get("SEGPIPE_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
HIPPOCAMPUS = DATA / "Task04_Hippocampus"
CASES = 60
"""Of the data set: as many as learn what is asked for, in a fraction of the time that all take."""


def some_of(data: Path, folder: Path, cases: int) -> Path:
    """Copy the first cases of a Decathlon folder."""
    described = json.loads((data / "dataset.json").read_text())
    described |= {"training": described["training"][:cases], "test": []}
    for case in described["training"]:
        for place in case.values():
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(data / place, folder / place)
    (folder / "dataset.json").write_text(json.dumps(described))
    return folder


@pytest.mark.skipif(not HIPPOCAMPUS.is_dir(), reason=f"no real data at {HIPPOCAMPUS} (set SEGPIPE_TEST_DATA)")
def test_real_mri_is_learned_in_a_short_run(tmp_path: Path) -> None:
    short = ("model.features=16", "train.fit.steps=100", "train.fit.validate_every=50", "preprocess.plan.batch=4")
    data, out = some_of(HIPPOCAMPUS, tmp_path / "data", CASES), tmp_path / "out"
    ran = segpipe("run", "hippocampus", "--data", data, "-o", out, *short, *QUIET)
    assert ran.code == 0, ran.out + ran.err
    dice = mean_dice(out)
    assert dice["Anterior"] > 0.75
    assert dice["Posterior"] > 0.75
