"""TIFF files, single or stacked: the only door to tifffile."""

import io
import logging
import math
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import DataError
from segpipe.imaging.look import INCH_MM, Look, physical

if TYPE_CHECKING:
    import tifffile

PLANE = "YX"
SAMPLES = "SC"
"""Axes that hold channels: samples of a pixel, or pages of one image."""
IN_MM = {
    "mm": 1.0,
    "cm": 10.0,
    "m": 1000.0,
    "micron": 1e-3,
    "um": 1e-3,
    "µm": 1e-3,
    "\u03bcm": 1e-3,
    "nm": 1e-6,
    "inch": INCH_MM,
}
ALPHA = (1, 2)
"""Kinds of an extra sample that are transparency."""
DAMAGE = (ValueError, RuntimeError, OSError, KeyError, IndexError, TypeError, ZeroDivisionError)
"""What tifffile raises for files that are none, or no longer."""

Plain = Callable[[Path, int], NDArray[Any]]
"""Another reader of one page, for compressions that tifffile leaves to others."""


def look_tiff(path: Path) -> Look:
    """Return what the header of a TIFF file tells.

    Raises:
        DataError: It is no TIFF file, or one of a form that is not read.
    """
    with _opened(path) as file:
        series, first = _series(file, path), _first(file)
        axes, shape = series.axes, series.shape
        sizes = dict(zip(axes, shape, strict=True))
        alpha = any(kind in ALPHA for kind in getattr(first, "extrasamples", ()))
        channels = math.prod(sizes.get(axis, 1) for axis in SAMPLES)
        palette = first.photometric.name == "PALETTE"
        return Look(
            size=(sizes["X"], sizes["Y"]),
            pages=math.prod(n for axis, n in sizes.items() if axis not in PLANE + SAMPLES),
            channels=3 if palette else channels - alpha,
            pixel_mm=_pixel(file),
        )


def read_tiff(path: Path, page: int, plain: Plain) -> tuple[NDArray[Any], bool, NDArray[Any] | None]:
    """Return a page (C, Y, X), whether its last channel is transparency, and its palette (3, n) where it has one.

    Args:
        path: Of the file.
        page: Which one, from 0.
        plain: Reads what tifffile cannot unpack; its answer is (Y, X) or (Y, X, C).

    Raises:
        DataError: The file is damaged.
    """
    with _opened(path) as file:
        series, first = _series(file, path), _first(file)
        axes = series.axes
        alpha = any(kind in ALPHA for kind in getattr(first, "extrasamples", ()))
        colours = first.colormap if first.photometric.name == "PALETTE" else None
        leading = [n for axis, n in zip(axes, series.shape, strict=True) if axis not in PLANE + SAMPLES]
        alone = math.prod(leading) == len(series.pages) and all(one is not None for one in series.pages)
        try:
            if alone:  # a page is a case: the rest of the stack is left where it lies
                array = series.pages[page].asarray()
                axes = series.pages[page].axes
            else:
                array = series.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            array = plain(path, page)
            axes, alone = "YXS"[: array.ndim], True
        order = [axes.index(axis) for axis in axes if axis not in PLANE + SAMPLES]
        order += [axes.index(axis) for axis in axes if axis in SAMPLES] + [axes.index("Y"), axes.index("X")]
        turned = array.transpose(order).reshape(-1, *_inner(array, axes))
        chosen = turned[0 if alone else page]
        if first.photometric.name == "MINISWHITE" and chosen.dtype.kind in "bu":
            chosen = ~chosen if chosen.dtype == bool else np.iinfo(chosen.dtype).max - chosen
        return np.ascontiguousarray(chosen), alpha, colours


def write_tiff(array: NDArray[Any], pixel_mm: tuple[float, float] | None) -> bytes:
    """Return a TIFF file of one page (Y, X), its resolution in pixels a centimetre where the size is known."""
    import tifffile  # noqa: PLC0415 - opened for its own format only

    stream = io.BytesIO()
    resolution = (10 / pixel_mm[0], 10 / pixel_mm[1]) if pixel_mm else None
    tifffile.imwrite(
        stream,
        array,
        compression="zlib",
        photometric="minisblack",
        metadata=None,
        software=False,
        resolution=resolution,
        resolutionunit="CENTIMETER" if pixel_mm else None,
    )
    return stream.getvalue()


def _inner(array: NDArray[Any], axes: str) -> tuple[int, int, int]:
    sizes = dict(zip(axes, array.shape, strict=True))
    return math.prod(sizes.get(axis, 1) for axis in SAMPLES), sizes["Y"], sizes["X"]


@contextmanager
def _opened(path: Path) -> "Iterator[tifffile.TiffFile]":
    import tifffile  # noqa: PLC0415 - opened for its own format only

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what cannot be read raises
    try:
        with tifffile.TiffFile(path) as file:
            yield file
    except DataError:
        raise
    except DAMAGE as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise DataError(f"{path.name}: this is no whole TIFF file ({reason}). Fetch it again.") from error


def _series(file: "tifffile.TiffFile", path: Path) -> Any:
    """Return the one group of pages of a file; reduced copies of a pyramid lie inside it and are passed over."""
    if len(file.series) != 1:
        sizes = ", ".join("x".join(map(str, one.shape)) for one in file.series[:3])
        raise DataError(
            f"{path.name}: holds {len(file.series)} images of different sizes ({sizes}, …). Save each as its own file."
        )
    (series,) = file.series
    if "Y" not in series.axes or "X" not in series.axes or all(axis in series.axes for axis in SAMPLES):
        raise DataError(f"{path.name}: axes {series.axes} of {series.shape} are not understood. Save it as plain TIFF.")
    return series


def _first(file: "tifffile.TiffFile") -> Any:
    """Return the first page; its tags hold for all of them."""
    return file.pages[0]


def _pixel(file: "tifffile.TiffFile") -> tuple[float, float] | None:
    """Return the size (x, y) of a pixel in mm: by OME-XML, ImageJ or the resolution tags, whichever tells first."""
    if file.is_ome and file.ome_metadata and (told := _ome(file.ome_metadata)):
        return told
    page = _first(file)
    across = [page.tags.get(name) for name in ("XResolution", "YResolution")]
    if None in across:
        return None
    try:
        x, y = (denominator / numerator for numerator, denominator in (tag.value for tag in across if tag))
    except (ZeroDivisionError, TypeError, ValueError):
        return None
    if file.is_imagej and file.imagej_metadata:
        unit = IN_MM.get(str(file.imagej_metadata.get("unit", "")).replace("\\u00B5", "µ"))
        return physical(x * unit, y * unit) if unit else None
    kind = page.tags.get("ResolutionUnit")
    number = int(kind.value) if kind else 2
    unit = {2: INCH_MM, 3: 10.0}.get(number)
    return physical(x * unit, y * unit, printed=number == 2) if unit else None


def _ome(text: str) -> tuple[float, float] | None:
    try:
        pixels = next(node for node in ET.fromstring(text).iter() if node.tag.endswith("}Pixels"))
        sizes = [
            float(pixels.attrib[f"PhysicalSize{axis}"]) * IN_MM[pixels.attrib.get(f"PhysicalSize{axis}Unit", "µm")]
            for axis in "XY"
        ]
    except (ET.ParseError, StopIteration, KeyError, ValueError):
        return None
    return physical(*sizes)
