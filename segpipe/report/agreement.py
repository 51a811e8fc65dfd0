"""Agreement of volumes, drawn and tabled: bias, limits of agreement, whether the bias grows with size, ICC, CCC."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from markupsafe import Markup

from segpipe.report.scores import Scores
from segpipe.report.svg import (
    WIDTH,
    Scale,
    bottom_axis,
    dot,
    element,
    figure,
    label_at,
    left_axis,
    line,
    scale_over,
)
from segpipe.report.wording import MINUS, UNDEFINED, number, signed, volume_digits
from segpipe.score.agreement import Limits
from segpipe.score.interval import Estimate
from segpipe.score.volumes import Volumes, compare_volumes

LEFT, TOP, RIGHT, BOTTOM = 66, 12, WIDTH - 14, 250
LINE_HEIGHT = 12
LETTER = 6.2
"""Units across a letter of a label."""
UP = (BOTTOM, TOP)

Band = tuple[float, float, float, str]
"""Ends of an interval, the value in it, and what is said of it."""


@dataclass(frozen=True)
class Agreement:
    """Predicted against reference volumes of one structure, in mm3."""

    structure: str
    colour: int
    volumes: Volumes

    @property
    def bias(self) -> float:
        """Mean difference, prediction minus reference."""
        return self.volumes.limits.bias.value

    @property
    def relative(self) -> float:
        """Bias as a share of the mean reference volume."""
        return self.volumes.relative

    @property
    def slope(self) -> float:
        """Of the difference on the mean, over subjects; NaN where it was not attempted."""
        return self.volumes.growth.slope.value

    @property
    def limits(self) -> tuple[float, float]:
        """The limits of agreement: 95 % of differences lie between them if they are normal."""
        return self.volumes.limits.lower.value, self.volumes.limits.upper.value

    @property
    def p(self) -> float:
        """Of no slope."""
        return self.volumes.growth.p

    def fitted(self, middle: float) -> float:
        """Return the difference that the regression expects at a volume."""
        return self.volumes.growth.intercept + self.slope * middle


def agreements(scores: Scores, subjects: Mapping[str, str], confidence: float = 0.95) -> list[Agreement]:
    """Return the agreement of each structure that has a volume in some case."""
    found = []
    for colour, structure in enumerate(scores.structures):
        reference, predicted = (scores.defined(structure, metric) for metric in ("vol_ref_mm3", "vol_pred_mm3"))
        if volumes := compare_volumes(reference, predicted, subjects, confidence):
            found.append(Agreement(structure, colour, volumes))
    return found


def reliability_table(found: Sequence[Agreement], unit: str) -> list[dict[str, Any]]:
    """Return a row for each structure: bias, limits, ICC and CCC, each with its interval."""
    rows = []
    for a in found:
        lines, shared = a.volumes.limits, a.volumes.reliability
        digits = volume_digits(max(map(abs, (a.bias, *a.limits)))) if lines.lower.sure else volume_digits(a.bias)
        lengths = {"bias": lines.bias, "lower": lines.lower, "upper": lines.upper}
        shares = {"absolute": shared.absolute, "consistency": shared.consistency, "concordance": shared.concordance}
        rows.append(
            {"structure": a.structure, "cases": str(len(a.volumes.cases)), "unit": unit}
            | {name: _with_ends(one, partial(signed, digits=digits)) for name, one in lengths.items()}
            | {name: _with_ends(one, partial(number, digits=3)) for name, one in shares.items()}
        )
    return rows


def _with_ends(one: Estimate, write: Callable[[float], str]) -> tuple[str, str]:
    """Return a figure and its interval as texts."""
    return write(one.value), f"[{write(one.low)}, {write(one.high)}]" if one.sure else UNDEFINED


def bland_altman(agreement: Agreement, index: Mapping[str, int], unit: str) -> Markup:
    """Return the chart: difference over mean, with bias, limits of agreement, their intervals and the regression."""
    a, found = agreement, agreement.volumes
    bands = _bands(found.limits)
    heights = [0.0, *found.difference.tolist(), *[edge for band in bands for edge in band[:2]]]
    # the words stand beside the plot: within it, dots and the regression would run through them
    right = RIGHT - max((len(said) * LETTER + 8 for *_, said in bands), default=0.0)
    x, y = scale_over(found.middle.tolist(), (LEFT, right)), scale_over(heights, UP)
    parts = [left_axis(y, (LEFT, right), f"prediction {MINUS} reference ({unit})")]
    for low, high, value, said in bands:
        parts.append(element("rect", x=LEFT, y=y(high), width=right - LEFT, height=y(low) - y(high), class_="band"))
        parts.append(line(LEFT, y(value), right, y(value), "bias" if said.startswith("bias") else "limit"))
    dots = [
        dot(x(middle), y(difference), index[case])
        for case, middle, difference in zip(found.cases, found.middle.tolist(), found.difference.tolist(), strict=True)
    ]
    parts.append(element("g", *dots, class_=f"s{a.colour}"))
    if math.isfinite(a.slope):
        parts.append(_regression_line(a, x, y))
    parts += _labels(bands, y, right + 6)
    parts.append(bottom_axis(x, BOTTOM + 6, f"mean of reference and prediction ({unit})"))
    said = f"Bland-Altman plot of {a.structure}: bias {signed(a.bias, volume_digits(a.bias))} {unit}"
    return figure((WIDTH, BOTTOM + 48), said, *parts)


def _bands(found: Limits) -> list[Band]:
    """Return (low, high, value, words) of bias and limits, each with its interval."""
    if not found.lower.sure:
        return []
    digits = volume_digits(max(abs(found.lower.value), abs(found.upper.value)))
    named = ((f"{MINUS}1.96 SD", found.lower), ("bias", found.bias), ("+1.96 SD", found.upper))
    return [(one.low, one.high, one.value, f"{name}  {signed(one.value, digits)}") for name, one in named]


def _labels(bands: Sequence[Band], y: Scale, x: float) -> Iterator[Markup]:
    """Yield the words beside the lines; where lines lie too close, those of the bias stay."""
    taken: list[float] = []
    for *_, value, said in sorted(bands, key=lambda band: not band[3].startswith("bias")):
        place = y(value) + 4
        if all(abs(place - other) > LINE_HEIGHT for other in taken):
            taken.append(place)
            yield label_at(x, place, said, "tick")


def _regression_line(a: Agreement, x: Scale, y: Scale) -> Markup:
    ends = float(a.volumes.middle.min()), float(a.volumes.middle.max())
    return line(x(ends[0]), y(a.fitted(ends[0])), x(ends[1]), y(a.fitted(ends[1])), "fit")
