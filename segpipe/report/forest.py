"""Forest plots: one figure for each of several groups, with its interval, on one axis."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from segpipe.report.svg import Scale, bottom_axis, element, figure, label_at, line, scale_over
from segpipe.score.interval import Estimate

WIDTH = 820
LEFT, RIGHT = 300, 610
ROW, HEAD = 24, 30
LONGEST_NAME = 34
Bounds = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One row: a heading where there is no estimate."""

    name: str
    count: str = ""
    """What stands beside the name, such as a number of subjects."""
    estimate: Estimate | None = None
    said: str = ""
    """The estimate in figures."""
    colour: int = 0
    faint: bool = False
    """Whether it is too small to be tested."""


def forest(
    rows: Sequence[Line],
    label: str,
    said: str,
    *,
    guides: Sequence[tuple[float, str]] = (),
    bounds: Bounds = (-math.inf, math.inf),
) -> Markup:
    """Return the chart.

    Args:
        rows: From top to bottom.
        label: Of the axis.
        said: What a screen reader says of it.
        guides: Values at which a line runs from top to bottom, and its class: ``bias`` or ``limit``.
        bounds: Beyond which the axis does not reach.
    """
    known = [row.estimate for row in rows if row.estimate]
    ends = [end for one in known for end in vars(one).values() if math.isfinite(end)]
    scale = scale_over([*ends, *(value for value, _ in guides)], (LEFT, RIGHT), bounds)
    bottom = 8 + sum(ROW if row.estimate else HEAD for row in rows)
    parts = [line(scale(value), 4, scale(value), bottom, class_) for value, class_ in guides]
    top = 8.0
    for row in rows:
        height = ROW if row.estimate else HEAD
        parts += _row(row, scale, top + height * 0.65)
        top += height
    parts.append(bottom_axis(scale, bottom + 4, label))
    return figure((WIDTH, bottom + 46), said, *parts)


def _row(row: Line, scale: Scale, y: float) -> list[Markup]:
    if row.estimate is None:
        return [label_at(0, y, _short(row.name), "name strong"), label_at(LEFT - 16, y, row.count, "tick", "end")]
    one = row.estimate
    marks = [element("circle", cx=scale(one.value), cy=y - 4, r=4, class_="code unknown" if row.faint else "mark")]
    if one.sure:
        marks.insert(0, line(scale(one.low), y - 4, scale(one.high), y - 4, "reach"))
    return [
        label_at(14, y, _short(row.name), "name"),
        label_at(LEFT - 16, y, row.count, "tick", "end"),
        element("g", *marks, class_=f"s{row.colour}"),
        label_at(WIDTH, y, row.said, "tick", "end"),
    ]


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
