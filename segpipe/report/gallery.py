"""Which cases are shown, in pictures and in the viewer, and the reading of them, each by a worker."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpipe.core.errors import SegpipeError
from segpipe.dataset.manifest import CaseFiles
from segpipe.report.cuts import Cut, CutJob, cut_case
from segpipe.report.material import Material
from segpipe.report.montage import picks
from segpipe.report.settings import ReportConfig
from segpipe.report.viewer import pack, structures_of, too_large
from segpipe.report.wording import without_paths

MEGABYTE = 1_000_000
FOR_FEW, FOR_EACH = 1.6, 0.026
"""Megabytes: the viewer takes this much for a few cases, and this much for each of many."""


@dataclass(frozen=True, eq=False)
class Shown:
    """A case to be seen, or why there is nothing to see of it."""

    case: str
    role: str
    """Why it is in pictures; empty for a case that only the viewer has."""
    cut: Cut | None = None
    """The part of it that pictures are made from."""
    volume: dict[str, Any] | None = None
    """The same for the viewer; None where it is too large or not wanted."""
    reason: str = ""


@dataclass(frozen=True)
class ShowJob:
    """One case to read."""

    case: str
    role: str
    cut: CutJob
    root: Path
    """Of the data set: no message may name it."""
    values: tuple[int, ...]
    room: float
    """Bytes of its volume in the page; 0: the viewer does not have it."""
    limit_mm: float


def jobs(material: Material, config: ReportConfig) -> list[ShowJob]:
    """Return the cases to read: those in pictures, then the worst as far as the viewer holds them."""
    if material.predictions is None:
        return []
    ranked = material.scores.ranked()
    roles = {pick.case: pick.role for pick in picks(ranked, config.montage_cases)}
    labels = material.dataset.header.labels
    seen = (
        list(dict.fromkeys([*roles, *ranked]))[: config.viewer_cases]
        if config.viewer and structures_of(labels) and material.rank > 2  # in 2D, panels show the whole of it already
        else []
    )
    room = room_of_each(len(seen), config.viewer_megabytes)
    known = {case.id: case for case in material.dataset.cases}
    return [
        ShowJob(
            case,
            roles.get(case, ""),
            _cut_job(material, material.dataset.files(known[case]), config),
            material.dataset.root,
            labels.values,
            room if case in seen else 0.0,
            config.viewer_limit_mm,
        )
        for case in dict.fromkeys([*roles, *seen])
    ]


def _cut_job(material: Material, files: CaseFiles, config: ReportConfig) -> CutJob:
    assert material.predictions is not None, "cases are only shown where there are predictions"
    prepared = material.prepared[files.id] if material.prepared and material.rank == 2 else None
    groups = material.dataset.header.labels.groups()
    return CutJob(files, material.predictions / files.prediction, groups, config.channel, config.margin_mm, prepared)


def room_of_each(cases: int, most_megabytes: float) -> float:
    """Return the bytes that each of some cases may take in the viewer."""
    return min(max(FOR_FEW, FOR_EACH * cases), most_megabytes) * MEGABYTE / max(cases, 1)


def show(job: ShowJob) -> Shown:
    """Read a case and cut out what is shown; one that cannot be read is told of, and does no further harm."""
    try:
        cut = cut_case(job.cut)
    except SegpipeError as error:
        return Shown(job.case, job.role, reason=without_paths(str(error), job.root))
    wanted = job.room and not too_large(cut, job.limit_mm)
    return Shown(job.case, job.role, cut if job.role else None, pack(cut, job.values, job.room) if wanted else None)


def in_order(wanted: Sequence[ShowJob], shown: dict[str, Shown]) -> list[Shown]:
    """Return what was read in the order in which it was asked for."""
    return [shown[job.case] for job in wanted if job.case in shown]
