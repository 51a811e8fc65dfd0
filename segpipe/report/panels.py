"""2D cases as panels: image, reference, weight map, prediction, and where the two differ."""

import base64
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segpipe.report.cuts import Cut
from segpipe.report.page import asset

LONGEST_PX = 1000
"""Pixels along the longer side of a panel, at most; a larger image is shown coarser."""
QUALITY = 88
SHADES = 8
"""Grey values under an error map: few, so that it stays small without loss."""
DIM = 0.75
"""Brightness of the image under an error map: colours stand out."""
ADDED, MISSED, CONFUSED = (230, 159, 0), (86, 180, 233), (204, 121, 167)
"""Orange, sky blue and reddish purple: told apart by the colour-blind (Okabe and Ito 2008)."""
HEAT = ((0, 34, 78), (65, 77, 107), (124, 123, 120), (188, 175, 111), (254, 232, 56))
"""Five steps of the cividis colours (Nunez et al. 2018), low to high."""

Colours = NDArray[np.uint8]


@dataclass(frozen=True)
class Panel:
    """One picture of a case."""

    title: str
    note: str
    source: str
    """A data address."""
    size: tuple[int, int]
    """Width and height in pixels."""


def panels(cut: Cut, structures: Mapping[str, tuple[int, ...]]) -> list[Panel]:
    """Return the panels of a 2D case; without a weight map, four."""
    truth, found = (_numbers(array[:, :, 0], structures) for array in (cut.truth, cut.prediction))
    grey = cut.image[:, :, 0]
    shown = [
        _panel("Image", _coarser(cut), cut, colour if (colour := cut.colour) is not None else grey, lossless=False)
    ]
    shown.append(_panel("Reference", "", cut, _painted(truth)))
    if cut.weight is not None:
        low, high = float(cut.weight.min()), float(cut.weight.max())
        heat = _heat((cut.weight - low) / max(high - low, 1e-6))
        shown.append(_panel("Weight map", f"{low:.3g} (dark) to {high:.3g} (bright)", cut, heat, lossless=False))
    shown.append(_panel("Prediction", "", cut, _painted(found)))
    wrong = float((truth != found).mean())
    shown.append(_panel("Errors", f"{wrong * 100:.2g} % of the pixels", cut, _errors(grey, truth, found)))
    return shown


def keys(structures: int) -> Iterator[tuple[str, str]]:
    """Yield what the colours of an error map mean, and each colour."""
    for name, colour in (("drawn without reference", ADDED), ("missed", MISSED), ("taken for another", CONFUSED)):
        if structures > 1 or colour != CONFUSED:
            yield name, f"rgb{colour}"


def _coarser(cut: Cut) -> str:
    width, height = cut.image.shape[:2]
    longest = max(width, height)
    return f"{width} x {height} pixels" + (f", shown at {LONGEST_PX / longest:.0%}" if longest > LONGEST_PX else "")


def _numbers(labels: NDArray[np.int32], structures: Mapping[str, tuple[int, ...]]) -> NDArray[np.uint8]:
    """Return 0 for background and n for the nth structure, the later one where they overlap."""
    numbers = np.zeros(labels.shape, np.uint8)
    for number, values in enumerate(structures.values(), start=1):
        numbers[np.isin(labels, values)] = number
    return numbers


def _painted(numbers: NDArray[np.uint8]) -> Colours:
    """Return structures (X, Y, 3) in the colours of the page, on black."""
    written = re.findall(r"--i\d: #([0-9a-f]{6})", asset("report.css"))
    table = [tuple(bytes.fromhex(colour)) for colour in written]
    palette = np.asarray([(0, 0, 0), *[table[number % len(table)] for number in range(255)]], np.uint8)
    return np.asarray(palette[numbers], np.uint8)


def _heat(shares: NDArray[np.floating]) -> Colours:
    steps = np.linspace(0, 1, len(HEAT))
    channels = [np.interp(shares, steps, [colour[channel] for colour in HEAT]) for channel in range(3)]
    return np.asarray(np.stack(channels, axis=-1), np.uint8)


def _errors(grey: NDArray[np.uint8], truth: NDArray[np.uint8], found: NDArray[np.uint8]) -> Colours:
    step = 256 // SHADES
    picture = np.repeat((grey // step * step * DIM).astype(np.uint8)[..., None], 3, axis=-1)
    picture[(found > 0) & (truth == 0)] = ADDED
    picture[(found == 0) & (truth > 0)] = MISSED
    picture[(found > 0) & (truth > 0) & (found != truth)] = CONFUSED
    return picture


def _panel(title: str, note: str, cut: Cut, pixels: Colours, *, lossless: bool = True) -> Panel:
    """Return a panel of (X, Y) or (X, Y, 3), Y upwards as in a cut; pixels come out square."""
    upright = np.ascontiguousarray(np.swapaxes(pixels, 0, 1)[::-1])
    width, height = (n * mm for n, mm in zip(pixels.shape[:2], cut.spacing[:2], strict=True))
    density = min(1 / min(cut.spacing[:2]), LONGEST_PX / max(width, height))
    size = max(round(width * density), 1), max(round(height * density), 1)
    picture = Image.fromarray(upright)
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.NEAREST if lossless else Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    picture.save(stream, "WEBP", lossless=lossless, quality=100 if lossless else QUALITY, method=4)
    return Panel(title, note, f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}", size)
