"""2D pictures: PNG, JPEG, BMP and TIFF, read by stated rules and written back in their own form."""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from segpipe.core.atomic import write_bytes
from segpipe.core.errors import DataError
from segpipe.imaging.geometry import Geometry
from segpipe.imaging.look import INCH_MM, Look, physical
from segpipe.imaging.reading import PER_MM, Reading, Unit
from segpipe.imaging.tiff import look_tiff, read_tiff, write_tiff
from segpipe.imaging.volume import Volume

TIFFS = (".ome.tiff", ".ome.tif", ".tiff", ".tif")
OTHERS = (".png", ".jpeg", ".jpg", ".bmp")
SUFFIXES = TIFFS + OTHERS
"""Suffixes of pictures, the longest first."""

DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
"""What Pillow raises for files that are none, or no longer."""
CHANNELS = {"1": 1, "L": 1, "I;16": 1, "I;16B": 1, "I": 1, "F": 1, "LA": 1, "P": 3, "PA": 3, "RGB": 3, "RGBA": 3}
"""Modes that are read, and the channels they give, transparency left out."""
ALPHA = ("LA", "PA", "RGBA")
PNG = b"\x89PNG\r\n\x1a\n"
PNG_GREY, PNG_RGB = 0, 2
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)
"""The EXIF tag, and its values that exchange width and height."""


def is_picture(path: Path) -> bool:
    """Tell by its name whether a file is a picture."""
    return path.name.lower().endswith(SUFFIXES)


def look_at(path: Path) -> Look:
    """Return what the header of a picture tells.

    Raises:
        DataError: The file is missing, damaged, animated, or of a form that would lose values.
    """
    _refuse_nothing(path)
    if path.name.lower().endswith(TIFFS):
        return look_tiff(path)
    with _opened(path) as image:
        width, height = image.size
        if image.getexif().get(ORIENTATION) in TURNED:
            width, height = height, width
        return Look((width, height), 1, CHANNELS[image.mode], _pixel(image))


def grid_of(path: Path, reading: Reading) -> Geometry:
    """Return the grid on which the pixels of a picture lie: x to the right, y downwards.

    Raises:
        DataError: It tells no size of a pixel, and lengths are to be physical.
    """
    look = look_at(path)
    return _grid(look.size, _step(look, reading, path))


def read_picture(path: Path, reading: Reading, page: int | None = None) -> Volume:
    """Return a picture (C, X, Y) in its stored type.

    Colour gives three channels; transparency is dropped where it is the same all over; a palette is looked up.
    A photograph is turned as its EXIF orientation says.

    Args:
        path: Of the file.
        reading: Unit, size of a pixel, and whether colour is grey in truth.
        page: Which page of a stack, from 0; without, the file holds one.

    Raises:
        DataError: The file is damaged, has several pages, or transparency that varies.
    """
    array = _one_channel(_planes(path, page, labels=False), path) if reading.grey else _planes(path, page, labels=False)
    return Volume(array.transpose(0, 2, 1), grid_of(path, reading))


def read_mask(path: Path, page: int | None = None, grid: Geometry | None = None) -> Volume:
    """Return the label values (1, X, Y) of a picture; the index of a palette is the value.

    Args:
        path: Of the file.
        page: Which page of a stack, from 0; without, the file holds one.
        grid: Of the image it belongs to: masks seldom tell the size of a pixel.

    Raises:
        DataError: The file is damaged, coloured, has several pages, or another size than ``grid``.
    """
    array = _one_channel(_planes(path, page, labels=True), path, labels=True).transpose(0, 2, 1)
    found = array.shape[1:]
    if grid is not None and found != grid.shape:
        raise DataError(
            f"{path.name}: is {_by(found)} pixels, its image {_by(grid.shape)} (width x height). "
            "Export both at one size; never stretch a mask smoothly."
        )
    return Volume(array, grid or _grid((found[0], found[1]), (1.0, 1.0)))


def write_picture(path: Path, volume: Volume, unit: Unit) -> None:
    """Write label values (1, X, Y) as PNG or TIFF, with the size of a pixel where it is known; always the same bytes.

    Args:
        path: Ends in ``.png`` or ``.tif``.
        volume: On the grid of a picture.
        unit: Of its spacing.
    """
    array = np.ascontiguousarray(volume.array[0].T)
    x, y = volume.geometry.spacing
    pixel_mm = (x / PER_MM[unit], y / PER_MM[unit]) if unit in PER_MM else None
    if path.name.lower().endswith(TIFFS):
        write_bytes(path, write_tiff(array, pixel_mm))
        return
    stream = io.BytesIO()
    # PNG keeps whole pixels a metre; the other ways of Pillow count in inches
    extra = {"dpi": tuple(INCH_MM / mm for mm in pixel_mm)} if pixel_mm else {}
    Image.fromarray(array).save(stream, "PNG", **extra)
    write_bytes(path, stream.getvalue())


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _grid(size: tuple[int, int], step: tuple[float, float]) -> Geometry:
    # the world's first axis points right and its second up, as R and A do on a page
    return Geometry(size, np.diag([step[0], -step[1], 1.0]))


def _step(look: Look, reading: Reading, path: Path) -> tuple[float, float]:
    if reading.pixel is not None:
        return reading.pixel
    if reading.unit == "px":
        return 1.0, 1.0
    if look.pixel_mm is None:
        raise DataError(
            f"{path.name}: tells no size of a pixel, and lengths are in {reading.sign}. Write it into the file, or set "
            "ingest.pictures.pixel_size_um to it, or to `unknown`: then lengths are in pixels."
        )
    x, y = (mm * PER_MM[reading.unit] for mm in look.pixel_mm)
    return x, y


def _planes(path: Path, page: int | None, *, labels: bool) -> NDArray[Any]:
    """Return a picture (C, Y, X) without its transparency."""
    _refuse_nothing(path)
    look = look_at(path)
    if page is None and look.pages > 1:
        raise DataError(f"{path.name}: holds {look.pages} pages where one is expected. Save each as its own file.")
    if page is not None and page >= look.pages:
        raise DataError(f"{path.name}: has {look.pages} page(s), page {page + 1} is missing. Export the stack again.")
    if path.name.lower().endswith(TIFFS):
        array, alpha, colours = read_tiff(path, page or 0, _page)
        if colours is not None and not labels:
            array = (colours[:, array[0]] >> 8).astype(np.uint8)
    else:
        with _opened(path) as image:
            array, alpha = _pixels(image, labels=labels)
    if alpha and not labels and (array[-1] != array[-1].flat[0]).any():
        raise DataError(
            f"{path.name}: its transparency (alpha) varies from pixel to pixel. Flatten it onto one ground, and save "
            "it without alpha."
        )
    array = array[:-1] if alpha and len(array) > 1 else array
    return array.astype(np.uint8) if array.dtype == bool else array


def _pixels(image: Image.Image, *, labels: bool) -> tuple[NDArray[Any], bool]:
    """Return an open picture (C, Y, X), and whether its last channel is transparency."""
    image = ImageOps.exif_transpose(image)
    depth = image.info.get("bits", 8)
    if image.mode in ("P", "PA") and not labels:
        image = image.convert("RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB")
    array = np.asarray(image)
    if image.mode == "L" and depth in (2, 4):  # Pillow spreads them over a byte
        array = array // (255 // (2**depth - 1))
    planes = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    return planes, image.mode in ALPHA


def _one_channel(planes: NDArray[Any], path: Path, *, labels: bool = False) -> NDArray[Any]:
    if len(planes) == 1 or (planes == planes[0]).all():
        return planes[:1]
    if labels:
        raise DataError(
            f"{path.name}: a label map in colour ({len(planes)} channels). Save it with one number a pixel: as grey "
            "values, or as a palette PNG, whose indices are the label values."
        )
    raise DataError(
        f"{path.name}: has {len(planes)} channels, while the other colour files are grey in truth and give one. "
        "Convert it to grey."
    )


def _page(path: Path, page: int) -> NDArray[Any]:
    """Return a page of a TIFF file as Pillow unpacks it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as image:
            image.seek(page)
            return np.asarray(image)


def _refuse_nothing(path: Path) -> None:
    if not path.is_file():
        raise DataError(f"{path.name}: there is no such file. Restore it, or take the case out of the list.")
    if path.stat().st_size == 0:
        raise DataError(f"{path.name}: the file is empty (0 bytes). Fetch it again.")


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open a picture of one frame whose values Pillow keeps as they are."""
    try:
        with path.open("rb") as stream:
            head = stream.read(26)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures and odd tags: what cannot be read raises
            with Image.open(path) as image:
                _refuse_form(path, image, head)
                if head.startswith(PNG) and head[25] == PNG_GREY:
                    image.info["bits"] = head[24]
                yield image
    except DataError:
        raise
    except DAMAGE as error:
        reason = " ".join(str(error).replace(str(path), path.name).split())[:120]
        raise DataError(
            f"{path.name}: cannot be read ({reason}). It is damaged or cut short: fetch it again."
        ) from error


def _refuse_form(path: Path, image: Image.Image, head: bytes) -> None:
    if (frames := getattr(image, "n_frames", 1)) > 1:
        raise DataError(f"{path.name}: is animated ({frames} frames) where one picture is expected. Save one frame.")
    if head.startswith(PNG) and head[24] == 16 and head[25] != PNG_GREY:
        what = "16 bits a colour" if head[25] == PNG_RGB else "16 bits with transparency (alpha)"
        raise DataError(
            f"{path.name}: a PNG of {what}, of which 8 would be lost. Save it as grey, or as TIFF without alpha."
        )
    if image.mode not in CHANNELS:
        raise DataError(f"{path.name}: colour mode {image.mode} is not read. Convert it to grey or RGB.")


def _pixel(image: Image.Image) -> tuple[float, float] | None:
    """Return the size of a pixel in mm; that of a JPEG is dots an inch for a printer."""
    if image.format != "PNG" or "dpi" not in image.info:
        return None
    x, y = (_before_rounding(round(dots / INCH_MM * 1000)) for dots in image.info["dpi"])
    return physical(x, y, printed=True)


def _before_rounding(per_metre: int) -> float:
    """Return the shortest number of mm that gives so many pixels a metre: PNG keeps whole ones, 0.15 mm is 6667."""
    if per_metre <= 0:
        return 0.0
    exact = 1000 / per_metre
    near = (float(f"{exact:.{digits}g}") for digits in range(1, 9))
    return next((mm for mm in near if round(1000 / mm) == per_metre), exact)
