"""Which stages, in which order; run what is not made yet."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from segpipe.config import Config, flat
from segpipe.core.errors import ArtifactError, ConfigError, SegpipeError
from segpipe.core.parallel import open_executor
from segpipe.core.section import Section
from segpipe.core.stage import Artifact, Inputs, Stage, Workspace
from segpipe.core.store import HISTORY, Store
from segpipe.latest import keepsakes, publish
from segpipe.nets.precision import best_device
from segpipe.shipped import shipped, shipped_names
from segpipe.stages import STAGES
from segpipe.tracking import Tracker, open_tracker


class PipelineSpec(Section):
    """A pipeline: a sentence, and its stages in order."""

    description: str
    stages: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """One stage of a run: what it would make, and whether that is there."""

    stage: Stage[Any]
    settings: Section
    fingerprint: str
    found: Artifact | None


class Told:
    """What a run tells whoever watches it; the command line shows it to people."""

    def step(self, step: Step, artifact: Artifact) -> None:
        """A step is done: ``step.found`` tells whether there was anything to do."""

    def begins(self, step: Step) -> None:
        """A step begins."""

    def progress(self, what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Open a bar."""
        return _silent(what, total)

    def tell(self, text: str) -> None:
        """Show a line."""


@contextmanager
def _silent(what: str, total: int) -> Iterator[Callable[[int], None]]:
    yield lambda done: None


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
    """Name every step: found, or to make. Nothing is run."""
    names: dict[str, str] = {}
    steps = []
    for name in spec.stages:
        stage = STAGES[name]
        settings = stage.settings.model_validate({part: getattr(config, part) for part in stage.settings.model_fields})
        above = {key: names[key] for key in (*stage.needs, *stage.may_use) if key in names}
        names[name] = store.name(stage, settings, above)
        steps.append(Step(stage, settings, names[name], store.find(name, names[name])))
    return steps


def run_pipeline(
    spec: PipelineSpec, config: Config, told: Told, *, name: str, only: str | None = None
) -> dict[str, Artifact]:
    """Make what is missing, and return the artifact of every stage.

    Raises:
        SegpipeError: A stage failed; what the others made is kept.
    """
    store = Store(config.run.store)
    if store.root.is_file():
        raise ConfigError(f"{store.root}: is a file. Give a folder for the results with -o.")
    steps = plan_steps(spec, config, store)
    if only is not None and only not in spec.stages:
        raise ConfigError(f"--only {only}: this pipeline has no such stage. It has: {', '.join(spec.stages)}.")
    made: dict[str, Artifact] = {}
    to_make = [step for step in steps if step.found is None and only in (None, step.stage.name)]
    tracker = open_tracker(config.run.tracking, store.root) if to_make else None
    if tracker:
        store.root.mkdir(parents=True, exist_ok=True)
        told_of = flat(config, places=False).items()
        tracker.begin(name, {key: value for key, value in told_of if not key.startswith("run.tracking.")})
    well = False
    try:
        for step in steps:
            _run_step(step, made, store, config, told, tracker, only)
            if step.stage.name == "ingest" and config.run.strict:
                _refuse_quarantine(made["ingest"])
        well = True
    finally:
        if tracker:
            tracker.end(keepsakes(made), well=well)
    if only is None:
        publish(store.root, made)
    return made


def _run_step(
    step: Step,
    made: dict[str, Artifact],
    store: Store,
    config: Config,
    told: Told,
    tracker: Tracker | None,
    only: str | None,
) -> None:
    stage = step.stage
    if step.found is not None:
        made[stage.name] = step.found
        told.step(step, step.found)
        return
    if only is not None and stage.name != only:
        if stage.name in STAGES[only].needs:
            raise ArtifactError(f"--only {only}: the result of '{stage.name}' is not there yet. Run it first.")
        return
    told.begins(step)
    inputs = Inputs({key: made[key] for key in (*stage.needs, *stage.may_use) if key in made})
    if tracker:
        tracker.stage_begins(stage.name)
    artifact: Artifact | None = None
    try:
        with open_executor(config.run.executor) as executor:

            def tools(path: Path) -> Workspace:
                log = _Journal(path / HISTORY, tracker)
                return Workspace(path, executor, log, told.progress, best_device(config.run.device), tell=told.tell)

            artifact = store.make(stage, step.settings, inputs, tools)
    finally:
        if tracker:
            tracker.stage_ends(artifact)
    made[stage.name] = artifact
    told.step(step, artifact)


@dataclass(frozen=True)
class _Journal:
    """Writes figures beside what is made, a line each, and passes them on."""

    path: Path
    tracker: Tracker | None

    def __call__(self, metrics: Mapping[str, float], step: int) -> None:
        with self.path.open("a") as stream:
            stream.write(json.dumps({"step": step, **metrics}) + "\n")
        if self.tracker:
            self.tracker.log(metrics, step)


def _refuse_quarantine(ingest: Artifact) -> None:
    if count := int(ingest.summary.get("quarantined", 0)):
        lines = [json.loads(line) for line in (ingest.path / "quarantine.jsonl").read_text().splitlines()]
        shown = " | ".join(f"{line['case']} {line['reason']}" for line in lines)
        raise SegpipeError(f"{count} case(s) set aside, and --strict is on: {shown}")
