"""The stage that learns what scans usually look like: what it reads, what it leaves, how it is used."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from phantoms import made, prepare, run_stage, scans, write_msd

from segpipe.core.stage import Artifact, Inputs
from segpipe.dataset.manifest import Dataset
from segpipe.dataset.prepare import PreparedSet
from segpipe.imaging.volume import Volume
from segpipe.predict.scans import ScanChecker, alarms
from segpipe.predict.seen import Segmented
from segpipe.quality.checks import Check, read_checks, write_checks
from segpipe.quality.usual import RECONSTRUCTION, STATISTICS, UNUSUAL, UNUSUAL_P, read_usual
from segpipe.stages import infer, pretrain, qc

SMALL = (
    "preprocess.plan.patch=[16,16,16]",
    "preprocess.plan.batch=2",
    "ingest.split.test_fraction=0.2",
    "ingest.split.folds=2",
)


@dataclass(frozen=True)
class Place:
    """Prepared data."""

    data: Path
    ingest: Path
    preprocess: Path

    @property
    def dataset(self) -> Dataset:
        return Dataset.open(self.ingest, self.data)

    def run(self, into: Path, pretrained: Path | None = None, **settings: Any) -> Artifact:
        """Learn what is usual, in a folder."""
        inputs = {"ingest": self.ingest, "preprocess": self.preprocess}
        inputs |= {"pretrain": pretrained} if pretrained else {}
        whole = {"ingest": {"source": {"kind": "msd", "root": str(self.data)}}, "qc": settings}
        return run_stage(qc.STAGE, whole, into, **inputs)


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


@pytest.fixture(scope="module")
def pretrained(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = {
        "ingest": {"source": {"kind": "msd", "root": str(place.data)}},
        "model": {"features": 4},
        "pretrain": {"objective": "autoencoder", "fold": 0, "fit": {"steps": 3, "precision": "fp32"}},
    }
    inputs = {"ingest": place.ingest, "preprocess": place.preprocess}
    return run_stage(pretrain.STAGE, settings, tmp_path_factory.mktemp("pretrain") / "out", **inputs).path


def develop(place: Place) -> list[str]:
    return [case.id for case in place.dataset.part("develop")]


def seen(place: Place, case: str, name: str | None = None, scale: float = 0.0) -> Segmented:
    """Return a prepared case as a checker sees it, with noise."""
    prepared = PreparedSet(place.preprocess)[case]
    array = np.asarray(prepared.image, np.float32)
    noise = np.random.default_rng(0).normal(0, scale, array.shape).astype(np.float32)
    image = Volume(array + noise, prepared.geometry)
    return Segmented(name or case, image, image, image)


def test_it_leaves_what_is_usual_and_how_each_case_fares_among_the_others(place: Place, learned: Artifact) -> None:
    usual = read_usual(learned.path / "usual_scans.json")
    assert usual is not None
    assert learned.summary["cases"] == len(usual.statistics.usual) == 8
    assert learned.summary["figures"] == len(usual.statistics.names) == 24
    told = read_checks(learned.path / "develop.csv")
    assert sorted(told) == sorted(develop(place))
    assert all([one.name for one in those] == [UNUSUAL, UNUSUAL_P, STATISTICS] for those in told.values())


def test_what_is_usual_names_no_case(place: Place, learned: Artifact) -> None:
    text = (learned.path / "usual_scans.json").read_text()
    assert not [case.id for case in place.dataset.cases if case.id in text]
    assert str(place.data) not in text


def test_no_scan_of_the_test_split_is_read(place: Place, learned: Artifact, tmp_path: Path) -> None:
    blind = replace(place, preprocess=tmp_path / "blind")
    shutil.copytree(place.preprocess, blind.preprocess)
    test = place.dataset.part("test")
    assert test
    for case in test:
        shutil.rmtree(blind.preprocess / "cases" / case.id)
    again = blind.run(tmp_path / "out")
    for name in ("usual_scans.json", "develop.csv"):
        assert (again.path / name).read_bytes() == (learned.path / name).read_bytes()


def test_with_too_few_subjects_nothing_is_called_usual(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qc, "LEAST", 9)
    artifact = place.run(tmp_path / "out")
    assert artifact.summary["usual"] == "unknown"
    assert not (tmp_path / "out" / "usual_scans.json").exists()
    assert infer.checkers_of(Inputs({"qc": artifact}), "cpu") == ()


def test_it_can_be_left_out() -> None:
    settings = {"ingest": {"source": {"kind": "msd", "root": "x"}}}
    wanted = [
        qc.STAGE.wanted(qc.Settings.model_validate(settings | {"qc": {"scans": any_, "flags": {"use": any_}}}))
        for any_ in (True, False)
    ]
    assert wanted == [True, False]


@pytest.fixture(scope="module")
def together(place: Place, pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(qc, "LEAST_UNSEEN", 3)
        return place.run(tmp_path_factory.mktemp("together") / "out", pretrained)


class TestWithAnAutoencoder:
    def test_only_cases_that_it_has_not_seen_tell_what_it_leaves_out(
        self, place: Place, pretrained: Path, together: Artifact
    ) -> None:
        trained_on = set(json.loads((pretrained / "cases.json").read_text())["pretraining"])
        told = read_checks(together.path / "develop.csv")
        redrawn = {case for case, those in told.items() if RECONSTRUCTION in [one.name for one in those]}
        assert redrawn == set(develop(place)) - trained_on
        assert together.summary["reconstructed"] == len(redrawn) == 4

    def test_infer_draws_a_new_scan_again(self, place: Place, pretrained: Path, together: Artifact) -> None:
        inputs = Inputs({"qc": together, "pretrain": Artifact("pretrain", "x", pretrained, {})})
        (checker,) = infer.checkers_of(inputs, "cpu")
        test = place.dataset.part("test")[0].id
        names = [one.name for one in checker(seen(place, test))]
        assert names == [UNUSUAL, UNUSUAL_P, STATISTICS, RECONSTRUCTION]

    def test_too_few_that_it_has_not_seen_leave_it_out(
        self, place: Place, pretrained: Path, learned: Artifact, tmp_path: Path
    ) -> None:
        artifact = place.run(tmp_path / "out", pretrained)
        assert artifact.summary["reconstructed"] == 0
        name = "usual_scans.json"
        assert (artifact.path / name).read_bytes() == (learned.path / name).read_bytes()

    def test_it_can_be_left_out(self, place: Place, pretrained: Path, tmp_path: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(qc, "LEAST_UNSEEN", 3)
            artifact = place.run(tmp_path / "out", pretrained, reconstruction=False)
        assert artifact.summary["reconstructed"] == 0


class TestAChecker:
    @pytest.fixture
    def checker(self, learned: Artifact) -> ScanChecker:
        (found,) = infer.checkers_of(Inputs({"qc": learned}), "cpu")
        assert isinstance(found, ScanChecker)
        return found

    def test_tells_a_noisy_scan_from_a_plain_one(self, place: Place, checker: ScanChecker) -> None:
        test = place.dataset.part("test")[0].id
        plain, noisy = (checker(seen(place, test, scale=scale))[0] for scale in (0.0, 1.0))
        assert noisy.value > 1.5 * max(plain.value, 1)
        assert "above training" in noisy.words

    def test_tells_of_a_case_that_it_knows_what_the_others_tell(self, place: Place, checker: ScanChecker) -> None:
        case = develop(place)[0]
        known, anew = checker(seen(place, case)), checker(seen(place, case, name="somebody"))
        assert known == checker.known[case]
        assert known != anew
        assert [one.name for one in known] == [one.name for one in anew]

    def test_alarms_are_told_in_a_line_each(self, tmp_path: Path) -> None:
        assert alarms(tmp_path) == []
        checks = {"a": [Check(UNUSUAL, 1.5, "noise"), Check(UNUSUAL_P, 3.0)], "b": [Check(UNUSUAL, 0.9)]}
        write_checks(tmp_path / "checks.csv", checks)
        assert alarms(tmp_path) == ["a: unlike the training scans (noise)"]
