"""Cells: how they are planned, what is refused, and what is read of one."""

from pathlib import Path

import pytest
from phantoms import QUIET, scans, write_msd

import segpipe.study.cells as module
from segpipe.core.errors import ConfigError, LockedError, MachineError, SegpipeError, StopRequestError
from segpipe.pipeline import Told
from segpipe.score.table import Row, error_row, write_scores
from segpipe.shipped import shipped, shipped_names
from segpipe.study.cells import Cell, Costs, Planned, Runner, case_dice, plan_cells, read_curve
from segpipe.study.settings import STUDIES, StudyConfig, load_study

CONDITIONS = {"scratch": [], "fast": ["train.optim.learning_rate=2e-3"]}


def study(**more: object) -> StudyConfig:
    return StudyConfig.model_validate({"labels": [2, 4], "seeds": 2, "conditions": CONDITIONS, **more})


@pytest.fixture
def settings(tmp_path: Path) -> list[str]:
    data = write_msd(tmp_path / "data", scans(6))
    return [f"ingest.source.root={data}", f"run.store={tmp_path / 'out'}", *QUIET]


def plan(wanted: StudyConfig, settings: list[str]) -> list[Planned]:
    return plan_cells(wanted, shipped("configs", "default"), settings)


def test_every_condition_meets_every_number_of_labels_and_every_seed(settings: list[str]) -> None:
    planned = plan(study(), settings)
    assert {one.cell for one in planned} == {
        Cell(name, labels, seed) for name in CONDITIONS for labels in (2, 4) for seed in (0, 1)
    }
    assert [one.cell.seed for one in planned] == [0] * 4 + [1] * 4
    for one in planned:
        assert (one.config.train.labels, one.config.train.fit.seed) == (one.cell.labels, one.cell.seed)
        assert one.config.train.optim.learning_rate == (2e-3 if one.cell.condition == "fast" else 8e-3)
        assert not one.config.evaluate.metrics.surface
        assert "report" not in one.steps
        assert not one.found


def test_cells_share_what_does_not_depend_on_them(settings: list[str]) -> None:
    planned = plan(study(), settings)
    assert len({one.steps["preprocess"].fingerprint for one in planned}) == 1
    assert len({one.steps["train"].fingerprint for one in planned}) == len(planned)


def test_seeds_count_from_the_configurations_own(settings: list[str]) -> None:
    planned = plan(study(settings=["train.fit.seed=5"]), settings)
    assert {one.cell.seed for one in planned} == {5, 6}


def test_other_settings_may_take_the_seed_too(settings: list[str]) -> None:
    planned = plan(study(seeded=["train.fit.seed", "ingest.split.seed"]), settings)
    assert all(one.config.ingest.split.seed == one.cell.seed for one in planned)


def test_a_condition_prevails_over_the_command_line_and_that_over_the_study(settings: list[str]) -> None:
    rate = "train.optim.learning_rate"
    planned = plan(study(settings=[f"{rate}=1e-5"]), [*settings, f"{rate}=3e-3"])
    assert {one.cell.condition: one.config.train.optim.learning_rate for one in planned} == {
        "scratch": 3e-3,
        "fast": 2e-3,
    }


def test_a_wrong_setting_of_a_condition_is_told_before_anything_is_made(settings: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"condition 'slow': .*learning_rat: there is no such setting"):
        plan(study(conditions=CONDITIONS | {"slow": ["train.optim.learning_rat=1"]}), settings)


def test_conditions_that_are_one_are_refused(settings: list[str]) -> None:
    with pytest.raises(ConfigError, match="conditions 'scratch' and 'control' come to the same training"):
        plan(study(conditions=CONDITIONS | {"control": ["train.optim.learning_rate=8e-3"]}), settings)


class Failing:
    """A pipeline that fails at a step, and counts how often it was tried."""

    def __init__(self, error: BaseException, at: str) -> None:
        self.error, self.at, self.tried = error, at, 0

    def __call__(self, spec: object, config: object, told: Told, **more: object) -> object:
        self.tried += 1
        told.begins(self.planned.steps[self.at])
        raise self.error

    planned: Planned


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException, at: str, planned: Planned) -> Failing:
    fails = Failing(error, at)
    fails.planned = planned
    monkeypatch.setattr(module, "run_pipeline", fails)
    return fails


def test_what_failed_for_one_cell_is_not_tried_for_another(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, *_ = plan(study(), settings)
    fails = failing(monkeypatch, RuntimeError("no\nmemory"), "preprocess", first)
    runner = Runner(Costs(tmp_path / "costs"))
    with pytest.raises(SegpipeError, match=r"^RuntimeError: no memory$"):
        runner.result(first)
    with pytest.raises(SegpipeError, match=r"^preprocess, shared with an earlier cell: RuntimeError: no memory$"):
        runner.result(second)
    assert fails.tried == 1


def test_a_failure_of_its_own_leaves_the_next_cell_alone(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, *_ = plan(study(), settings)
    fails = failing(monkeypatch, SegpipeError("too few"), "train", first)
    runner = Runner(Costs(tmp_path / "costs"))
    for planned in (first, second):
        with pytest.raises(SegpipeError, match=r"^too few$"):
            runner.result(planned)
    assert fails.tried == 2


@pytest.mark.parametrize("error", [StopRequestError("stop"), MachineError("full"), LockedError("busy"), OSError("no")])
def test_what_is_not_the_cells_own_fault_is_passed_on(
    error: Exception, settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *_ = plan(study(), settings)
    failing(monkeypatch, error, "preprocess", first)
    runner = Runner(Costs(tmp_path / "costs"))
    with pytest.raises(type(error)):
        runner.result(first)
    assert not runner.broken


def test_dice_is_the_mean_over_the_structures_of_test_cases(tmp_path: Path) -> None:
    rows = [
        Row("a", "front", "dice", 0.5),
        Row("a", "back", "dice", 0.7),
        Row("a", "back", "iou", 0.1),
        Row("b", "front", "dice", 0.9),
        Row("b", "back", "dice", float("nan")),
        Row("c", "front", "dice", float("nan")),
        Row("d", "front", "dice", 0.2, "out_of_fold"),
        error_row("e", "no prediction"),
    ]
    write_scores(tmp_path / "scores.csv", rows)
    assert case_dice(tmp_path / "scores.csv") == pytest.approx({"a": 0.6, "b": 0.9})


def test_a_curve_counts_a_step_as_it_came_out_last(tmp_path: Path) -> None:
    lines = [
        '{"step": 50, "loss": 1}',
        '{"step": 50, "validation_dice": 0.3}',
        '{"step": 100, "valid',
        '{"step": 50, "validation_dice": 0.4}',
        '{"step": 100, "validation_dice": 0.5}',
    ]
    (tmp_path / "history.jsonl").write_text("\n".join(lines))
    assert read_curve(tmp_path / "history.jsonl") == {50: 0.4, 100: 0.5}
    assert read_curve(tmp_path / "nowhere") == {}


def test_costs_are_remembered(tmp_path: Path) -> None:
    costs = Costs(tmp_path / "study" / "costs.jsonl")
    assert costs.of("a") is None
    costs.note("a", 1.25)
    costs.note("b", 3)
    with costs.path.open("a") as stream:
        stream.write('{"training": "c", "cp')
    assert (costs.of("a"), costs.of("b"), costs.of("c")) == (1.2, 3, None)


@pytest.mark.parametrize("name", shipped_names(STUDIES))
def test_a_study_that_ships_can_be_planned_and_pretrains_once_for_each_objective(
    name: str, settings: list[str]
) -> None:
    wanted, config = load_study(name)
    planned = plan_cells(wanted, config, settings)
    assert len(planned) == len(wanted.conditions) * len(wanted.labels) * wanted.seeds
    kinds = {objective.kind for one in planned if (objective := one.config.pretrain.objective) is not None}
    assert len(kinds) >= 2
    assert len({one.steps["pretrain"].fingerprint for one in planned if "pretrain" in one.steps}) == len(kinds)
    assert all("pretrain" not in one.steps for one in planned if one.cell.condition == wanted.baseline)
