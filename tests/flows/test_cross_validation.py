"""Cross-validation and several seeds as one run, through the command line, on phantoms."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient
from phantoms import segpipe

from segpipe.imaging.files import read_volume
from segpipe.score.table import read_scores

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")]

SMALL = (
    "model.features=4",
    "train.fit.steps=6",
    "train.fit.validate_every=3",
    "preprocess.plan.batch=2",
    "preprocess.plan.spacing=[2,2,2]",
    "preprocess.plan.patch=[16,16,16]",
    "ingest.split.test_fraction=0.25",
    "ingest.split.folds=2",
    "run.executor.kind=serial",
    "report.pdf=false",
    "evaluate.metrics.surface=false",
)
FOLDS = ("train.folds=2",)
UNTOLD = "run.tracking.kind=none"


def run_small(data: Path, out: Path, *more: str) -> str:
    ran = segpipe("run", "default", "--data", data, "-o", out, *SMALL, *more)
    assert ran.code == 0, ran.out + ran.err
    return ran.out


def steps(printed: str, word: str) -> list[str]:
    return re.findall(rf"^(\S.*?) +[0-9a-f]{{16}}  {word}", printed, re.MULTILINE)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort") / "phantoms"
    assert segpipe("phantom", folder, "--cases", 8).code == 0
    return folder


@pytest.fixture(scope="module")
def folded(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("out")
    return out, run_small(cohort, out, *FOLDS)


def trainings(out: Path) -> dict[int, Path]:
    """Return the folder of each fold's training."""
    found = {}
    for path in out.glob("train/*/artifact.json"):
        found[json.loads(path.read_text())["settings"]["train"]["fold"]] = path.parent
    return found


def test_one_run_trains_every_fold(folded: tuple[Path, str]) -> None:
    _, printed = folded
    assert steps(printed, "made in") == [
        *("ingest", "preprocess", "train fold 0", "train fold 1", "qc", "infer", "evaluate", "report")
    ]


def test_every_case_is_scored_by_networks_that_never_saw_it(folded: tuple[Path, str], cohort: Path) -> None:
    out, _ = folded
    part = {row.case: row.part for row in read_scores(out / "latest" / "scores.csv")}
    assert set(part) == {path.name.removesuffix(".nii.gz") for path in (cohort / "imagesTr").iterdir()}
    assert sorted(part.values()) == ["out_of_fold"] * 6 + ["test"] * 2
    seen = {fold: json.loads((path / "cases.json").read_text()) for fold, path in trainings(out).items()}
    assert sorted(seen[0]["validation"] + seen[1]["validation"]) == sorted(c for c, p in part.items() if p != "test")
    assert not set(seen[0]["training"]) & set(seen[0]["validation"])


def test_a_case_out_of_fold_is_what_its_own_network_draws_and_a_test_case_what_all_do(
    folded: tuple[Path, str], cohort: Path, tmp_path: Path
) -> None:
    out, _ = folded
    part = {row.case: row.part for row in read_scores(out / "latest" / "scores.csv")}
    test = next(case for case in part if part[case] == "test")
    mine = json.loads((trainings(out)[1] / "cases.json").read_text())["validation"][0]
    models = {test: out / "latest" / "model", mine: out / "latest" / "model" / "fold1"}
    for case, model in models.items():
        done = segpipe("predict", model, cohort / "imagesTr" / f"{case}.nii.gz", "-o", tmp_path)
        assert done.code == 0, done.err
        stored = read_volume(out / "latest" / "predictions" / f"{case}.nii.gz")
        assert np.array_equal(read_volume(tmp_path / f"{case}.nii.gz").array, stored.array)


def test_running_again_trains_nothing(folded: tuple[Path, str], cohort: Path) -> None:
    out, _ = folded
    again = run_small(cohort, out, *FOLDS, UNTOLD)
    assert not steps(again, "made in")
    assert {"train fold 0", "train fold 1"} <= set(steps(again, "found"))


def test_a_fold_that_is_lost_is_trained_alone(folded: tuple[Path, str], cohort: Path, tmp_path: Path) -> None:
    out, _ = folded
    copy = tmp_path / "copy"
    shutil.copytree(out, copy, symlinks=True)
    shutil.rmtree(trainings(copy)[1])
    again = run_small(cohort, copy, *FOLDS, UNTOLD)
    assert steps(again, "made in") == ["train fold 1"]
    assert weights(copy) == weights(out)


def weights(out: Path) -> dict[int, bytes]:
    return {fold: (path / "model" / "weights.safetensors").read_bytes() for fold, path in trainings(out).items()}


def validated(training: Path) -> float:
    return float(json.loads((training / "artifact.json").read_text())["summary"]["validation_dice"])


def test_side_by_side_gives_the_networks_that_one_after_the_other_gives(
    folded: tuple[Path, str], cohort: Path, tmp_path: Path
) -> None:
    out, _ = folded
    printed = run_small(cohort, tmp_path, *FOLDS, UNTOLD, "run.devices=[cpu,cpu]", "--pipeline", "train")
    assert {"train fold 0", "train fold 1"} <= set(steps(printed, "made in"))
    ours, theirs = trainings(tmp_path), trainings(out)
    assert {fold: path.name for fold, path in ours.items()} == {fold: path.name for fold, path in theirs.items()}
    dice = [[validated(path) for _, path in sorted(found.items())] for found in (ours, theirs)]
    # a sum over two threads is rounded otherwise than over one
    assert np.allclose(dice[0], dice[1], atol=0.02)


def test_every_fold_is_a_run_of_its_own_within_the_run(folded: tuple[Path, str]) -> None:
    out, _ = folded
    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("segpipe")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert parents
    folds = [run for run in runs if run.data.tags.get("stage") == "train"]
    assert sorted(run.data.tags["fold"] for run in folds) == ["0", "1"]
    assert all(run.data.tags["mlflow.parentRunId"] == parents[-1].info.run_id for run in folds)
    assert all("validation_dice" in run.data.metrics for run in folds)


def test_the_report_tells_out_of_fold_from_test(folded: tuple[Path, str]) -> None:
    out, _ = folded
    page = (out / "latest" / "report.html").read_text()
    assert "By part of the data" in page
    assert "each by the network that never saw it" in page
    assert "2 networks were trained, each without one fold" in page


def test_several_seeds_give_mean_and_spread(cohort: Path, tmp_path: Path) -> None:
    printed = run_small(cohort, tmp_path, "train.seeds=2", UNTOLD)
    assert [step for step in steps(printed, "made in") if "seed" in step] == [
        f"{stage} seed {seed}" for stage in ("train", "qc", "infer", "evaluate") for seed in (0, 1)
    ]
    page = (tmp_path / "latest" / "report.html").read_text()
    assert "Over seeds" in page
    assert "SD over 2 seeds" in page
    alone = run_small(cohort, tmp_path, "train.fit.seed=1", UNTOLD)
    assert steps(alone, "made in") == ["report"]


def test_a_training_may_use_every_case_to_develop(cohort: Path, tmp_path: Path) -> None:
    run_small(cohort, tmp_path, "train.fold=all", UNTOLD)
    (made,) = (tmp_path / "train").iterdir()
    divided = json.loads((made / "cases.json").read_text())
    assert (len(divided["training"]), divided["validation"]) == (6, [])
    assert "validation" not in (made / "history.jsonl").read_text()
    assert "All of these were for training" in (tmp_path / "latest" / "report.html").read_text()
    card = (tmp_path / "latest" / "model" / "README.md").read_text()
    assert "| Fold held out | none |" in card
    assert "None were measured while it was trained." in card


def test_without_a_case_to_watch_the_best_weights_cannot_be_asked_for(cohort: Path, tmp_path: Path) -> None:
    done = segpipe("run", "default", "--data", cohort, "-o", tmp_path, *SMALL, "train.fold=all", "train.fit.keep=best")
    assert done.code == 2
    assert done.err.strip().endswith("Take train.fit.keep=best out.")


def test_folds_that_the_split_does_not_have_are_refused(cohort: Path, tmp_path: Path) -> None:
    done = segpipe("run", "default", "--data", cohort, "-o", tmp_path, *SMALL, "train.folds=3")
    assert done.code == 2
    assert done.err.strip().endswith("Set ingest.split.folds=3 too.")
