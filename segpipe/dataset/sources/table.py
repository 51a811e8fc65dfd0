"""A CSV manifest: one row a case, with paths and covariates."""

import csv
from pathlib import Path
from typing import Literal

from pydantic import Field

from segpipe.core.errors import DataError
from segpipe.core.section import Place, Section
from segpipe.dataset.manifest import Channel, DatasetHeader, RawCase
from segpipe.dataset.sources.found import Found, safe_id, without_repeats
from segpipe.dataset.sources.naming import named_labels
from segpipe.imaging.files import stem_of

KNOWN = ("case", "subject", "label", "split")
SPLITS = ("", "train", "test", "unlabelled")


class Csv(Section):
    """A table with the columns `image` (or `image_<channel>` for each) and `label`.

    As you like also `case`, `subject`, `split` (train, test or unlabelled); every other column is kept as
    a covariate. Paths are relative to the table.
    """

    kind: Literal["csv"] = "csv"
    root: Place
    """The CSV file, separated by commas, semicolons or tabs."""
    labels: dict[str, int] = Field(default_factory=dict)
    """Names of the label values: `{tumour: 1, oedema: 2}`."""

    @property
    def folder(self) -> Path:
        """Folder to which the paths in the manifest are relative."""
        return self.root.parent

    def read(self) -> Found:
        """Return the cases of the table.

        Raises:
            DataError: The table cannot be read, has no image column, or points outside its folder.
        """
        rows, columns = table_rows(self.root)
        channels = [column for column in columns if column == "image" or column.startswith("image_")]
        if not channels:
            raise DataError(f"{self.root}: no column 'image' (found: {', '.join(columns)}). Name one so.")
        cases = [self._case(row, channels, number) for number, row in enumerate(rows, start=2)]
        good, refused = without_repeats(cases)
        labels, note = named_labels(self.labels, [case.label for case in cases if case.label])
        names = [column.removeprefix("image_") for column in channels]
        header = DatasetHeader(
            name=self.root.stem,
            layout=self.kind,
            channels=tuple(Channel(name=name) for name in names),
            labels=labels,
        )
        return Found(header, good, refused, self.root.parent, (self.root,), note)

    def _case(self, row: dict[str, str], channels: list[str], number: int) -> RawCase:
        images = tuple(self._inside(row[column], number) for column in channels if row.get(column))
        if not images:
            raise DataError(f"{self.root}: line {number} names no image.")
        label = self._inside(row["label"], number) if row.get("label") else None
        name = safe_id(row.get("case") or stem_of(images[0]))
        split = row.get("split", "").lower()
        if split not in SPLITS:
            raise DataError(
                f"{self.root}: line {number}: split '{row['split']}' is none of train, test, unlabelled. Correct it."
            )
        covariates = {k: v for k, v in row.items() if k and k not in KNOWN and k not in channels and v}
        return RawCase(
            id=name,
            subject=row.get("subject") or name,
            images=images,
            label=label if label and label.is_file() else None,
            unlabelled=label is None and split == "unlabelled",
            test=split == "test",
            covariates=covariates,
        )

    def _inside(self, relative: str, number: int) -> Path:
        folder = self.root.parent
        path = folder / relative
        if not path.resolve().is_relative_to(folder.resolve()):
            raise DataError(f"{self.root}: line {number}: {relative} lies outside the folder of the table.")
        return path


def table_rows(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    """Return the rows of a table, and the names of its columns; separated by commas, semicolons or tabs.

    Raises:
        DataError: It cannot be read, or holds no row.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}).") from error
    first = text.split("\n", 1)[0]
    separator = max(",;\t", key=first.count)
    reader = csv.DictReader(text.splitlines(), delimiter=separator)
    rows = [{(k or "").strip(): (v or "").strip() for k, v in row.items() if isinstance(v, str)} for row in reader]
    if not rows:
        raise DataError(f"{path}: the table is empty. It needs one row a case below the names of columns.")
    return rows, [column.strip() for column in reader.fieldnames or ()]
