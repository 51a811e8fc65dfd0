"""Run what is not made yet, step by step; repetitions side by side where there are several devices."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from segpipe.config import Config, flat
from segpipe.core.errors import ArtifactError, ConfigError, SegpipeError
from segpipe.core.parallel import ExecutorConfig, open_executor, run_on_places, usable_processors
from segpipe.core.stage import Artifact, Inputs, Workspace
from segpipe.core.store import HISTORY, Store
from segpipe.latest import keepsakes, publish
from segpipe.learn import ranks
from segpipe.nets.precision import all_gpus, best_device, gpu_name, use_threads
from segpipe.stages import STAGES, train
from segpipe.steps import PipelineSpec, Step, foresee, inputs_of, load_pipeline, plan_steps
from segpipe.tracking import NullTracker, Tracker, open_tracker


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


@dataclass
class _Run:
    """A run that goes on: its steps by key, what is made of them, and who is told."""

    spec: PipelineSpec
    config: Config
    store: Store
    steps: Mapping[str, Step]
    told: Told
    tracker: Tracker
    made: dict[str, Artifact] = field(default_factory=dict)

    @property
    def results(self) -> Inputs:
        """Everything there is, in the order of the steps, whether it was found or made."""
        return Inputs({key: self.made[key] for key in self.steps if key in self.made})


def run_pipeline(spec: PipelineSpec, config: Config, told: Told, *, name: str, only: str | None = None) -> Inputs:
    """Make what is missing, and return the artifacts of all stages.

    Of several processes that ``torchrun`` started the first one makes everything; the others wait, and work with it
    where a stage is made together.

    Raises:
        SegpipeError: A stage failed; what the others made is kept.
    """
    with ranks.joined(config.run.device) as here:
        mine = config.model_copy(update={"run": config.run.model_copy(update={"device": here.device})})
        return _run_pipeline(spec, mine, told if ranks.first() else Told(), name, only)


def _run_pipeline(spec: PipelineSpec, config: Config, told: Told, name: str, only: str | None) -> Inputs:
    store = Store(config.run.store)
    if store.root.is_file():
        raise ConfigError(f"{store.root}: is a file. Give a folder for the results with -o.")
    steps = _agreed({step.key: step for step in plan_steps(spec, config, store)})
    if only is not None and only not in spec.stages:
        raise ConfigError(f"--only {only}: this pipeline has no such stage. It has: {', '.join(spec.stages)}.")
    to_make = [step for step in steps.values() if step.found is None and only in (None, step.stage.name)]
    tracker = open_tracker(config.run.tracking, store.root) if to_make and ranks.first() else NullTracker()
    if to_make:
        store.root.mkdir(parents=True, exist_ok=True)
        told_of = flat(config, places=False).items()
        tracker.begin(name, {key: value for key, value in told_of if not key.startswith("run.tracking.")})
    run = _Run(spec, config, store, steps, told, tracker)
    well = False
    try:
        for stage in spec.stages:
            _run_stage(stage, run, only)
            if stage == "ingest" and config.run.strict and stage in run.made:
                _refuse_quarantine(run.made[stage])
            if stage == "preprocess" and stage in run.made:
                foresee(to_make, run.results)
        well = True
    finally:
        tracker.end(keepsakes(run.results), well=well)
    if only is None and ranks.first():
        publish(store.root, run.results)
    return run.results


def _agreed(steps: dict[str, Step]) -> dict[str, Step]:
    """Return the steps as the first process sees them: another may look when something was just made."""
    found = json.loads(ranks.broadcast_text(json.dumps([key for key, step in steps.items() if step.found])))
    return {key: step if key in found else replace(step, found=None) for key, step in steps.items()}


def _run_stage(stage: str, run: _Run, only: str | None) -> None:
    """Make the steps of one stage, or find them."""
    mine = [step for step in run.steps.values() if step.stage.name == stage]
    to_make = [step for step in mine if step.found is None]
    if to_make and only not in (None, stage):
        # what it may use counts too, else it would begin from nothing; but a report is of whatever there is
        if stage in (*STAGES[only].needs, *(STAGES[only].may_use if only != "report" else ())):
            raise ArtifactError(f"--only {only}: the result of '{stage}' is not there yet. Run it first.")
        to_make = []
    for step in mine:
        if step.found is not None:
            run.made[step.key] = step.found
            run.told.step(step, step.found)
    devices = run.config.run.devices or all_gpus()
    if len(to_make) > 1 and len(devices) > 1 and STAGES[stage].together and ranks.world() == 1:
        _make_side_by_side(to_make, run, devices)
        return
    for step in to_make:
        _make(step, run)


def _make(step: Step, run: _Run) -> None:
    run.told.begins(step)
    run.tracker.stage_begins(step.title, {"stage": step.stage.name, **{k: str(v) for k, v in step.point.items()}})
    artifact: Artifact | None = None
    try:
        if ranks.first():
            artifact = make_step(step, run.steps, run.made, run.config, run.told, run.tracker)
            ranks.barrier()
        else:
            artifact = _help(step, run)
    finally:
        run.tracker.stage_ends(artifact)
    run.made[step.key] = artifact
    run.told.step(step, artifact)


def _help(step: Step, run: _Run) -> Artifact:
    """Work on a step that the first process makes, or wait for it; nothing is written here."""
    if step.stage.together:
        inputs = Inputs(inputs_of(step, run.steps, run.made))
        place = run.store.root / step.stage.name / f"{step.fingerprint}.partial"
        with open_executor(ExecutorConfig(kind="serial")) as executor:
            work = Workspace(place, executor, NullTracker().log, run.told.progress, run.config.run.device)
            step.stage.run(step.settings, inputs, work)
    ranks.barrier()
    artifact = run.store.find(step.stage.name, step.fingerprint)
    if artifact is None:
        raise ArtifactError(
            f"{step.title}: the first process made it, but it is not seen here. Share the store's disk."
        )
    return artifact


def profile_training(config: Config, told: Told) -> Iterator[str]:
    """Prepare what is not prepared yet, train a few steps, and yield lines that say what a step costs."""
    made = run_pipeline(load_pipeline("prepare"), config, told, name="profile")
    steps = plan_steps(load_pipeline("train"), config, Store(config.run.store))
    settings = next(step.settings for step in steps if step.stage.name == "train")
    assert isinstance(settings, train.Settings), "the train stage has settings of its own"
    yield from train.profile(settings, made, best_device(config.run.device)).lines()


def make_step(
    step: Step, steps: Mapping[str, Step], made: Mapping[str, Artifact], config: Config, told: Told, tracker: Tracker
) -> Artifact:
    """Make one step from what is made before it."""
    inputs = Inputs(inputs_of(step, steps, made))
    with open_executor(config.run.executor) as executor:

        def tools(path: Path) -> Workspace:
            log = _Journal(path / HISTORY, tracker)
            device = best_device(config.run.device)
            part = partial(_part, tracker)
            return Workspace(path, executor, log, told.progress, device, gpu_name(device), tell=told.tell, part=part)

        return Store(config.run.store).make(step.stage, step.settings, inputs, tools)


@contextmanager
def _part(tracker: Tracker, name: str) -> Iterator[None]:
    tracker.part_begins(name)
    well = False
    try:
        yield
        well = True
    finally:
        tracker.part_ends(well=well)


@dataclass(frozen=True)
class _MemberJob:
    """One of several repetitions, as another process is told of it."""

    spec: PipelineSpec
    config: Config
    key: str
    threads: int


def make_member(job: _MemberJob, device: str) -> str:
    """Make one repetition in a process of its own; return its key. What it needs must be there."""
    use_threads(job.threads)
    here = job.config.run.model_copy(update={"device": device, "executor": ExecutorConfig(kind="serial")})
    config = job.config.model_copy(update={"run": here})
    steps = {step.key: step for step in plan_steps(job.spec, config, Store(config.run.store))}
    made = {step.key: step.found for step in steps.values() if step.found is not None}
    make_step(steps[job.key], steps, made, config, Told(), NullTracker())
    return job.key


def _make_side_by_side(to_make: Sequence[Step], run: _Run, devices: Sequence[str]) -> None:
    """Make repetitions on all devices at once, each in a process of its own."""
    threads = max(usable_processors() // len(devices), 1)
    by_title = {step.title: step for step in to_make}
    jobs = [(step.title, _MemberJob(run.spec, run.config, step.key, threads)) for step in to_make]
    for step in to_make:
        run.told.begins(step)
    stage = to_make[0].stage.name
    with (
        open_executor(ExecutorConfig(workers=len(devices))) as executor,
        run.told.progress(f"{stage}, {len(devices)} at a time", len(jobs)) as advance,
    ):
        for title, _ in run_on_places(executor, make_member, jobs, devices):
            step = by_title[title]
            artifact = run.store.find(step.stage.name, step.fingerprint)
            if artifact is None:
                raise ArtifactError(f"{title}: was made and is not there. Was the store changed meanwhile?")
            run.tracker.stage_begins(title, {"stage": stage, **{k: str(v) for k, v in step.point.items()}})
            _replay(artifact.path / HISTORY, run.tracker)
            run.tracker.stage_ends(artifact)
            run.made[step.key] = artifact
            run.told.step(step, artifact)
            advance(1)


def _replay(history: Path, tracker: Tracker) -> None:
    for line in history.read_text().splitlines() if history.is_file() else ():
        try:
            figures = json.loads(line)
            step = figures.pop("step")
        except (ValueError, KeyError):  # cut off when an earlier attempt was killed
            continue
        tracker.log(figures, step)


@dataclass(frozen=True)
class _Journal:
    """Writes figures beside what is made, a line each, and passes them on."""

    path: Path
    tracker: Tracker

    def __call__(self, metrics: Mapping[str, float], step: int) -> None:
        with self.path.open("a") as stream:
            stream.write(json.dumps({"step": step, **metrics}) + "\n")
        self.tracker.log(metrics, step)


def _refuse_quarantine(ingest: Artifact) -> None:
    if count := int(ingest.summary.get("quarantined", 0)):
        lines = [json.loads(line) for line in (ingest.path / "quarantine.jsonl").read_text().splitlines()]
        shown = " | ".join(f"{line['case']} {line['reason']}" for line in lines)
        raise SegpipeError(f"{count} case(s) set aside, and --strict is on: {shown}")
