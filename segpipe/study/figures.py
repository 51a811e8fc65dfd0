"""The figures of a study: Dice by labels, differences with interval, test and verdict, and steps saved."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.score.paired import Comparison, Interval, Verdict, compare, crossed_interval, holm, verdict
from segpipe.study.cells import Cell, Result
from segpipe.study.settings import StudyConfig

Floats = NDArray[np.float64]
Curves = Mapping[int, float]


@dataclass(frozen=True)
class Score:
    """One condition at one number of labels."""

    condition: str
    labels: int
    dice: Interval
    seeds: int
    steps: float | None
    """Steps until the validation Dice at which the baseline ends, as a share of the baseline's steps; the median
    over seeds; None where it is not reached."""


@dataclass(frozen=True)
class Compared:
    """One condition against another at one number of labels."""

    condition: str
    other: str
    labels: int
    found: Comparison
    corrected: float
    """p after Holm's correction over all comparisons of the study."""
    verdict: Verdict


@dataclass(frozen=True)
class Figures:
    """Everything that a study found."""

    study: StudyConfig
    results: tuple[Result, ...]
    missing: tuple[Cell, ...]
    cases: tuple[str, ...]
    """The held-out cases that were scored in every cell."""
    left_out: int
    """Held-out cases that were scored in some cells only."""
    subjects: int
    scores: tuple[Score, ...]
    compared: tuple[Compared, ...]

    def score(self, condition: str, labels: int) -> Score | None:
        """Return the figures of a condition, or None where no cell is there."""
        return next((one for one in self.scores if (one.condition, one.labels) == (condition, labels)), None)

    def against(self, condition: str, other: str, labels: int) -> Compared | None:
        """Return a comparison, or None where the two share no seed."""
        wanted = (condition, other, labels)
        return next((one for one in self.compared if (one.condition, one.other, one.labels) == wanted), None)


def gather(
    study: StudyConfig, results: Sequence[Result], missing: Sequence[Cell], subjects: Mapping[str, str]
) -> Figures:
    """Compare what is there; conditions pair by case and seed, over the seeds that both have.

    Args:
        study: What is compared.
        results: The cells that are there.
        missing: Those that are not.
        subjects: Subject of each case.
    """
    scored = [set(result.dice) for result in results]
    cases = tuple(sorted(set.intersection(*scored))) if scored else ()
    some = len(set.union(*scored)) - len(cases) if scored else 0
    groups = [subjects[case] for case in cases]
    cells = {(one.cell.condition, one.cell.labels, one.cell.seed): one for one in results}
    places = [(name, labels) for labels in study.labels for name in study.conditions]
    scores = [_score(study, name, labels, cells, cases, groups) for name, labels in places] if cases else []
    pairs = [(name, other, labels) for labels in study.labels for name, other in study.pairs()]
    compared = _compared(pairs, cells, cases, groups) if cases else ()
    found = tuple(score for score in scores if score is not None)
    return Figures(study, tuple(results), tuple(missing), cases, some, len(set(groups)), found, compared)


Cells = Mapping[tuple[str, int, int], Result]


def _seeds(cells: Cells, labels: int, *conditions: str) -> list[int]:
    """Return the seeds that all of the conditions have at a number of labels."""
    each = [{seed for name, count, seed in cells if (name, count) == (one, labels)} for one in conditions]
    return sorted(set.intersection(*each))


def _matrix(cells: Cells, name: str, labels: int, seeds: Sequence[int], cases: Sequence[str]) -> Floats:
    """Return Dice (cases, seeds)."""
    return np.array([[cells[name, labels, seed].dice[case] for seed in seeds] for case in cases])


def _score(
    study: StudyConfig, name: str, labels: int, cells: Cells, cases: Sequence[str], groups: Sequence[str]
) -> Score | None:
    if not (seeds := _seeds(cells, labels, name)):
        return None
    found = crossed_interval(_matrix(cells, name, labels, seeds, cases), groups)
    dice = Interval(found.mean, *(float(np.clip(end, 0, 1)) for end in (found.low, found.high)))
    both = _seeds(cells, labels, name, study.baseline)
    curves = [(cells[name, labels, seed].curve, cells[study.baseline, labels, seed].curve) for seed in both]
    return Score(name, labels, dice, len(seeds), steps_to_reach(curves))


def steps_to_reach(curves: Sequence[tuple[Curves, Curves]]) -> float | None:
    """Return after which share of the baseline's steps its final validation Dice is first reached.

    Dice is known only where it was validated: the share is no finer than that.

    Args:
        curves: For each seed, validation Dice by step of a condition and of the baseline.

    Returns:
        The median over seeds, of which one that never gets there counts as endless; None where that is endless.
    """
    shares = []
    for curve, baseline in curves:
        if not baseline:
            return None
        last = max(baseline)
        shares.append(min((step for step, dice in curve.items() if dice >= baseline[last]), default=math.inf) / last)
    # an upper median: the mean of a number and of no end says nothing
    middle = sorted(shares)[len(shares) // 2] if shares else math.inf
    return middle if math.isfinite(middle) else None


def _compared(
    pairs: Sequence[tuple[str, str, int]], cells: Cells, cases: Sequence[str], groups: Sequence[str]
) -> tuple[Compared, ...]:
    found = []
    for name, other, labels in pairs:
        if seeds := _seeds(cells, labels, name, other):
            scores, others = (_matrix(cells, one, labels, seeds, cases) for one in (name, other))
            found.append((name, other, labels, compare(scores, others, groups)))
    corrected = holm([one.p for *_, one in found])
    return tuple(Compared(*one, p, verdict(one[-1].difference, p)) for one, p in zip(found, corrected, strict=True))


def as_json(figures: Figures, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return all figures as JSON values; the held-out cases have numbers instead of names."""
    dice = [
        {
            "condition": one.cell.condition,
            "labels": one.cell.labels,
            "seed": one.cell.seed,
            "training": one.fingerprint,
            "cpu_s": one.cpu_s,
            "mean_dice": _plain(one.mean),
            "dice_of_cases": [_plain(one.dice[case]) for case in figures.cases],
            "validation_dice": {str(step): _plain(value) for step, value in one.curve.items()},
        }
        for one in figures.results
    ]
    scores = [
        {"condition": one.condition, "labels": one.labels, "seeds": one.seeds}
        | {"dice": _of(one.dice), "steps_to_baseline": one.steps}
        for one in figures.scores
    ]
    compared = [
        {"condition": one.condition, "other": one.other, "labels": one.labels, "seeds": one.found.seeds}
        | {"subjects": one.found.subjects, "difference": _of(one.found.difference)}
        | {"p": one.found.p, "p_corrected": one.corrected, "verdict": one.verdict}
        for one in figures.compared
    ]
    return {
        "about": dict(about),
        "cases": len(figures.cases),
        "cases_left_out": figures.left_out,
        "subjects": figures.subjects,
        "scores": scores,
        "comparisons": compared,
        "missing": [vars(cell) for cell in figures.missing],
        "cells": dice,
    }


def _of(interval: Interval) -> dict[str, float | None]:
    return {name: _plain(value) for name, value in vars(interval).items()}


def _plain(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
