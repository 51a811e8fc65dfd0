"""Label maps and truth -> scores.csv and summary.json."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, PositiveInt

from segpipe.core.atomic import write_json
from segpipe.core.errors import DataError, SegpipeError
from segpipe.core.parallel import run_cases
from segpipe.core.section import Section
from segpipe.core.stage import Inputs, Stage, Summary, Workspace
from segpipe.dataset.load import load_labels, load_prediction
from segpipe.dataset.manifest import Case, CaseFiles, Dataset
from segpipe.dataset.settings import IngestConfig
from segpipe.imaging.labels import LabelSet
from segpipe.quality.checks import CHECKS, Check, read_checks
from segpipe.quality.outcome import outcome
from segpipe.score.boxes import whole_numbers
from segpipe.score.calibration import Reliability, together
from segpipe.score.case import MetricsConfig, check_structures, definition, score_case
from segpipe.score.interval import METHOD
from segpipe.score.reliability_file import RELIABILITY, as_row, read_reliability
from segpipe.score.reliability_file import Cases as Bins
from segpipe.score.subgroups import SubgroupsConfig, subgroups
from segpipe.score.summary import OVERALL, columns, over_structures, summarise
from segpipe.score.summary import Summary as Figures
from segpipe.score.table import Row, error_row, scored_rows, told_name, write_scores
from segpipe.score.volumes import compare_volumes, described

TOLERANCE_MM = 1e-2


class EvaluateConfig(Section):
    """What is measured, and how sure it is."""

    metrics: MetricsConfig = MetricsConfig()
    """Which figures of each case."""
    resamples: PositiveInt = 2000
    """Bootstrap resamples of an interval."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Confidence of an interval."""
    seed: NonNegativeInt = 0
    """Seed of the resampling."""
    subgroups: SubgroupsConfig = SubgroupsConfig()
    """Which parts of the cases are looked at for themselves."""


class Settings(Section):
    """Everything that decides what this stage writes."""

    ingest: IngestConfig
    evaluate: EvaluateConfig


@dataclass(frozen=True)
class Known:
    """What infer knows of the cases beside their label maps."""

    bins: Bins
    checks: Mapping[str, Sequence[Check]]


NOTHING_KNOWN = Known({}, {})


@dataclass(frozen=True)
class ScoreJob:
    """One prediction and its truth."""

    prediction: Path
    files: CaseFiles
    labels: LabelSet
    metrics: MetricsConfig
    bins: Mapping[str, Reliability] = field(default_factory=dict)
    """How often probabilities of each structure are right, as infer counted; empty where there are none."""


def job_of(case: Case, dataset: Dataset, infer: Path, metrics: MetricsConfig, bins: Bins) -> ScoreJob | None:
    """Return what is to be scored of a case; None where it has no reference."""
    files = dataset.files(case)
    if files.label is None:
        return None
    return ScoreJob(
        infer / "predictions" / files.prediction, files, dataset.header.labels, metrics, bins.get(case.id, {})
    )


def score_files(job: ScoreJob) -> dict[tuple[str, str], float] | str:
    """Return the figures of a case by (structure, metric), or the one line that says why there are none."""
    try:
        if not job.prediction.is_file():
            raise DataError(f"{job.prediction.name}: there is no prediction. Look at the log of infer.")
        prediction, truth = load_prediction(job.prediction, job.files), load_labels(job.files)
        if not prediction.geometry.matches(truth.geometry, TOLERANCE_MM):
            raise DataError(f"{job.prediction.name}: lies on another grid than its label map.")
        scores = score_case(
            whole_numbers(prediction.array[0]),
            whole_numbers(truth.array[0]),
            truth.geometry.spacing,
            job.labels.groups(),
            job.metrics,
            job.labels.ignore,
        )
        for name, one in job.bins.items():
            scores |= {(name, "ece"): one.ece, (name, "brier"): one.brier}
        return scores
    except SegpipeError as error:
        return str(error)


def run(settings: Settings, inputs: Inputs, work: Workspace) -> Summary:
    """Score every labelled prediction; summarise over subjects."""
    dataset = Dataset.open(inputs["ingest"], settings.ingest.source.folder)
    config = settings.evaluate
    parts: dict[str, str] = json.loads((inputs["infer"] / "held_out.json").read_text())
    infer = inputs["infer"]
    bins = read_reliability(infer / RELIABILITY)
    jobs = {
        case.id: job
        for case in dataset.cases
        if case.id in parts and (job := job_of(case, dataset, infer, config.metrics, bins))
    }
    results: dict[str, dict[tuple[str, str], float] | str] = {}
    with work.progress("scoring", len(jobs)) as advance:
        for case, result in run_cases(work.executor, score_files, jobs.items()):
            results[case] = result
            advance(1)
    checks = read_checks(infer / CHECKS) if (infer / CHECKS).is_file() else {}
    return write_figures(work.path, dataset, results, parts, config, Known(bins, checks))


def foresee(settings: Settings, inputs: Inputs) -> None:
    """Refuse to measure structures that there are not.

    Raises:
        ConfigError: One is named.
    """
    dataset = Dataset.open(inputs["ingest"], settings.ingest.source.folder)
    check_structures(settings.evaluate.metrics, dataset.header.labels.names)


def write_figures(
    folder: Path,
    dataset: Dataset,
    results: Mapping[str, dict[tuple[str, str], float] | str],
    parts: Mapping[str, str],
    config: EvaluateConfig,
    known: Known = NOTHING_KNOWN,
) -> Summary:
    """Write scores.csv and summary.json of the results of each case, or of why it has none; return the main figures."""
    rows = [row for case in sorted(results) for row in _rows(case, results[case], parts[case])]
    unit, rank = dataset.header.reading.unit, len(dataset.cases[0].shape) if dataset.cases else 3
    write_scores(folder / "scores.csv", rows, unit, rank)
    figures = _summary(rows, dataset, config)
    names = list(dict.fromkeys(row.part for row in rows))
    each = {part: _summary([row for row in rows if row.part == part], dataset, config) for part in names}
    told = _described(figures, each, rows, config, (unit, rank)) | _looked_into(rows, dataset, config)
    told |= _calibrated(results, known.bins) | _judged(rows, known.checks)
    write_json(folder / "summary.json", _without_nan(told))
    errors = sum(row.metric == "error" for row in rows)
    dice = {f"dice_{f.label}": f.mean for f in figures if f.metric == "dice"}
    return {"cases": len(results) - errors, "errors": errors} | {k: v for k, v in dice.items() if v == v}  # noqa: PLR0124 - NaN


def _rows(case: str, result: Mapping[tuple[str, str], float] | str, part: str) -> list[Row]:
    if isinstance(result, str):
        return [error_row(case, result, part)]
    return scored_rows(case, result, part)


def _summary(rows: list[Row], dataset: Dataset, config: EvaluateConfig) -> list[Figures]:
    return summarise(rows, dataset.subjects, config.seed, config.resamples, config.confidence)


def _plain(figures: list[Figures], lengths: tuple[str, int]) -> list[dict[str, Any]]:
    return [asdict(figure) | {"metric": told_name(figure.metric, *lengths)} for figure in figures]


def _described(
    figures: list[Figures],
    each: Mapping[str, list[Figures]],
    rows: list[Row],
    config: EvaluateConfig,
    lengths: tuple[str, int],
) -> dict[str, Any]:
    return {
        "confidence": config.confidence,
        "resampled": "subjects",
        "interval": METHOD,
        "unit": lengths[0],
        "definitions": {
            told_name(name, *lengths): definition(name).replace("mm]", f"{lengths[0]}]")
            for name in dict.fromkeys(f.metric for f in figures)
        },
        "scores": _plain(figures, lengths),
        "parts": {part: _plain(own, lengths) for part, own in each.items()} if len(each) > 1 else {},
        "detections": _detections(rows),
        "errors": {row.case: row.value for row in rows if row.metric == "error"},
    }


def _looked_into(rows: list[Row], dataset: Dataset, config: EvaluateConfig) -> dict[str, Any]:
    """Return the agreement of volumes, and mean Dice by subgroup."""
    scores, _ = columns(rows)
    defined = {
        key: {case: value for case, value in column.items() if math.isfinite(value)}
        for key, column in (scores | over_structures(scores)).items()
    }
    agreement = []
    for structure in dict.fromkeys(label for label, _ in scores):
        reference, predicted = (defined.get((structure, metric), {}) for metric in ("vol_ref_mm3", "vol_pred_mm3"))
        if volumes := compare_volumes(reference, predicted, dataset.subjects, config.confidence):
            agreement.append(described(structure, volumes))
    covariates = {case.id: case.covariates for case in dataset.cases}
    drawn = (config.seed, config.resamples, config.confidence)
    dice = defined.get((OVERALL, "dice"), {})
    divided = subgroups(dice, covariates, dataset.subjects, config.subgroups, *drawn)
    return {"agreement": agreement, "subgroups": list(map(asdict, divided))}


def _calibrated(results: Mapping[str, object], bins: Bins) -> dict[str, Any]:
    """Return the bins of each structure over all scored cases, every voxel counting alike; nothing without any."""
    each: dict[str, list[Reliability]] = {}
    for case, result in results.items():
        if not isinstance(result, str):
            for name, one in bins.get(case, {}).items():
                each.setdefault(name, []).append(one)
    pooled = {name: together(parts) for name, parts in each.items()}
    told = [{"label": name, "ece": one.ece} | as_row(one) for name, one in pooled.items()]
    return {"calibration": told} if told else {}


def _judged(rows: list[Row], checks: Mapping[str, Sequence[Check]]) -> dict[str, Any]:
    """Return how the flags and the predicted Dice of cases compare with their Dice; nothing without any."""
    scores, _ = columns(rows)
    found = outcome(checks, over_structures(scores).get((OVERALL, "dice"), {}))
    return {"quality_control": asdict(found)} if found else {}


def _without_nan(value: Any) -> Any:
    """Return JSON values with null for what is not known."""
    if isinstance(value, Mapping):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _detections(rows: list[Row]) -> list[dict[str, object]]:
    """Return objects found, made up and missed over all cases together, where they were counted."""
    sums: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        kind, _, threshold = row.metric.removeprefix("lesion_").partition("_iou")
        if kind in ("tp", "fp", "fn") and threshold and not isinstance(row.value, str):
            counts = sums.setdefault((row.label, threshold), {"tp": 0, "fp": 0, "fn": 0, "cases": 0})
            counts[kind] += round(row.value)
            counts["cases"] += kind == "tp"
    found: list[dict[str, object]] = []
    for (label, threshold), counts in sums.items():
        whole = 2 * counts["tp"] + counts["fp"] + counts["fn"]
        told: dict[str, object] = {"label": label, "iou_above": float(threshold), **counts}
        told["f1"] = 2 * counts["tp"] / whole if whole else None
        found.append(told | {"fp_per_case": counts["fp"] / counts["cases"]})
    return found


STAGE = Stage("evaluate", Settings, run, needs=("ingest", "infer"), spread=("seed",), version=4, foresee=foresee)
