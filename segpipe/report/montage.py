"""Pictures of the worst, median and best cases: planes through the reference, outlined."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image
from skimage.measure import find_contours

from segpipe.report.cuts import Cut, Plane
from segpipe.report.settings import MontageCases
from segpipe.report.svg import element, figure, label_at

QUALITY = 88
ENLARGED = 4
"""Pixels of a tile for each voxel, at most."""
LONGEST_PX = 420
GAP = 0.04
"""Between the planes, as a share of the width."""
ALIKE = 2.2
"""Cases are drawn to one scale unless one is smaller than the widest by more than this."""
MOST_POINTS = 12_000
"""Corners of an outline; a finer one is drawn coarser."""
ORDINALS = ("", "", "2nd ", "3rd ")
BARS_MM = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


@dataclass(frozen=True)
class Pick:
    """A case and why it is shown."""

    case: str
    role: str


def picks(ranked: Sequence[str], wanted: MontageCases) -> list[Pick]:
    """Return the cases to show, the worst first, each once.

    Args:
        ranked: All cases, the worst first.
        wanted: How many of each kind.
    """
    total = len(ranked)
    if total == 1:
        return [Pick(ranked[0], "The only case")] if wanted.worst + wanted.median + wanted.best else []
    first = (total - wanted.median) // 2
    roles: dict[int, str] = {}
    if wanted.worst and total:
        roles[0] = "Worst"
    for place in range(total - 1, max(total - 1 - wanted.best, -1), -1):
        roles.setdefault(place, f"{_ordinal(total - place)}best".capitalize())
    for place in range(max(first, 0), min(first + wanted.median, total)):
        roles.setdefault(place, "Median")
    for place in range(min(wanted.worst, total)):
        roles.setdefault(place, f"{_ordinal(place + 1)}worst".capitalize())
    return [Pick(ranked[place], roles[place]) for place in sorted(roles)]


def _ordinal(place: int) -> str:
    return ORDINALS[place] if place < len(ORDINALS) else f"{place}th "


def common_width(cuts: Sequence[Cut]) -> list[float]:
    """Return the width in mm at which each case is drawn, so that a millimetre is as long in all of them."""
    widths = [_layout(list(cut.planes()))[0][0] for cut in cuts]
    widest = max(widths, default=1.0)
    return [widest if widest <= ALIKE * width else width for width in widths]


def picture(cut: Cut, structures: Mapping[str, tuple[int, ...]], width: float, label: str) -> Markup:
    """Return the planes of a case side by side, ``width`` mm across, with a scale bar.

    The reference is a white line; each structure's prediction is a dashed line in its colour.
    """
    planes = list(cut.planes())
    (own, height), places = _layout(planes)
    scale = 100 / width  # the picture's own unit: a hundredth of its width
    parts: list[Markup] = []
    for plane, (x, y) in zip(planes, places, strict=True):
        parts.append(_tile(plane, structures, (x * scale, y * scale), scale))
    bar = max((mm for mm in BARS_MM if mm <= own / 4), default=BARS_MM[0])
    foot = height * scale + 6
    ruler = f"M0 {foot - 3:.2f}h{bar * scale:.2f}"
    parts.append(element("path", d=ruler, class_="bar", vector_effect="non-scaling-stroke"))
    parts.append(label_at(bar * scale + 2, foot - 1.6, f"{bar:g} mm", "bartext"))
    return figure((100, foot), label, *parts, class_="planes")


def _layout(planes: Sequence[Plane]) -> tuple[tuple[float, float], list[tuple[float, float]]]:
    """Return the size of the picture and the place of each plane, in mm: one above two, as they take least room."""
    sizes = [plane.size for plane in planes]
    if len(sizes) < 3:
        widths, heights = zip(*sizes, strict=True) if sizes else ((1.0,), (1.0,))
        gap = GAP * sum(widths)
        places = [(sum(widths[:index]) + index * gap, 0.0) for index in range(len(sizes))]
        return (sum(widths) + gap * (len(widths) - 1), max(heights)), places
    return min((_above(sizes, top) for top in range(3)), key=lambda layout: layout[0][0] * layout[0][1])


def _above(sizes: Sequence[tuple[float, float]], top: int) -> tuple[tuple[float, float], list[tuple[float, float]]]:
    left, right = (index for index in range(3) if index != top)
    gap = GAP * (sizes[left][0] + sizes[right][0])
    foot = sizes[top][1] + gap
    places = [(0.0, 0.0)] * 3
    places[left], places[right] = (0.0, foot), (sizes[left][0] + gap, foot)
    width = max(sizes[top][0], sizes[left][0] + gap + sizes[right][0])
    return (width, foot + max(sizes[left][1], sizes[right][1])), places


def _tile(plane: Plane, structures: Mapping[str, tuple[int, ...]], place: tuple[float, float], scale: float) -> Markup:
    width, height = (mm * scale for mm in plane.size)
    image = element(
        "image", href=_webp(plane), width=f"{width:.2f}", height=f"{height:.2f}", preserveAspectRatio="none"
    )
    voxel = tuple(mm * scale for mm in plane.spacing)
    to_voxels = f"scale({voxel[0]:.5g} {voxel[1]:.5g})"
    outlines = []
    for index, values in enumerate(structures.values()):
        truth = outline(np.isin(plane.truth, values))
        predicted = outline(np.isin(plane.prediction, values))
        if truth:
            outlines.append(_stroke(truth, "halo"))
            outlines.append(_stroke(truth, "truth"))
        if predicted:
            outlines.append(_stroke(predicted, f"predicted i{index % 8}"))
    parts = [image, element("g", *outlines, transform=to_voxels), *_marks(plane, (width, height))]
    return element("g", *parts, transform=f"translate({place[0]:.2f} {place[1]:.2f})")


def _stroke(d: str, class_: str) -> Markup:
    return element("path", d=d, class_=class_, vector_effect="non-scaling-stroke")


def _marks(plane: Plane, size: tuple[float, float]) -> Iterator[Markup]:
    across, up = plane.marks
    if across:
        width, height = size
        yield label_at(1, height / 2 + 1.5, across[0], "letter")
        yield label_at(width - 1, height / 2 + 1.5, across[1], "letter", "end")
        yield label_at(width / 2, height - 1, up[0], "letter", "middle")
        yield label_at(width / 2, 4.2, up[1], "letter", "middle")


def outline(mask: NDArray[np.bool_]) -> str:
    """Return the SVG path around a mask (rows, columns), in voxels from its upper left corner; empty for none."""
    size = 1
    while True:
        lines = [_corners(line) for line in find_contours(np.pad(_coarse(mask, size), 1).astype(np.float32), 0.5)]
        if sum(map(len, lines)) <= MOST_POINTS:
            break
        size *= 2
    # find_contours puts a voxel's centre at its index, and the frame of one voxel moved all by one
    return "".join(
        "M" + "L".join(f"{x:.4g} {y:.4g}" for y, x in ((points - 0.5) * size).tolist()) + "Z" for points in lines
    )


def _coarse(mask: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """Return a mask with one voxel for each ``size`` x ``size`` of them: what most of them are."""
    if size == 1:
        return mask
    padded = np.pad(mask, [(0, -n % size) for n in mask.shape])
    rows, columns = (n // size for n in padded.shape)
    return np.asarray(padded.reshape(rows, size, columns, size).mean(axis=(1, 3)) >= 0.5, bool)


def _corners(line: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the points (n, 2) of a closed line at which it turns."""
    points = line[:-1]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turns = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    return points[np.abs(turns) > 1e-6]


def _webp(plane: Plane) -> str:
    """Return a slice as a data address, enlarged so that its pixels are square in mm."""
    width, height = plane.size
    density = min(ENLARGED / min(plane.spacing), LONGEST_PX / max(width, height))
    size = (max(round(width * density), 1), max(round(height * density), 1))
    stream = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(plane.image)).resize(size, Image.Resampling.BICUBIC)
    picture.save(stream, "WEBP", quality=QUALITY, method=6)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
