"""What the files of a source turn out to hold: 2D or 3D, pages of stacks, colour, the size of a pixel."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import PositiveFloat

from segpipe.core.errors import SegpipeError
from segpipe.core.section import Section
from segpipe.dataset.manifest import Channel, RawCase, Refusal
from segpipe.dataset.sources.found import Found, safe_id
from segpipe.imaging.files import is_flat
from segpipe.imaging.look import Look
from segpipe.imaging.pictures import is_picture, look_at, read_picture
from segpipe.imaging.reading import PER_MM, Reading

LOOKED_AT = 5
"""Colour files whose pixels tell whether all are grey in truth."""
SMALL_MM = 0.05
"""Pixels smaller than this are measured in micrometres."""
COLOURS = ("red", "green", "blue")

Looks = Mapping[Path, Look]


class PicturesConfig(Section):
    """How 2D pictures (PNG, TIFF, JPEG, BMP) are taken; no scan in NIfTI, NRRD or MHA is concerned."""

    pixel_size_um: PositiveFloat | tuple[PositiveFloat, PositiveFloat] | Literal["metadata", "unknown"] = "metadata"
    """Micrometres from one pixel to the next, or `[x, y]` where they differ; `metadata`: as the files tell it (OME-XML,
    ImageJ, resolution), or `unknown` where none does; `unknown`: one pixel is the unit of all lengths. In a data set of
    pictures every setting and figure in mm counts in that unit: px, µm for pixels below 0.05 mm, else mm."""
    page_is_subject: bool = False
    """Whether the pages of a TIFF stack may go to different parts of the split. Neighbouring slices of one specimen
    resemble each other: scores on some after training on others say nothing about other specimens."""


def survey(found: Found, config: PicturesConfig) -> Found:
    """Return the source's cases with a stack's pages apart, and how its files are to be read.

    A file that cannot be read is left as it is: the checks will tell of it.
    """
    images = [path for case in found.cases for path in case.images]
    if not any(map(is_picture, images)):
        flat = bool(images) and all(map(is_flat, images))
        return _with(found, found.cases, (), Reading(flat=flat), ())
    looks = looks_at(path for case in found.cases for path in case.files)
    cases: list[RawCase] = []
    refused: list[Refusal] = []
    for case in found.cases:
        result = _pages(case, looks, config)
        if isinstance(result, Refusal):
            refused.append(result)
        else:
            cases += result
    seen = [looks[path] for path in images if path in looks]
    reading = reading_of(seen, config)
    channels = found.header.channels
    if len(channels) == 1 and all(len(case.images) == 1 for case in cases):
        count = _channels(cases, looks)
        if count > 1 and _grey_in_truth([path for path in images if path in looks and looks[path].channels == count]):
            reading = reading.model_copy(update={"grey": True})
        elif count > 1:
            channels = tuple(Channel(name=name) for name in _names(count))
    header = found.header.model_copy(update={"channels": channels})
    said = (_said(seen, reading, len(channels)),) if seen else ()
    return _with(replace(found, header=header), cases, refused, reading, said)


def _with(
    found: Found, cases: Sequence[RawCase], refused: Sequence[Refusal], reading: Reading, said: tuple[str, ...]
) -> Found:
    header = found.header.model_copy(update={"reading": reading})
    return replace(
        found,
        header=header,
        cases=tuple(cases),
        refused=(*found.refused, *refused),
        notes=(*found.notes, *said),
    )


def looks_at(paths: Iterable[Path]) -> dict[Path, Look]:
    """Return what the headers of pictures tell; of a file that cannot be read, nothing."""
    looks: dict[Path, Look] = {}
    for path in paths:
        try:
            looks[path] = look_at(path)
        except (SegpipeError, OSError):
            continue
    return looks


def _pages(case: RawCase, looks: Looks, config: PicturesConfig) -> list[RawCase] | Refusal:
    """Return a case for every page of a stack, named ``<id>_page01`` and so on; any other case as it is."""
    counts = {path: looks[path].pages for path in case.files if path in looks}
    most = max((counts.get(path, 1) for path in case.images), default=1)
    if most == 1:
        return [case]
    for path, count in counts.items():
        if count != most:
            stack = next(image for image in case.images if counts.get(image) == most)
            return Refusal(
                case.id,
                f"{path.name}: has {count} page(s), but {stack.name} has {most}. Export both stacks with the same "
                "pages.",
            )
    return [
        replace(case, id=name, page=page, subject=name if config.page_is_subject else case.subject)
        for page, name in enumerate(page_ids(case.id, most))
    ]


def page_ids(case: str, pages: int) -> list[str]:
    """Return the id of every page of a stack, ``<case>_page01`` and so on; none where there is a single one."""
    width = max(len(str(pages)), 2)
    return [safe_id(f"{case}_page{page:0{width}d}") for page in range(1, pages + 1)] if pages > 1 else []


def reading_of(looks: Sequence[Look], config: PicturesConfig) -> Reading:
    """Return the unit of lengths in pictures, and the size of a pixel where the settings tell it."""
    size = config.pixel_size_um
    if size == "unknown":
        return Reading(unit="px")
    if size != "metadata":
        x, y = (size, size) if isinstance(size, float | int) else size
        return Reading(unit="um", pixel=(x, y)) if max(x, y) < SMALL_MM * PER_MM["um"] else _in_mm(x, y)
    told = [max(look.pixel_mm) for look in looks if look.pixel_mm]
    if not told:
        return Reading(unit="px")
    return Reading(unit="um" if statistics.median(told) < SMALL_MM else "mm")


def _in_mm(x_um: float, y_um: float) -> Reading:
    return Reading(unit="mm", pixel=(x_um / PER_MM["um"], y_um / PER_MM["um"]))


def _channels(cases: Sequence[RawCase], looks: Looks) -> int:
    """Return the number of channels that most pictures have; of a tie, the larger one."""
    counts = [looks[case.images[0]].channels for case in cases if case.images[0] in looks]
    return max(set(counts), key=lambda count: (counts.count(count), count), default=1)


def _grey_in_truth(paths: Sequence[Path]) -> bool:
    """Tell whether the first colour pictures have the same values in all channels."""
    for path in paths[:LOOKED_AT]:
        try:
            page = 0 if look_at(path).pages > 1 else None
            array = read_picture(path, Reading(unit="px"), page).array
        except SegpipeError:
            continue
        if (array != array[0]).any():
            return False
    return True


def _names(count: int) -> tuple[str, ...]:
    return COLOURS if count == len(COLOURS) else tuple(f"channel_{number}" for number in range(1, count + 1))


def _said(looks: Sequence[Look], reading: Reading, channels: int) -> str:
    """Return the line that tells people what was seen."""
    sizes = sorted({look.size for look in looks}, key=math.prod)
    one = "x".join(map(str, sizes[0]))
    size = one if len(sizes) == 1 else f"{one} to {'x'.join(map(str, sizes[-1]))} ({len(sizes)} sizes)"
    colour = "grey" if channels == 1 else "colour" if channels == len(COLOURS) else f"{channels} channels"
    stored = ", stored as colour" if reading.grey else ""
    pages = sum(look.pages for look in looks)
    unit = (
        "the size of a pixel is unknown, so lengths are in pixels (ingest.pictures.pixel_size_um=… sets it)"
        if reading.unit == "px"
        else f"lengths are in {reading.sign}"
    )
    return f"2D pictures: {pages} of {size} pixels, {colour}{stored}; {unit}"
