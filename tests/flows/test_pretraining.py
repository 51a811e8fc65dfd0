"""Pretraining, then training from it, through the command line, on phantoms."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from phantoms import QUIET, Ran, made, rows, scans, segpipe, summary, write_msd

from segpipe.config import load_config
from segpipe.core.errors import ConfigError
from segpipe.core.store import Store
from segpipe.nets.checkpoint import load_encoder, load_model
from segpipe.steps import PipelineSpec, Step, plan_steps

pytestmark = pytest.mark.slow

SMALL = (
    "model.features=4",
    "train.fit.steps=6",
    "train.fit.validate_every=3",
    "pretrain.fit.steps=20",
    "pretrain.fit.validate_every=10",
    "preprocess.plan.patch=[16,16,16]",
    "preprocess.plan.batch=2",
    "ingest.split.test_fraction=0.25",
    "ingest.split.folds=2",
)
MASKED = "pretrain.objective=masked"
STILL = ("train.transfer.freeze_steps=6",)
"""The encoder stands still all through the training: what the model holds is what was loaded."""


def train(data: Path, out: Path, *settings: str) -> Ran:
    return segpipe("run", "default", "--data", data, "-o", out, "--pipeline", "train", *QUIET, *SMALL, *settings)


def well(ran: Ran) -> str:
    assert ran.code == 0, ran.out + ran.err
    return ran.out


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cases = scans(10)
    return write_msd(tmp_path_factory.mktemp("cohort"), cases[:8], unlabelled=cases[8:])


@pytest.fixture(scope="module")
def pretrained(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    well(train(cohort, out, MASKED, *STILL))
    return out


def transfer(out: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((made(out, "train") / "transfer.json").read_text())
    return told


def same_encoder(out: Path, pretraining: Path) -> bool:
    """Tell whether the newest model of a store holds the encoder of a pretraining, bit for bit."""
    network, file = load_model(made(out, "train") / "model").network, load_encoder(pretraining)
    return all(bool((value == file.encoder[name]).all()) for name, value in network.encoder.state_dict().items())


def test_without_an_objective_nothing_is_pretrained(cohort: Path, tmp_path: Path) -> None:
    well(train(cohort, tmp_path))
    assert not (tmp_path / "pretrain").exists()
    assert not (made(tmp_path, "train") / "transfer.json").exists()
    assert "loaded_tensors" not in summary(tmp_path, "train")


def test_training_begins_with_the_encoder_of_its_own_pretraining(pretrained: Path) -> None:
    assert same_encoder(pretrained, made(pretrained, "pretrain"))
    told = transfer(pretrained)
    assert (told["share"], told["skipped"], told["adapted"]) == (1.0, {}, {})
    assert told["origin"]["objective"]["kind"] == "masked"
    tensors = summary(pretrained, "train")
    assert tensors["loaded_tensors"] == tensors["transferable_tensors"] == len(told["loaded"])
    assert tensors["pretrained_on_validation_cases"] == 0


def test_pretraining_leaves_its_figures_curve_and_cases(pretrained: Path) -> None:
    told = summary(pretrained, "pretrain")
    assert told["mse"] > 0
    assert told["objective"] == "masked"
    folder = made(pretrained, "pretrain")
    history = rows(folder / "history.jsonl")
    assert [row["step"] for row in history if "loss" in row] == [10, 20]
    assert [row["step"] for row in history if "validation_mse" in row] == [10, 20]
    used = set(json.loads((folder / "cases.json").read_text())["pretraining"])
    held_out = json.loads((made(pretrained, "ingest") / "splits.json").read_text())["test"]
    seen = json.loads((made(pretrained, "train") / "cases.json").read_text())
    assert len(held_out) == 2
    assert not used & {*held_out, *seen["validation"]}
    assert used > set(seen["training"])


def test_running_again_makes_nothing_and_another_transfer_trains_alone(cohort: Path, pretrained: Path) -> None:
    again = well(train(cohort, pretrained, MASKED, *STILL))
    assert "made in" not in again
    other = well(train(cohort, pretrained, MASKED, *STILL, "train.transfer.shuffle=true"))
    assert [line.split()[0] for line in other.splitlines() if "made in" in line] == ["train"]
    assert not same_encoder(pretrained, made(pretrained, "pretrain"))
    assert transfer(pretrained)["shuffled"] is True


def test_weights_of_another_store_count_by_their_content(cohort: Path, pretrained: Path, tmp_path: Path) -> None:
    source = made(pretrained, "pretrain")
    first, moved = tmp_path / "first", tmp_path / "moved"
    for place in (first, moved):
        shutil.copytree(source, place)
    out = tmp_path / "out"
    well(train(cohort, out, *STILL, f"train.init_from={first}"))
    assert same_encoder(out, source)
    assert not (out / "pretrain").exists()
    assert "made in" not in well(train(cohort, out, *STILL, f"train.init_from={moved}"))
    receipt = (made(out, "train") / "artifact.json").read_text()
    assert str(first) not in json.dumps(transfer(out))
    assert str(first) in receipt  # the settings as they were given; tracking leaves places out


def test_weights_that_saw_the_test_split_are_refused(cohort: Path, pretrained: Path, tmp_path: Path) -> None:
    place = made(pretrained, "pretrain")
    ran = train(cohort, tmp_path, f"train.init_from={place}", "ingest.split.seed=1")
    assert ran.code == 2
    assert "this encoder was pretrained on cases of the test split: case_" in ran.err


def test_weights_of_another_network_are_refused_before_training(cohort: Path, pretrained: Path, tmp_path: Path) -> None:
    place = made(pretrained, "pretrain")
    ran = train(cohort, tmp_path, f"train.init_from={place}", "model.norm=batch", "model.features=6")
    assert ran.code == 2
    assert "norm instance (the network: batch)" in ran.err
    ran = train(cohort, tmp_path, f"train.init_from={place}", "model.features=6")
    assert ran.code == 2
    assert "widths 4 8" in ran.err
    assert not list(tmp_path.glob("train/*/artifact.json"))


def test_two_encoders_to_begin_with_are_refused(cohort: Path, pretrained: Path, tmp_path: Path) -> None:
    ran = train(cohort, tmp_path, MASKED, f"train.init_from={made(pretrained, 'pretrain')}")
    assert ran.code == 2
    assert "Leave one of the two out" in ran.err
    assert not (tmp_path / "ingest").exists()


def test_every_fold_and_seed_has_a_pretraining_of_its_own(cohort: Path, tmp_path: Path) -> None:
    short = ("train.fit.steps=2", "pretrain.fit.steps=2")
    printed = well(train(cohort, tmp_path, MASKED, *short, "train.folds=2", "train.seeds=2"))
    lines = [line for line in printed.splitlines() if "made in" in line]
    for stage in ("pretrain", "train"):
        assert sum(line.startswith(f"{stage} seed") for line in lines) == 4
    for path in tmp_path.glob("train/*/artifact.json"):
        receipt = json.loads(path.read_text())
        above = json.loads((tmp_path / "pretrain" / receipt["inputs"]["pretrain"] / "artifact.json").read_text())
        assert above["settings"]["pretrain"]["fold"] == receipt["settings"]["train"]["fold"]
        assert above["settings"]["pretrain"]["fit"]["seed"] == receipt["settings"]["train"]["fit"]["seed"]
        used = json.loads((tmp_path / "pretrain" / receipt["inputs"]["pretrain"] / "cases.json").read_text())
        validated = json.loads((path.parent / "cases.json").read_text())["validation"]
        assert not set(used["pretraining"]) & set(validated)


class TestAsAStepOfARun:
    SPEC = PipelineSpec(description="All.", stages=("ingest", "preprocess", "pretrain", "train"))

    def steps(self, cohort: Path, folder: Path, *settings: str) -> dict[str, Step]:
        path = folder / "config.yaml"
        path.write_text(f"ingest: {{source: {{kind: auto, root: '{cohort}'}}}}\nrun: {{store: '{folder}'}}\n")
        config = load_config(path, settings)
        return {step.key: step for step in plan_steps(self.SPEC, config, Store(folder))}

    def test_is_left_out_where_nothing_is_to_be_pretrained(self, cohort: Path, tmp_path: Path) -> None:
        steps = self.steps(cohort, tmp_path, "pretrain.fit.steps=7")
        assert list(steps) == ["ingest", "preprocess", "train"]

    def test_decides_the_training_that_goes_on_from_it(self, cohort: Path, tmp_path: Path) -> None:
        none, short, long = (
            self.steps(cohort, tmp_path, *settings)
            for settings in ((), (MASKED, "pretrain.fit.steps=7"), (MASKED, "pretrain.fit.steps=8"))
        )
        assert list(short) == ["ingest", "preprocess", "pretrain", "train"]
        assert short["train"].inputs == ("ingest", "preprocess", "pretrain")
        assert len({steps["train"].fingerprint for steps in (none, short, long)}) == 3

    def test_follows_the_training_along_its_axes(self, cohort: Path, tmp_path: Path) -> None:
        axes = ("train.folds=2", "ingest.split.folds=2", "train.seeds=2")
        many = self.steps(cohort, tmp_path, MASKED, *axes)
        assert many["train@seed 1 fold 1"].inputs[-1] == "pretrain@seed 1 fold 1"
        alone = self.steps(cohort, tmp_path, MASKED, "ingest.split.folds=2", "pretrain.fit.seed=1", "train.fold=1")
        assert alone["pretrain"].fingerprint == many["pretrain@seed 1 fold 1"].fingerprint

    def test_how_training_goes_on_decides_nothing_of_it(self, cohort: Path, tmp_path: Path) -> None:
        settings = ("train.labels=2", "train.transfer.shuffle=true", "train.fit.steps=5", "train.fit.seed=3")
        found = {self.steps(cohort, tmp_path, MASKED, *more)["pretrain"].fingerprint for more in ((), settings)}
        assert len(found) == 1

    def test_beside_weights_from_elsewhere_is_refused(self, cohort: Path, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"train\.init_from and pretrain\.objective: .* Leave one of the two out"):
            self.steps(cohort, tmp_path, MASKED, f"train.init_from={tmp_path}")


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
def test_every_phase_is_a_run_of_its_own_within_that_of_the_stage(cohort: Path, tmp_path: Path) -> None:
    layerwise = ("pretrain.objective=layerwise", "pretrain.fit.steps=30", "run.executor.kind=serial")
    ran = segpipe("run", "default", "--data", cohort, "-o", tmp_path, "--pipeline", "train", *SMALL, *layerwise)
    assert ran.code == 0, ran.err
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("segpipe")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (stage,) = [run for run in runs if run.data.tags.get("stage") == "pretrain"]
    phases = {run.data.tags["part"]: run for run in runs if "part" in run.data.tags}
    assert sorted(phases) == sorted(summary(tmp_path, "pretrain")["phases"])
    steps = []
    for run in phases.values():
        assert run.data.tags["mlflow.parentRunId"] == stage.info.run_id
        assert run.info.status == "FINISHED"
        steps += [point.step for point in client.get_metric_history(run.info.run_id, "loss")]
    assert steps
    assert len(steps) == len(set(steps))
    assert not client.get_metric_history(stage.info.run_id, "loss")
    assert "mse" in stage.data.metrics
