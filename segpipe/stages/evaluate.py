"""Label maps and truth -> scores.csv and summary.json."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

from segpipe.core.atomic import write_json
from segpipe.core.errors import DataError, SegpipeError
from segpipe.core.parallel import run_cases
from segpipe.core.section import Section
from segpipe.core.stage import Inputs, Stage, Summary, Workspace
from segpipe.dataset.load import load_labels, load_prediction
from segpipe.dataset.manifest import CaseFiles, Dataset
from segpipe.dataset.settings import IngestConfig
from segpipe.imaging.labels import LabelSet
from segpipe.score.case import MetricsConfig, definition, score_case
from segpipe.score.summary import Summary as Figures
from segpipe.score.summary import summarise
from segpipe.score.table import Row, error_row, told_name, write_scores

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


class Settings(Section):
    """Everything that decides what this stage writes."""

    ingest: IngestConfig
    evaluate: EvaluateConfig


@dataclass(frozen=True)
class ScoreJob:
    """One prediction and its truth."""

    prediction: Path
    files: CaseFiles
    labels: LabelSet
    metrics: MetricsConfig


def score_files(job: ScoreJob) -> dict[tuple[str, str], float] | str:
    """Return the figures of a case by (structure, metric), or the one line that says why there are none."""
    try:
        if not job.prediction.is_file():
            raise DataError(f"{job.prediction.name}: there is no prediction. Look at the log of infer.")
        prediction, truth = load_prediction(job.prediction, job.files), load_labels(job.files)
        if not prediction.geometry.matches(truth.geometry, TOLERANCE_MM):
            raise DataError(f"{job.prediction.name}: lies on another grid than its label map.")
        return score_case(
            prediction.array[0].astype(int),
            truth.array[0].astype(int),
            truth.geometry.spacing,
            job.labels.groups(),
            job.metrics,
            job.labels.ignore,
        )
    except SegpipeError as error:
        return str(error)


def run(settings: Settings, inputs: Inputs, work: Workspace) -> Summary:
    """Score every labelled prediction; summarise over subjects."""
    dataset = Dataset.open(inputs["ingest"], settings.ingest.source.folder)
    config = settings.evaluate
    parts: dict[str, str] = json.loads((inputs["infer"] / "held_out.json").read_text())
    jobs = {
        case.id: ScoreJob(
            inputs["infer"] / "predictions" / files.prediction, files, dataset.header.labels, config.metrics
        )
        for case, files in ((case, dataset.files(case)) for case in dataset.cases)
        if case.id in parts and files.label is not None
    }
    results: dict[str, dict[tuple[str, str], float] | str] = {}
    with work.progress("scoring", len(jobs)) as advance:
        for case, result in run_cases(work.executor, score_files, jobs.items()):
            results[case] = result
            advance(1)
    rows = [row for case in sorted(results) for row in _rows(case, results[case], parts[case])]
    unit, rank = dataset.header.reading.unit, len(dataset.cases[0].shape)
    write_scores(work.path / "scores.csv", rows, unit, rank)
    figures = _summary(rows, dataset, config)
    names = list(dict.fromkeys(row.part for row in rows))
    each = {part: _summary([row for row in rows if row.part == part], dataset, config) for part in names}
    write_json(work.path / "summary.json", _described(figures, each, rows, config, (unit, rank)))
    errors = sum(row.metric == "error" for row in rows)
    dice = {f"dice_{f.label}": f.mean for f in figures if f.metric == "dice"}
    return {"cases": len(results) - errors, "errors": errors} | {k: v for k, v in dice.items() if v == v}  # noqa: PLR0124 - NaN


def _rows(case: str, result: Mapping[tuple[str, str], float] | str, part: str) -> list[Row]:
    if isinstance(result, str):
        return [error_row(case, result, part)]
    return [Row(case, label, metric, value, part) for (label, metric), value in result.items()]


def _summary(rows: list[Row], dataset: Dataset, config: EvaluateConfig) -> list[Figures]:
    return summarise(rows, dataset.subjects, config.seed, config.resamples, config.confidence)


def _plain(figures: list[Figures], lengths: tuple[str, int]) -> list[dict[str, object]]:
    return [
        {k: None if v != v else v for k, v in asdict(figure).items()}  # noqa: PLR0124 - NaN
        | {"metric": told_name(figure.metric, *lengths)}
        for figure in figures
    ]


def _described(
    figures: list[Figures],
    each: Mapping[str, list[Figures]],
    rows: list[Row],
    config: EvaluateConfig,
    lengths: tuple[str, int],
) -> dict[str, object]:
    return {
        "confidence": config.confidence,
        "resampled": "subjects",
        "unit": lengths[0],
        "definitions": {
            told_name(name, *lengths): definition(name).replace("mm]", f"{lengths[0]}]")
            for name in dict.fromkeys(f.metric for f in figures)
        },
        "scores": _plain(figures, lengths),
        "parts": {part: _plain(own, lengths) for part, own in each.items()} if len(each) > 1 else {},
        "errors": {row.case: row.value for row in rows if row.metric == "error"},
    }


STAGE = Stage("evaluate", Settings, run, needs=("ingest", "infer"), spread=("seed",), version=3)
