"""Small slices side by side, in one picture: rows and columns that have names."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from segpipe.report.svg import element, figure, label_at

QUALITY = 85
TILE_PX = 128
"""Longer side of a slice, at most."""
ENLARGED = 4
"""Pixels for each voxel, at most."""
GAP = 0.04
"""Between slices, as a share of a slice's width."""
NAMES, HEAD = 110, 20
"""Room for the names of rows and of columns."""
WIDEST = 120
"""Units across a slice, at most."""

Slices = NDArray[np.floating]


def window(slices: Slices) -> tuple[float, float]:
    """Return what is drawn black and what white: all but the rarest values."""
    values = np.asarray(slices, np.float32)
    black, white = np.percentile(values[np.isfinite(values)], (0.5, 99.5)) if np.isfinite(values).any() else (0, 1)
    return float(black), max(float(white), float(black) + 1e-6)


def mosaic(
    slices: Slices,
    grey: tuple[float, float],
    spacing: Sequence[float],
    width: float,
    label: str,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> Markup:
    """Return a picture of slices in rows and columns.

    Args:
        slices: (R, K, A, B); A runs to the right and B up, as axes of RAS do.
        grey: What is black, and what white.
        spacing: Millimetres of a voxel along A and along B.
        width: Units across the whole.
        label: What a screen reader says of it.
        rows: A name for each row, or none.
        columns: A name for each column, or none.
    """
    size = slices.shape[2] * spacing[0], slices.shape[3] * spacing[1]
    left, top = NAMES if rows else 0, HEAD if columns else 0
    across = min((width - left) / slices.shape[1], WIDEST)
    # the last gap is left out at either end, so a slice and a gap go into what remains
    tile = across / (1 + GAP)
    up = tile * size[1] / size[0] + GAP * tile
    image = element(
        "image",
        href=_webp(slices, grey, size, spacing),
        x=left,
        y=top,
        width=slices.shape[1] * across,
        height=slices.shape[0] * up,
        preserveAspectRatio="none",
    )
    names = [label_at(0, top + (index + 0.5) * up + 4, name, "tick") for index, name in enumerate(rows)]
    heads = [
        label_at(left + index * across + tile / 2, HEAD - 7, name, "tick", "middle")
        for index, name in enumerate(columns)
    ]
    return figure((width, top + slices.shape[0] * up), label, image, *names, *heads, class_="mosaic")


def _webp(slices: Slices, grey: tuple[float, float], size: tuple[float, float], spacing: Sequence[float]) -> str:
    """Return the slices as one data address; what lies between them is transparent."""
    density = min(ENLARGED / min(spacing), TILE_PX / max(size))
    wide, high = (max(round(mm * density), 1) for mm in size)
    gap = max(round(GAP * wide), 1)
    count = slices.shape[:2]
    sheet = Image.new("LA", (count[1] * (wide + gap), count[0] * (high + gap)), (0, 0))
    for row, column in np.ndindex(count):
        one = Image.fromarray(_upright(slices[row, column], grey)).resize((wide, high), Image.Resampling.BICUBIC)
        sheet.paste(
            Image.merge("LA", (one, Image.new("L", one.size, 255))), (column * (wide + gap), row * (high + gap))
        )
    stream = io.BytesIO()
    sheet.convert("RGBA").save(stream, "WEBP", quality=QUALITY, method=6)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _upright(part: Slices, grey: tuple[float, float]) -> NDArray[np.uint8]:
    """Return a slice (A, B) as it is seen: rows from top to bottom, columns from left to right, 0 to 255."""
    black, white = grey
    shares = np.clip((np.nan_to_num(np.asarray(part, np.float32)) - black) / (white - black), 0, 1)
    return np.ascontiguousarray(np.round(shares.T[::-1] * 255), np.uint8)
