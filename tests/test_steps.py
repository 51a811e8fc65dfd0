"""The steps of a run: repeated over seeds and folds, sharing what they have in common."""

from pathlib import Path
from typing import Any

import pytest

from segpipe.config import Config, load_config
from segpipe.core.errors import ConfigError
from segpipe.core.stage import Artifact
from segpipe.core.store import Store
from segpipe.dataset.phantom import PhantomConfig, write_cohort
from segpipe.steps import PipelineSpec, Step, inputs_of, plan_steps

FULL = PipelineSpec(description="All.", stages=("ingest", "preprocess", "train", "infer", "evaluate", "report"))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, PhantomConfig(cases=2))
    return folder


def configured(cohort: Path, store: Path, *settings: str) -> Config:
    path = store / "config.yaml"
    path.write_text(f"ingest: {{source: {{kind: auto, root: '{cohort}'}}}}\nrun: {{store: '{store}'}}\n")
    return load_config(path, settings)


def planned(cohort: Path, store: Path, *settings: str) -> dict[str, Step]:
    config = configured(cohort, store, *settings)
    return {step.key: step for step in plan_steps(FULL, config, Store(config.run.store))}


def test_without_folds_and_seeds_every_stage_is_one_step(cohort: Path, tmp_path: Path) -> None:
    steps = planned(cohort, tmp_path)
    assert list(steps) == list(FULL.stages)


def test_folds_repeat_the_training_alone(cohort: Path, tmp_path: Path) -> None:
    steps = planned(cohort, tmp_path, "train.folds=3", "ingest.split.folds=3")
    trainings = ["train@fold 0", "train@fold 1", "train@fold 2"]
    assert list(steps) == ["ingest", "preprocess", *trainings, "infer", "evaluate", "report"]
    assert list(steps["infer"].inputs) == ["ingest", *trainings]
    assert len({steps[key].fingerprint for key in trainings}) == 3


def test_seeds_repeat_training_inference_and_evaluation(cohort: Path, tmp_path: Path) -> None:
    steps = planned(cohort, tmp_path, "train.seeds=2", "train.fit.seed=7")
    assert [key for key in steps if "@" in key] == [
        f"{stage}@seed {seed}" for stage in ("train", "infer", "evaluate") for seed in (7, 8)
    ]
    assert steps["infer@seed 8"].inputs == ("ingest", "train@seed 8")
    assert {"evaluate@seed 7", "evaluate@seed 8"} <= set(steps["report"].inputs)


def test_seeds_and_folds_multiply(cohort: Path, tmp_path: Path) -> None:
    steps = planned(cohort, tmp_path, "train.seeds=2", "train.folds=5")
    assert sum(step.stage.name == "train" for step in steps.values()) == 10
    assert steps["infer@seed 1"].inputs[1:] == tuple(f"train@seed 1 fold {fold}" for fold in range(5))


def test_one_of_several_seeds_is_the_very_step_that_a_single_run_makes(cohort: Path, tmp_path: Path) -> None:
    alone = planned(cohort, tmp_path, "train.fit.seed=1")
    among = planned(cohort, tmp_path, "train.seeds=3")
    for stage in ("train", "infer", "evaluate"):
        assert among[f"{stage}@seed 1"].fingerprint == alone[stage].fingerprint


def test_a_fold_is_found_whatever_the_number_of_seeds(cohort: Path, tmp_path: Path) -> None:
    few = planned(cohort, tmp_path, "train.folds=5")
    many = planned(cohort, tmp_path, "train.folds=5", "train.seeds=2")
    assert many["train@seed 0 fold 3"].fingerprint == few["train@fold 3"].fingerprint


def test_folds_keep_the_last_weights_unless_told_otherwise(cohort: Path, tmp_path: Path) -> None:
    def kept(*settings: str) -> Any:
        step: Any = planned(cohort, tmp_path, *settings)["train@fold 0"]
        return step.settings.train.fit.keep

    assert kept("train.folds=5") == "last"
    assert kept("train.folds=5", "train.fit.keep=best") == "best"


def test_a_step_sees_its_inputs_without_what_it_shares_with_them(cohort: Path, tmp_path: Path) -> None:
    steps = planned(cohort, tmp_path, "train.seeds=2", "train.folds=5")
    made = {key: Artifact(step.stage.name, step.fingerprint, tmp_path, {}) for key, step in steps.items()}
    seen = inputs_of(steps["infer@seed 1"], steps, made)
    assert list(seen) == ["ingest", *(f"train@fold {fold}" for fold in range(5))]
    assert seen["train@fold 2"].fingerprint == steps["train@seed 1 fold 2"].fingerprint


def test_another_number_of_folds_than_the_split_has_is_refused(cohort: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train.folds=3, but .* 5 folds. Set ingest.split.folds=3 too"):
        configured(cohort, tmp_path, "train.folds=3")
