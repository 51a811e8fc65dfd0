"""A study through the command line, on phantoms: made once, killed and resumed, with a cell that fails."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from phantoms import Ran, segpipe

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")]

STUDY = """
config: default
labels: [2, 3]
seeds: 2
settings:
  - model.features=4
  - train.fit.steps=2
  - train.fit.validate_every=1
  - preprocess.plan.batch=2
  - preprocess.plan.spacing=[2,2,2]
  - preprocess.plan.patch=[16,16,16]
  - evaluate.metrics.surface=false
  - ingest.split.test_fraction=0.25
  - ingest.split.folds=2
  - run.executor.kind=serial
  - report.pdf=false
conditions:
  scratch:
  fast: [train.optim.learning_rate=1e-2]
"""
KINDS = ("study.md", "study.html", "study.svg", "study.csv", "study.json")
QUIET = "run.tracking.kind=none"


def command(study: Path, data: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "segpipe", "study", str(study), "--data", str(data), "-o", str(out), *more]


def run(study: Path, data: Path, out: Path, *more: str) -> Ran:
    return segpipe(*command(study, data, out, *more)[3:])


def made(out: Path) -> dict[str, int]:
    """Return when each artifact was made, by its place."""
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in out.glob("*/*/artifact.json")}


def figures(out: Path) -> Any:
    return json.loads((out / "study" / "study.json").read_text())


def without_costs(told: Any) -> Any:
    return told | {"cells": [cell | {"cpu_s": None} for cell in told["cells"]]}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("of-jane-doe") / "phantoms"
    assert segpipe("phantom", folder, "--cases", "8").code == 0
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "mine.yaml"
    path.write_text(STUDY)
    return path


@pytest.fixture(scope="module")
def whole(study: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("out")
    done = run(study, data, out)
    assert done.code == 0, done.out + done.err
    return out, done.out


def test_every_cell_is_made_told_and_written(whole: tuple[Path, str]) -> None:
    out, printed = whole
    assert "8 cells, 8 to make" in printed
    for kind in KINDS:
        assert (out / "study" / kind).is_file()
        assert str(out / "study" / kind) in printed
    rows = list(csv.DictReader((out / "study" / "study.csv").read_text().splitlines()))
    assert len(rows) == 8
    for row in rows:
        title = f"{row['condition']}, {row['labels']} labels, seed {row['seed']}"
        assert f"{title}: Dice {float(row['mean_dice']):.4f}, trained in" in printed
        assert float(row["cpu_s"]) > 0
        assert (out / "train" / row["fingerprint"] / "artifact.json").is_file()
    assert len({row["fingerprint"] for row in rows}) == 8


def test_what_cells_share_is_made_once(whole: tuple[Path, str]) -> None:
    out, _ = whole
    stages = [place.split("/")[0] for place in made(out)]
    counts = {stage: stages.count(stage) for stage in set(stages)}
    assert counts == {"ingest": 1, "preprocess": 1, "train": 8, "infer": 8, "evaluate": 8}


def test_figures_are_those_of_the_evaluations(whole: tuple[Path, str]) -> None:
    out, _ = whole
    told = figures(out)
    means = []
    for summary in out.glob("evaluate/*/summary.json"):
        scores = json.loads(summary.read_text())["scores"]
        means.append(next(one["mean"] for one in scores if (one["label"], one["metric"]) == ("mean", "dice")))
    assert sorted(means) == pytest.approx(sorted(cell["mean_dice"] for cell in told["cells"]), abs=1e-5)
    assert told["cases"] == 2
    assert [one["verdict"] for one in told["comparisons"]] == ["no evidence"] * 2
    assert all(list(cell["validation_dice"]) == ["1", "2"] for cell in told["cells"])


def test_every_cell_trains_on_as_many_cases_and_the_same_for_each_condition(whole: tuple[Path, str]) -> None:
    out, _ = whole
    cases = {
        (cell["condition"], cell["labels"], cell["seed"]): json.loads(
            (out / "train" / cell["training"] / "cases.json").read_text()
        )["training"]
        for cell in figures(out)["cells"]
    }
    for (_, labels, seed), chosen in cases.items():
        assert len(chosen) == labels
        assert chosen == cases["scratch", labels, seed]
        assert set(cases["scratch", 2, seed]) <= set(chosen)


def test_every_cell_is_a_run_of_its_own(whole: tuple[Path, str]) -> None:
    out, _ = whole
    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("segpipe")
    names = [run.info.run_name for run in client.search_runs([experiment.experiment_id])]
    for condition in ("scratch", "fast"):
        for labels in (2, 3):
            for seed in (0, 1):
                assert names.count(f"{condition}, {labels} labels, seed {seed}") == 1


def test_nothing_that_is_written_names_a_folder_or_a_case(whole: tuple[Path, str], data: Path) -> None:
    out, _ = whole
    cases = [path.name.removesuffix(".nii.gz") for path in (data / "imagesTr").iterdir()]
    for kind in KINDS:
        text = (out / "study" / kind).read_text()
        assert not [word for word in (*cases, "jane", str(out), str(data.parent)) if word in text], kind


def test_called_again_it_makes_nothing(whole: tuple[Path, str], study: Path, data: Path) -> None:
    out, _ = whole
    before, told = made(out), figures(out)
    again = run(study, data, out)
    assert again.code == 0
    assert "8 cells, 0 to make" in again.out
    assert made(out) == before
    assert figures(out) == told


def test_a_killed_study_goes_on_and_comes_out_the_same(
    whole: tuple[Path, str], study: Path, data: Path, tmp_path: Path
) -> None:
    with subprocess.Popen(command(study, data, tmp_path, QUIET), stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + 400
        while not list(tmp_path.glob("train/*/artifact.json")) and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    before = made(tmp_path)
    assert 0 < sum(place.startswith("train/") for place in before) < 8
    done = run(study, data, tmp_path, QUIET)
    assert done.code == 0, done.err
    assert before.items() <= made(tmp_path).items()
    told, wanted = figures(tmp_path), figures(whole[0])
    for key in set(wanted) - {"about"}:
        assert without_costs(told)[key] == without_costs(wanted)[key], key


def test_a_cell_that_fails_is_told_and_the_others_go_on(study: Path, data: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(STUDY.replace("labels: [2, 3]", "labels: [2]") + "  blown: [train.fold=7]\n")
    done = run(broken, data, tmp_path / "out", QUIET)
    assert done.code == 3, done.err
    failed = [line.strip() for line in done.out.splitlines() if ": failed: " in line]
    assert failed == [
        f"blown, 2 labels, seed {seed}: failed: train.fold=7: the split has folds 0 to 1." for seed in (0, 1)
    ]
    told = figures(tmp_path / "out")
    assert [cell["condition"] for cell in told["missing"]] == ["blown"] * 2
    assert len(told["cells"]) == 4
    assert "Missing, 2 cells: blown, 2 labels, seed 0" in (tmp_path / "out" / "study" / "study.md").read_text()


def test_more_labels_than_there_are_is_told_before_anything_is_trained(data: Path, tmp_path: Path) -> None:
    greedy = tmp_path / "greedy.yaml"
    greedy.write_text(STUDY.replace("[2, 3]", "[2, 90]"))
    done = run(greedy, data, tmp_path / "out", QUIET)
    assert done.code == 2
    assert "labels: 90: there are 3 labelled cases to train on." in done.err
    assert not (tmp_path / "out" / "train").exists()
