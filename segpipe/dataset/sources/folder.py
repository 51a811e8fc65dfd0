"""Plain folders: images/ and labels/, matched by file name."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from segpipe.core.errors import DataError
from segpipe.core.section import Place, Section
from segpipe.dataset.manifest import Channel, DatasetHeader, RawCase
from segpipe.dataset.sources.found import Found, by_channel, images_in, safe_id, without_image, without_repeats
from segpipe.dataset.sources.naming import named_labels
from segpipe.imaging.files import stem_of


class Folder(Section):
    """Images in one folder, label maps of the same names in another."""

    kind: Literal["folder"] = "folder"
    root: Place
    """The folder that holds both."""
    images: str = "images"
    """Folder of the images; several channels are `<id>_0000`, `<id>_0001`, …"""
    labels_folder: str = "labels"
    """Folder of the label maps, `<id>` with any suffix."""
    unlabelled: str | None = None
    """Folder of further images without labels."""
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
        paths = by_channel(images_in(self.root / self.images), len(self.channels))
        if not paths:
            raise DataError(f"{self.root / self.images}: holds no images. Set ingest.source.images to their folder.")
        labels = {stem_of(path): path for path in images_in(self.root / self.labels_folder)}
        cases = [self._case(stem, files, labels.get(stem)) for stem, groups in paths.items() for files in groups]
        if self.unlabelled:
            extra = by_channel(images_in(self.root / self.unlabelled), len(self.channels))
            cases += [
                self._case(stem, files, None, unlabelled=True) for stem, groups in extra.items() for files in groups
            ]
        good, refused = without_repeats(cases)
        header = DatasetHeader(
            name=self.root.resolve().name,
            layout=self.kind,
            channels=tuple(Channel(name=name) for name in self.channels),
            labels=named_labels(self.labels, list(labels.values())),
        )
        return Found(header, good, refused + without_image(labels, paths), self.root)

    def _case(self, stem: str, files: tuple[Path, ...], label: Path | None, *, unlabelled: bool = False) -> RawCase:
        return RawCase(safe_id(stem), safe_id(stem), files, label, unlabelled=unlabelled)
