"""Folders with made-up scores, as a run or ``segpipe score`` leaves them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from segpipe.core.atomic import write_json
from segpipe.score.case import definition
from segpipe.score.table import Row, error_row, write_scores

METRICS = ("dice", "nsd_1mm", "hd95_mm", "vol_ref_mm3", "vol_pred_mm3", "vol_diff_mm3")
LABELS = ("front", "back")


def case_scores(case: str, label: str, shift: float, random: np.random.Generator) -> dict[str, float]:
    """Return scores that depend on the case, its label and, by shift and chance, on the model."""
    own = np.random.default_rng([sum(map(ord, case)), len(label)])
    dice = float(np.clip(own.normal(0.85, 0.03) + shift + 0.01 * random.standard_normal(), 0, 1))
    volume = float(own.uniform(900, 1500))
    predicted = volume * float(own.normal(1, 0.03))
    values = (dice, min(dice + 0.05, 1.0), 5 - 4 * dice, volume, predicted, predicted - volume)
    return dict(zip(METRICS, values, strict=True))


def write_folder(  # noqa: PLR0913 - what a test changes has a name
    folder: Path,
    shift: float = 0.0,
    *,
    cases: int = 20,
    first: int = 0,
    seed: int = 0,
    labels: Sequence[str] = LABELS,
    failed: Sequence[str] = (),
    part: str = "test",
    changed: Mapping[tuple[str, str, str], float] | None = None,
) -> Path:
    """Write scores.csv and summary.json; ``changed`` replaces (case, label, metric)."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(first, first + cases):
        case = f"case_{number:02d}"
        if case in failed:
            rows.append(error_row(case, "there is no prediction", part))
            continue
        for label in labels:
            for metric, value in case_scores(case, label, shift, random).items():
                rows.append(Row(case, label, metric, (changed or {}).get((case, label, metric), value), part))
    folder.mkdir(parents=True)
    write_scores(folder / "scores.csv", rows)
    write_json(folder / "summary.json", {"definitions": {name: definition(name) for name in METRICS}})
    return folder


def write_manifest(folder: Path, cases: int = 20, scans: int = 1, sha: str = "00") -> None:
    """Write who the cases belong to, and the hashes of their references."""
    rows = []
    for number in range(cases):
        label = {"path": f"{number}.nii", "sha256": f"{sha}{number}"}
        own = {"id": f"case_{number:02d}", "subject": f"subject_{number // scans}"}
        rows.append(own | {"label": label, "shape": [4, 4, 4]})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
