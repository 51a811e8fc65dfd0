"""What a check of a segmented scan may look at, and what a check is."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from segpipe.imaging.masks import Box
from segpipe.imaging.volume import Volume
from segpipe.predict.segmenter import Segmenter
from segpipe.quality.checks import Check


@dataclass(frozen=True, eq=False)
class Segmented:
    """A scan as the network saw it, and what was drawn."""

    case: str
    """Its id. A check that was fitted on this very case has to leave it out."""
    image: Volume
    """(C, *S) float16, prepared: turned to RAS, resampled, normalised."""
    scores: Volume
    """(K, *S) float32 on the grid of ``image``: the mean of the networks."""
    labels: Volume
    """(1, *S) label values on the grid of the scan's file."""
    others: tuple[Volume, ...] = ()
    """The same of other passes over the image, where they were asked for; by them agreement is told."""
    native: tuple[Volume, Box] | None = None
    """The scores on the grid of the scan's file, in a box of it; only where they were asked for: they are large."""


Passes = Callable[[Segmenter, Volume, Volume], Iterable[Volume]]
"""Gives label maps (1, *S) on the grid of a scan, from a segmenter, the prepared scan and the scan."""


class Checker(Protocol):
    """Looks at a segmented scan; what it returns becomes rows of ``checks.csv``."""

    def __call__(self, seen: Segmented) -> Sequence[Check]:
        """Return the checks of one case, under the same names for every case."""


def segmented(
    case: str, scan: Volume, segmenter: Segmenter, others: Passes | None = None, *, keep_native: bool = False
) -> Segmented:
    """Segment a scan (C, *S), and return what checks may look at.

    Args:
        case: Its id.
        scan: As read from its files.
        segmenter: Draws it.
        others: Draws it in other ways too; None: it is drawn once.
        keep_native: Whether its scores on its own grid are kept.

    Raises:
        DataError: The scan has another number of channels than the training images, or is not finite.
    """
    image = segmenter.prepared(scan)
    scores = segmenter.drawn(image)
    native, box = segmenter.native(scores, scan)
    labels = segmenter.decoded(native, box, scan)
    kept = (native, box) if keep_native else None
    del native  # before other passes need the memory
    return Segmented(case, image, scores, labels, tuple(others(segmenter, image, scan)) if others else (), kept)
