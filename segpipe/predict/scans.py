"""Whether a scan is like those that the network was trained on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import ArtifactError
from segpipe.predict.seen import Segmented
from segpipe.predict.segmenter import Segmenter
from segpipe.quality.checks import CHECKS, Check, read_checks
from segpipe.quality.flag import FLAG, REJECT
from segpipe.quality.known import FEW, PLAUSIBLE
from segpipe.quality.usual import UNUSUAL, UsualScans, read_usual

Redraw = Callable[[NDArray[np.floating]], Mapping[str, float]]


@dataclass(frozen=True)
class ScanChecker:
    """Compares scans with what is usual."""

    usual: UsualScans
    known: Mapping[str, Sequence[Check]] = field(default_factory=dict)
    """Of the cases that decided what is usual: each was compared with the others."""
    redraw: Redraw | None = None
    """Tells what an autoencoder leaves out of a prepared image (C, *S)."""

    def __call__(self, seen: Segmented) -> Sequence[Check]:
        """Return ``scan_unusual``, beyond 1 for a scan that is, its p-value, and the parts that it is made of."""
        if seen.case in self.known:
            return self.known[seen.case]
        image = np.asarray(seen.image.array, np.float32)
        redrawn = self.redraw(image) if self.redraw and self.usual.reconstruction else None
        return self.usual.checks(self.usual.figures(image), redrawn)


def scan_checker(place: Path, segmenter: Segmenter) -> ScanChecker | None:
    """Return what compares scans with a file of what is usual; None where there is no such file.

    Raises:
        ArtifactError: The file is damaged, or is about images prepared otherwise than the model's.
    """
    usual = read_usual(place)
    if usual is None:
        return None
    names = tuple(channel.name for channel in segmenter.plan.channels)
    if (usual.channels, usual.spacing) != (names, segmenter.plan.spacing):
        raise ArtifactError(f"{place}: is about other scans than those of the model. Take it out, or copy its own.")
    return ScanChecker(usual)


def alarms(folder: Path) -> list[str]:
    """Return a line for each scan that is unusual, and for each prediction that is not plausible or to be rejected.

    As ``checks.csv`` in a folder tells; empty without one.
    """
    if not (folder / CHECKS).is_file():
        return []
    return [line for case, those in read_checks(folder / CHECKS).items() for line in _of_case(case, those)]


def _of_case(case: str, those: Sequence[Check]) -> list[str]:
    """Return the alarms of a case; that it is to be rejected names the reasons of all others."""
    rejected = [f"{case}: {one.words}" for one in those if one.name == FLAG and one.words.startswith(REJECT)]
    return rejected or [f"{case}: {what} ({one.words})" for one in those if (what := _alarm(one))]


def _alarm(one: Check) -> str:
    if one.name == UNUSUAL and one.value > 1:
        return "unlike the training scans"
    return "an implausible prediction" if one.name == PLAUSIBLE and one.value < FEW else ""
