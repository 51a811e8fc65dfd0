"""nnU-Net's raw layout, versions 1 and 2: imagesTr/<id>_0000, one file a channel."""

from pathlib import Path
from typing import Literal

from segpipe.core.errors import DataError
from segpipe.core.section import Place, Section
from segpipe.dataset.manifest import DatasetHeader, RawCase
from segpipe.dataset.sources.found import (
    Found,
    by_channel,
    channels_of,
    images_in,
    labels_of,
    read_json,
    safe_id,
    without_image,
    without_repeats,
)
from segpipe.imaging.files import stem_of


class NnUnet(Section):
    """A folder that nnU-Net calls raw: dataset.json, imagesTr, labelsTr, perhaps imagesTs."""

    kind: Literal["nnunet"] = "nnunet"
    root: Place
    """The folder with dataset.json."""

    @property
    def folder(self) -> Path:
        """Folder to which the paths in the manifest are relative."""
        return self.root

    def read(self) -> Found:
        """Return the cases found in imagesTr; those in imagesTs are unlabelled.

        Raises:
            DataError: dataset.json is missing, damaged or incomplete, or there are no images.
        """
        path = self.root / "dataset.json"
        described = read_json(path)
        header = DatasetHeader(
            name=str(described.get("name") or self.root.name),
            layout=self.kind,
            channels=channels_of(described.get("channel_names") or described.get("modality"), path),
            labels=labels_of(described.get("labels"), described.get("regions_class_order"), path),
        )
        labels = {stem_of(label): label for label in images_in(self.root / "labelsTr")}
        count = len(header.channels)
        images = by_channel(images_in(self.root / "imagesTr"), count, numbered=True)
        cases = [
            RawCase(safe_id(stem), safe_id(stem), files, labels.get(stem))
            for stem, groups in images.items()
            for files in groups
        ]
        if not cases:
            raise DataError(f"{self.root / 'imagesTr'}: holds no images. Files are named <id>_0000.nii.gz.")
        cases += [
            RawCase(safe_id(stem), safe_id(stem), files, None, unlabelled=True)
            for stem, groups in by_channel(images_in(self.root / "imagesTs"), count, numbered=True).items()
            for files in groups
        ]
        good, refused = without_repeats(cases)
        return Found(header, good, refused + without_image(labels, images), self.root, (path,))
