"""Plain folders: images/ and labels/, matched by file name; those of a test split, and of unlabelled images."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from segpipe.core.errors import DataError
from segpipe.core.section import Place, Section
from segpipe.dataset.manifest import Channel, DatasetHeader, RawCase
from segpipe.dataset.sources.found import Found, by_channel, images_in, safe_id, without_image, without_repeats
from segpipe.dataset.sources.naming import named_labels
from segpipe.imaging.files import stem_of

MASK = re.compile(r"[_-](masks?|labels?|seg|segmentation|gt)$", re.IGNORECASE)
"""What programs add to the name of an image when they save its label map."""


class Folder(Section):
    """Images in one folder, label maps of the same names in another."""

    kind: Literal["folder"] = "folder"
    root: Place
    """The folder that holds both."""
    images: str = "images"
    """Folder of the images; several channels are `<id>_0000`, `<id>_0001`, …"""
    labels_folder: str = "labels"
    """Folder of the label maps, `<id>` with any suffix."""
    test_images: str | None = None
    """Folder of the images of the test split; those without a label map are unlabelled."""
    test_labels: str | None = None
    """Folder of their label maps."""
    unlabelled: str | None = None
    """Folder of further images without labels. Their ids begin with the folder's name where they would clash."""
    channels: tuple[str, ...] = ("image",)
    """Name of each channel; `CT` has a meaning: Hounsfield units."""
    labels: dict[str, int] = Field(default_factory=dict)
    """Names of the label values: `{tumour: 1, oedema: 2}`."""

    @property
    def folder(self) -> Path:
        """Folder to which the paths in the manifest are relative."""
        return self.root

    def read(self) -> Found:
        """Return the cases, matched by exact name; a label without image is set aside.

        Raises:
            DataError: A folder is missing, or the labels have no names.
        """
        images = self._images(self.images)
        if not images:
            raise DataError(f"{self.root / self.images}: holds no images. Set ingest.source.images to their folder.")
        labels = self._labels(self.labels_folder, images)
        cases, lonely = _cases(images, labels), without_image(labels, images)
        if self.test_images:
            held = self._images(self.test_images)
            truth = self._labels(self.test_labels, held) if self.test_labels else {}
            extra = [replace(case, test=True, unlabelled=case.label is None) for case in _cases(held, truth)]
            cases += _apart(extra, cases, self.test_images)
            lonely += without_image(truth, held)
        if self.unlabelled:
            extra = [replace(case, unlabelled=True) for case in _cases(self._images(self.unlabelled), {})]
            cases += _apart(extra, cases, self.unlabelled)
        good, refused = without_repeats(cases)
        names, note = named_labels(self.labels, list(labels.values()))
        header = DatasetHeader(
            name=self.root.resolve().name,
            layout=self.kind,
            channels=tuple(Channel(name=name) for name in self.channels),
            labels=names,
        )
        return Found(header, good, refused + lonely, self.root, notes=note)

    def _images(self, folder: str) -> dict[str, list[tuple[Path, ...]]]:
        return by_channel(images_in(self.root / folder), len(self.channels))

    def _labels(self, folder: str, images: Collection[str]) -> dict[str, Path]:
        """Return the label maps by the id of their image; `a_mask` belongs to `a` where no image is named so."""
        found: dict[str, Path] = {}
        for path in images_in(self.root / folder):
            stem = stem_of(path)
            shorter = MASK.sub("", stem)
            found[shorter if stem not in images and shorter in images else stem] = path
        return found


def _cases(images: Mapping[str, list[tuple[Path, ...]]], labels: Mapping[str, Path]) -> list[RawCase]:
    return [
        RawCase(safe_id(stem), safe_id(stem), files, labels.get(stem))
        for stem, groups in images.items()
        for files in groups
    ]


def _apart(extra: list[RawCase], cases: Sequence[RawCase], folder: str) -> list[RawCase]:
    """Return further cases under ids that no case has: of ``test/image``, they begin with ``test`` if one clashes."""
    if not {case.id for case in cases} & {case.id for case in extra}:
        return extra
    prefix = Path(folder).parts[0]
    renamed = [(case, safe_id(f"{prefix}_{case.id}")) for case in extra]
    return [replace(case, id=name, subject=name) for case, name in renamed]
