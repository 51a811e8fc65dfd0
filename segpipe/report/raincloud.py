"""Rainclouds: how one metric is spread over the cases, structure by structure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from segpipe.report.svg import WIDTH, Scale, bottom_axis, dot, element, figure, line, path, scale_over
from segpipe.report.wording import name_of, unit_of
from segpipe.score.case import meaning
from segpipe.score.summary import Summary

LEFT, RIGHT = 118, WIDTH - 14
LONGEST_NAME = 17
TALL, LOW = 84, 34
"""Height of a row with a half violin, and of one without."""
MOST_TALL = 8
"""From this many structures on the rows are low."""
MOST_DOTS = 2000
"""With more dots than this in a chart only those beyond the whiskers are drawn."""
FEWEST_FOR_VIOLIN = 8
FAR = 6
"""Interquartile ranges above the upper quartile at which an axis of distances ends."""
GOLDEN = 0.6180339887

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cloud:
    """One structure in one metric."""

    name: str
    colour: int
    values: Mapping[str, float]
    """Defined values, by case."""
    figure: Summary | None

    @property
    def array(self) -> Floats:
        """The values (N,)."""
        return np.asarray(list(self.values.values()), np.float64)


def raincloud(clouds: Sequence[Cloud], metric: str, index: Mapping[str, int], rank: int, unit: str = "mm") -> Markup:
    """Return the chart: half violin, interquartile bar, mean with interval, a dot for each case."""
    drawn = [cloud for cloud in clouds if cloud.values]
    tall = len(drawn) < MOST_TALL
    height = TALL if tall else LOW
    bottom = 8 + height * len(drawn)
    scale = _axis(drawn, metric)
    only_far = sum(len(cloud.values) for cloud in drawn) > MOST_DOTS
    rows = []
    for number, cloud in enumerate(drawn):
        top = 8 + number * height
        parts = [_name(cloud.name, top + height * (0.62 if tall else 0.55))]
        if tall:
            parts += _violin(cloud, scale, top + height * 0.46, height * 0.44)
        parts += _box(cloud, scale, top + height * (0.5 if tall else 0.12))
        parts += _dots(cloud, scale, top + height * (0.72 if tall else 0.55), index, only_far=only_far)
        rows.append(element("g", *parts, class_=f"s{cloud.colour}"))
    sign = unit_of(metric, rank, unit)
    label = name_of(metric, rank, unit) + (f" ({sign})" if sign else "")
    axis = bottom_axis(scale, bottom + 4, label)
    said = f"{label} of each case, by structure: {', '.join(cloud.name for cloud in drawn)}"
    return figure((WIDTH, bottom + 44), said, axis, *rows)


def beyond(clouds: Sequence[Cloud], metric: str) -> int:
    """Return how many values lie beyond the end of the axis, where they are drawn."""
    drawn = [cloud for cloud in clouds if cloud.values]
    if not drawn:
        return 0
    scale = _axis(drawn, metric)
    return sum(int((cloud.array > scale.high + 1e-9).sum()) for cloud in drawn)


def crowded(clouds: Sequence[Cloud]) -> bool:
    """Tell whether there are so many values that only the outlying ones are drawn."""
    return sum(len(cloud.values) for cloud in clouds) > MOST_DOTS


def _axis(clouds: Sequence[Cloud], metric: str) -> Scale:
    """Return a scale over all values; one of distances ends where a few far ones would press the rest together."""
    shares = meaning(metric).better == "higher"
    values = np.concatenate([cloud.array for cloud in clouds])
    ends = [end for cloud in clouds if (f := cloud.figure) for end in (f.low, f.high) if math.isfinite(end)]
    if not shares:
        quartiles = [np.quantile(cloud.array, (0.25, 0.75)) for cloud in clouds]
        last = max(upper + FAR * (upper - lower) for lower, upper in quartiles)
        if last > 0:
            values = np.minimum(values, last)
    bounds = (0.0, 1.0) if shares else (0.0, math.inf)
    return scale_over([*values.tolist(), *ends], (LEFT, RIGHT), bounds)


def _name(name: str, y: float) -> Markup:
    half = LONGEST_NAME // 2
    short = name if len(name) <= LONGEST_NAME else f"{name[:half]}…{name[-half:]}"  # names often differ at their end
    return element("text", short, element("title", name), x=0, y=y, class_="name")


def _violin(cloud: Cloud, scale: Scale, foot: float, height: float) -> list[Markup]:
    """Return the density above its foot; nothing where there are too few values, or all are equal."""
    values = cloud.array
    if len(values) < FEWEST_FOR_VIOLIN or np.ptp(values) < 1e-9 * max(1.0, float(np.abs(values).max())):
        return []
    places = np.linspace(scale.low, scale.high, 90)
    density = np.exp(-0.5 * ((places[:, None] - values) / _bandwidth(values)) ** 2).sum(axis=1)
    density = density / density.max() * height
    points = [(scale(x), foot - y) for x, y in zip(places.tolist(), density.tolist(), strict=True)]
    return [path([(scale.start, foot), *points, (scale.end, foot)], "violin")]


def _bandwidth(values: Floats) -> float:
    """Return Silverman's width, which a few far values do not blow up."""
    lower, upper = np.quantile(values, (0.25, 0.75))
    spread = min(float(values.std(ddof=1)), float(upper - lower) / 1.34) or float(values.std(ddof=1))
    return float(0.9 * spread * len(values) ** -0.2)


def _box(cloud: Cloud, scale: Scale, y: float) -> list[Markup]:
    f = cloud.figure
    if f is None or not math.isfinite(f.median):
        return []
    left, right = scale(f.q1), scale(f.q3)
    parts = [
        element("rect", x=left, y=y, width=max(right - left, 1), height=7, class_="iqr", rx=1),
        line(scale(f.median), y, scale(f.median), y + 7, "median"),
    ]
    if math.isfinite(f.low):
        parts.append(line(scale(f.low), y + 12, scale(f.high), y + 12, "interval"))
    parts.append(element("circle", cx=scale(f.mean), cy=y + 12, r=2.6, class_="mean"))
    return parts


def _dots(cloud: Cloud, scale: Scale, y: float, index: Mapping[str, int], *, only_far: bool) -> list[Markup]:
    """Return a dot for each case; their height means nothing and is the same in every run."""
    lower, upper = np.quantile(cloud.array, (0.25, 0.75))
    reach = 1.5 * (upper - lower)
    parts = []
    for number, (case, value) in enumerate(sorted(cloud.values.items())):
        if only_far and lower - reach <= value <= upper + reach:
            continue
        off = value > scale.high + 1e-9
        parts.append(dot(scale(value), y + 4 + number * GOLDEN % 1 * 12, index[case], "dot out" if off else "dot"))
    return parts
