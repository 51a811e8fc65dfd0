"""The stage that learns shapes: what it reads, what it leaves, and that infer asks it."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from phantoms import made, prepare, run_stage, scans, write_msd

from segpipe.core.stage import Artifact, Inputs
from segpipe.dataset.manifest import Dataset
from segpipe.dataset.prepare import PreparedSet
from segpipe.imaging.volume import Volume
from segpipe.predict.seen import Segmented
from segpipe.predict.shapes import SHAPES, WEIGHTS, ShapeChecker
from segpipe.quality.flag import FLAGS
from segpipe.quality.known import PLAUSIBLE
from segpipe.quality.usual import USUAL
from segpipe.stages import infer, qc

SMALL = ("preprocess.plan.patch=[16,16,16]", "preprocess.plan.batch=2", "ingest.split.test_fraction=0.2")
SHORT = {
    "use": True,
    "features": 4,
    "depth": 2,
    "units": 4,
    "voxels": 3000,
    "damaged": 2,
    "fit": {"steps": 4, "precision": "fp32"},
}


@dataclass(frozen=True)
class Place:
    """Prepared data."""

    data: Path
    ingest: Path
    preprocess: Path

    @property
    def dataset(self) -> Dataset:
        return Dataset.open(self.ingest, self.data)

    def run(self, into: Path, preprocess: Path | None = None, **settings: Any) -> Artifact:
        whole = {
            "ingest": {"source": {"kind": "msd", "root": str(self.data)}},
            "qc": {"scans": False, "shapes": SHORT | settings},
        }
        return run_stage(qc.STAGE, whole, into, ingest=self.ingest, preprocess=preprocess or self.preprocess)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("prepared")
    data = write_msd(folder / "data", scans(10))
    ran = prepare(data, folder / "out", *SMALL)
    assert ran.code == 0, ran.err
    return Place(data, made(folder / "out", "ingest"), made(folder / "out", "preprocess"))


@pytest.fixture(scope="module")
def learned(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return place.run(tmp_path_factory.mktemp("qc") / "out")


def test_it_leaves_shapes_and_flags_and_says_how_well_shapes_are_redrawn(learned: Artifact) -> None:
    left = {path.name for path in learned.path.iterdir()}
    assert left == {SHAPES, WEIGHTS, FLAGS}
    assert not left & {USUAL}
    told = learned.summary
    assert told["shape_cases"] + told["shape_held_out"] == 8
    assert 0 <= told["shape_redrawn_held_out"] <= 1
    assert told["shape_voxels"] <= 2 * 3000, "rounded up to what the network pools"


def test_no_case_of_the_test_split_is_read(place: Place, learned: Artifact, tmp_path: Path) -> None:
    without = tmp_path / "preprocess"
    shutil.copytree(place.preprocess, without)
    for case in place.dataset.part("test"):
        shutil.rmtree(without / "cases" / case.id)
    again = place.run(tmp_path / "out", without)
    for name in (SHAPES, WEIGHTS):
        assert (again.path / name).read_bytes() == (learned.path / name).read_bytes()


def test_it_is_wanted_where_shapes_scans_or_flags_are() -> None:
    def wanted(**settings: Any) -> bool:
        given = {"ingest": {"source": {"kind": "msd", "root": "x"}}, "qc": settings}
        return qc.STAGE.wanted(qc.Settings.model_validate(given))

    assert wanted()
    assert wanted(scans=False)
    assert wanted(scans=False, shapes={"use": True}, flags={"use": False})
    assert not wanted(scans=False, flags={"use": False})


def test_infer_asks_it_of_every_case(place: Place, learned: Artifact) -> None:
    (checker,) = infer.checkers_of(Inputs({"qc": learned}), "cpu")
    assert isinstance(checker, ShapeChecker)
    for case in place.dataset.part("test"):
        prepared = PreparedSet(place.preprocess)[case.id]
        labels = Volume(np.asarray(prepared.labels), prepared.geometry)
        image = Volume(np.asarray(prepared.image), prepared.geometry)
        checks = {check.name: check.value for check in checker(Segmented(case.id, image, image, labels))}
        assert 0 <= checks[PLAUSIBLE] <= 1
        assert {f"{PLAUSIBLE}[front]", f"{PLAUSIBLE}[back]", "shape_redrawn", "shape_form", "shape_place"} < set(checks)
