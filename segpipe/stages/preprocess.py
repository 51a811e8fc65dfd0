"""Cases -> network inputs, target maps and the plan that made them."""

from functools import partial

from segpipe.core.atomic import write_json
from segpipe.core.parallel import run_cases
from segpipe.core.section import Section
from segpipe.core.stage import Inputs, Stage, Summary, Workspace
from segpipe.dataset.manifest import Dataset
from segpipe.dataset.plan import PlanConfig, make_plan, measure_case
from segpipe.dataset.prepare import PreparedSet, PrepareJob, key_of, prepare_case
from segpipe.dataset.settings import IngestConfig
from segpipe.imaging.targets import Target
from segpipe.imaging.weights import Weight

PLAN = "plan.json"


class PreprocessConfig(Section):
    """How a scan becomes network input."""

    plan: PlanConfig = PlanConfig()
    """What is decided by you and not by the data."""
    target: Target | None = None
    """What the network learns to draw; empty: classes, or regions where structures overlap."""
    weight: Weight | None = None
    """How much each voxel counts; empty: all alike."""


class Settings(Section):
    """Everything that decides what this stage writes."""

    ingest: IngestConfig
    preprocess: PreprocessConfig


def run(settings: Settings, inputs: Inputs, work: Workspace) -> Summary:
    """Measure the develop cases, plan, then prepare every case that was not prepared before."""
    dataset = Dataset.open(inputs["ingest"], settings.ingest.source.folder)
    wanted = settings.preprocess
    measure = partial(measure_case, ignore=dataset.header.labels.ignore)
    develop = [(case.id, dataset.files(case)) for case in dataset.part("develop")]
    measures = {}
    with work.progress("measuring", len(develop)) as advance:
        for case, found in run_cases(work.executor, measure, develop):
            measures[case] = found
            advance(1)
    plan = make_plan(dataset.header, measures, wanted.plan, wanted.target)
    write_json(work.path / PLAN, plan.model_dump(mode="json"))

    keys = {case.id: key_of(case, plan, wanted.weight) for case in dataset.cases}
    missing = set(PreparedSet(work.path).adopt(keys, work.earlier))
    jobs = [
        (case.id, PrepareJob(dataset.files(case), keys[case.id], plan, wanted.weight, work.path))
        for case in dataset.cases
        if case.id in missing
    ]
    with work.progress("preparing", len(keys)) as advance:
        advance(len(keys) - len(jobs))
        for _ in run_cases(work.executor, prepare_case, jobs):
            advance(1)
    return {
        "cases": len(keys),
        "prepared": len(jobs),
        "taken_over": len(keys) - len(jobs),
        f"spacing_{plan.reading.unit}": list(plan.spacing),
        "patch": list(plan.patch),
        "depth": plan.topology.depth,
        "batch": plan.batch,
    }


STAGE = Stage("preprocess", Settings, run, needs=("ingest",), version=3)
