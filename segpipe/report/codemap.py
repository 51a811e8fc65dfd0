"""A map of codes: each case a dot, coloured by what is known of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from segpipe.dataset.manifest import Case
from segpipe.report.svg import WIDTH, bottom_axis, element, figure, left_axis, scale_over
from segpipe.report.wording import NARROW, number, percent, volume_digits

LEFT, TOP, RIGHT, BOTTOM = 60, 12, WIDTH - 14, 320
SHADES = 5
"""Classes of a quantity, each with as many cases."""
KINDS = 8
"""Values of a covariate, at most, that colours can tell apart."""
UNKNOWN = "not known"
RADIUS = {"training": 3.2, "validation": 4.6}


@dataclass(frozen=True)
class Colouring:
    """What a map shows: a class of the style sheet for each case, and the name of each class."""

    title: str
    names: Mapping[str, str]
    of: Mapping[str, str]
    """Case id -> class; a case without one is not known."""


def colourings(cases: Sequence[Case], rank: int, sign: str = "mm") -> list[Colouring]:
    """Return what the cases may be coloured by: volume of all structures, and the first covariate that varies."""
    volumes = {case.id: sum(case.volumes_mm3.values()) for case in cases if case.volumes_mm3}
    unit = sign + ("²" if rank == 2 else "³")
    found = [_graded(f"{'area' if rank == 2 else 'volume'} of all structures", volumes, unit)]
    names = dict.fromkeys(name for case in cases for name in case.covariates)
    found += [
        _by_covariate(name, {c.id: c.covariates[name] for c in cases if c.covariates.get(name)}) for name in names
    ]
    known = [one for one in found if one is not None]
    return known[:2]


def _by_covariate(name: str, values: Mapping[str, str]) -> Colouring | None:
    try:
        return _graded(name, {case: float(value) for case, value in values.items()}, "")
    except ValueError:
        kinds = sorted(set(values.values()))
        if not 1 < len(kinds) <= KINDS:
            return None
        classes = {kind: f"s{index}" for index, kind in enumerate(kinds)}
        return Colouring(name, {class_: kind for kind, class_ in classes.items()}, _renamed(values, classes))


def _renamed(values: Mapping[str, str], classes: Mapping[str, str]) -> dict[str, str]:
    return {case: classes[value] for case, value in values.items()}


def _graded(title: str, values: Mapping[str, float], unit: str) -> Colouring | None:
    """Return classes of a quantity with about as many cases each; None where it does not vary."""
    finite = {case: value for case, value in values.items() if np.isfinite(value)}
    edges = np.unique(np.quantile(list(finite.values()), np.linspace(0, 1, SHADES + 1))) if finite else np.zeros(0)
    if len(edges) < 2:
        return None
    digits = volume_digits(float(edges[-1]))
    last = len(edges) - 2
    shade = {index: f"q{round(index * (SHADES - 1) / max(last, 1))}" for index in range(last + 1)}
    names = {
        shade[
            index
        ]: f"{number(edges[index], digits)} to {number(edges[index + 1], digits)}{NARROW if unit else ''}{unit}"
        for index in range(last + 1)
    }
    inside = {case: int(np.clip(np.searchsorted(edges, value, "right") - 1, 0, last)) for case, value in finite.items()}
    return Colouring(title, names, {case: shade[index] for case, index in inside.items()})


def code_map(
    points: Sequence[Mapping[str, Any]], cases: Sequence[Case], colouring: Colouring | None, shares: Sequence[float]
) -> Markup:
    """Return the map.

    Args:
        points: ``case`` (a number in ``cases``), ``part`` and ``place`` (two coordinates) of each.
        cases: All of the data set.
        colouring: What colours mean; None: nothing.
        shares: Of the codes' variance, along each direction.
    """
    x = scale_over([point["place"][0] for point in points], (LEFT, RIGHT))
    y = scale_over([point["place"][1] for point in points], (BOTTOM, TOP))
    dots = []
    for point in points:
        class_ = (colouring.of if colouring else {}).get(cases[point["case"]].id, "unknown")
        held = " held" if point["part"] == "validation" else ""
        radius = RADIUS.get(point["part"], RADIUS["training"])
        place = point["place"]
        dots.append(element("circle", class_=f"code {class_}{held}", cx=x(place[0]), cy=y(place[1]), r=radius))
    across, up = (f"principal direction {n}{_share(shares, n)}" for n in (1, 2))
    axes = [left_axis(y, (LEFT, RIGHT), up), bottom_axis(x, BOTTOM + 6, across)]
    return figure((WIDTH, BOTTOM + 48), "Map of the codes of all cases", *axes, *dots)


def legend(colouring: Colouring | None, *, unknown: bool) -> Markup:
    """Return what the colours mean; a ring is a held-out case."""
    names = dict(colouring.names) if colouring else {}
    keys = [(class_, name) for class_, name in names.items()]
    keys += [("unknown", UNKNOWN)] if unknown else []
    keys.append(("ring", "ring: held out"))
    parts = [element("span", element("i", class_=f"ball {class_}"), name, class_="key") for class_, name in keys]
    return element("span", *parts, class_="legend")


def _share(shares: Sequence[float], direction: int) -> str:
    return f" ({percent(round(shares[direction - 1], 2))})" if len(shares) >= direction else ""
