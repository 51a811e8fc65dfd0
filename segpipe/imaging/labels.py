"""Which structures a label map shows, and by which values."""

import re
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt, model_validator

from segpipe.core.section import Section

BACKGROUND = 0
OVERALL = "mean"

SIDES = {"left": "right", "right": "left", "lh": "rh", "rh": "lh"}
"""Parts of a name that tell a side."""
LETTERS = {"l": "r", "r": "l"}
"""Those that do only at either end of a name."""
UNLIKE = {"heart", "cardiac", "atrium", "atria", "atrial", "ventricle", "ventricular", "coronary", "liver", "hepatic"}
"""Parts of names whose left and right are no mirror images: a left ventricle of the heart never looks like a right."""
BRAIN = {"lateral", "horn"}
"""Parts of a name that tell a ventricle of the brain from one of the heart."""


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

    def mirror_names(self) -> dict[str, str]:
        """Return the partner on the other side of every structure that has one: ``{"left_x": "right_x", …}``."""
        by_parts = {_parts(name): name for name in self.names}
        mirrored = {name: by_parts.get(_other_side(name) or ()) for name in self.names}
        return {name: other for name, other in mirrored.items() if other is not None}

    def one_sided(self) -> tuple[str, ...]:
        """Return the structures whose names tell a side and that have no partner on the other."""
        paired = self.mirror_names()
        return tuple(name for name in self.names if _sided(_parts(name)) and name not in paired)

    def mirror_pairs(self) -> tuple[tuple[int, int], ...]:
        """Return the label values that change places in a mirrored image, each pair once, the smaller value first.

        Where structures are made of several values, two values are partners if they belong to structures that are.
        """
        partners = self._partners()
        return tuple((value, other) for value, other in sorted(partners.items()) if other is not None and value < other)

    def unpaired(self) -> tuple[str, ...]:
        """Return the sided structures that hold a value without a partner among the values of the other side."""
        lone = {value for value, other in self._partners().items() if other is None}
        sided = (structure for structure in self.structures if _sided(_parts(structure.name)))
        return tuple(structure.name for structure in sided if lone & set(structure.values))

    def _partners(self) -> dict[int, int | None]:
        """Return what each value becomes in a mirrored image; itself where no side is told, None where nobody knows."""
        names, lone = self.mirror_names(), set(self.one_sided())
        holders = {
            value: frozenset(structure.name for structure in self.structures if value in structure.values)
            for value in self.values
        }
        partners: dict[int, int | None] = {}
        for value, held in holders.items():
            wanted = frozenset(names.get(name, name) for name in held)
            found = [other for other, theirs in holders.items() if theirs == wanted]
            alike = sum(theirs == held for theirs in holders.values())
            if wanted == held and not held & lone:
                partners[value] = value
            else:
                partners[value] = found[0] if len(found) == alike == 1 and not held & lone else None
        return partners

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


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part.lower() for part in re.split(r"[\s_.\-]+|(?<=[a-z])(?=[A-Z])", name) if part)


def _sides(parts: Sequence[str]) -> dict[int, str]:
    """Return the parts of a name that tell a side, by their place, as they are on the other side."""
    ends = {0, len(parts) - 1} if parts else set()
    found = {place: SIDES[part] for place, part in enumerate(parts) if part in SIDES}
    return found | {place: LETTERS[parts[place]] for place in ends if parts[place] in LETTERS}


def _sided(parts: Sequence[str]) -> bool:
    # "left to right" tells no side
    return len({other[0] for other in _sides(parts).values()}) == 1


def _other_side(name: str) -> tuple[str, ...] | None:
    """Return the parts of the partner's name; None for a name that tells no side, or whose sides are unlike."""
    parts = _parts(name)
    if not _sided(parts) or (UNLIKE & set(parts) and not BRAIN & set(parts)):
        return None
    sides = _sides(parts)
    return tuple(sides.get(place, part) for place, part in enumerate(parts))
