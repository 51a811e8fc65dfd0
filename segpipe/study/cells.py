"""The trainings of a study: a cell for each condition, number of labels and seed, made once."""

import itertools
import json
import math
import resource
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from segpipe.config import Config, load_config
from segpipe.core.errors import ConfigError, LockedError, MachineError, SegpipeError, StopRequestError
from segpipe.core.stage import Artifact, Inputs
from segpipe.core.store import HISTORY, Store
from segpipe.pipeline import Told, run_pipeline
from segpipe.score.table import read_scores
from segpipe.stages import STAGES
from segpipe.steps import PipelineSpec, Step, plan_steps
from segpipe.study.settings import StudyConfig

CHEAP = ("evaluate.metrics.surface=false", "evaluate.resamples=100")
"""What every cell is spared unless the study asks for it: only Dice is compared, and its intervals are made here."""
PIPELINE = ("ingest", "preprocess", "pretrain", "train", "infer", "evaluate")
SCORED = PipelineSpec(
    description="From raw scans to scores; nothing is written for people.",
    stages=tuple(stage for stage in PIPELINE if stage in STAGES),
)
VALIDATED = "validation_dice"


@dataclass(frozen=True)
class Cell:
    """One training of a study."""

    condition: str
    labels: int
    seed: int

    @property
    def title(self) -> str:
        """Its name for people, and of its run in MLflow."""
        return f"{self.condition}, {self.labels} labels, seed {self.seed}"


@dataclass(frozen=True)
class Planned:
    """A cell, and the steps of its pipeline: found, or to make."""

    cell: Cell
    config: Config
    steps: Mapping[str, Step]

    @property
    def found(self) -> bool:
        """Whether nothing is left to make."""
        return all(step.found for step in self.steps.values())


@dataclass(frozen=True)
class Result:
    """What a finished cell tells."""

    cell: Cell
    fingerprint: str
    """Of the training."""
    dice: Mapping[str, float]
    """Mean Dice over the structures of each held-out case."""
    curve: Mapping[int, float]
    """Validation Dice by step of training."""
    cpu_s: float | None
    """CPU seconds of the training; None where it was not made in one go."""

    @property
    def mean(self) -> float:
        """Mean Dice over the cases."""
        return float(np.mean(list(self.dice.values())))


def plan_cells(study: StudyConfig, config: Path, settings: Sequence[str]) -> list[Planned]:
    """Plan every cell; those of one seed come together, so that a study that is cut short can be compared.

    Args:
        study: What is compared.
        config: The pipeline's configuration.
        settings: Further settings of all cells, which a condition may change again.

    Raises:
        ConfigError: A setting of a condition is wrong, or two conditions come to the same.
    """
    common = [*CHEAP, *study.settings, *settings]
    first = load_config(config, common).train.fit.seed
    cells = itertools.product(range(first, first + study.seeds), study.labels, study.conditions)
    planned = [_planned(Cell(name, labels, seed), study, config, common) for seed, labels, name in cells]
    _refuse_twins(planned)
    return planned


def _planned(cell: Cell, study: StudyConfig, config: Path, common: Sequence[str]) -> Planned:
    own = [f"train.labels={cell.labels}", "train.seeds=1", "train.folds=", *(f"{k}={cell.seed}" for k in study.seeded)]
    try:
        loaded = load_config(config, [*common, *study.conditions[cell.condition], *own])
    except ConfigError as error:
        raise ConfigError(f"condition '{cell.condition}': {error}") from error
    steps = plan_steps(SCORED, loaded, Store(loaded.run.store))
    return Planned(cell, loaded, {step.stage.name: step for step in steps})


def _refuse_twins(planned: Sequence[Planned]) -> None:
    """Refuse two conditions that are one: a control that changes nothing would look like a result."""
    seen: dict[str, Cell] = {}
    for one in planned:
        twin = seen.setdefault(one.steps["evaluate"].fingerprint, one.cell)
        if twin != one.cell:
            raise ConfigError(
                f"conditions '{twin.condition}' and '{one.cell.condition}' come to the same training "
                f"({twin.labels} labels, seed {twin.seed}). Change a setting that decides something, or take one out."
            )


@dataclass
class Runner:
    """Makes cells, one after the other; what failed for one is not tried again for the next."""

    costs: "Costs"
    broken: dict[str, str] = field(default_factory=dict)
    """Why a step could not be made, by its fingerprint."""

    def result(self, planned: Planned) -> Result:
        """Make a cell where it is not there, and read it.

        Raises:
            SegpipeError: It cannot be made; the text is one line.
        """
        if planned.found:
            made = {name: step.found for name, step in planned.steps.items() if step.found}
            return self._read(planned, Inputs(made))
        for step in planned.steps.values():
            if step.found is None and step.fingerprint in self.broken:
                raise SegpipeError(f"{step.title}, shared with an earlier cell: {self.broken[step.fingerprint]}")
        watch = _Watch(planned.config.run.store, self.costs)
        try:
            return self._read(planned, run_pipeline(SCORED, planned.config, watch, name=planned.cell.title))
        except (StopRequestError, MachineError, OSError, LockedError):
            raise  # no fault of the cell
        except Exception as error:  # a seam: one cell must not take the others with it
            reason = str(error) if isinstance(error, SegpipeError) else f"{type(error).__name__}: {error}"
            reason = " ".join(reason.split())
            if watch.now is not None:
                self.broken[watch.now.fingerprint] = reason
            raise SegpipeError(reason) from error

    def _read(self, planned: Planned, made: Inputs) -> Result:
        dice = case_dice(made["evaluate"] / "scores.csv")
        if not dice:
            raise SegpipeError("no held-out case was scored. Look at summary.json of its evaluation.")
        fingerprint = planned.steps["train"].fingerprint
        curve = read_curve(made["train"] / HISTORY)
        return Result(planned.cell, fingerprint, dice, curve, self.costs.of(fingerprint))


def case_dice(scores: Path) -> dict[str, float]:
    """Return the mean Dice over structures of each test case; one where none is defined is left out."""
    gathered: dict[str, list[float]] = {}
    for row in read_scores(scores):
        if row.metric == "dice" and row.part == "test" and math.isfinite(float(row.value)):
            gathered.setdefault(row.case, []).append(float(row.value))
    return {case: float(np.mean(values)) for case, values in sorted(gathered.items())}


def read_curve(history: Path) -> dict[int, float]:
    """Return the validation Dice by step; a step that was taken twice, after a kill, counts as it came out last."""
    curve = {}
    for line in history.read_text().splitlines() if history.is_file() else ():
        try:
            figures = json.loads(line)
        except ValueError:  # cut off when an attempt was killed
            continue
        if VALIDATED in figures:
            curve[int(figures["step"])] = float(figures[VALIDATED])
    return dict(sorted(curve.items()))


@dataclass(frozen=True)
class Costs:
    """CPU seconds of trainings, noted as they end: a folder in the store does not tell them."""

    path: Path

    def note(self, fingerprint: str, seconds: float) -> None:
        """Write down what a training took."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as stream:
            stream.write(json.dumps({"training": fingerprint, "cpu_s": round(seconds, 1)}) + "\n")

    def of(self, fingerprint: str) -> float | None:
        """Return what a training took, or None where nobody knows."""
        return dict(self._noted()).get(fingerprint)

    def _noted(self) -> Iterator[tuple[str, float]]:
        for line in self.path.read_text().splitlines() if self.path.is_file() else ():
            try:
                noted = json.loads(line)
                yield noted["training"], noted["cpu_s"]
            except (ValueError, KeyError):  # cut off by a kill
                continue


class _Watch(Told):
    """Watches a cell in silence: which step is being made, and what training took."""

    def __init__(self, store: Path, costs: Costs) -> None:
        self.now: Step | None = None
        self.store = store
        self.costs = costs
        self.began: float | None = None

    def begins(self, step: Step) -> None:
        """Note the step and the time; a training that goes on where it was stopped is not timed."""
        self.now = step
        goes_on = (self.store / step.stage.name / f"{step.fingerprint}.partial").exists()
        self.began = None if goes_on or step.stage.name != "train" else _cpu_seconds()

    def step(self, step: Step, artifact: Artifact) -> None:
        """Note what a training took."""
        if self.began is not None and step is self.now:
            self.costs.note(step.fingerprint, _cpu_seconds() - self.began)
        self.now = None


def _cpu_seconds() -> float:
    mine, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return mine.ru_utime + mine.ru_stime + children.ru_utime + children.ru_stime
