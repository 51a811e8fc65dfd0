"""What shapes usually look like: learned from reference label maps, kept as JSON, and asked about every prediction."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from segpipe.core.section import Section
from segpipe.quality.checks import Check
from segpipe.quality.cloud import Cloud, border_of, cloud_of
from segpipe.quality.curve import Curve, rising
from segpipe.quality.frame import Frame
from segpipe.quality.shape import AXES, Shapes, components_of, features_of, position_of

PLAUSIBLE, REDRAWN, FORM, PLACE = (
    "shape_plausibility",
    "shape_redrawn",
    "shape_form",
    "shape_place",
)
"""Names of the checks; those of one structure have its name behind them, in brackets."""
ALARM = 0.02
"""Share of reference masks that lie beyond the border of what is usual, by each figure."""
LEAST = 5
"""Cases that show a structure, below which nothing is called usual of it."""
OFTEN = 0.9
"""Share of cases with a structure, from which on a prediction without it is no plausible one."""
TOLD_SD = 3.0
"""Standard deviations from which a single figure is named as the reason."""
LOOSE = 0.01
"""Share of a structure apart from its largest part, from which the number of its parts is told."""
FEW = 0.7
"""Plausibility below which reasons are told."""
IN_WORDS = {
    "volume": "volume",
    "surface": "surface for its volume",
    "loose": "share in loose pieces",
    "extent": "extent",
    "share": "share of all structures",
    "offset": "place among the structures",
}
"""What the figures are called by people."""

Redraw = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""Draws windows (N, *S) of class numbers again."""


@dataclass(frozen=True)
class Parts:
    """What each score says of one structure of a prediction."""

    redrawn: float
    """Dice of its mask with what a network makes of it that knows plausible shapes only."""
    form: float
    """Mahalanobis distance of its figures from those of reference masks; NaN where there is none."""
    place: float
    """That of its position in the image; NaN where there is none."""
    agreement: float = math.nan
    """Mean Dice with what the segmenting networks draw in other passes; NaN where there was none."""


class KnownShape(Section):
    """What is usual of one structure."""

    present: float
    """Share of the cases that show it."""
    components: int
    """The most parts that it has in a case."""
    form: Cloud | None
    place: Cloud | None
    redrawn: tuple[float, ...] = ()
    """Dice of reference masks with their reconstructions, of cases that the network has not seen, ascending."""


class KnownShapes(Section):
    """What is usual of the structures, and what Dice to expect of one that is less so. It holds no case's mask."""

    format: Literal[1] = 1
    frame: Frame
    structures: dict[str, KnownShape]
    redrawn: Curve = Curve()
    """What Dice damaged reference masks had, by ``Parts.redrawn``."""
    form: Curve = Curve()
    """The same by ``Parts.form``, as a share of its border, negative: the larger, the better."""
    place: Curve = Curve()
    """What share of its Dice a mask keeps that is moved as a whole, by ``Parts.place``; 1 where it usually lies."""

    def parts(self, shapes: Shapes, redraw: Redraw, others: Sequence[Shapes] = ()) -> dict[str, Parts]:
        """Return what each score says of each structure.

        Args:
            shapes: Of the prediction.
            redraw: The network.
            others: Of other passes over the same image.
        """
        drawn = redraw(self.frame.cut(shapes)[None])[0]
        return {name: self._parts(name, shapes, drawn, others) for name in self.structures}

    def _parts(self, name: str, shapes: Shapes, drawn: NDArray[np.uint8], others: Sequence[Shapes]) -> Parts:
        known, mask = self.structures[name], shapes.mask(name)
        agreement = _mean([dice_of(mask, other.mask(name)) for other in others])
        figures, place = features_of(shapes, name), position_of(shapes, name)
        if place is None:
            return Parts(0.0 if known.present >= OFTEN else math.nan, math.nan, math.nan, agreement)
        return Parts(
            redrawn_dice(self.frame, shapes, drawn, name),
            known.form.distance(figures) / known.form.border(ALARM) if known.form else math.nan,
            known.place.distance(_named(place)) / known.place.border(ALARM) if known.place else math.nan,
            agreement,
        )

    def expected(self, parts: Parts) -> float:
        """Return the plausibility of a structure: the Dice to expect of it, by the least plausible of its scores."""
        each = [self.shape(parts), self.place(-parts.place), parts.agreement]
        return min((value for value in each if not math.isnan(value)), default=math.nan)

    def shape(self, parts: Parts) -> float:
        """Return the Dice to expect by the shape alone: the mean of what redrawing and figures say."""
        both = [self.redrawn(parts.redrawn), self.form(-parts.form)]
        known = [value for value in both if not math.isnan(value)]
        return float(np.mean(known)) if known else math.nan

    def checks(self, shapes: Shapes, parts: Mapping[str, Parts]) -> list[Check]:
        """Return the plausibility of a prediction, of each structure, and the scores that it is made of."""
        expected = {name: self.expected(one) for name, one in parts.items()}
        whole = _mean(expected.values())
        why = "; ".join(self.reasons(shapes, parts)) if whole < FEW else ""
        found = [Check(PLAUSIBLE, whole, why)]
        found += [Check(f"{PLAUSIBLE}[{name}]", value) for name, value in expected.items()]
        for check, field in ((REDRAWN, "redrawn"), (FORM, "form"), (PLACE, "place")):
            values = [getattr(one, field) for one in parts.values()]
            found.append(Check(check, _mean(values)))
        return found

    def reasons(self, shapes: Shapes, parts: Mapping[str, Parts]) -> Iterator[str]:
        """Yield what is unusual of each structure, in words."""
        for name, one in parts.items():
            yield from self._reasons(name, shapes, one)

    def _reasons(self, name: str, shapes: Shapes, parts: Parts) -> Iterator[str]:
        known, mask = self.structures[name], shapes.mask(name)
        if not mask.any():
            if known.present >= OFTEN:
                yield f"{name}: missing; {known.present:.0%} of the reference masks have it"
            return
        figures = features_of(shapes, name)
        if figures["loose"] > LOOSE and (count := components_of(mask)) > known.components:
            yield f"{name}: {count} components, reference masks {_up_to(known.components)}"
        if known.place and parts.place > 1:
            away = math.dist(position_of(shapes, name) or (), known.place.centre)
            yield f"{name}: {away:.0f} mm from where it usually lies"
        if known.form and parts.form > 1:
            yield from _told(name, known.form, figures)
        if known.redrawn and parts.redrawn < (low := _low(known.redrawn)):
            yield f"{name}: an unusual shape (redrawn with Dice {parts.redrawn:.2f}; reference masks from {low:.2f})"
        if parts.agreement < FEW:
            yield f"{name}: another pass draws it otherwise (Dice {parts.agreement:.2f})"


def dice_of(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Return 2|A∩B| / (|A|+|B|) of two masks; 1 where both are empty: they agree."""
    total = np.count_nonzero(one) + np.count_nonzero(other)
    return 2 * np.count_nonzero(one & other) / total if total else 1.0


def redrawn_dice(frame: Frame, shapes: Shapes, drawn: NDArray[np.uint8], name: str) -> float:
    """Return the Dice of a structure with its reconstruction (*size); what lies outside of the window is not drawn."""
    held = shapes.held[name]
    before, after = np.isin(frame.cut(shapes), held), np.isin(drawn, held)
    total = np.count_nonzero(shapes.mask(name)) + np.count_nonzero(after)
    return 2 * np.count_nonzero(before & after) / total if total else 0.0


def known_shapes(frame: Frame, references: Sequence[Shapes], subjects: Sequence[str]) -> KnownShapes:
    """Return what is usual of the shapes of reference label maps; what is redrawn, and what Dice follows, comes later.

    Args:
        frame: The window.
        references: Shapes of each case.
        subjects: Of each case: what is usual is told from the other ones.
    """
    found = {}
    for name in references[0].held:
        shown = [(one, subject) for one, subject in zip(references, subjects, strict=True) if one.mask(name).any()]
        theirs = [subject for _, subject in shown]
        enough = len(set(theirs)) >= LEAST
        found[name] = KnownShape(
            present=len(shown) / len(references),
            components=max((components_of(one.mask(name)) for one, _ in shown), default=0),
            form=cloud_of([features_of(one, name) for one, _ in shown], theirs)[0] if enough else None,
            place=cloud_of([_named(position_of(one, name) or ()) for one, _ in shown], theirs)[0] if enough else None,
        )
    return KnownShapes(frame=frame, structures=found)


def calibrated(
    known: KnownShapes, worse: Sequence[tuple[Parts, float]], moved: Sequence[tuple[Parts, float]]
) -> KnownShapes:
    """Return what is known, with the Dice to expect of each score.

    Args:
        known: What is usual.
        worse: Scores of damaged references that lie where they should, and their Dice.
        moved: Scores of references, damaged or not, that were moved as a whole.
    """
    return known.model_copy(
        update={
            "redrawn": rising([parts.redrawn for parts, _ in worse], [dice for _, dice in worse]),
            "form": rising([-parts.form for parts, _ in worse], [dice for _, dice in worse]),
            "place": rising([-parts.place for parts, _ in moved], [dice for _, dice in moved]).up_to_one(),
        }
    )


def _told(name: str, cloud: Cloud, figures: Mapping[str, float]) -> Iterator[str]:
    """Yield the most unusual figure, in words."""
    away = cloud.away(figures)
    figure = max(away, key=lambda one: abs(away[one]))
    if abs(away[figure]) > TOLD_SD:
        kind, _, axis = figure.partition(" ")
        side = "above" if away[figure] > 0 else "below"
        yield f"{name}: {f'{IN_WORDS[kind]} {axis}'.strip()} {abs(away[figure]):.0f} SD {side} reference masks"


def _named(place: Sequence[float]) -> dict[str, float]:
    return dict(zip(AXES, place, strict=False))


def _low(usual: Sequence[float]) -> float:
    return -border_of([-value for value in reversed(usual)], ALARM)


def _up_to(count: int) -> str:
    return f"at most {count}" if count > 1 else str(count)


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
