"""The data model: one case, the whole data set, and how both lie on disk."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field

from segpipe.core.atomic import write_json, write_text
from segpipe.core.errors import ArtifactError, DataError
from segpipe.core.section import Section
from segpipe.imaging.files import written_suffix
from segpipe.imaging.geometry import Geometry
from segpipe.imaging.labels import LabelSet
from segpipe.imaging.reading import Reading

DATASET = "dataset.json"
MANIFEST = "manifest.jsonl"
QUARANTINE = "quarantine.jsonl"
SPLITS = "splits.json"
DESCRIBED = "described_by.jsonl"
"""Files of the source beside images and labels that decided what was found, with their SHA-256."""

EVERY = "all"
"""In place of a fold: every case to develop is trained on, and none held out."""


def _numbered(value: Any) -> Any:
    if value == EVERY or (isinstance(value, int) and value >= 0):
        return value
    raise ValueError(f"the number of a fold, from 0 on, or {EVERY}")


Fold = Annotated[int | Literal["all"], BeforeValidator(_numbered)]
"""Whose cases are held out; ``all``: nobody's."""


class Channel(Section):
    """One input channel."""

    name: str
    """Its name: T1, FLAIR, CT."""

    @property
    def is_ct(self) -> bool:
        """Whether its numbers are Hounsfield units."""
        return self.name.strip().lower() in ("ct", "computed tomography")


@dataclass(frozen=True)
class RawCase:
    """What a source found: files by channel, and what it knows about them."""

    id: str
    subject: str
    images: tuple[Path, ...]
    label: Path | None
    unlabelled: bool = False
    """Meant to have no label; otherwise a missing one is a fault."""
    test: bool = False
    """Declared by the source as part of the test split."""
    covariates: Mapping[str, str] = field(default_factory=dict)
    page: int | None = None
    """Of all its files, where they are stacks of pictures; counted from 0."""

    @property
    def files(self) -> list[Path]:
        """All its files."""
        return [*self.images, *([self.label] if self.label else [])]


@dataclass(frozen=True)
class Refusal:
    """Why a case was set aside: one line that names file, reason and mend."""

    case: str
    reason: str

    def __str__(self) -> str:
        return f"{self.case} {self.reason}"


class FileRef(Section):
    """A source file, by its path relative to the source's root, and its content."""

    path: str
    sha256: str


class Case(Section):
    """A checked case. ``shape`` and ``affine`` are the grid of its own files: predictions land there."""

    id: str
    subject: str
    part: Literal["develop", "test", "unlabelled"]
    images: tuple[FileRef, ...]
    label: FileRef | None
    shape: tuple[int, ...]
    affine: tuple[tuple[float, ...], ...]
    covariates: dict[str, str] = Field(default_factory=dict)
    page: int | None = None
    """Of all its files, where they are stacks of pictures; counted from 0."""
    volumes_mm3: dict[str, float] = Field(default_factory=dict)
    """Volume of each structure in the label map, in the cubed unit of ``reading`` (squared in 2D)."""
    intensities: tuple[tuple[float, float, float], ...] = ()
    """Of each channel, the 5th percentile, the median and the 95th of what is not 0."""

    @property
    def files(self) -> tuple[FileRef, ...]:
        """All its files."""
        return (*self.images, *([self.label] if self.label else []))

    @property
    def native(self) -> Geometry:
        """The grid of the input file."""
        return Geometry.from_json({"shape": self.shape, "affine": self.affine})


@dataclass(frozen=True)
class CaseFiles:
    """Where the files of one case lie now."""

    id: str
    images: tuple[Path, ...]
    label: Path | None
    page: int | None = None
    """Of all of them, where they are stacks of pictures; counted from 0."""
    reading: Reading = field(default_factory=Reading)
    """What the form of pictures leaves open."""

    @property
    def prediction(self) -> str:
        """Name of the file to which the case's predicted label map is written: the form is that of its image."""
        return self.id + written_suffix(self.images[0])


class DatasetHeader(Section):
    """What holds for every case."""

    name: str
    layout: str
    """The layout it was read from: msd, nnunet, folder, csv."""
    channels: tuple[Channel, ...]
    labels: LabelSet
    reading: Reading = Reading()
    """How its image files are read where their form leaves it open."""


@dataclass(frozen=True)
class Dataset:
    """The checked data set that ``ingest`` leaves behind."""

    header: DatasetHeader
    cases: tuple[Case, ...]
    quarantined: tuple[Refusal, ...]
    folds: tuple[frozenset[str], ...]
    root: Path
    """Where the source files lie now; not stored."""

    @classmethod
    def open(cls, folder: Path, root: Path) -> Self:
        """Read what ``save`` wrote; the source files are looked for under ``root``.

        Raises:
            ArtifactError: A file is missing or damaged.
        """
        try:
            header = DatasetHeader.model_validate_json((folder / DATASET).read_text())
            cases = tuple(Case.model_validate(row) for row in read_jsonl(folder / MANIFEST))
            refused = tuple(Refusal(**row) for row in read_jsonl(folder / QUARANTINE))
            folds = json.loads((folder / SPLITS).read_text())["folds"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ArtifactError(f"{folder}: damaged ({reason}). Delete this folder and run again.") from error
        return cls(header, cases, refused, tuple(frozenset(fold) for fold in folds), root)

    def save(self, folder: Path, split: Mapping[str, Any]) -> None:
        """Write header, manifest, quarantine and split into ``folder``."""
        write_json(folder / DATASET, self.header.model_dump(mode="json"))
        write_jsonl(folder / MANIFEST, [case.model_dump(mode="json") for case in self.cases])
        write_jsonl(folder / QUARANTINE, [vars(refusal) for refusal in self.quarantined])
        write_json(folder / SPLITS, split)

    def part(self, part: str) -> tuple[Case, ...]:
        """Return the cases of one part: develop, test or unlabelled."""
        return tuple(case for case in self.cases if case.part == part)

    def fold(self, index: Fold) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
        """Return the training and the validation cases of a fold; of ``all``, there are none of the latter.

        Raises:
            DataError: There is no such fold.
        """
        develop = self.part("develop")
        if isinstance(index, str):
            return develop, ()
        if not 0 <= index < len(self.folds):
            raise DataError(f"train.fold={index}: the split has folds 0 to {len(self.folds) - 1}.")
        held = self.folds[index]
        return tuple(c for c in develop if c.id not in held), tuple(c for c in develop if c.id in held)

    def files(self, case: Case) -> CaseFiles:
        """Return where a case's files lie now."""
        label = self.root / case.label.path if case.label else None
        images = tuple(self.root / image.path for image in case.images)
        return CaseFiles(case.id, images, label, case.page, self.header.reading)

    @property
    def subjects(self) -> dict[str, str]:
        """Subject of each case."""
        return {case.id: case.subject for case in self.cases}


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSON Lines file."""
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line."""
    write_text(path, "".join(json.dumps(dict(row), ensure_ascii=False) + "\n" for row in rows))
