"""The Dice to expect of a prediction, learned from cases that the network did not train on, and how far off it is."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from segpipe.core.atomic import write_json
from segpipe.core.section import Section, read_section
from segpipe.quality.confidence import Confidence
from segpipe.quality.curve import Curve, rising

VALIDATION = "validation.json"
LEAST = 10
"""Subjects with a structure, below which no Dice of it is predicted."""
LEAST_SHOWN = 5
"""Subjects, below which nobody knows what every reference shows."""
COVERED = 0.9
"""Share of held-out cases whose Dice lies within the error that is told."""
OFTEN = 0.9
"""Share of references with a structure, from which on a prediction without it is no good one."""
GROUPS = 40
"""Parts into which many subjects are divided to leave each out in turn; fewer subjects are left out one by one."""

Values = Mapping[str, float]


class Measured(Section):
    """One case that the network did not train on: how sure it was, and how right."""

    case: str = ""
    subject: str
    """Cases of one subject are left out together."""
    promised: dict[str, float] = Field(default_factory=dict)
    """``Confidence.promised`` of each structure that was drawn."""
    dice: dict[str, float] = Field(default_factory=dict)
    """Of each structure that reference or prediction shows."""
    shown: tuple[str, ...] = ()
    """The structures of the reference."""


class HeldOut(Section):
    """What a network did on cases that it did not train on."""

    format: Literal[1] = 1
    structures: tuple[str, ...]
    probabilities: bool = True
    """Whether the network draws probabilities: without them nothing is promised."""
    cases: tuple[Measured, ...] = ()

    def nameless(self) -> "HeldOut":
        """Return it without names of cases and subjects, in another order: it goes with the model."""
        subjects = {one.subject for one in self.cases}
        number = {subject: str(index) for index, subject in enumerate(sorted(subjects, key=self._place))}
        cases = [one.model_copy(update={"case": "", "subject": number[one.subject]}) for one in self.cases]
        return self.model_copy(update={"cases": tuple(sorted(cases, key=lambda one: int(one.subject)))})

    def _place(self, subject: str) -> tuple[float, ...]:
        own = [one for one in self.cases if one.subject == subject]
        return tuple(value for one in own for value in (*one.promised.values(), *one.dice.values()))


def measured(
    case: str, subject: str, confidence: Mapping[str, Confidence], dice: Values, shown: Sequence[str]
) -> Measured:
    """Return what is kept of a case; numbers are rounded, and undefined ones are left out."""
    promised = {name: one.promised for name, one in confidence.items()}
    kept = [{name: round(v, 5) for name, v in each.items() if math.isfinite(v)} for each in (promised, dice)]
    return Measured(case=case, subject=subject, promised=kept[0], dice=kept[1], shown=tuple(shown))


@dataclass(frozen=True)
class Predicted:
    """The Dice to expect of a case."""

    mean: float
    """Over its structures; NaN where nothing is predicted."""
    error: float
    """The Dice of 90 % of cases like the held-out ones lies within this of ``mean``."""
    each: Values
    missing: tuple[str, ...] = ()
    """Structures that nearly all references show, and this prediction does not."""
    why: str = ""
    """Why nothing is predicted."""


class DicePredictor:
    """Predicts the Dice of a case from the Dice that its probabilities promise.

    A rising line for each structure (isotonic regression), which ends in 0 where nothing is promised: a network that
    is less sure than it was of any held-out case is not taken for as good as the worst of them. Its error is that on
    the held-out cases themselves, each predicted from the other subjects.
    """

    def __init__(self, held: Sequence[HeldOut]) -> None:
        """Learn from what each of several networks did on its held-out cases; of one network alone, from its."""
        self.structures = held[0].structures if held else ()
        self.probabilities = all(one.probabilities for one in held)
        # of nameless cases of several networks each is its own subject: numbers of one are not those of another
        self.cases = [
            one if one.case else one.model_copy(update={"subject": f"{index}/{one.subject}"})
            for index, own in enumerate(held)
            for one in own.cases
        ]
        subjects = sorted({one.subject for one in self.cases})
        self._group = {subject: index % GROUPS for index, subject in enumerate(subjects)}

    @cached_property
    def _whole(self) -> dict[str, Curve]:
        return self._learned(self.cases)

    @cached_property
    def _without(self) -> dict[int, dict[str, Curve]]:
        rest = {
            group: [one for one in self.cases if self._group[one.subject] != group]
            for group in set(self._group.values())
        }
        return {group: self._learned(cases) for group, cases in rest.items()}

    def _learned(self, cases: Sequence[Measured]) -> dict[str, Curve]:
        found = {}
        for name in self.structures:
            own = [one for one in cases if name in one.promised and name in one.dice]
            if len({one.subject for one in own}) < LEAST - 1:  # one may be left out
                continue
            curve = rising([one.promised[name] for one in own], [one.dice[name] for one in own])
            found[name] = Curve(at=(0.0, *curve.at), value=(0.0, *curve.value))
        return found

    @cached_property
    def known(self) -> tuple[str, ...]:
        """The structures of which there are enough held-out cases."""
        shown = {
            name: {one.subject for one in self.cases if name in one.promised and name in one.dice}
            for name in self.structures
        }
        return tuple(name for name, subjects in shown.items() if len(subjects) >= LEAST)

    @cached_property
    def expected(self) -> tuple[str, ...]:
        """The structures that nearly every reference of the held-out cases shows."""
        share = {name: sum(name in one.shown for one in self.cases) for name in self.structures}
        enough = len({one.subject for one in self.cases}) >= LEAST_SHOWN
        return tuple(name for name, count in share.items() if enough and count >= OFTEN * len(self.cases))

    @cached_property
    def residuals(self) -> list[float]:
        """Predicted less true Dice of each held-out case, predicted from the other subjects."""
        found = []
        for one in self.cases:
            mean, true = self._mean(one.promised, self._without[self._group[one.subject]])[0], _mean(one.dice)
            if math.isfinite(mean) and math.isfinite(true):
                found.append(mean - true)
        return found

    @cached_property
    def error(self) -> float:
        """The conformal quantile of the absolute residuals that 90 % of cases like these do not pass."""
        sizes = sorted(map(abs, self.residuals))
        place = math.ceil((len(sizes) + 1) * COVERED)
        return sizes[place - 1] if 0 < place <= len(sizes) else math.nan

    @property
    def why_not(self) -> str:
        """Why nothing is predicted; empty where something is."""
        if not self.structures:
            return "the model tells of no validation cases"
        if not self.probabilities:
            return "the network draws distances, no probabilities"
        if not self.known:
            return f"{len(self._group)} of {LEAST} subjects to learn it from"
        return ""

    def __call__(self, confidence: Mapping[str, Confidence], subject: str | None = None) -> Predicted:
        """Return the Dice to expect.

        Args:
            confidence: Of each structure.
            subject: Of the case; where it is one of the held-out ones, it is predicted from the others.
        """
        promised = {name: one.promised for name, one in confidence.items() if math.isfinite(one.promised)}
        missing = tuple(name for name in self.expected if name not in promised)
        if self.why_not or not math.isfinite(self.error):
            return Predicted(math.nan, math.nan, {}, missing, self.why_not or "too few held-out cases")
        curves = self._without[self._group[subject]] if subject in self._group else self._whole
        mean, each = self._mean(promised, curves)
        return Predicted(mean, self.error, each, missing, "" if math.isfinite(mean) else "no structure was drawn")

    def _mean(self, promised: Values, curves: Mapping[str, Curve]) -> tuple[float, dict[str, float]]:
        """Return the Dice to expect in the mean, and of each structure: 0 of one that is missing."""
        each = {name: curves[name](value) for name, value in promised.items() if name in curves}
        each |= {name: 0.0 for name in self.expected if name not in promised}
        return _mean(each), each


def _mean(values: Values) -> float:
    return float(np.mean(list(values.values()))) if values else math.nan


def write_held(path: Path, held: HeldOut) -> None:
    """Write what a network did on held-out cases, whole or not at all."""
    write_json(path, held.model_dump(mode="json"))


def read_held(path: Path) -> HeldOut | None:
    """Return what ``write_held`` wrote; None where there is no such file.

    Raises:
        ArtifactError: It is damaged, or from a later version.
    """
    return read_section(path, HeldOut, "Export the model again, or take the file out.")


def held_in(folders: Iterable[Path]) -> list[HeldOut]:
    """Return what each network did on its held-out cases, as the folders of trainings or models tell."""
    return [found for folder in folders if (found := read_held(folder / VALIDATION))]
