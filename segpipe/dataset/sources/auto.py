"""Tells the layout of a data set by looking at it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from segpipe.core.errors import DataError
from segpipe.core.section import Place, Section
from segpipe.dataset.sources.decathlon import Msd
from segpipe.dataset.sources.folder import Folder
from segpipe.dataset.sources.found import CHANNEL, Found, images_in, read_json
from segpipe.dataset.sources.nnunet import NnUnet
from segpipe.dataset.sources.table import Csv
from segpipe.imaging.files import stem_of

IMAGES, LABELS = ("images", "image", "imgs"), ("labels", "label", "masks", "mask")
"""What people call the folders of images and of label maps."""
TRAIN, TEST = ("", "train", "training"), ("test", "testing")
"""What they call the folders in which those lie."""


class Auto(Section):
    """Whichever layout the folder has: msd, nnunet, folder (images/ and labels/, perhaps under train/) or csv."""

    kind: Literal["auto"] = "auto"
    root: Place
    """The folder of the data set, or a CSV file."""
    labels: dict[str, int] = Field(default_factory=dict)
    """Names of the label values, for layouts that hold none (folder, csv)."""

    @property
    def folder(self) -> Path:
        """Folder to which the paths in the manifest are relative."""
        return self.root.parent if self.root.is_file() else self.root

    def read(self) -> Found:
        """Return what the source of the right kind finds.

        Raises:
            DataError: The layout is none that is known; the text says what was found.
        """
        return self.resolved().read()

    def resolved(self) -> Msd | NnUnet | Folder | Csv:
        """Return the source of the right kind."""
        root = self.root
        if root.is_file() and root.suffix.lower() in (".csv", ".tsv"):
            return Csv(root=root, labels=self.labels)
        if not root.is_dir():
            raise DataError(f"{root}: there is no such folder. Give the folder of the data set with --data.")
        if (root / "dataset.json").is_file():
            described = read_json(root / "dataset.json")
            files = images_in(root / "imagesTr")
            numbered = bool(files) and all(CHANNEL.search(stem_of(path)) for path in files)
            if "channel_names" in described or (numbered and "modality" in described):
                return NnUnet(root=root)
            return Msd(root=root)
        if (folders := _folders(root)) is not None:
            return Folder(root=root, labels=self.labels, **folders)
        tables = sorted([*root.glob("*.csv"), *root.glob("*.tsv")])
        if len(tables) == 1:
            return Csv(root=tables[0], labels=self.labels)
        held = ", ".join(sorted(path.name for path in root.iterdir())[:8]) or "nothing"
        raise DataError(
            f"{root}: no layout that is known (dataset.json, images/ and labels/ or masks/, perhaps under train/, "
            f"or one CSV table). It holds: {held}."
        )


def _folders(root: Path) -> dict[str, str] | None:
    """Return the settings of ``Folder`` for a folder whose parts have names that are known; None for any other."""
    for part in TRAIN:
        if not (images := _part(root, part, IMAGES)):
            continue
        labels = _part(root, part, LABELS)
        if part and not labels:
            continue
        found = {"images": images, "labels_folder": labels or "labels"}
        test = next((name for name in TEST if _part(root, name, IMAGES)), "")
        if test:
            found["test_images"] = _part(root, test, IMAGES)
            if truth := _part(root, test, LABELS):
                found["test_labels"] = truth
        return found
    return None


def _part(root: Path, part: str, names: Sequence[str]) -> str:
    """Return the first folder of these names in a part of the data set, relative to its root; empty for none."""
    return next(((Path(part) / name).as_posix() for name in names if (root / part / name).is_dir()), "")
