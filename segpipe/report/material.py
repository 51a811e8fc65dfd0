"""Everything the report is written from, read from the folders of the stages before it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from segpipe.core.errors import ArtifactError
from segpipe.core.stage import Artifact, Inputs
from segpipe.core.store import HISTORY, RECEIPT
from segpipe.dataset.manifest import Dataset, read_jsonl
from segpipe.dataset.plan import Plan
from segpipe.dataset.prepare import PreparedSet
from segpipe.quality.checks import CHECKS, Check, read_checks
from segpipe.report.latent import Latent, read_latent
from segpipe.report.scores import Scores
from segpipe.report.wording import name_of, unit_of, without_paths
from segpipe.score.interval import METHOD
from segpipe.score.summary import OVERALL, Summary
from segpipe.score.table import known_name

STAGES = ("ingest", "preprocess", "pretrain", "train", "qc", "infer", "evaluate")

Curves = Mapping[str, list[tuple[int, float]]]
"""Name of a figure -> its values by step, in order."""
Figures = Mapping[tuple[str, str], Summary]
"""(structure, metric) -> its summary."""


@dataclass(frozen=True)
class Receipt:
    """What an artifact says of how it was made; empty values where it says nothing."""

    stage: str
    fingerprint: str
    content: Mapping[str, Any]

    def __call__(self, key: str) -> Any:
        """Return what stands under a dotted key, such as ``settings.train.fit.steps``, or None."""
        node: Any = self.content
        for name in key.split("."):
            node = node.get(name) if isinstance(node, dict) else None
        return node


@dataclass(frozen=True)
class Material:
    """What the stages before left behind; what an optional stage would have left is None or empty."""

    dataset: Dataset
    scores: Scores
    figures: Figures
    """Over all scored cases; of several seeds, the first."""
    parts: Mapping[str, Figures]
    """The same over the parts of the data, ``test`` and ``out_of_fold``; empty where there is one part only."""
    repeats: Mapping[str, Figures]
    """The same of each seed; empty for a single one."""
    trainings: Mapping[str, "Receipt"]
    """Each network that was trained, by seed and fold in words; an only one has no name."""
    definitions: Mapping[str, str]
    """Metric -> the id of its definition."""
    confidence: float
    interval: str
    """How intervals of means were made."""
    subgroups: Sequence[Mapping[str, Any]]
    """Mean Dice by covariate, as the evaluation wrote it; empty where nothing divides the cases."""
    calibration: Sequence[Mapping[str, Any]]
    """How often probabilities of each structure were right; empty where there were none."""
    judged: Mapping[str, Any]
    """What became of flags and predicted Dice; empty where there were none."""
    receipts: Mapping[str, Receipt]
    artifacts: Sequence[Artifact]
    """Every folder that the report was given, in the order of the stages."""
    plan: Plan | None
    model: Mapping[str, Any]
    """What stands in the model's file beside the weights."""
    training: Curves
    pretraining: Curves
    latent: Latent | None
    """What pretraining wrote about its latent space."""
    divided: Mapping[str, tuple[str, ...]]
    """Ids of the ``training`` and ``validation`` cases."""
    prepared: PreparedSet | None
    predictions: Path | None
    refused: Mapping[str, str]
    """Cases that could not be segmented, and why."""
    checks: Mapping[str, Sequence[Check]]
    """What is known of each segmented case without its reference."""

    @property
    def held_out(self) -> list[str]:
        """Cases that were to be scored: the test split, and those held out from the network that drew them."""
        test = {case.id for case in self.dataset.part("test")}
        return sorted(test | set(self.scores.cases))

    @property
    def rank(self) -> int:
        """2 or 3 axes."""
        return len(self.dataset.cases[0].shape) if self.dataset.cases else 3

    @property
    def unit(self) -> str:
        """The unit of lengths, as people write it."""
        return self.dataset.header.reading.sign

    @property
    def dot(self) -> str:
        """What an image is made of."""
        return "pixel" if self.rank == 2 else "voxel"

    @property
    def extent(self) -> str:
        """What a structure has."""
        return "area" if self.rank == 2 else "volume"

    def name_of(self, metric: str) -> str:
        """Return a metric's name for people."""
        return name_of(metric, self.rank, self.dataset.header.reading.unit)

    def unit_of(self, metric: str) -> str:
        """Return the unit of a metric to print."""
        return unit_of(metric, self.rank, self.dataset.header.reading.unit)

    @property
    def index(self) -> dict[str, int]:
        """Number of each scored case: how charts and table name it to one another."""
        return {case: number for number, case in enumerate(self.scores.cases)}

    def reason(self, case: str) -> str:
        """Return why a case has no scores, without the folders of this machine; empty where it has."""
        scored = case in self.scores.cases and case not in self.scores.errors
        said = "" if scored else self.scores.errors.get(case, "no scores were written.")
        return without_paths(self.refused.get(case, said) if said else "", self.dataset.root)

    def figure(self, metric: str, structure: str = OVERALL) -> Summary | None:
        """Return the summary of a structure and metric; without a structure, that over all of them."""
        return self.figures.get((structure, metric))

    def receipt(self, stage: str) -> Receipt:
        """Return the receipt of a stage; an empty one where it did not run."""
        return self.receipts.get(stage, Receipt(stage, "", {}))


def read_material(inputs: Inputs, source: Path) -> Material:
    """Read all folders; ``source`` is where the scans lie.

    Raises:
        ArtifactError: What ingest or evaluate wrote is missing or damaged.
    """
    dataset = Dataset.open(inputs["ingest"], source)
    evaluated = inputs["evaluate"]
    summary = _json(evaluated / "summary.json")
    if not summary:
        raise ArtifactError("evaluate/summary.json is missing or damaged. Run the evaluation again.")
    train, infer, pretrain = inputs.get("train"), inputs.get("infer"), inputs.get("pretrain")
    evaluations, trainings = inputs.every("evaluate"), inputs.every("train")
    repeats = {name: _json(artifact.path / "summary.json") for name, artifact in evaluations.items()}
    return Material(
        dataset=dataset,
        scores=Scores.read(evaluated / "scores.csv", dataset.header.labels.names),
        figures=_figures(summary.get("scores", [])),
        parts={part: _figures(rows) for part, rows in summary.get("parts", {}).items()},
        repeats={name: _figures(one.get("scores", [])) for name, one in repeats.items()} if len(repeats) > 1 else {},
        trainings={name: _receipt("train", artifact) for name, artifact in trainings.items()},
        definitions={known_name(name): text for name, text in summary.get("definitions", {}).items()},
        confidence=float(summary.get("confidence", 0.95)),
        interval=str(summary.get("interval", METHOD)),
        subgroups=summary.get("subgroups", []),
        calibration=summary.get("calibration", []),
        judged={k: math.nan if v is None else v for k, v in summary.get("quality_control", {}).items()},
        receipts={
            stage: _receipt(stage, artifact) for stage in STAGES for artifact in list(inputs.every(stage).values())[:1]
        },
        artifacts=[artifact for stage in STAGES for artifact in inputs.every(stage).values()],
        plan=_plan(inputs.get("preprocess")),
        model=_json(train / "model" / "model.json") if train else {},
        training=read_curves(train / HISTORY) if train else {},
        pretraining=read_curves(pretrain / HISTORY) if pretrain else {},
        latent=read_latent(pretrain / "latent") if pretrain else None,
        divided={part: tuple(ids) for part, ids in (_json(train / "cases.json") if train else {}).items()},
        prepared=PreparedSet(folder) if (folder := inputs.get("preprocess")) else None,
        predictions=infer / "predictions" if infer and (infer / "predictions").is_dir() else None,
        refused={row["case"]: row["reason"] for row in _rows(infer / "failed.jsonl")} if infer else {},
        checks=_checks(infer / CHECKS) if infer else {},
    )


def read_curves(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the figures that a stage logged; of two lines for one step (a resumed run) the later one holds.

    A line that was cut off when the run was killed is passed over.
    """
    found: dict[str, dict[int, float]] = {}
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
            step = int(row.pop("step"))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        for name, value in row.items():
            if isinstance(value, int | float) and math.isfinite(value):
                found.setdefault(name, {})[step] = float(value)
    return {name: sorted(points.items()) for name, points in found.items()}


def _figures(rows: Sequence[Mapping[str, Any]]) -> Figures:
    known: list[dict[str, Any]] = [
        {k: math.nan if value is None else value for k, value in row.items()} for row in rows
    ]
    figures = [Summary(**(row | {"metric": known_name(row["metric"])})) for row in known]
    return {(figure.label, figure.metric): figure for figure in figures}


def _receipt(stage: str, artifact: Artifact) -> Receipt:
    return Receipt(stage, artifact.fingerprint, _json(artifact.path / RECEIPT))


def _plan(folder: Path | None) -> Plan | None:
    if folder is None:
        return None
    try:
        return Plan.model_validate_json((folder / "plan.json").read_text())
    except (OSError, ValidationError):
        return None


def _json(path: Path) -> dict[str, Any]:
    """Return a JSON object; an empty one where the file is missing or damaged: a report leaves out, it never fails."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _checks(path: Path) -> Mapping[str, Sequence[Check]]:
    try:
        return read_checks(path)
    except ArtifactError:
        return {}


def _rows(path: Path) -> list[dict[str, Any]]:
    return read_jsonl(path) if path.is_file() else []
