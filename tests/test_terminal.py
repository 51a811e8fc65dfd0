"""The table at the end of a run: the figures that people look for first, each once."""

import json
from pathlib import Path
from typing import Any

import pytest

from segpipe.terminal import Terminal


def row(label: str, metric: str, mean: float | None = 0.5) -> dict[str, Any]:
    return {"label": label, "metric": metric, "mean": mean, "median": 0.25, "low": 0.1, "high": 0.75, "n": 5}


def table(folder: Path, capsys: pytest.CaptureFixture[str], *rows: dict[str, Any]) -> list[list[str]]:
    summary = folder / "summary.json"
    summary.write_text(json.dumps({"confidence": 0.95, "scores": rows}))
    Terminal().scores(summary)
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0] == ["structure", "metric", "mean", "95%", "interval", "median", "cases"]
    return [line[:2] for line in lines[1:]]


def test_overlap_and_distance_are_told_for_each_structure_and_their_mean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row(label, metric) for label in ("head", "tail", "mean") for metric in ("dice", "hd95_px", "assd_px")]
    wanted = [[label, metric] for label in ("head", "tail", "mean") for metric in ("dice", "hd95_px")]
    assert table(tmp_path, capsys, *rows) == wanted


def test_the_mean_over_a_single_structure_is_not_told_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row("cell", "dice"), row("mean", "dice")]
    assert table(tmp_path, capsys, *rows) == [["cell", "dice"]]


def test_where_objects_are_told_apart_their_scores_are_there_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = ("dice", "vrand", "vrand_split", "vinfo", "pixel_error")
    found = table(tmp_path, capsys, *[row("cell", metric) for metric in metrics], row("cell", "hd95_px", None))
    assert found == [["cell", "dice"], ["cell", "vrand"], ["cell", "vinfo"], ["cell", "pixel_error"]]
