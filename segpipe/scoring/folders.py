"""Two folders of label maps, made by any tool -> scores.csv, summary.json and a report."""

import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from segpipe import __version__
from segpipe.config import Config
from segpipe.core.atomic import locked, write_json
from segpipe.core.errors import Exit
from segpipe.core.fingerprint import fingerprint
from segpipe.core.parallel import open_executor, run_cases
from segpipe.core.stage import Artifact, Inputs, Workspace
from segpipe.core.store import RECEIPT
from segpipe.dataset.manifest import Channel, Dataset, DatasetHeader, Refusal
from segpipe.imaging.labels import LabelSet
from segpipe.imaging.reading import Reading
from segpipe.pipeline import Told
from segpipe.score.case import check_structures
from segpipe.scoring.covariates import Covariates, read_covariates
from segpipe.scoring.labels import labels_of_folders
from segpipe.scoring.maps import reading_of_pairs
from segpipe.scoring.measure import Job, Measured, measure
from segpipe.scoring.pairs import pair_up
from segpipe.stages import evaluate, report

LAYOUT = "folders"
DATASET = "dataset"
LOCK = ".lock"
PIXELS = "No file tells the size of a pixel, so lengths are in pixels. ingest.pictures.pixel_size_um=… sets it."


@dataclass(frozen=True)
class Wanted:
    """What is scored against what, and where the result goes."""

    predictions: Path
    references: Path
    out: Path
    labels: str | None = None
    """Names of labels, as ``names.given_names`` reads them; None: from a dataset.json at hand, or the values."""
    covariates: Path | None = None
    """A table about the cases."""


@dataclass(frozen=True)
class Scored:
    """What became of it."""

    cases: int
    """Cases that have scores."""
    refused: tuple[Refusal, ...]
    """Cases that have none, and why."""
    remarks: tuple[str, ...]
    """What else should be known, one line each."""

    @property
    def code(self) -> Exit:
        """Exit code of the command line."""
        if not self.cases:
            return Exit.UNUSABLE
        return Exit.QUARANTINED if self.refused else Exit.FINE


def score_folders(wanted: Wanted, config: Config, told: Told) -> Scored:
    """Score every pair of files of one name; write scores.csv, summary.json, report.html and a manifest into ``out``.

    A pair that cannot be scored is one row of the table (``case,,error,message``), and the others go on.

    Args:
        wanted: The two folders, and what is known about them.
        config: What is measured (``evaluate``), how it is shown (``report``), how many work on it (``run.executor``).
        told: Who watches.

    Raises:
        DataError: A folder is missing or holds no label maps; names or covariates cannot be read.
        ConfigError: Something is to be measured of a structure that there is not.
        LockedError: Another process writes into ``out``.
    """
    began = time.monotonic()
    pairs, refused = pair_up(wanted.predictions, wanted.references)
    with _alone(wanted.out), open_executor(config.run.executor) as executor:
        work = Workspace(wanted.out, executor, lambda metrics, step: None, told.progress, tell=told.tell)
        labels, remarks, faults = labels_of_folders(wanted.labels, (wanted.predictions, wanted.references), pairs, work)
        check_structures(config.evaluate.metrics, labels.names)
        covariates = Covariates()
        if wanted.covariates:
            covariates = read_covariates(wanted.covariates, {pair.case for pair in pairs})
        reading = reading_of_pairs(pairs, config.ingest.pictures)
        if reading.unit == "px" and config.ingest.pictures.pixel_size_um == "metadata":
            remarks.append(PIXELS)
        left = [Job(pair, labels, config.evaluate.metrics, reading) for pair in pairs if pair.case not in faults]
        measured = {case: Measured(fault) for case, fault in faults.items()} | _measured(left, work)
        refused += [Refusal(case, one.scores) for case, one in measured.items() if isinstance(one.scores, str)]
        refused.sort(key=lambda refusal: refusal.case)
        dataset = _dataset(wanted, (labels, reading), measured, refused, covariates)
        dataset.save(wanted.out / DATASET, {"test": [case.id for case in dataset.cases], "folds": []})
        results = {refusal.case: refusal.reason for refusal in refused} | _scores(measured)
        parts = dict.fromkeys(results, "test")
        summary = evaluate.write_figures(wanted.out, dataset, results, parts, config.evaluate)
        name = _receipt(wanted.out, (config, reading), measured, summary, time.monotonic() - began)
        _report(config, name, work)
    return Scored(len(dataset.cases), tuple(refused), (*remarks, *covariates.remarks))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with locked(folder / LOCK):
        try:
            yield
        finally:
            (folder / LOCK).unlink(missing_ok=True)


def _measured(jobs: list[Job], work: Workspace) -> dict[str, Measured]:
    measured: dict[str, Measured] = {}
    with work.progress("scoring", len(jobs)) as advance:
        for case, result in run_cases(work.executor, measure, ((job.pair.case, job) for job in jobs)):
            measured[case] = result
            advance(1)
    return measured


def _scores(measured: Mapping[str, Measured]) -> dict[str, Any]:
    return {case: one.scores for case, one in measured.items() if not isinstance(one.scores, str)}


def _dataset(
    wanted: Wanted,
    known: tuple[LabelSet, Reading],
    measured: Mapping[str, Measured],
    refused: list[Refusal],
    covariates: Covariates,
) -> Dataset:
    cases = [
        one.case.model_copy(
            update={
                "subject": covariates.subjects.get(case, case),
                "covariates": covariates.others.get(case, {}),
            }
        )
        for case, one in sorted(measured.items())
        if one.case is not None
    ]
    header = DatasetHeader(
        name=wanted.predictions.resolve().name,
        layout=LAYOUT,
        channels=(Channel(name="labels"),),
        labels=known[0],
        reading=known[1],
    )
    return Dataset(header, tuple(cases), tuple(refused), (), wanted.references)


def _receipt(
    out: Path,
    how: tuple[Config, Reading],
    measured: Mapping[str, Measured],
    summary: Mapping[str, Any],
    seconds: float,
) -> str:
    """Write how the scores were made, and of which files; return the fingerprint of both."""
    files = {
        case: {"reference": one.case.label.sha256, "prediction": one.prediction.sha256}
        for case, one in sorted(measured.items())
        if one.case and one.case.label and one.prediction
    }
    config, reading = how
    settings = {"evaluate": config.evaluate.model_dump(mode="json"), "reading": reading.model_dump(mode="json")}
    name = fingerprint({"version": evaluate.STAGE.version, "settings": settings, "files": files})
    made = {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "segpipe": __version__,
        "python": platform.python_version(),
    }
    receipt = {"stage": evaluate.STAGE.name, "fingerprint": name, "version": evaluate.STAGE.version}
    write_json(out / RECEIPT, receipt | {"settings": settings, "files": files, "summary": dict(summary), "made": made})
    return name


def _report(config: Config, name: str, work: Workspace) -> None:
    inputs = Inputs(
        {
            "ingest": Artifact("ingest", name, work.path / DATASET, {}),
            "evaluate": Artifact("evaluate", name, work.path, {}),
        }
    )
    report.run(report.Settings(ingest=config.ingest, report=config.report), inputs, work)
