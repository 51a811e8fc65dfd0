"""Whether small structures fare worse than large ones: Dice over reference volume."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from segpipe.report.scores import Scores
from segpipe.report.svg import WIDTH, bottom_axis, dot, element, figure, left_axis, scale_over

LEFT, TOP, RIGHT = 60, 12, WIDTH - 14
WIDE = 30
"""Ratio of the largest to the smallest volume from which the axis counts in powers of ten."""
MOST_DOTS = 2000
COLOURS = 8
"""With more structures than this they are not told apart."""


def dice_by_size(scores: Scores, index: Mapping[str, int], unit: str, height: float) -> Markup | None:
    """Return the chart, ``height`` units tall to its axis; None where there is nothing to draw, or too much."""
    clouds = [_points(scores, structure) for structure in scores.structures]
    volumes = [volume for cloud in clouds for _, volume, _ in cloud]
    if not volumes or len(volumes) > MOST_DOTS:
        return None
    powers = max(volumes) > WIDE * min(volumes)
    seen = np.log10(volumes).tolist() if powers else volumes
    x = scale_over(seen, (LEFT, RIGHT))
    y = scale_over([dice for cloud in clouds for _, _, dice in cloud], (height, TOP), (0.0, 1.0))
    groups = [
        element(
            "g",
            *[dot(x(math.log10(volume) if powers else volume), y(dice), index[case]) for case, volume, dice in cloud],
            class_=f"s{number}" if len(clouds) <= COLOURS else "ink",
        )
        for number, cloud in enumerate(clouds)
    ]
    extent = "area" if unit.endswith("²") else "volume"
    label = f"reference {extent} ({'powers of ten of ' if powers else ''}{unit})"
    axes = [left_axis(y, (LEFT, RIGHT), "Dice"), bottom_axis(x, height + 6, label)]
    return figure((WIDTH, height + 48), f"Dice of each case over the {extent} of the reference", *axes, *groups)


def _points(scores: Scores, structure: str) -> Sequence[tuple[str, float, float]]:
    volumes = scores.defined(structure, "vol_ref_mm3")
    return [
        (case, volumes[case], dice)
        for case, dice in sorted(scores.defined(structure, "dice").items())
        if volumes.get(case, 0) > 0
    ]
