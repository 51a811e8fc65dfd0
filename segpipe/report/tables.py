"""The two tables: accuracy by structure and metric, and one row for each case."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from segpipe.report.material import Material
from segpipe.report.wording import (
    UNDEFINED,
    number,
    shown,
    signed,
    span,
    volume_digits,
)
from segpipe.score.summary import OVERALL, Summary

ALL = "Mean of structures"
MOST_COLUMNS = 4
"""Structures with a Dice column of their own."""


@dataclass(frozen=True)
class Cell:
    """A cell of the table of cases."""

    text: str
    bar: int | None = None
    """Length of a bar beneath it, in percent."""


def accuracy(material: Material, metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row for each structure and metric; the mean of structures stands first where there are several."""
    names = list(material.scores.structures)
    if len(names) > 1:
        names.insert(0, OVERALL)
    rows = []
    for structure in names:
        first = True
        for metric in metrics:
            f = material.figure(metric, structure)
            if f is None:
                continue
            name = ALL if structure == OVERALL else structure
            rows.append(_accuracy_row(material, f) | {"structure": name if first else "", "of": name})
            first = False
    return rows


def _accuracy_row(material: Material, f: Summary) -> dict[str, Any]:
    metric = f.metric
    return {
        "metric": material.name_of(metric),
        "unit": material.unit_of(metric),
        "mean": shown(f.mean, metric),
        "interval": span(f.low, f.high, metric),
        "median": shown(f.median, metric),
        "median_interval": span(f.median_low, f.median_high, metric),
        "iqr": f"{shown(f.q1, metric)}\N{EN DASH}{shown(f.q3, metric)}" if math.isfinite(f.q1) else UNDEFINED,
        "worst": shown(f.worst, metric),
        "n": f.n,
        "undefined": f.undefined,
        "definition": material.definitions.get(metric, ""),
    }


def columns(material: Material) -> list[tuple[str, str]]:
    """Return the header of the table of cases: (name, unit)."""
    scores = material.scores
    named = [(material.name_of("dice"), "")]
    if 1 < len(scores.structures) <= MOST_COLUMNS:
        named += [(f"Dice {structure}", "") for structure in scores.structures]
    named += [(material.name_of(metric), material.unit_of(metric)) for metric in _distances(material)]
    if _whole(material):
        unit = material.unit_of("vol_ref_mm3")
        named += [("Reference", unit), ("Δ", unit), ("Δ", "%")]
    subject = [("Subject", "")] if _grouped(material) else []
    return [("Case", ""), *subject, *named, ("Remark", "")]


def cases(material: Material) -> list[dict[str, Any]]:
    """Return a row for each case that was to be scored, the worst first; those without scores lead."""
    ranked = material.scores.ranked()
    order = [case for case in material.scores.cases if case not in ranked] + ranked
    missed: dict[str, list[str]] = {}
    for structure, states in material.scores.states().items():
        for state, words in (("missed", "missed"), ("hallucinated", "drawn without reference"), ("absent", "absent")):
            for case in states.get(state, ()):  # type: ignore[call-overload]
                missed.setdefault(case, []).append(f"{structure} {words}")
    overall = {metric: material.scores.overall(metric) for metric in ("dice", *_distances(material))}
    index, subjects = material.index, material.dataset.subjects
    rows = []
    for case in order:
        cells = [Cell(subjects.get(case, case))] if _grouped(material) else []
        cells += _figures(material, case, overall)
        failed = case in material.scores.errors
        remark = material.reason(case) if failed else "; ".join(missed.get(case, ()))
        rows.append({"case": case, "number": index[case], "cells": cells, "remark": remark, "failed": failed})
    return rows


def _figures(material: Material, case: str, overall: dict[str, dict[str, float]]) -> list[Cell]:
    scores = material.scores
    cells = [_share(overall["dice"].get(case, math.nan))]
    if 1 < len(scores.structures) <= MOST_COLUMNS:
        cells += [Cell(number(scores.get(case, structure, "dice"), 3)) for structure in scores.structures]
    for metric in _distances(material):
        value = overall[metric].get(case, math.nan)
        cells.append(_share(value) if metric.startswith("nsd") else Cell(shown(value, metric)))
    if _whole(material):
        reference, predicted = (
            sum(scores.get(case, structure, metric) for structure in scores.structures)
            for metric in ("vol_ref_mm3", "vol_pred_mm3")
        )
        difference = predicted - reference
        change = difference / reference * 100 if reference else math.nan
        digits = volume_digits(reference)
        cells += [Cell(number(reference, digits)), Cell(signed(difference, digits)), Cell(signed(change, 1))]
    return cells


def _share(value: float) -> Cell:
    return Cell(number(value, 3), round(value * 100) if math.isfinite(value) else None)


def _distances(material: Material) -> list[str]:
    nsd = material.scores.nsd
    wanted = [nsd, "hd95_mm", "assd_mm"] if len(material.scores.structures) == 1 else [nsd, "hd95_mm"]
    return [metric for metric in wanted if metric and metric in material.scores.metrics]


def _whole(material: Material) -> bool:
    """Tell whether volumes of structures may be added up: not where they overlap."""
    return "vol_ref_mm3" in material.scores.metrics and not material.dataset.header.labels.overlapping


def _grouped(material: Material) -> bool:
    subjects = material.dataset.subjects
    return any(subjects.get(case, case) != case for case in material.scores.cases)
