"""Whether probabilities mean what they say: the reliability diagram, and its figures in words."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from segpipe.report.material import Material
from segpipe.report.svg import WIDTH, Scale, bottom_axis, element, figure, left_axis, line, path
from segpipe.report.wording import UNDEFINED, number, percent, shown, span
from segpipe.score.calibration import BINS, MARGIN_MM, Reliability
from segpipe.score.reliability_file import of_row

LEFT, TOP, RIGHT = 60, 14, WIDTH - 14
HEIGHT = 250
COLOURS = 8
FEW = 0.001
"""Share of the voxels, below which a bin is not drawn."""
HONEST = 0.02
"""Mean gap of probability and frequency up to which neither is called too high."""
DRAWN = 0.5
"""Of two classes, the one with a larger probability is drawn."""
NOTABLE = 0.1
"""ECE from which on it is worth a finding."""


def chapter(material: Material) -> dict[str, Any] | None:
    """Return what the template names: ``lead``, ``charts``, ``rows``, ``told``; None without probabilities."""
    found = bins_of(material)
    if not found:
        return None
    shown_ones = dict(list(found.items())[:COLOURS])
    chart = {
        "title": "Reliability",
        "note": "below the line: less often right than said",
        "legend": _legend(list(shown_ones)),
        "svg": _diagram(shown_ones, material.dot),
    }
    return {
        "lead": _lead(material),
        "charts": [chart],
        "rows": [_row(material, name, one) for name, one in found.items()],
        "told": [sentence(name, one, material.dot) for name, one in found.items()],
    }


def bins_of(material: Material) -> dict[str, Reliability]:
    """Return the bins of each structure over all cases; a structure without any voxels has none."""
    found = {str(row["label"]): of_row(row) for row in material.calibration}
    return {name: one for name, one in found.items() if one.count.sum()}


def gap(bins: Reliability, above: float = 0.0) -> float:
    """Return by how much probabilities are too high, in the mean over the voxels of bins above one; NaN without any."""
    chosen = np.nan_to_num(bins.confidence) > above
    gaps, count = np.nan_to_num(bins.confidence - bins.frequency)[chosen], bins.count[chosen]
    return float(gaps @ count / count.sum()) if count.sum() else math.nan


def sentence(name: str, bins: Reliability, dot: str = "voxel") -> str:
    """Return what is to be said of a structure: how far off, to which side, and one example; ``dot`` is a voxel."""
    whole, drawn = gap(bins), gap(bins, DRAWN)
    where = "" if math.isnan(drawn) else f", {_side(drawn)} where they pass one half"
    example = ""
    sure = [at for at in range(len(bins.count)) if bins.confidence[at] > DRAWN and bins.count[at] > 0]
    if sure:
        at = max(sure, key=lambda place: int(bins.count[place]))
        example = (
            f" Of {dot}s that were given {percent(round(float(bins.confidence[at]), 2))} on average, "
            f"{percent(round(float(bins.frequency[at]), 2))} are {name}."
        )
    return f"{name}: probabilities are {_side(whole)} on the whole{where}, off by {number(bins.ece, 2)} (ECE).{example}"


def _side(apart: float) -> str:
    if abs(apart) <= HONEST:
        return "neither too high nor too low"
    return f"too {'high' if apart > 0 else 'low'} by {number(abs(apart), 2)}"


def counted_how(material: Material) -> Iterator[str]:
    """Yield what the methods say of it; nothing where there were no probabilities."""
    if material.calibration:
        yield (
            f"Calibration: {material.dot}s within {MARGIN_MM:g} {material.unit} of prediction or reference were sorted "
            f"into {BINS} bins of equal width by their probability; the expected calibration error (ECE) is the gap "
            "between mean probability and share of the structure in each bin, weighted by its "
            f"{material.dot}s (Naeini et al. 2015). In tables it is the mean over cases, in the diagram all "
            f"{material.dot}s count alike."
        )


def _lead(material: Material) -> str:
    return (
        f"Where the network gives a {material.dot} 80 %, it should be right in 80 % of such {material.dot}s: on the "
        f"dashed line. Only {material.dot}s within {MARGIN_MM:g} {material.unit} of prediction or reference count, "
        "since easy background would drown the rest; bins with less than a thousandth of them are not drawn."
    )


def _diagram(found: Mapping[str, Reliability], dot: str) -> Markup:
    x, y = Scale(0, 1, LEFT, RIGHT), Scale(0, 1, HEIGHT, TOP)
    parts = [
        left_axis(y, (LEFT, RIGHT), f"share of {dot}s that are the structure"),
        bottom_axis(x, HEIGHT + 6, "mean probability that the network gave"),
        line(x(0), y(0), x(1), y(1), "limit"),
    ]
    for colour, one in enumerate(found.values()):
        kept = one.count >= max(FEW * one.count.sum(), 1)
        places = [(x(float(p)), y(float(f))) for p, f in zip(one.confidence[kept], one.frequency[kept], strict=True)]
        marks = [element("circle", class_="mark", cx=px, cy=py, r=3) for px, py in places]
        parts.append(element("g", path(places, "thin solid"), *marks, class_=f"s{colour}"))
    return figure((WIDTH, HEIGHT + 48), f"Reliability: share of {dot}s over the probability they were given", *parts)


def _legend(names: Sequence[str]) -> Markup:
    keys = [element("span", element("i", class_=f"s{at}"), name, class_="key") for at, name in enumerate(names)]
    return element("span", *keys, class_="legend")


def _row(material: Material, name: str, bins: Reliability) -> dict[str, str]:
    row = {"structure": name, "pooled": number(bins.ece, 3), "voxels": number(int(bins.count.sum()), 0)}
    for metric in ("ece", "brier"):
        f = material.figure(metric, name)
        known = f is not None and math.isfinite(f.mean)
        row[metric] = shown(f.mean, metric) if f and known else UNDEFINED
        row[f"{metric}_interval"] = span(f.low, f.high, metric) if f and known else UNDEFINED
    return row
