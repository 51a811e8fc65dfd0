"""A small cohort of ellipsoids and the artifacts of all stages, as a real run leaves them."""

import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segpipe.core.atomic import write_json
from segpipe.core.parallel import SerialExecutor
from segpipe.core.section import Section
from segpipe.core.stage import Artifact, Inputs, Stage, Summary, Workspace
from segpipe.core.store import Store
from segpipe.dataset.manifest import Dataset
from segpipe.dataset.settings import IngestConfig
from segpipe.dataset.sources.decathlon import Msd
from segpipe.dataset.splits import SplitConfig
from segpipe.imaging.files import read_volume, write_volume
from segpipe.imaging.geometry import Geometry
from segpipe.imaging.volume import Volume
from segpipe.latest import publish
from segpipe.nets.checkpoint import save_model
from segpipe.nets.unet import UNetConfig
from segpipe.predict.origin import Origin
from segpipe.report.settings import ReportConfig
from segpipe.score.case import definition
from segpipe.score.summary import summarise
from segpipe.score.table import Row, write_scores
from segpipe.stages import evaluate, infer, ingest, preprocess, report, train

SHAPE = (22, 26, 18)
NAMES = ("front", "back")
OBLIQUE = np.array([[0, -1.0, 0, 5], [1.2, 0, 0, -7], [0, 0, 1.5, 3], [0, 0, 0, 1]])
"""Axes that run A, L, S: what is drawn has to be turned."""

Labels = NDArray[np.uint8]
Predict = Callable[[str, Labels], Labels | None]


def ellipsoids(rng: np.random.Generator, shape: tuple[int, ...] = SHAPE) -> tuple[NDArray[np.int16], Labels]:
    """Return an image with two touching ellipsoids, and their labels."""
    points = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    middle = np.asarray(shape) / 2 + rng.uniform(-1, 1, len(shape))
    labels = np.zeros(shape, np.uint8)
    for value, offset in ((1, -4), (2, 4)):
        centre = middle + np.eye(len(shape))[1] * offset
        radii = rng.uniform(3, 5, len(shape))
        labels[(((points - centre) / radii) ** 2).sum(axis=-1) < 1] = value
    image = 300 * (labels > 0) + 60 * (labels == 2) + rng.normal(200, 30, shape)
    return image.astype(np.int16), labels


def write_cohort(root: Path, cases: int, names: tuple[str, str] = NAMES, damaged: int = 0) -> None:
    """Write a cohort in Decathlon layout; the last ``damaged`` cases have a label value that is not declared."""
    rng = np.random.default_rng(5)
    training = []
    for number in range(cases + damaged):
        image, labels = ellipsoids(rng)
        if number >= cases:
            labels[0, 0, 0] = 7
        name = f"case_{number:03d}.nii.gz"
        for part, array in (("imagesTr", image), ("labelsTr", labels)):
            write_volume(root / part / name, Volume(array[None], Geometry(SHAPE, OBLIQUE)))
        training.append({"image": f"imagesTr/{name}", "label": f"labelsTr/{name}"})
    described = {
        "name": "Ellipsoids",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": names[0], "2": names[1]},
        "training": training,
    }
    write_json(root / "dataset.json", described)


def moved(case: str, truth: Labels) -> Labels:
    """Predict by shifting and, in some cases, swelling the truth."""
    seed = int(re.sub(r"\D", "", case) or 0)
    rng = np.random.default_rng(seed)
    shifted = np.roll(truth, tuple(rng.integers(-1, 2, truth.ndim)), axis=tuple(range(truth.ndim)))
    if rng.random() < 0.4:
        grown = ndimage.grey_dilation(shifted, size=(3,) * truth.ndim)
        shifted = np.where(shifted == 0, grown, shifted).astype(np.uint8)
    return shifted


@contextmanager
def silent(what: str, total: int) -> Iterator[Callable[[int], None]]:
    yield lambda done: None


@dataclass
class Made:
    """Artifacts of all stages; ``infer`` and ``train`` are made up, the others are the real ones."""

    root: Path
    source: IngestConfig
    predict: Predict = moved
    artifacts: dict[str, Artifact] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        return Store(self.root / "store")

    def make(self, stage: Stage[Any], settings: Section) -> Artifact:
        wanted = (*stage.needs, *stage.may_use)
        inputs = Inputs({name: self.artifacts[name] for name in wanted if name in self.artifacts})
        tools = lambda path: Workspace(path, SerialExecutor(), lambda metrics, step: None, silent)  # noqa: E731
        self.artifacts[stage.name] = self.store.make(stage, settings, inputs, tools)
        return self.artifacts[stage.name]

    def upto_evaluate(self, *, preprocessed: bool = False, trained: bool = False) -> "Made":
        self.make(ingest.STAGE, ingest.Settings(ingest=self.source))
        if preprocessed:
            settings = preprocess.Settings(ingest=self.source, preprocess=preprocess.PreprocessConfig())
            self.make(preprocess.STAGE, settings)
        if trained:
            learn = train.Settings(ingest=self.source, model=UNetConfig(), train=train.TrainConfig())
            self.make(Stage("train", train.Settings, made_up_training, needs=("ingest",)), learn)
        draw = infer.Settings(ingest=self.source, infer=infer.InferConfig())
        self.make(Stage("infer", infer.Settings, self.draw, needs=("ingest",)), draw)
        score = evaluate.Settings(ingest=self.source, evaluate=evaluate.EvaluateConfig(resamples=200))
        self.make(evaluate.STAGE, score)
        return self

    def draw(self, settings: infer.Settings, inputs: Inputs, work: Workspace) -> Summary:
        dataset = Dataset.open(inputs["ingest"], settings.ingest.source.folder)
        failed = []
        for case in dataset.part("test"):
            files = dataset.files(case)
            assert files.label is not None
            truth = read_volume(files.label)
            drawn = self.predict(case.id, truth.array[0])
            if drawn is None:
                failed.append({"case": case.id, "reason": f"{files.images[0]}: the network saw nothing."})
                continue
            write_volume(work.path / "predictions" / f"{case.id}.nii.gz", Volume(drawn[None], truth.geometry))
        (work.path / "failed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in failed))
        write_json(work.path / "held_out.json", {case.id: "test" for case in dataset.part("test")})
        return {"cases": len(dataset.part("test")) - len(failed)}

    def report(self, config: ReportConfig | None = None, without: tuple[str, ...] = ()) -> str:
        """Return the page made of the artifacts that are not ``without``."""
        given = {name: artifact for name, artifact in self.artifacts.items() if name not in without}
        work = Workspace(self.root / "out", SerialExecutor(), lambda metrics, step: None, silent)
        unprinted = (config or ReportConfig()).model_copy(update={"pdf": False})
        settings = report.Settings(ingest=self.source, report=unprinted)
        report.run(settings, Inputs(given), work)
        return (self.root / "out" / "report.html").read_text()

    def summary(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((self.artifacts["evaluate"].path / "summary.json").read_text())
        return value


def made_up_training(settings: train.Settings, inputs: Inputs, work: Workspace) -> Summary:
    """Write what a training leaves behind, with a resumed run whose first lines for a step are wrong."""
    dataset = Dataset.open(inputs["ingest"], settings.ingest.source.folder)
    training, validation = dataset.fold(0)
    lines = [{"step": 400, "loss": 77.0}, {"step": 200, "validation_dice": 0.01}]
    for step in range(10, 1001, 10):
        lines.append({"step": step, "loss": math.exp(-step / 250) - 0.4 + 0.05 * math.sin(step), "learning_rate": 1e-3})
        if step % 200 == 0:
            dice = 0.9 - math.exp(-step / 200)
            named = {"validation_dice_front": dice + 0.02, "validation_dice_back": dice - 0.02}
            lines.append({"step": step, "validation_dice": dice, **named})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (work.path / "history.jsonl").write_text(text.replace('{"step": 20,', '{"step": 15, "lo\n{"step": 20,', 1))
    ids = [[case.id for case in part] for part in (training, validation)]
    write_json(work.path / "cases.json", {"training": ids[0], "validation": ids[1]})
    encoder = {
        "widths": [32, 64, 128], "kernels": [[3, 3, 3]] * 3, "convolutions": 2, "padding": "same", "norm": "instance",
        "activation": "leaky_relu", "dropout": 0.0,
    }  # fmt: skip
    network = {"kind": "unet", "encoder": encoder, "out_channels": 3, "heads": 2}
    write_json(work.path / "model" / "model.json", {"network": network, "weights_sha256": "ab" * 32})
    return {"steps": 1000, "resumed_at": 500, "parameters": 1_400_000}


def small_model(settings: train.Settings, inputs: Inputs, work: Workspace) -> Summary:
    """Write what a training leaves behind, with a real model folder of a network that learnt nothing."""
    told = made_up_training(settings, inputs, work)
    dataset = Dataset.open(inputs["ingest"], settings.ingest.source.folder)
    training, validation = dataset.fold(0)
    spec = UNetConfig(features=4).spec(1, 3, ((2, 2, 2),), ((3, 3, 3),) * 2)
    fingerprints = {name: artifact.fingerprint for name, artifact in inputs.artifacts.items()}
    origin = Origin(training, validation, 0, 0, 1, settings.deciding(), fingerprints=fingerprints)
    notes = {"trained_on": origin.trained_on(dataset.header.name)}
    save_model(work.path / "model", spec.build(), notes)
    return told


def made_models(root: Path) -> "Made":
    """Return a whole run with a model folder and its report, gathered in ``latest``."""
    made = cohort(root, 6, damaged=1)
    made.make(ingest.STAGE, ingest.Settings(ingest=made.source))
    made.make(preprocess.STAGE, preprocess.Settings(ingest=made.source, preprocess=preprocess.PreprocessConfig()))
    learn = train.Settings(ingest=made.source, model=UNetConfig(), train=train.TrainConfig())
    made.make(Stage("train", train.Settings, small_model, needs=("ingest", "preprocess")), learn)
    draw = infer.Settings(ingest=made.source, infer=infer.InferConfig())
    made.make(Stage("infer", infer.Settings, made.draw, needs=("ingest", "train")), draw)
    made.make(evaluate.STAGE, evaluate.Settings(ingest=made.source, evaluate=evaluate.EvaluateConfig(resamples=50)))
    made.make(report.STAGE, report.Settings(ingest=made.source, report=ReportConfig(pdf=False)))
    publish(made.store.root, Inputs(made.artifacts))
    return made


def cohort(
    root: Path,
    cases: int,
    predict: Predict = moved,
    *,
    test: float = 0.5,
    damaged: int = 0,
    names: tuple[str, str] = NAMES,
) -> Made:
    write_cohort(root / "data", cases, names, damaged)
    source = IngestConfig(source=Msd(root=root / "data"), split=SplitConfig(test_fraction=test))
    return Made(root, source, predict)


def many(root: Path, cases: int, *, drawn: bool = False) -> Made:
    """Return artifacts of a large cohort whose scores are made up; ``drawn``: each with one and the same prediction."""
    made = cohort(root, 6).upto_evaluate()
    rng = np.random.default_rng(0)
    manifest = [
        json.loads(line) for line in (made.artifacts["ingest"].path / "manifest.jsonl").read_text().splitlines()
    ]
    first = next(row for row in manifest if row["part"] == "test")
    names = [f"subject_{number:04d}" for number in range(cases)]
    (root / "ingest").mkdir()
    for file in ("dataset.json", "quarantine.jsonl", "splits.json"):
        shutil.copy(made.artifacts["ingest"].path / file, root / "ingest" / file)
    lines = [json.dumps(first | {"id": name, "subject": name}) for name in names]
    (root / "ingest" / "manifest.jsonl").write_text("\n".join(lines))
    rows = []
    for name in names:
        for label in NAMES:
            size = float(rng.uniform(1000, 3000))
            values = {
                "dice": rng.beta(18, 2),
                "nsd_1mm": rng.beta(20, 2),
                "hd95_mm": rng.gamma(2.0),
                "assd_mm": rng.random(),
            }
            values |= {"vol_ref_mm3": size, "vol_pred_mm3": size * rng.normal(1, 0.05), "vol_diff_mm3": 0.0}
            rows += [Row(name, label, metric, float(value)) for metric, value in values.items()]
    (root / "evaluate").mkdir()
    write_scores(root / "evaluate" / "scores.csv", rows)
    figures = summarise(rows, {name: name for name in names}, resamples=20)
    told = [{key: None if value != value else value for key, value in vars(f).items()} for f in figures]  # noqa: PLR0124
    definitions = {f.metric: definition(f.metric) for f in figures}
    write_json(root / "evaluate" / "summary.json", {"confidence": 0.95, "definitions": definitions, "scores": told})
    if drawn:
        (root / "infer" / "predictions").mkdir(parents=True)
        drawing = made.artifacts["infer"].path / "predictions" / f"{first['id']}.nii.gz"
        for name in names:
            shutil.copy(drawing, root / "infer" / "predictions" / f"{name}.nii.gz")
    stages = ("ingest", "infer", "evaluate") if drawn else ("ingest", "evaluate")
    made.artifacts = {stage: Artifact(stage, "0" * 16, root / stage, {}) for stage in stages}
    return made
