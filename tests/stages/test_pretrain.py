"""Pretraining as a stage: which cases it sees, what it leaves, how it goes on after a kill."""

import json
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from phantoms import made, prepare, run_stage, scans, workspace, write_msd
from pydantic import ValidationError

from segpipe.core.atomic import write_array
from segpipe.core.stage import Artifact, Inputs
from segpipe.dataset.manifest import Case, Dataset
from segpipe.dataset.prepare import Prepared
from segpipe.learn.augment import AugmentConfig, augmented
from segpipe.learn.batches import PatchSampler
from segpipe.learn.phases import ends_of
from segpipe.learn.transfer import load_pretraining
from segpipe.nets.checkpoint import load_encoder, load_tensors
from segpipe.nets.unet import UNetConfig
from segpipe.stages import pretrain
from segpipe.stages.pretrain import PretrainConfig, Settings, cases_for

STEPS = 30
"""Of the layerwise objective: so many that its last phase is logged before it ends."""
SMALL = (
    "preprocess.plan.patch=[16,16,16]",
    "preprocess.plan.batch=2",
    "ingest.split.test_fraction=0.25",
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

    def settings(self, objective: Any = "autoencoder", **changes: Any) -> dict[str, Any]:
        """Return plain settings of a short pretraining on fold 0."""
        basis = {"steps": 3, "validate_every": 2, "precision": "fp32"}
        return {
            "ingest": {"source": {"kind": "msd", "root": str(self.data)}},
            "model": {"features": 4},
            "pretrain": {"objective": objective, "fold": 0, "fit": basis | changes.pop("fit", {})} | changes,
        }

    def run(self, into: Path, **changes: Any) -> Artifact:
        """Pretrain in a folder."""
        inputs = {"ingest": self.ingest, "preprocess": self.preprocess}
        return run_stage(pretrain.STAGE, self.settings(**changes), into, **inputs)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("prepared")
    cases = scans(10)
    data = write_msd(folder / "data", cases[:8], unlabelled=cases[8:])
    ran = prepare(data, folder / "out", *SMALL)
    assert ran.code == 0, ran.err
    return Place(data, made(folder / "out", "ingest"), made(folder / "out", "preprocess"))


def ids(cases: tuple[Case, ...]) -> set[str]:
    return {case.id for case in cases}


class TestPatchesWithoutLabels:
    @pytest.mark.parametrize("patch", [(8, 12), (8, 12, 6)])
    def test_are_varied_like_any_other(self, tmp_path: Path, patch: tuple[int, ...]) -> None:
        random = np.random.default_rng(0)
        for name in ("a", "b"):
            write_array(tmp_path / name / "image.npy", random.normal(size=(2, 20, *patch[1:])).astype(np.float16))
        draw = PatchSampler([Prepared(name, tmp_path / name) for name in ("a", "b")], patch, 4, 0, None)
        batch = draw(0)
        assert batch.image.shape == (4, 2, *patch)
        assert (batch.target.shape, batch.weight) == ((4, 0, *patch), None)
        everything = AugmentConfig(spatial=1.0, elastic=1.0, mirror_axes=(0, 1))
        varied = augmented(batch, everything, (1.0,) * len(patch), seed=0, step=0)
        assert varied.target.shape == batch.target.shape
        assert varied.image.isfinite().all()
        assert not torch.equal(varied.image, batch.image)

    def test_lie_anywhere_and_depend_on_seed_and_step_alone(self, tmp_path: Path) -> None:
        write_array(tmp_path / "a" / "image.npy", np.arange(30.0)[None, :, None].astype(np.float16))
        case = Prepared("a", tmp_path / "a")
        draw, other = (PatchSampler([case], (4, 1), 6, seed, None) for seed in (0, 1))
        starts = {float(patch[0, 0, 0]) for step in range(60) for patch in draw(step).image}
        assert starts == set(map(float, range(27)))
        assert torch.equal(draw(3).image, draw(3).image)
        assert not torch.equal(draw(3).image, other(3).image)


class TestWhichCases:
    def test_are_those_of_training_and_the_unlabelled(self, place: Place) -> None:
        cases, tried = cases_for(place.dataset, 0, "training")
        training, validation = place.dataset.fold(0)
        assert ids(cases) == ids(training) | ids(place.dataset.part("unlabelled"))
        assert ids(tried) == ids(validation)
        assert ids(place.dataset.part("unlabelled"))

    def test_are_the_validation_cases_too_where_that_is_asked_for(self, place: Place) -> None:
        cases, tried = cases_for(place.dataset, 1, "develop")
        assert ids(cases) == ids(place.dataset.part("develop")) | ids(place.dataset.part("unlabelled"))
        assert ids(tried) == ids(place.dataset.fold(1)[1])

    @pytest.mark.parametrize(("which", "left"), [("training", 0), ("develop", 1)])
    def test_a_scan_of_a_subject_that_is_held_out_is_not_among_them(self, place: Place, which: str, left: int) -> None:
        dataset = place.dataset
        subjects = [dataset.part("test")[0].subject, dataset.fold(0)[1][0].subject]
        free = [case.id for case in dataset.part("unlabelled")]
        mine = dict(zip(free, subjects, strict=True))
        renamed = tuple(case.model_copy(update={"subject": mine.get(case.id, case.subject)}) for case in dataset.cases)
        cases, _ = cases_for(replace(dataset, cases=renamed), 0, which)
        assert len(ids(cases) & set(free)) == left
        assert free[0] not in ids(cases)

    def test_no_image_of_the_test_split_is_read(self, place: Place, tmp_path: Path) -> None:
        blind = replace(place, preprocess=tmp_path / "blind")
        shutil.copytree(place.preprocess, blind.preprocess)
        test = ids(place.dataset.part("test"))
        assert len(test) == 2
        for case in test:
            shutil.rmtree(blind.preprocess / "cases" / case)
        artifact = blind.run(tmp_path / "out")
        told = json.loads((artifact.path / "cases.json").read_text())
        assert not test & set(told["pretraining"])
        hidden = {image.sha256 for case in place.dataset.part("test") for image in case.images}
        assert told["images"]
        assert not hidden & set(told["images"])

    def test_no_label_is_read(self, place: Place, tmp_path: Path) -> None:
        blind = replace(place, preprocess=tmp_path / "blind")
        shutil.copytree(place.preprocess, blind.preprocess)
        for name in ("target", "labels", "points"):
            for path in blind.preprocess.glob(f"cases/*/{name}.npy"):
                path.unlink()
        one, other = place.run(tmp_path / "1"), blind.run(tmp_path / "2")
        assert encoder_bytes(one.path) == encoder_bytes(other.path)


def encoder_bytes(folder: Path) -> bytes:
    return (folder / "encoder.safetensors").read_bytes()


@pytest.fixture(scope="module")
def artifact(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return place.run(tmp_path_factory.mktemp("pretrain") / "out")


class TestWhatIsLeft:
    def test_an_encoder_under_the_contract_of_the_u_net(self, place: Place, artifact: Artifact) -> None:
        plan = json.loads((place.preprocess / "plan.json").read_text())
        axes = [tuple(map(tuple, plan["topology"][name])) for name in ("strides", "kernels")]
        spec = UNetConfig(features=4).spec(1, 3, axes[0], axes[1]).encoder
        file = load_encoder(artifact.path)
        assert file.spec == spec
        network = UNetConfig(features=4).spec(1, 3, axes[0], axes[1]).build()
        network.encoder.load_state_dict(dict(file.encoder))
        assert file.notes["objective"]["kind"] == "autoencoder"
        assert file.notes["cases"] == artifact.summary["cases"] == 5
        assert artifact.summary["validation_cases"] == 3

    def test_figures_in_the_summary_and_the_history_of_the_best(self, artifact: Artifact) -> None:
        assert artifact.summary["mse"] > 0
        assert (artifact.summary["steps"], artifact.summary["resumed_at"]) == (3, 0)
        json.dumps(artifact.summary, allow_nan=False)

    def test_pictures_of_validation_cases_beside_their_reconstruction(self, place: Place, artifact: Artifact) -> None:
        found = {path.stem: np.load(path) for path in (artifact.path / "reconstructions").iterdir()}
        assert set(found) == ids(place.dataset.fold(0)[1])
        for pair in found.values():
            assert pair.shape == (2, 1, 16, 16, 16)
            assert pair.dtype == np.float16
            assert np.isfinite(pair).all()
            assert pair[0].std() > 0.1

    def test_nothing_that_only_a_killed_run_needs(self, artifact: Artifact) -> None:
        weights = {f"{name}.safetensors" for name in ("encoder", "decoder", "pretraining")}
        kept = {path.name for path in artifact.path.iterdir()}
        assert kept == weights | {"encoder.json", "cases.json", "reconstructions", "latent"}

    def test_the_whole_task_which_draws_what_it_drew(self, artifact: Artifact) -> None:
        task = load_pretraining(artifact.path)
        for path in (artifact.path / "reconstructions").iterdir():
            image, drawn = torch.from_numpy(np.load(path)).float()
            with torch.no_grad():
                torch.testing.assert_close(task.reconstruct(image[None])[0], drawn, rtol=1e-2, atol=1e-2)


class StoppedError(Exception):
    """Stands for a kill."""


@dataclass
class Watcher:
    """Remembers what was logged, and in which part; stops the run at a step."""

    stop_at: int | None = None
    part: str = ""
    rows: list[tuple[str, int, dict[str, float]]] = field(default_factory=list)

    def __call__(self, metrics: Mapping[str, float], step: int) -> None:
        self.rows.append((self.part, step, dict(metrics)))
        if step == self.stop_at:
            raise StoppedError

    def begin(self, name: str) -> AbstractContextManager[None]:
        self.part = name
        return nullcontext()

    def steps(self) -> dict[str, list[int]]:
        """Return the steps at which a loss was logged, by part."""
        found: dict[str, list[int]] = {}
        for part, step, metrics in self.rows:
            if "loss" in metrics:
                found.setdefault(part, []).append(step)
        return found


def train(settings: Settings, place: Place, folder: Path, watcher: Watcher) -> dict[str, Any]:
    """Pretrain in a folder, watched; return the summary."""
    inputs = {"ingest": place.ingest, "preprocess": place.preprocess}
    given = Inputs({name: Artifact(name, name, path, {}) for name, path in inputs.items()})
    work = replace(workspace(folder), log=watcher, part=watcher.begin)
    return dict(pretrain.run(settings, given, work))


SPARSE = {"kind": "sparse", "connections": 0.5}


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["autoencoder", SPARSE, "denoising", "masked", "vae"], ids=str)
def test_every_objective_goes_on_after_a_kill_to_the_very_same_weights(
    place: Place, tmp_path: Path, objective: Any
) -> None:
    fit = {"steps": 14, "checkpoint_minutes": 1e-9, "validate_every": 7}
    settings = Settings.model_validate(place.settings(objective, fit=fit))
    train(settings, place, tmp_path / "1", Watcher())
    with pytest.raises(StoppedError):
        train(settings, place, tmp_path / "2", Watcher(stop_at=10))
    torch.manual_seed(99)
    assert train(settings, place, tmp_path / "2", Watcher())["resumed_at"] == 9
    for name in ("encoder", "decoder", "pretraining"):
        one, other = (load_tensors(tmp_path / folder / f"{name}.safetensors")[0] for folder in "12")
        assert all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.fixture(scope="module")
def often(place: Place) -> Settings:
    """Settings of a pretraining in phases that saves at every step."""
    fit = {"steps": STEPS, "checkpoint_minutes": 1e-9, "validate_every": 100}
    return Settings.model_validate(place.settings("layerwise", fit=fit))


@pytest.fixture(scope="module")
def unharmed(
    often: Settings, place: Place, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Watcher, Path]:
    """What a run that nobody killed says, logs, and where it wrote."""
    watcher, folder = Watcher(), tmp_path_factory.mktemp("unharmed")
    return train(often, place, folder, watcher), watcher, folder


@pytest.mark.slow
class TestPhases:
    @pytest.mark.parametrize("phase", [0, 1, -1])
    def test_a_run_killed_in_a_phase_goes_on_there_to_the_very_same_weights(
        self, often: Settings, place: Place, unharmed: tuple[dict[str, Any], Watcher, Path], tmp_path: Path, phase: int
    ) -> None:
        killed, resumed = Watcher(), Watcher()
        told, watched, folder = unharmed
        names = told["phases"]
        assert len(names) > 1
        ends = {part: steps[-1] for part, steps in watched.steps().items()}
        assert list(ends) == names
        assert sorted(ends.values()) == list(ends.values())
        assert max(ends.values()) == told["steps"] == STEPS

        killed.stop_at = watched.steps()[names[phase]][0]
        with pytest.raises(StoppedError):
            train(often, place, tmp_path / "2", killed)
        torch.manual_seed(99)
        again = train(often, place, tmp_path / "2", resumed)
        assert again["resumed_at"] == killed.stop_at - 1
        assert list(resumed.steps()) == names[phase:], "a phase that was over was trained again"
        assert encoder_bytes(folder) == encoder_bytes(tmp_path / "2")

    def test_where_all_were_over_none_is_trained_again(
        self,
        often: Settings,
        place: Place,
        unharmed: tuple[dict[str, Any], Watcher, Path],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def killed(*arguments: object) -> None:
            raise StoppedError

        with monkeypatch.context() as patch:
            patch.setattr(pretrain, "save_encoder", killed)
            with pytest.raises(StoppedError):
                train(often, place, tmp_path / "2", Watcher())
        watcher = Watcher()
        train(often, place, tmp_path / "2", watcher)
        assert watcher.rows == []
        assert encoder_bytes(unharmed[2]) == encoder_bytes(tmp_path / "2")


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=6), st.integers(1, 500))
def test_phases_share_the_steps_and_each_has_one_at_least(shares: list[float], steps: int) -> None:
    ends = ends_of(shares, steps)
    counts = np.diff([0, *ends])
    assert (counts >= 1).all()
    if steps * min(shares) / sum(shares) >= 2:
        assert ends[-1] == steps
        assert np.abs(counts - steps * np.asarray(shares) / sum(shares)).max() <= 1


class TestSettings:
    def test_a_kind_alone_is_an_objective(self) -> None:
        alone, whole = (PretrainConfig.model_validate({"objective": o}) for o in ("layerwise", {"kind": "layerwise"}))
        assert alone == whole
        with pytest.raises(ValidationError, match="autoencoder"):
            PretrainConfig.model_validate({"objective": "magic"})

    def test_the_fold_follows_the_training_unless_it_is_set(self) -> None:
        assert PretrainConfig().at({}, fold=3).fold == 3
        assert PretrainConfig(fold=1).at({}, fold=3).fold == 1

    def test_the_seed_is_its_own_and_along_the_axis_of_seeds_that_of_the_training(self) -> None:
        config = PretrainConfig.model_validate({"fit": {"seed": 10}})
        assert config.at({"fold": 2}, fold=2).fit.seed == 10
        assert config.at({"seed": 7}, fold=0).fit.seed == 7

    def test_patches_are_varied_mildly_and_one_change_leaves_the_others_mild(self) -> None:
        for config in (PretrainConfig(), PretrainConfig.model_validate({"augment": {"noise": 0.5}})):
            assert (config.augment.gamma, config.augment.elastic, config.augment.rotate_degrees) == (0, 0, 10)
            assert config.augment.mirror_axes == (0,)

    @pytest.mark.parametrize(("objective", "wanted"), [(None, False), ("autoencoder", True)])
    def test_it_is_wanted_where_there_is_an_objective(self, place: Place, objective: str | None, wanted: bool) -> None:
        settings = Settings.model_validate(place.settings(objective))
        assert pretrain.STAGE.wanted(settings) is wanted
