"""Medical Segmentation Decathlon: dataset.json that lists image and label of each case."""

from pathlib import Path
from typing import Literal

from segpipe.core.errors import DataError
from segpipe.core.section import Place, Section
from segpipe.dataset.manifest import DatasetHeader, RawCase
from segpipe.dataset.sources.found import Found, channels_of, labels_of, read_json, safe_id, without_repeats
from segpipe.imaging.files import stem_of


class Msd(Section):
    """A folder in the layout of the Medical Segmentation Decathlon; a fourth axis holds channels."""

    kind: Literal["msd"] = "msd"
    root: Place
    """The folder with dataset.json, imagesTr and labelsTr."""

    @property
    def folder(self) -> Path:
        """Folder to which the paths in the manifest are relative."""
        return self.root

    def read(self) -> Found:
        """Return the listed cases; the ``test`` list gives unlabelled ones.

        Raises:
            DataError: dataset.json is missing, damaged or incomplete.
        """
        path = self.root / "dataset.json"
        described = read_json(path)
        header = DatasetHeader(
            name=str(described.get("name") or self.root.name),
            layout=self.kind,
            channels=channels_of(described.get("modality") or described.get("channel_names"), path),
            labels=labels_of(described.get("labels"), None, path),
        )
        entries = described.get("training")
        if not isinstance(entries, list) or not entries:
            raise DataError(f'{path}: the list "training" is empty. It names image and label of each case.')
        cases = [self._case(entry, path) for entry in entries]
        cases += [self._case({"image": entry}, path, unlabelled=True) for entry in described.get("test") or []]
        good, refused = without_repeats(cases)
        return Found(header, good, refused, self.root, (path,))

    def _case(self, entry: object, described: Path, *, unlabelled: bool = False) -> RawCase:
        if not isinstance(entry, dict) or "image" not in entry:
            raise DataError(f"{described}: an entry of the list names no image: {entry!r}.")
        image = self._inside(str(entry["image"]), described)
        label = self._inside(str(entry["label"]), described) if entry.get("label") else None
        name = safe_id(stem_of(image))
        return RawCase(name, name, (image,), label if label and label.is_file() else None, unlabelled=unlabelled)

    def _inside(self, relative: str, described: Path) -> Path:
        path = self.root / relative
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise DataError(f"{described}: {relative} lies outside the data set. Keep its files under one folder.")
        return path
