"""Prepared training cases -> what scans and shapes usually look like, by which others are judged."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from segpipe.core.parallel import run_cases
from segpipe.core.section import Section
from segpipe.core.stage import Inputs, Stage, Summary, Workspace
from segpipe.dataset.manifest import Case, Dataset
from segpipe.dataset.plan import Plan
from segpipe.dataset.prepare import Prepared, PreparedSet
from segpipe.dataset.settings import IngestConfig
from segpipe.learn.redraw import Redrawing
from segpipe.learn.references import learn_known_shapes
from segpipe.learn.shapes import ShapesConfig
from segpipe.learn.transfer import seen_of
from segpipe.predict.shapes import save_shapes
from segpipe.quality.checks import write_checks
from segpipe.quality.flag import FLAGS, FlagsConfig, write_flags
from segpipe.quality.statistics import coarse_of, statistics_of
from segpipe.quality.usual import DEVELOP, USUAL, Figures, usual_scans, write_usual

LEAST = 5
"""Subjects below which nothing is called usual."""
LEAST_UNSEEN = 10
"""Subjects that no autoencoder has seen, below which reconstructions play no part."""


class QcConfig(Section):
    """What is learned of the training cases, so that odd scans and odd predictions are told without a reference."""

    scans: bool = True
    """Whether it is learned what scans usually look like; it takes seconds."""
    reconstruction: bool = True
    """Whether what this run's pretrained autoencoder leaves out of a scan counts too, where there is one; it is
    compared with scans that the autoencoder has not seen, of which there must be at least 10."""
    alarm: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """Share of scans like those trained on that may be called unusual; with fewer scans than its reciprocal, one that
    is more unusual than all of them is."""
    shapes: ShapesConfig = ShapesConfig()
    """How shapes of reference label maps are learned, by which predictions are judged."""
    flags: FlagsConfig = FlagsConfig()
    """When a prediction is to be accepted, reviewed or rejected."""


class Settings(Section):
    """Everything that decides what this stage writes."""

    ingest: IngestConfig
    qc: QcConfig


@dataclass(frozen=True)
class LookJob:
    """One prepared case to look at."""

    case: Prepared
    spacing: tuple[float, ...]
    channels: tuple[str, ...]


def look_at(job: LookJob) -> tuple[Figures, NDArray[np.float32]]:
    """Return the statistics of a prepared case, and its coarse image."""
    image = np.asarray(job.case.image, np.float32)
    return statistics_of(image, job.spacing, job.channels), coarse_of(image)


def run(settings: Settings, inputs: Inputs, work: Workspace) -> Summary:
    """Look at every case to develop; write what is usual of its scan and of its shapes, and when to accept one.

    No case of the test split is read.
    """
    dataset = Dataset.open(inputs["ingest"], settings.ingest.source.folder)
    plan = Plan.model_validate_json((inputs["preprocess"] / "plan.json").read_text())
    prepared = PreparedSet(inputs["preprocess"])
    told = dict(_learn_scans(settings, inputs, work, (dataset, plan, prepared))) if settings.qc.scans else {}
    if settings.qc.shapes.use:
        parts = dataset.fold(0)
        known, network, figures = learn_known_shapes(plan, prepared, parts, settings.qc.shapes, work)
        save_shapes(work.path, known, network)
        told |= figures
    write_flags(work.path / FLAGS, settings.qc.flags)
    return told


def _learn_scans(
    settings: Settings, inputs: Inputs, work: Workspace, data: tuple[Dataset, Plan, PreparedSet]
) -> Summary:
    """Write what scans usually look like, and how unusual each case to develop is among the others."""
    dataset, plan, prepared = data
    cases = dataset.part("develop")
    subjects = [case.subject for case in cases]
    if len(set(subjects)) < LEAST:
        work.tell(f"too few subjects to say what is usual: {len(set(subjects))} of {LEAST}")
        return {"cases": len(cases), "subjects": len(set(subjects)), "usual": "unknown"}
    channels = tuple(channel.name for channel in plan.channels)
    jobs = [(case.id, LookJob(prepared[case.id], plan.spacing, channels)) for case in cases]
    looks = {}
    with work.progress("looking at scans", len(jobs)) as advance:
        for case, look in run_cases(work.executor, look_at, jobs):
            looks[case] = look
            advance(1)
    folders = [artifact.path for artifact in inputs.every("pretrain").values()]
    redrawn = _redrawn(cases, folders if settings.qc.reconstruction else [], prepared, channels, work)
    usual, told = usual_scans(
        [looks[case.id][0] for case in cases],
        [looks[case.id][1] for case in cases],
        subjects,
        redrawn,
        (channels, plan.spacing, settings.qc.alarm),
    )
    checks = {case.id: each for case, each in zip(cases, told, strict=True)}
    write_checks(work.path / DEVELOP, checks)
    write_usual(work.path / USUAL, usual)
    return {
        "cases": len(cases),
        "subjects": len(set(subjects)),
        "figures": len(usual.statistics.names),
        "reconstructed": len(redrawn),
        "unusual": sum(each[0].value > 1 for each in told),
    }


def _redrawn(
    cases: Sequence[Case], folders: Sequence[Path], prepared: PreparedSet, channels: Sequence[str], work: Workspace
) -> dict[int, Figures]:
    """Return what autoencoders leave out of the cases that they have not seen, by the number of the case."""
    without: dict[int, list[Path]] = {}
    for folder in folders:
        seen = set(seen_of(folder, cases))
        for index, case in enumerate(cases):
            if case.id not in seen:
                without.setdefault(index, []).append(folder)
    subjects = {cases[index].subject for index in without}
    if len(subjects) < LEAST_UNSEEN:
        if folders:
            work.tell(f"reconstructions play no part: {len(subjects)} subjects were not pretrained on")
        return {}
    found: dict[int, Figures] = {}
    with work.progress("drawing again", len(without)) as advance:
        # one set of autoencoders after the other: each is loaded once
        for chosen in dict.fromkeys(map(tuple, without.values())):
            redraw = Redrawing.load(chosen, channels, work.device)
            for index in (index for index, theirs in without.items() if tuple(theirs) == chosen):
                found[index] = redraw(np.asarray(prepared[cases[index].id].image, np.float32))
                advance(1)
    return dict(sorted(found.items()))


def _wanted(settings: Settings) -> bool:
    return settings.qc.scans or settings.qc.shapes.use or settings.qc.flags.use


STAGE = Stage(
    "qc",
    Settings,
    run,
    needs=("ingest", "preprocess"),
    may_use=("pretrain",),
    spread=("seed",),
    wanted=_wanted,
    version=2,
)
