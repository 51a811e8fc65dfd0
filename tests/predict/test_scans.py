"""A model folder that knows what scans usually look like: predict tells which are not."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from segpipe.core.errors import ArtifactError
from segpipe.dataset.manifest import CaseFiles
from segpipe.dataset.plan import load_image
from segpipe.dataset.prepare import prepare_image
from segpipe.predict.batch import predict_files
from segpipe.predict.segmenter import Segmenter
from segpipe.quality.checks import read_checks
from segpipe.quality.flag import UNCERTAINTY
from segpipe.quality.statistics import coarse_of, statistics_of
from segpipe.quality.usual import STATISTICS, UNUSUAL, UNUSUAL_P, read_usual, usual_scans, write_usual
from tests.predict.test_batch import Bar, model, save, scan

__all__ = ["model"]

COUNT = 12


@pytest.fixture
def knowing(tmp_path: Path, model: Path) -> Path:
    """A model folder beside which scans 100, 101, … are what is usual."""
    plan = Segmenter.load(model, "cpu").plan
    names = tuple(channel.name for channel in plan.channels)
    images = []
    for seed in range(COUNT):
        path = scan(tmp_path / "known" / f"{seed}.nii.gz", 100 + seed)
        images.append(np.asarray(prepare_image(load_image(CaseFiles("x", (path,), None)), plan).array, np.float32))
    figures = [statistics_of(image, plan.spacing, names) for image in images]
    subjects = [str(seed) for seed in range(COUNT)]
    usual, _ = usual_scans(figures, [coarse_of(image) for image in images], subjects, {}, (names, plan.spacing, 0.1))
    write_usual(model / "usual_scans.json", usual)
    return model


def bright(path: Path) -> Path:
    """Write a scan of ten times the contrast."""
    made = nib.load(scan(path, 1))
    nib.save(nib.Nifti1Image(10 * np.asarray(made.dataobj), made.affine), path)
    return path


def test_it_tells_of_every_scan_how_unusual_it_is(tmp_path: Path, knowing: Path) -> None:
    scan(tmp_path / "in" / "like.nii.gz", 1)
    bright(tmp_path / "in" / "unlike.nii.gz")
    predict_files(knowing, [tmp_path / "in"], tmp_path / "out", Bar(), device="cpu")
    checks = read_checks(tmp_path / "out" / "checks.csv")
    names = [UNUSUAL, UNUSUAL_P, STATISTICS, UNCERTAINTY, f"{UNCERTAINTY}[ball]"]
    assert [[one.name for one in those] for those in checks.values()] == [names] * 2
    like, unlike = checks["like"][0], checks["unlike"][0]
    assert unlike.value > 3 * max(like.value, 1)
    assert "above training" in unlike.words


def test_maps_that_are_left_keep_their_checks(tmp_path: Path, knowing: Path) -> None:
    scan(tmp_path / "in" / "a.nii.gz", 1)
    predict_files(knowing, [tmp_path / "in"], tmp_path / "out", Bar(), device="cpu")
    before = read_checks(tmp_path / "out" / "checks.csv")
    scan(tmp_path / "in" / "b.nii.gz", 2)
    predict_files(knowing, [tmp_path / "in"], tmp_path / "out", Bar(), device="cpu", skip_existing=True)
    after = read_checks(tmp_path / "out" / "checks.csv")
    assert list(after) == ["a", "b"]
    assert after["a"] == before["a"]


def test_a_model_that_knows_nothing_leaves_no_table_of_an_earlier_one(tmp_path: Path, knowing: Path) -> None:
    scan(tmp_path / "in" / "a.nii.gz", 1)
    predict_files(knowing, [tmp_path / "in"], tmp_path / "out", Bar(), device="cpu")
    (knowing / "usual_scans.json").unlink()
    predict_files(knowing, [tmp_path / "in"], tmp_path / "out", Bar(), device="cpu")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.nii.gz"]


def test_what_is_usual_of_other_scans_is_refused(tmp_path: Path, knowing: Path) -> None:
    other = save(tmp_path / "other", 2)
    usual = read_usual(knowing / "usual_scans.json")
    assert usual is not None
    write_usual(other / "usual_scans.json", usual)
    scan(tmp_path / "in" / "a.nii.gz", 1)
    with pytest.raises(ArtifactError, match=r"usual_scans\.json: is about other scans .* Take it out"):
        predict_files(other, [tmp_path / "in"], tmp_path / "out", Bar(), device="cpu")
    assert not (tmp_path / "out").exists()
