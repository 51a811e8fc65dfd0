"""The shipped recipe for ISBI 2012 through the command line, on 2D slices as small as can be."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from phantoms import QUIET, made, scans, segpipe, write_msd

from segpipe.core.errors import Exit
from segpipe.nets.checkpoint import load_model

pytestmark = pytest.mark.slow
pytest.importorskip("albumentations", reason="albumentations is not installed: pip install 'segpipe[2d]'")

SIDE = 48
SMALL = (
    "model.features=2",
    "preprocess.plan.patch=[92,92]",  # 52x52 are drawn: a whole slice, all around mirrored
    "preprocess.plan.depth=2",
    "train.fit.steps=3",
    "train.fit.validate_every=2",
    "ingest.split.folds=2",
    "ingest.source.labels={cell: 1}",
)


def slices(root: Path, count: int = 4) -> Path:
    """Write slices with dark lines between bright cells."""
    for number in range(count):
        rng = np.random.default_rng(number)
        cells = np.ones((SIDE, SIDE), np.uint8)
        cells[rng.integers(5, 43, 3)] = 0
        cells[:, rng.integers(5, 43, 3)] = 0
        image = (60 + 120 * cells + rng.normal(0, 15, cells.shape)).clip(1, 255).astype(np.uint8)
        for kind, array in (("image", image), ("label", cells)):
            folder = root / "train" / kind
            folder.mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(sitk.GetImageFromArray(array), str(folder / f"{number}.mha"))
    return root


def test_the_recipe_trains_the_published_form_with_mirrored_context(tmp_path: Path) -> None:
    data, out = slices(tmp_path / "data"), tmp_path / "out"
    ran = segpipe("run", "isbi2012", "--data", data, "-o", out, "--pipeline", "train", *QUIET, *SMALL)
    assert ran.code == 0, ran.out + ran.err
    model = load_model(made(out, "train") / "model")
    spec = model.network.spec
    assert (spec.encoder.padding, spec.encoder.norm, spec.encoder.first_weights) == ("valid", "none", "he_2015")
    assert model.notes["plan"]["batch"] == 1
    assert spec.output_size(tuple(model.notes["plan"]["patch"])) == (52, 52)
    rows = [json.loads(line) for line in (made(out, "train") / "history.jsonl").read_text().splitlines()]
    assert any("validation_dice" in row for row in rows)
    weight = np.load(next((made(out, "preprocess") / "cases").glob("*/weight.npy")))
    assert weight.max() > weight.min()
    assert weight.shape == (1, SIDE, SIDE)


def test_a_list_of_transforms_for_volumes_is_refused_in_one_line(tmp_path: Path) -> None:
    data = write_msd(tmp_path / "data", scans(5))
    ran = segpipe(
        "run",
        "default",
        "--data",
        data,
        "-o",
        tmp_path / "out",
        "--pipeline",
        "train",
        *QUIET,
        "model.features=2",
        "train.fit.steps=1",
        "train.augment.albumentations=[D4]",
    )
    assert ran.code == Exit.UNUSABLE
    assert "train.augment.albumentations is for 2D images, and these have 3 axes" in ran.out + ran.err
    assert "Traceback" not in ran.out + ran.err
