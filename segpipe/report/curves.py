"""Training curves: what was made small, and what was watched."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from segpipe.report.svg import WIDTH, Scale, bottom_axis, element, figure, left_axis, line, path, scale_over

LEFT, TOP, RIGHT, BOTTOM = 60, 14, WIDTH - 14, 220
MOST_POINTS = 400
SMOOTHED = 25
"""Into how many parts a loss is cut, each of which is drawn as its mean."""
VALIDATED = "validation_dice"
MEAN = "all structures"
COLOURS = 8

Points = Sequence[tuple[int, float]]


def charts(training: Mapping[str, list[tuple[int, float]]], what: str, *, last: bool = False) -> list[dict[str, Any]]:
    """Return the charts of a training, each with title and caption; none where nothing was logged.

    Args:
        training: Figures by step.
        what: Its name.
        last: Whether the weights after the last step were kept, and not the best.
    """
    found = []
    if loss := training.get("loss"):
        found.append(
            {
                "title": f"Loss of the {what}",
                "note": "thin: single steps; bold: their running mean",
                "legend": "",
                "svg": _loss(loss, what),
            }
        )
    if dice := training.get(VALIDATED):
        best = max(dice, key=lambda point: point[1])
        found.append(
            {
                "title": "Validation Dice",
                "note": f"whole images, mean {dice[-1][1]:.3f} at the end, whose weights were kept"
                if last
                else f"whole images, mean {best[1]:.3f} at best (step {best[0]}, whose weights were kept)",
                "legend": _legend(list(_lines(training))),
                "svg": _validation(_lines(training), dice[-1] if last else best),
            }
        )
    return found


def _loss(points: Points, what: str) -> Markup:
    x, y = _scales([points])
    thin = path(_placed(_thinned(points, MOST_POINTS), x, y), "thin")
    smooth = path(_placed(_thinned(points, SMOOTHED), x, y), "bold")
    lines = element("g", thin, smooth, class_="s0")
    return figure((WIDTH, BOTTOM + 48), f"Loss of the {what}, step by step", *_axes(x, y, "loss"), lines)


def _lines(training: Mapping[str, list[tuple[int, float]]]) -> dict[str, list[tuple[int, float]]]:
    """Return the validation Dice of all structures together, and of each where there are several."""
    each = {
        name.removeprefix(f"{VALIDATED}_"): points
        for name, points in training.items()
        if name.startswith(f"{VALIDATED}_")
    }
    return {MEAN: training[VALIDATED]} | (each if len(each) > 1 else {})


def _validation(lines: Mapping[str, list[tuple[int, float]]], best: tuple[int, float]) -> Markup:
    x, y = _scales(list(lines.values()))
    parts = _axes(x, y, "validation Dice")
    parts.append(line(x(best[0]), TOP, x(best[0]), BOTTOM, "limit"))
    for number, (name, points) in enumerate(lines.items()):
        placed = _placed(points, x, y)
        style = "bold" if name == MEAN else "thin solid"
        drawn = [path(placed, style)] if len(placed) > 1 else []
        marked = placed[:: max(len(placed) // 40, 1)]
        drawn += [element("circle", cx=px, cy=py, r=2.4, class_="mark") for px, py in marked]
        parts.append(element("g", *drawn, class_=_colour(name, number)))
    return figure((WIDTH, BOTTOM + 48), "Validation Dice over the steps", *parts)


def _legend(names: Sequence[str]) -> Markup:
    keys = [
        element("span", element("i", class_=_colour(name, number)), name, class_="key")
        for number, name in enumerate(names)
    ]
    return element("span", *keys, class_="legend") if len(names) > 1 else Markup()


def _colour(name: str, number: int) -> str:
    return "ink" if name == MEAN else f"s{(number - 1) % COLOURS}"


def _scales(lines: Sequence[Points]) -> tuple[Scale, Scale]:
    steps = [float(step) for points in lines for step, _ in points]
    values = [value for points in lines for _, value in points]
    return scale_over([0.0, *steps], (LEFT, RIGHT), (0.0, max(steps) or 1.0)), scale_over(values, (BOTTOM, TOP))


def _axes(x: Scale, y: Scale, label: str) -> list[Markup]:
    return [left_axis(y, (LEFT, RIGHT), label), bottom_axis(x, BOTTOM + 6, "step")]


def _placed(points: Points, x: Scale, y: Scale) -> list[tuple[float, float]]:
    return [(x(step), y(value)) for step, value in points]


def _thinned(points: Points, most: int) -> Points:
    """Return at most ``most`` points, each the mean of a part."""
    if len(points) <= most:
        return points
    parts = np.array_split(np.asarray(points, np.float64), most)
    return [(int(part[:, 0].mean()), float(part[:, 1].mean())) for part in parts]
