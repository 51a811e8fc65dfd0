"""Tells the layout of a data set by looking at it."""

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


class Auto(Section):
    """Whichever layout the folder has: msd, nnunet, folder (images/ and labels/) or csv."""

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
        if (root / "images").is_dir():
            return Folder(root=root, labels=self.labels)
        tables = sorted([*root.glob("*.csv"), *root.glob("*.tsv")])
        if len(tables) == 1:
            return Csv(root=tables[0], labels=self.labels)
        held = ", ".join(sorted(path.name for path in root.iterdir())[:8]) or "nothing"
        raise DataError(
            f"{root}: no layout that is known (dataset.json, images/ and labels/, or one CSV table). It holds: {held}."
        )
