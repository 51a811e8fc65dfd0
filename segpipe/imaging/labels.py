"""Which structures a label map shows, and by which values."""

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt, model_validator

from segpipe.core.section import Section

BACKGROUND = 0
OVERALL = "mean"


class Structure(Section):
    """One named structure: a label value, or a region made of several."""

    name: str
    """Its name in tables and reports."""
    values: tuple[PositiveInt, ...]
    """The label values that belong to it."""
    paint: PositiveInt
    """The value it is written with in a prediction."""


class LabelSet(Section):
    """The structures of a data set; 0 is background, whatever else is said."""

    structures: tuple[Structure, ...]
    """In the order in which a prediction is painted: of two that overlap, the later one stays."""
    ignore: NonNegativeInt | None = None
    """Value of voxels that nobody annotated; they neither train nor count."""

    @model_validator(mode="after")
    def _checked(self) -> Self:
        names = [structure.name for structure in self.structures]
        if not names:
            raise ValueError("at least one structure beside the background is needed")
        if len(set(names)) < len(names):
            raise ValueError(f"a structure is named twice: {names}")
        if OVERALL in names:
            raise ValueError(f"no structure can be named '{OVERALL}': scores use it for the mean over structures")
        return self

    @classmethod
    def plain(cls, labels: Mapping[str, int], ignore: int | None = None) -> "LabelSet":
        """Return the set of a ``{name: value}`` mapping; value 0 is left out."""
        return cls(
            structures=tuple(
                Structure(name=name, values=(value,), paint=value)
                for name, value in sorted(labels.items(), key=lambda item: item[1])
                if value not in (BACKGROUND, ignore)
            ),
            ignore=ignore,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the structures, background left out."""
        return tuple(structure.name for structure in self.structures)

    @property
    def values(self) -> tuple[int, ...]:
        """All values of structures, sorted; neither background nor ignore."""
        return tuple(sorted({value for structure in self.structures for value in structure.values}))

    @property
    def known(self) -> frozenset[int]:
        """Every value that may occur in a label file."""
        extra = {BACKGROUND} if self.ignore is None else {BACKGROUND, self.ignore}
        return frozenset(self.values) | extra

    @property
    def overlapping(self) -> bool:
        """Whether some structure is a region of several values."""
        return any(len(structure.values) > 1 for structure in self.structures)

    def groups(self) -> dict[str, tuple[int, ...]]:
        """Return the values of each structure, by name."""
        return {structure.name: structure.values for structure in self.structures}

    def indices(self, labels: NDArray[np.integer], ignored: int) -> NDArray[np.uint8]:
        """Return consecutive numbers for label values: 0 background, 1 the first of ``values``, and so on.

        Args:
            labels: Any shape; every value is one of ``known``.
            ignored: The number given to the ignore value.
        """
        table = sorted(self.known)
        numbers = {BACKGROUND: 0} | {value: index for index, value in enumerate(self.values, start=1)}
        if self.ignore is not None:
            numbers[self.ignore] = ignored
        found = np.searchsorted(table, labels)
        return np.asarray([numbers[value] for value in table], np.uint8)[found]


def values_of(numbers: Sequence[int], labels: LabelSet) -> NDArray[np.uint16]:
    """Return the label value of each consecutive number (0 is background)."""
    table = np.asarray([BACKGROUND, *labels.values], np.uint16)
    return table[list(numbers)]
