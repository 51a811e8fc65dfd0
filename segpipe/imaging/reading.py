"""How image files are read where their form leaves it open: unit of lengths, size of a pixel, grey or colour."""

from typing import Literal

from pydantic import PositiveFloat

from segpipe.core.section import Section

Unit = Literal["mm", "um", "px"]
"""What a length of 1 is: a millimetre, a micrometre, or a pixel where nobody knows its size."""

SIGNS: dict[str, str] = {"mm": "mm", "um": "µm", "px": "px"}
PER_MM: dict[str, float] = {"mm": 1.0, "um": 1000.0}


class Reading(Section):
    """What holds for all image files of a data set; a model takes it along."""

    unit: Unit = "mm"
    """The unit of all lengths: spacing, distances, and what settings call mm."""
    pixel: tuple[PositiveFloat, PositiveFloat] | None = None
    """Size (x, y) of a pixel in that unit; without, as each file tells it."""
    grey: bool = False
    """Whether pictures stored as colour are grey in truth, and give one channel."""
    flat: bool = False
    """Whether NIfTI files of a single slice hold 2D images."""

    @property
    def sign(self) -> str:
        """The unit as people write it."""
        return SIGNS[self.unit]
