"""What scans usually look like: learned from training scans, kept as JSON, and asked about every other scan."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from segpipe.core.atomic import write_json
from segpipe.core.section import Section, read_section
from segpipe.quality.checks import Check
from segpipe.quality.cloud import Cloud, border_of, cloud_of, share_beyond
from segpipe.quality.statistics import CELLS, coarse_of, in_words, likeness_of, statistics_of

USUAL = "usual_scans.json"
DEVELOP = "develop.csv"
"""The checks of the cases that decided what is usual, each against the other subjects; beside ``USUAL``."""
UNUSUAL, UNUSUAL_P = "scan_unusual", "scan_unusual_p"
STATISTICS, RECONSTRUCTION = "scan_statistics", "scan_reconstruction"
"""Names of the checks: 1 is the border of what is usual, but for the p-value."""
TOLD_SD = 3.0
"""Standard deviations from which a single figure is named as the reason."""
MOST_REASONS = 3
LIKENESS = ("likeness", "flipped", "swapped")
Figures = Mapping[str, float]


class UsualScans(Section):
    """What is usual of prepared scans, and how unusual another one is. It holds figures and means, no case."""

    format: Literal[1] = 1
    channels: tuple[str, ...]
    spacing: tuple[float, ...]
    """Of prepared scans, in mm."""
    alarm: float
    """Share of usual scans that may be called unusual."""
    mean: tuple[float, ...]
    """The mean coarse image (C, CELLS, …), flattened."""
    statistics: Cloud
    """Of image statistics."""
    reconstruction: Cloud | None = None
    """Of what is left when an autoencoder draws a scan that it has not seen; None where there is none."""
    together: tuple[float, ...] = ()
    """Distances by both together of the usual scans that have both, ascending."""

    def figures(self, image: NDArray[np.floating]) -> dict[str, float]:
        """Return the image statistics of a prepared scan (C, *S)."""
        shape = (len(self.channels), *(CELLS,) * len(self.spacing))
        mean = np.asarray(self.mean, np.float32).reshape(shape)
        return statistics_of(image, self.spacing, self.channels) | likeness_of(coarse_of(image), mean, self.channels)

    def checks(self, figures: Figures, redrawn: Figures | None = None) -> list[Check]:
        """Return how unusual a scan is, by its statistics and, where given, what an autoencoder makes of it."""
        plain = self.statistics.distance(figures)
        other = self.reconstruction.distance(redrawn) if self.reconstruction and redrawn is not None else None
        away = self.statistics.away(figures)
        values = dict(figures)
        if self.reconstruction and redrawn is not None:
            away, values = away | self.reconstruction.away(redrawn), values | dict(redrawn)
        return self.told(plain, other, reasons(values, away))

    def told(self, plain: float, other: float | None, why: str) -> list[Check]:
        """Return the checks of a scan of which the distances are known.

        Args:
            plain: From the cloud of statistics.
            other: From the cloud of reconstructions; None where it is not known.
            why: What is unusual, if it is.
        """
        parts = [plain / self.statistics.border(self.alarm)]
        if other is not None and self.reconstruction:
            parts.append(other / self.reconstruction.border(self.alarm))
            usual, score = self.together, both(plain, other)
        else:
            usual, score = self.statistics.usual, plain
        value = score / border_of(usual, self.alarm)
        named = zip((STATISTICS, RECONSTRUCTION), parts, strict=False)
        return [
            Check(UNUSUAL, value, why if value > 1 else ""),
            Check(UNUSUAL_P, share_beyond(usual, score)),
            *(Check(name, part) for name, part in named),
        ]


def both(plain: float, other: float) -> float:
    """Return the distance by both kinds of figures together, taken as independent of each other."""
    return math.hypot(plain, other)


def usual_scans(
    statistics: Sequence[Figures],
    coarse: Sequence[NDArray[np.float32]],
    subjects: Sequence[str],
    redrawn: Mapping[int, Figures],
    form: tuple[Sequence[str], Sequence[float], float],
) -> tuple[UsualScans, list[list[Check]]]:
    """Learn what is usual; return it, and the checks of each case against the other subjects.

    Args:
        statistics: Of each case, those of ``statistics_of``.
        coarse: The coarse image of each case.
        subjects: Of each case.
        redrawn: Figures of reconstructions, by the number of the case; only of cases that the autoencoder has not seen.
        form: Channels, spacing (mm) and the share of false alarms.
    """
    channels, spacing, alarm = form
    total = np.sum(coarse, axis=0, dtype=np.float64)
    rows = []
    for own, image, subject in zip(statistics, coarse, subjects, strict=True):
        mine = [one for one, other in zip(coarse, subjects, strict=True) if other == subject]
        rest = (total - np.sum(mine, axis=0, dtype=np.float64)) / max(len(coarse) - len(mine), 1)
        rows.append(dict(own) | likeness_of(image, np.asarray(rest, np.float32), channels))
    cloud, plain = cloud_of(rows, subjects)
    found = UsualScans(
        channels=tuple(channels),
        spacing=tuple(spacing),
        alarm=alarm,
        mean=tuple(round(float(value), 4) for value in (total / len(coarse)).ravel()),
        statistics=cloud,
    )
    far: dict[int, float] = {}
    if redrawn:
        again, distances = cloud_of(list(redrawn.values()), [subjects[index] for index in redrawn])
        far = dict(zip(redrawn, distances, strict=True))
        together = sorted(both(plain[index], far[index]) for index in far)
        found = found.model_copy(update={"reconstruction": again, "together": tuple(together)})
    told = []
    for index, row in enumerate(rows):
        away, values = found.statistics.away(row), dict(row)
        if found.reconstruction and index in far:
            away, values = away | found.reconstruction.away(redrawn[index]), values | dict(redrawn[index])
        told.append(found.told(plain[index], far.get(index), reasons(values, away)))
    return found, told


def reasons(values: Figures, away: Figures) -> str:
    """Return what is unusual, in words, the most unusual first.

    Args:
        values: The figures.
        away: By how many standard deviations each lies above the usual ones.
    """
    far = sorted((name for name in away if abs(away[name]) > TOLD_SD), key=lambda name: -abs(away[name]))
    if turned := _turned(values, far):
        return "; ".join([turned, *_amounts([name for name in far if not _placed(name)], away)[:1]])
    if far:
        return "; ".join(_amounts(far, away)[:MOST_REASONS])
    most = sorted(away, key=lambda name: -abs(away[name]))[:2]
    return f"an unusual combination, most of all of {' and '.join(in_words(name) for name in most)}"


def _turned(values: Figures, far: Sequence[str]) -> str:
    """Return how a scan is more like the mean training scan than it is as it lies; empty where it lies right."""
    for name in far:
        before, kind = _before(name), _kind(name)
        if kind not in LIKENESS:
            continue
        as_it_is = values[f"{before}likeness"]
        others = {
            f"looks flipped {_axis(other)}": as_it_is - value
            for other, value in values.items()
            if (_before(other), _kind(other)) == (before, "flipped")
        }
        others["axes look swapped"] = as_it_is - values[f"{before}swapped"]
        others["brightness looks inverted"] = -as_it_is
        best = max(others, key=lambda words: others[words])
        if others[best] > as_it_is:
            return best
    return ""


def write_usual(path: Path, usual: UsualScans) -> None:
    """Write what is usual, whole or not at all."""
    write_json(path, usual.model_dump(mode="json"))


def read_usual(path: Path) -> UsualScans | None:
    """Return what ``write_usual`` wrote; None where there is no such file.

    Raises:
        ArtifactError: It is damaged, or from a later version.
    """
    return read_section(path, UsualScans, "Run the stage qc again, or take the file out.")


def _amounts(names: Sequence[str], away: Figures) -> list[str]:
    return [
        f"{in_words(name)} {abs(away[name]):.{0 if abs(away[name]) >= 10 else 1}f} SD "
        f"{'above' if away[name] > 0 else 'below'} training"
        for name in names
    ]


def _before(name: str) -> str:
    return "".join(name.rpartition(": ")[:2])


def _kind(name: str) -> str:
    return name.rpartition(": ")[2].partition(" ")[0]


def _axis(name: str) -> str:
    return name.rpartition(": ")[2].partition(" ")[2]


def _placed(name: str) -> bool:
    """Tell whether a figure follows from where things lie, and so says nothing more once they lie wrong."""
    return _kind(name) in {*LIKENESS, "slope", "edges", "sharpness", "extent"}
