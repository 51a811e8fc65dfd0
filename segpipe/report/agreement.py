"""Agreement of volumes: bias, limits of agreement, and whether the bias grows with size (Bland, Altman 1986)."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from scipy.stats import linregress, t

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
from segpipe.report.wording import MINUS, signed, volume_digits

FEWEST_FOR_LIMITS = 5
FEWEST_FOR_SLOPE = 10
"""Subjects below which no regression is attempted."""
Z = 1.96
LEFT, TOP, RIGHT, BOTTOM = 66, 12, WIDTH - 14, 250
LINE_HEIGHT = 12
ACROSS, UP = (LEFT, RIGHT), (BOTTOM, TOP)

Floats = NDArray[np.float64]
Band = tuple[float, float, float, str]
"""Ends of an interval, the value in it, and what is said of it."""


@dataclass(frozen=True)
class Agreement:
    """Predicted against reference volumes of one structure, in mm3."""

    structure: str
    colour: int
    cases: tuple[str, ...]
    middle: Floats
    """(N,) mean of reference and prediction."""
    difference: Floats
    """(N,) prediction minus reference."""
    bias: float
    """Mean difference."""
    sd: float
    """Of the differences; NaN below ``FEWEST_FOR_LIMITS`` cases."""
    relative: float
    """Bias as a share of the mean reference volume."""
    slope: float
    """Of the difference on the middle, over subjects; NaN where it was not attempted."""
    intercept: float
    p: float
    """Of no slope."""

    @property
    def limits(self) -> tuple[float, float]:
        """The limits of agreement: 95 % of differences lie between them if they are normal."""
        return self.bias - Z * self.sd, self.bias + Z * self.sd


def agreements(scores: Scores, subjects: Mapping[str, str]) -> list[Agreement]:
    """Return the agreement of each structure that has a volume in some case.

    The regression is over subjects, each with the mean of its cases: cases of one are not independent.
    """
    found = []
    for colour, structure in enumerate(scores.structures):
        reference = scores.defined(structure, "vol_ref_mm3")
        predicted = scores.defined(structure, "vol_pred_mm3")
        cases = tuple(case for case in sorted(reference.keys() & predicted) if reference[case] + predicted[case] > 0)
        if not cases:
            continue
        truth = np.asarray([reference[case] for case in cases])
        other = np.asarray([predicted[case] for case in cases])
        middle, difference = (truth + other) / 2, other - truth
        bias = float(difference.mean())
        slope, intercept, p = _regression(cases, middle, difference, subjects)
        found.append(
            Agreement(
                structure=structure,
                colour=colour,
                cases=cases,
                middle=middle,
                difference=difference,
                bias=bias,
                sd=float(difference.std(ddof=1)) if len(cases) >= FEWEST_FOR_LIMITS else math.nan,
                relative=bias / float(truth.mean()) if truth.mean() > 0 else math.nan,
                slope=slope,
                intercept=intercept,
                p=p,
            )
        )
    return found


def _regression(
    cases: Sequence[str], middle: Floats, difference: Floats, subjects: Mapping[str, str]
) -> tuple[float, float, float]:
    own: dict[str, list[int]] = defaultdict(list)
    for number, case in enumerate(cases):
        own[subjects.get(case, case)].append(number)
    x = np.asarray([middle[numbers].mean() for numbers in own.values()])
    y = np.asarray([difference[numbers].mean() for numbers in own.values()])
    if len(x) < FEWEST_FOR_SLOPE or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan, math.nan, math.nan
    fitted = linregress(x, y)
    return float(fitted.slope), float(fitted.intercept), float(fitted.pvalue)


def bland_altman(agreement: Agreement, index: Mapping[str, int], unit: str, confidence: float) -> Markup:
    """Return the chart: difference over mean, with bias, limits of agreement, their intervals and the regression."""
    a = agreement
    bands = _bands(a, confidence)
    heights = [0.0, *a.difference.tolist(), *[edge for band in bands for edge in band[:2]]]
    x, y = scale_over(a.middle.tolist(), ACROSS), scale_over(heights, UP)
    parts = [left_axis(y, ACROSS, f"prediction {MINUS} reference ({unit})")]
    for low, high, value, _ in bands:
        parts.append(element("rect", x=LEFT, y=y(high), width=RIGHT - LEFT, height=y(low) - y(high), class_="band"))
        parts.append(line(LEFT, y(value), RIGHT, y(value), "bias" if value == a.bias else "limit"))
    dots = [
        dot(x(middle), y(difference), index[case])
        for case, middle, difference in zip(a.cases, a.middle.tolist(), a.difference.tolist(), strict=True)
    ]
    parts.append(element("g", *dots, class_=f"s{a.colour}"))
    if math.isfinite(a.slope):
        parts.append(_regression_line(a, x, y))
    parts += _labels(bands, y)
    parts.append(bottom_axis(x, BOTTOM + 6, f"mean of reference and prediction ({unit})"))
    said = f"Bland-Altman plot of {a.structure}: bias {signed(a.bias, volume_digits(a.bias))} {unit}"
    return figure((WIDTH, BOTTOM + 48), said, *parts)


def _bands(a: Agreement, confidence: float) -> list[Band]:
    """Return (low, high, value, words) of bias and limits, each with its interval."""
    if not math.isfinite(a.sd):
        return []
    n = len(a.cases)
    wide = float(t.ppf((1 + confidence) / 2, n - 1)) * a.sd / math.sqrt(n)
    lower, upper = a.limits
    digits = volume_digits(max(abs(lower), abs(upper)))
    return [
        (lower - math.sqrt(3) * wide, lower + math.sqrt(3) * wide, lower, f"{MINUS}1.96 SD  {signed(lower, digits)}"),
        (a.bias - wide, a.bias + wide, a.bias, f"bias  {signed(a.bias, digits)}"),
        (upper - math.sqrt(3) * wide, upper + math.sqrt(3) * wide, upper, f"+1.96 SD  {signed(upper, digits)}"),
    ]


def _labels(bands: Sequence[Band], y: Scale) -> Iterator[Markup]:
    """Yield the words at the lines; where lines lie too close, those of the bias stay."""
    taken: list[float] = []
    for *_, value, said in sorted(bands, key=lambda band: not band[3].startswith("bias")):
        place = y(value) - 4
        if all(abs(place - other) > LINE_HEIGHT for other in taken):
            taken.append(place)
            yield label_at(RIGHT - 2, place, said, "tick value", "end")


def _regression_line(a: Agreement, x: Scale, y: Scale) -> Markup:
    ends = float(a.middle.min()), float(a.middle.max())
    heights = [a.intercept + a.slope * end for end in ends]
    return line(x(ends[0]), y(heights[0]), x(ends[1]), y(heights[1]), "fit")
