"""What people look for after a run, gathered in one folder: OUT/latest."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from segpipe.core.stage import Artifact

LATEST = "latest"
KEPT = {
    "report.html": ("report", "report.html"),
    "scores.csv": ("evaluate", "scores.csv"),
    "summary.json": ("evaluate", "summary.json"),
    "predictions": ("infer", "predictions"),
    "model": ("train", "model"),
    "plan.json": ("preprocess", "plan.json"),
    "manifest.jsonl": ("ingest", "manifest.jsonl"),
    "quarantine.jsonl": ("ingest", "quarantine.jsonl"),
}
"""What people look for after a run, and where it lies."""


def keepsakes(made: Mapping[str, Artifact]) -> dict[str, Path]:
    """Return the files and folders that a tracker keeps with the run, by the stage that made them."""
    wanted = {"report": "report.html", "evaluate": "scores.csv", "preprocess": "plan.json", "train": "model"}
    return {stage: made[stage].path / file for stage, file in wanted.items() if stage in made}


def publish(store: Path, made: Mapping[str, Artifact]) -> Path:
    """Link what people look for under ``store/latest``, copy where links are impossible; return the folder."""
    latest = store / LATEST
    latest.mkdir(parents=True, exist_ok=True)
    for name, (stage, inside) in KEPT.items():
        link = latest / name
        source = made[stage].path / inside if stage in made else None
        if source is None or not source.exists():
            _remove(link)
            continue
        if link.is_symlink() and link.resolve() == source.resolve():
            continue
        _remove(link)
        try:
            link.symlink_to(os.path.relpath(source.resolve(), latest.resolve()))
        except OSError:
            if source.is_dir():
                shutil.copytree(source, link)
            else:
                shutil.copy2(source, link)
    return latest


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
