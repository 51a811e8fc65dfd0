"""Models and cases they never saw -> label maps on the grid of their input files, and what is known of each."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from segpipe.core.atomic import write_json
from segpipe.core.errors import DataError, SegpipeError
from segpipe.core.section import Section
from segpipe.core.stage import Inputs, Stage, Summary, Workspace
from segpipe.dataset.load import load_image, load_labels
from segpipe.dataset.manifest import Case, CaseFiles, Dataset, Refusal, write_jsonl
from segpipe.dataset.plan import Plan
from segpipe.dataset.settings import IngestConfig
from segpipe.imaging.files import write_volume
from segpipe.imaging.masks import CleanUp
from segpipe.learn.redraw import Redrawing
from segpipe.predict.agreement import AgreementChecker, other_passes
from segpipe.predict.confidence import Judge
from segpipe.predict.scans import ScanChecker
from segpipe.predict.seen import Checker, Passes, Segmented, segmented
from segpipe.predict.segmenter import Segmenter
from segpipe.predict.shapes import load_shapes
from segpipe.predict.window import WindowConfig
from segpipe.quality.checks import CHECKS, read_checks, write_checks
from segpipe.quality.flag import FLAGS, read_flags
from segpipe.quality.predicted import DicePredictor, held_in
from segpipe.quality.usual import DEVELOP, USUAL, read_usual
from segpipe.score.boxes import whole_numbers
from segpipe.score.calibration import Reliability, reliabilities
from segpipe.score.reliability_file import RELIABILITY, read_reliability, write_reliability


class InferConfig(Section):
    """Which cases are segmented, and how."""

    cases: Literal["test", "all"] = "test"
    """`test`: the untouched split, and after a cross-validation every case that one of the networks never saw; `all`:
    every case, the training ones too."""
    window: WindowConfig = WindowConfig()
    """How tiles cover an image."""
    clean: CleanUp = CleanUp()
    """What is done to a predicted label map before it is written."""
    agreement: bool = False
    """Whether `checks.csv` also tells how well other passes over the image agree with the prediction: each network
    alone where there are several, else the network on the mirrored image. This takes as long again as segmenting."""
    calibration: bool = True
    """Whether it is counted how often the networks' probabilities are right, where a held-out case has a reference
    and the target has probabilities: for the expected calibration error and the reliability diagram."""


class Settings(Section):
    """Everything that decides what this stage writes."""

    ingest: IngestConfig
    infer: InferConfig


HELD_OUT = "held_out.json"
EACH = "checks"
"""Folder of the checks of each case while the stage is at work: what was done is not done again after a kill."""
TEST, OUT_OF_FOLD = "test", "out_of_fold"
"""Why a prediction may be scored: nobody saw the case, or not the one network that predicted it."""


def run(settings: Settings, inputs: Inputs, work: Workspace) -> Summary:
    """Segment each case; one that fails is named, and the others go on.

    Of several networks, as cross-validation trains them, a case to develop is segmented by those for which it was
    held out, every other case by the mean of all.
    """
    dataset = Dataset.open(inputs["ingest"], settings.ingest.source.folder)
    wanted = settings.infer
    models = [artifact.path for artifact in inputs.every("train").values()]
    members, parts = divide(dataset, models, every=wanted.cases == "all")
    checkers = checkers_of(inputs, work.device)
    if wanted.agreement:
        checkers = (AgreementChecker(dataset.header.labels), *checkers)
    predictor = DicePredictor(held_in(models))
    flags = read_flags(folder / FLAGS) if (folder := inputs.get("qc")) else None
    if why := predictor.why_not:
        work.tell(f"no Dice is predicted: {why}")
    passes: Passes | None = other_passes if wanted.agreement else None
    write_json(work.path / HELD_OUT, parts)
    failed: list[Refusal] = []
    with work.progress("segmenting", sum(map(len, members.values()))) as advance:
        for chosen, cases in members.items():
            folders = [models[index] / "model" for index in chosen]
            segmenter = Segmenter.of(folders, work.device, wanted.window, wanted.clean)
            judge = Judge(checkers, predictor, segmenter.plan, flags, dataset.subjects, seen_by(models, chosen))
            for case in cases:
                try:
                    counted = wanted.calibration and case.id in parts and case.label is not None
                    _segment(case, dataset, segmenter, (judge, passes, counted), work)
                except SegpipeError as error:
                    failed.append(Refusal(case.id, str(error)))
                advance(1)
    write_jsonl(work.path / "failed.jsonl", [vars(refusal) for refusal in failed])
    _gather(work)
    counts = {part: list(parts.values()).count(part) for part in dict.fromkeys(parts.values())}
    learned = {} if predictor.why_not else {"dice_learned_from": len(predictor.residuals)}
    done = {"cases": sum(map(len, members.values())) - len(failed), "failed": len(failed)} | learned
    return done | (counts if len(models) > 1 else {})


def foresee(settings: Settings, inputs: Inputs) -> None:
    """Refuse a window or a cleaning that the network to be trained could not have.

    Raises:
        ConfigError: A structure is named that there is not, or images would be turned or mirrored wrongly.
    """
    plan = Plan.model_validate_json((inputs["preprocess"] / "plan.json").read_text())
    settings.infer.window.refuse_unfit(plan.patch, plan.topology.strides, plan.topology.kernels)
    settings.infer.window.refuse_turned_sides(plan.labels)
    settings.infer.clean.refuse_unknown(plan.labels.names)


def divide(
    dataset: Dataset, models: Sequence[Path], *, every: bool
) -> tuple[dict[tuple[int, ...], list[Case]], dict[str, str]]:
    """Return which models segment which cases, and why each case that may be scored may be.

    Args:
        dataset: All cases.
        models: Folders of the trainings; each tells the cases that were held out from it.
        every: Whether cases are wanted too that no model held out.
    """
    held = [set(json.loads((folder / "cases.json").read_text())["validation"]) for folder in models]
    together = tuple(range(len(models)))
    members: dict[tuple[int, ...], list[Case]] = {}
    parts: dict[str, str] = {}
    for case in dataset.cases:
        without = tuple(index for index in together if case.id in held[index])
        if case.part == "test":
            parts[case.id] = TEST
        elif len(models) > 1 and without:
            parts[case.id] = OUT_OF_FOLD
        if case.id in parts or every:
            chosen = without if parts.get(case.id) == OUT_OF_FOLD else together
            members.setdefault(chosen, []).append(case)
    return members, parts


def seen_by(models: Sequence[Path], chosen: Sequence[int]) -> set[str]:
    """Return the cases on which one of the chosen networks was trained."""
    told = [json.loads((models[index] / "cases.json").read_text()) for index in chosen]
    return {case for one in told for case in one["training"]}


def checkers_of(inputs: Inputs, device: str) -> tuple[Checker, ...]:
    """Return what looks at every case that is segmented: a checker for each stage that left what one needs."""
    folder = inputs.get("qc")
    if folder is None:
        return ()
    checkers: list[Checker] = []
    if usual := read_usual(folder / USUAL):
        pretrained = [artifact.path for artifact in inputs.every("pretrain").values()]
        redraw = Redrawing.load(pretrained, usual.channels, device) if usual.reconstruction and pretrained else None
        checkers.append(ScanChecker(usual, read_checks(folder / DEVELOP), redraw))
    if shapes := load_shapes(folder, device):
        checkers.append(shapes)
    return tuple(checkers)


def _segment(
    case: Case,
    dataset: Dataset,
    segmenter: Segmenter,
    looking: tuple[Judge, Passes | None, bool],
    work: Workspace,
) -> None:
    judge, passes, calibration = looking
    files = dataset.files(case)
    target = work.path / "predictions" / files.prediction
    if target.is_file():
        return  # made before the stage was interrupted; files are whole or absent
    seen = segmented(case.id, load_image(files), segmenter, passes, keep_native=calibration)
    if calibration and (bins := _calibration(seen, files, segmenter.plan)):
        write_reliability(work.path / EACH / f"{case.id}.jsonl", {case.id: bins})
    write_checks(work.path / EACH / f"{case.id}.csv", {case.id: judge(seen)})
    write_volume(
        target, seen.labels, header_of=files.images[0], unit=files.reading.unit
    )  # last: where it is, the checks are too


def _calibration(seen: Segmented, files: CaseFiles, plan: Plan) -> dict[str, Reliability]:
    """Return how often probabilities are right on the grid of the scan's file; empty without any, or if grids differ.

    In the box outside of which the scan is blank: nothing is drawn there.
    """
    assert seen.native is not None, "was asked for"
    native, box = seen.native
    probabilities = plan.target.probabilities(native.array, plan.labels)
    if probabilities is None:
        return {}
    try:
        truth = load_labels(files)
    except DataError:
        return {}  # evaluate tells of it, and of another grid
    if truth.array.shape != seen.labels.array.shape:
        return {}
    maps = whole_numbers(seen.labels.array[0][box.slices]), whole_numbers(truth.array[0][box.slices])
    return reliabilities(probabilities, maps, plan.labels.groups(), truth.geometry.spacing, plan.labels.ignore)


def _gather(work: Workspace) -> None:
    """Put what was found out about all cases into one table each."""
    if bins := sorted((work.path / EACH).glob("*.jsonl")):
        write_reliability(
            work.path / RELIABILITY, {case: one for path in bins for case, one in read_reliability(path).items()}
        )
    found = [read_checks(path) for path in sorted((work.path / EACH).glob("*.csv"))]
    write_checks(work.path / CHECKS, {case: checks for one in found for case, checks in one.items()})
    shutil.rmtree(work.path / EACH, ignore_errors=True)


STAGE = Stage(
    "infer",
    Settings,
    run,
    needs=("ingest", "train"),
    may_use=("pretrain", "qc"),
    spread=("seed",),
    version=4,
    foresee=foresee,
)
