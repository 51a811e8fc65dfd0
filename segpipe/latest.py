"""What people look for after a run, gathered in one folder: OUT/latest."""

import os
import shutil
from pathlib import Path

from segpipe.core.stage import Inputs

LATEST = "latest"
KEPT = {
    "report.html": ("report", "report.html"),
    "report.pdf": ("report", "report.pdf"),
    "scores.csv": ("evaluate", "scores.csv"),
    "summary.json": ("evaluate", "summary.json"),
    "predictions": ("infer", "predictions"),
    "checks.csv": ("infer", "checks.csv"),
    "model": ("train", "model"),
    "encoder": ("pretrain", ""),
    "plan.json": ("preprocess", "plan.json"),
    "manifest.jsonl": ("ingest", "manifest.jsonl"),
    "quarantine.jsonl": ("ingest", "quarantine.jsonl"),
}
"""What people look for after a run, and where it lies."""

BESIDE_MODEL = ("qc", ("usual_scans.json", "shapes.json", "shapes.safetensors", "flags.json"))
"""What lies in the model's folder too, so that whoever is given that one can tell scans of another kind, and odd
predictions."""


def keepsakes(made: Inputs) -> dict[str, Path]:
    """Return the files and folders that a tracker keeps with the run, by the folder it keeps them in."""
    wanted = {"report": "report.html", "evaluate": "scores.csv", "preprocess": "plan.json", "train": "model"}
    return {
        f"{stage}/{_folder(point)}" if point else stage: artifact.path / file
        for stage, file in wanted.items()
        for point, artifact in made.every(stage).items()
    }


def publish(store: Path, made: Inputs) -> Path:
    """Link what people look for under ``store/latest``, copy where links are impossible; return the folder.

    Of several results of one stage the first is shown, but several models lie in ``model`` together,
    which is a model too: the mean of them all. What scans and shapes usually look like lies with it.
    """
    latest = store / LATEST
    latest.mkdir(parents=True, exist_ok=True)
    stage, names = BESIDE_MODEL
    known = made.get(stage)
    usual = {name: known / name for name in names if (known / name).is_file()} if known else {}
    for name, (stage, inside) in KEPT.items():
        found = {point: artifact.path / inside for point, artifact in made.every(stage).items()}
        there = {point: path for point, path in found.items() if path.exists()}
        if stage == "train" and there and (len(there) > 1 or usual):
            _remove(latest / name)
            (latest / name).mkdir()
            for label, path in {**_model_of(there), **usual}.items():
                _link(latest / name / label, path)
        elif there:
            _link(latest / name, next(iter(there.values())))
        else:
            _remove(latest / name)
    return latest


def _model_of(there: dict[str, Path]) -> dict[str, Path]:
    """Return what lies in the folder of one model, or of several, by name."""
    if len(there) > 1:
        return {_folder(point): path for point, path in there.items()}
    return {path.name: path for path in sorted(next(iter(there.values())).iterdir())}


def _folder(point: str) -> str:
    """Return ``seed1-fold0`` for ``seed 1 fold 0``."""
    words = point.split(" ")
    return "-".join(f"{axis}{value}" for axis, value in zip(words[::2], words[1::2], strict=True))


def _link(link: Path, source: Path) -> None:
    if link.is_symlink() and link.resolve() == source.resolve():
        return
    _remove(link)
    try:
        link.symlink_to(os.path.relpath(source.resolve(), link.parent.resolve()))
    except OSError:
        if source.is_dir():
            shutil.copytree(source, link)
        else:
            shutil.copy2(source, link)


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
