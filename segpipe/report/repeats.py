"""What a run did several times: networks by fold and seed, figures by part of the data, spread over seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segpipe.report.material import Figures, Material
from segpipe.report.wording import UNDEFINED, number, shown, span
from segpipe.score.summary import OVERALL

ALL = "Mean of structures"
PARTS = {
    "test": "Untouched test cases",
    "out_of_fold": "Cases to develop, each by the network that never saw it",
}
"""Why a case may be scored, in words."""
DIGITS = 4


def by_part(material: Material) -> list[dict[str, Any]]:
    """Return a row for each part of the data, structure and main metric; none where there is one part only."""
    rows = []
    for part, figures in material.parts.items():
        first = True
        for structure in _structures(material):
            for metric in material.scores.main[:3]:
                if (f := figures.get((structure, metric))) is None:
                    continue
                rows.append(
                    {
                        "part": PARTS.get(part, part) if first else "",
                        "structure": ALL if structure == OVERALL else structure,
                        "metric": material.name_of(metric),
                        "unit": material.unit_of(metric),
                        "mean": shown(f.mean, metric),
                        "interval": span(f.low, f.high, metric),
                        "median": shown(f.median, metric),
                        "n": f.n,
                    }
                )
                first = False
    return rows


def over_seeds(material: Material) -> dict[str, Any] | None:
    """Return the means of each seed, and their mean and standard deviation (n - 1); None for a single seed."""
    if len(material.repeats) < 2:
        return None
    rows = []
    for structure in _structures(material):
        for metric in material.scores.main:
            if (values := _means(material.repeats, structure, metric)) is None:
                continue
            rows.append(
                {
                    "structure": ALL if structure == OVERALL else structure,
                    "metric": material.name_of(metric),
                    "unit": material.unit_of(metric),
                    "mean": number(float(values.mean()), DIGITS),
                    "sd": number(float(values.std(ddof=1)), DIGITS),
                    "each": [number(float(value), DIGITS) for value in values],
                }
            )
    return {"names": list(material.repeats), "rows": rows}


def spread_of_dice(material: Material) -> str:
    """Return `SD over 3 seeds 0.0007` for the mean Dice, or nothing for a single seed."""
    if len(material.repeats) < 2:
        return ""
    structure = OVERALL if len(material.scores.structures) > 1 else next(iter(material.scores.structures), OVERALL)
    values = _means(material.repeats, structure, "dice")
    return "" if values is None else f"SD over {len(values)} seeds {number(float(values.std(ddof=1)), DIGITS)}"


def trainings(material: Material) -> list[dict[str, str]]:
    """Return a row for each network that was trained; none where there is one only."""
    if len(material.trainings) < 2:
        return []
    rows = []
    for name, receipt in material.trainings.items():
        dice = receipt("summary.validation_dice")
        rows.append(
            {
                "name": name,
                "training": str(receipt("summary.training_cases") or UNDEFINED),
                "validation": str(receipt("summary.validation_cases") or UNDEFINED),
                "dice": UNDEFINED if dice is None else number(dice, DIGITS),
                "fingerprint": receipt.fingerprint,
            }
        )
    return rows


def _structures(material: Material) -> Sequence[str]:
    names = material.scores.structures
    return (OVERALL, *names) if len(names) > 1 else names


def _means(repeats: Mapping[str, Figures], structure: str, metric: str) -> Any:
    found = [figures[structure, metric].mean for figures in repeats.values() if (structure, metric) in figures]
    values = np.asarray(found)
    return values if len(found) == len(repeats) and np.isfinite(values).all() else None
