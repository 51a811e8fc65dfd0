"""The steps of a run: stages in order, each repeated over the seeds and folds that it is spread over."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from segpipe.config import Config
from segpipe.core.errors import ConfigError
from segpipe.core.section import Section
from segpipe.core.stage import Artifact, Inputs, Point, Stage, point_name, step_key
from segpipe.core.store import Store
from segpipe.shipped import shipped, shipped_names
from segpipe.stages import STAGES


class PipelineSpec(Section):
    """A pipeline: a sentence, and its stages in order."""

    description: str
    stages: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """One stage of a run, or one of its repetitions: what it would make, and whether that is there."""

    stage: Stage[Any]
    settings: Section
    point: Point
    inputs: tuple[str, ...]
    """Keys of the steps that it reads."""
    fingerprint: str
    found: Artifact | None

    @property
    def key(self) -> str:
        """Its name among the steps of the run."""
        return step_key(self.stage.name, self.point)

    @property
    def title(self) -> str:
        """Its name for people."""
        return f"{self.stage.name} {point_name(self.point)}".strip()


def load_pipeline(name: str) -> PipelineSpec:
    """Return a pipeline by its file, or by its name among those that ship.

    Raises:
        ConfigError: There is none, or it is wrong.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = shipped("pipelines", name)
    try:
        spec = PipelineSpec.model_validate(yaml.safe_load(path.read_text()))
    except OSError as error:
        names = ", ".join(shipped_names("pipelines"))
        raise ConfigError(f"{name}: there is no such pipeline. Those that ship: {names}.") from error
    except ValidationError as error:
        reasons = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise ConfigError(f"{name}: no pipeline ({'; '.join(reasons)}). It has a description and stages.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: this is no valid YAML ({' '.join(str(error).split())}).") from error
    if unknown := [stage for stage in spec.stages if stage not in STAGES]:
        raise ConfigError(f"{name}: there is no stage '{unknown[0]}'. There are: {', '.join(STAGES)}.")
    for index, stage in enumerate(spec.stages):
        if missing := [need for need in STAGES[stage].needs if need not in spec.stages[:index]]:
            raise ConfigError(f"{name}: '{stage}' needs '{missing[0]}' before it. Add it to the stages.")
    return spec


def plan_steps(spec: PipelineSpec, config: Config, store: Store) -> list[Step]:
    """Name every step that is wanted: found, or to make. Nothing is run.

    Raises:
        ConfigError: The training would have two encoders to begin with.
    """
    if config.train.init_from and config.pretrain.objective and {"pretrain", "train"} <= set(spec.stages):
        raise ConfigError(
            "train.init_from and pretrain.objective: training begins with one encoder. Leave one of the two out."
        )
    axes = config.train.axes()
    steps: dict[str, Step] = {}
    for name in spec.stages:
        stage = STAGES[name]
        for point in _points(stage.spread, axes):
            train = config.train.at(point)
            at = config.model_copy(update={"train": train, "pretrain": config.pretrain.at(point, train.fold)})
            settings = stage.settings.model_validate({part: getattr(at, part) for part in stage.settings.model_fields})
            if not stage.wanted(settings):
                continue
            above = [step for step in steps.values() if _reads(stage, point, step)]
            # under the names by which the stage sees them: the only one of several is as good as one made alone
            names = {seen: step.fingerprint for seen, step in _seen(above, point).items()}
            fingerprint = store.name(stage, settings, names)
            made = Step(
                stage, settings, point, tuple(step.key for step in above), fingerprint, store.find(name, fingerprint)
            )
            steps[made.key] = made
    return list(steps.values())


def inputs_of(step: Step, steps: Mapping[str, Step], made: Mapping[str, Artifact]) -> dict[str, Artifact]:
    """Return the artifacts that a step reads, under the names by which it sees them."""
    above = [steps[key] for key in step.inputs if key in made]
    return {seen: made[one.key] for seen, one in _seen(above, step.point).items()}


def _points(spread: Sequence[str], axes: Mapping[str, Sequence[int]]) -> Iterator[Point]:
    names = [axis for axis in axes if axis in spread]
    for values in itertools.product(*(axes[axis] for axis in names)):
        yield dict(zip(names, values, strict=True))


def _reads(stage: Stage[Any], point: Point, above: Step) -> bool:
    if above.stage.name not in (*stage.needs, *stage.may_use):
        return False
    return all(point.get(axis, value) == value for axis, value in above.point.items())


def _seen(above: Sequence[Step], point: Point) -> dict[str, Step]:
    """Return the steps by the names that a reader at ``point`` sees: without the axes that both share."""
    return {
        step_key(step.stage.name, {axis: v for axis, v in step.point.items() if axis not in point}): step
        for step in above
    }


def foresee(to_make: Sequence[Step], there: Inputs) -> None:
    """Refuse settings of steps to make that would fail when their turn comes, hours later.

    Args:
        to_make: The steps.
        there: What is made; ingest and preprocess are among it.

    Raises:
        ConfigError: Settings do not fit the data.
    """
    for step in to_make:
        step.stage.foresee(step.settings, there)
