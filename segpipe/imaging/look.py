"""What the header of a picture tells before its pixels are read."""

import math
from dataclasses import dataclass

INCH_MM = 25.4
PRINTED = (1, 72, 96, 100, 150, 200, 300, 600, 1200)
"""Dots an inch that programs write where nobody told them a size: good for printers, and no size of a pixel."""
NEAR = 0.01
"""Share by which a resolution may differ from one of them: PNG keeps whole pixels a metre."""
SANE_MM = (1e-7, 100.0)


@dataclass(frozen=True)
class Look:
    """The header of a picture file.

    Args:
        size: Pixels along x and y.
        pages: How many pictures it holds.
        channels: Of each, transparency left out; a colour picture that is grey in truth has 3.
        pixel_mm: Size of a pixel along x and y, or None where the file does not tell.
    """

    size: tuple[int, int]
    pages: int
    channels: int
    pixel_mm: tuple[float, float] | None


def physical(x_mm: float, y_mm: float, *, printed: bool = False) -> tuple[float, float] | None:
    """Return the size of a pixel, or None where the numbers are none that a microscope or scanner wrote.

    Args:
        x_mm: As the file tells it.
        y_mm: Likewise.
        printed: Whether the file tells dots an inch, or may have had them from a program's default.
    """
    for mm in (x_mm, y_mm):
        if not (math.isfinite(mm) and SANE_MM[0] <= mm <= SANE_MM[1]):
            return None
        if printed and any(abs(INCH_MM / mm - dots) <= NEAR * dots for dots in PRINTED):
            return None
    return x_mm, y_mm
