"""What every source of cases hands over, and the naming rules they share."""

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from segpipe.core.errors import DataError
from segpipe.dataset.manifest import Channel, DatasetHeader, RawCase, Refusal
from segpipe.imaging.files import stem_of, suffix_of
from segpipe.imaging.labels import LabelSet, Structure
from segpipe.imaging.pictures import is_picture

CHANNEL = re.compile(r"_(\d{4})$")
"""The channel number at the end of an nnU-Net file name."""
FIRST = "_0000"


@dataclass(frozen=True)
class Found:
    """The cases of a source, and those that could not even be named."""

    header: DatasetHeader
    cases: tuple[RawCase, ...]
    refused: tuple[Refusal, ...]
    root: Path
    described_by: tuple[Path, ...] = ()
    """Files beside images and labels that decide what was found."""
    notes: tuple[str, ...] = ()
    """What was taken for granted, for people to read."""


def safe_id(text: str) -> str:
    """Return a case id that is a safe file name everywhere."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._-")[:80] or "case"


def images_in(folder: Path) -> list[Path]:
    """Return the image files of a folder, sorted; litter such as ``._name`` and pictures beside scans are left out."""
    if not folder.is_dir():
        return []
    files = sorted(path for path in folder.iterdir() if suffix_of(path) and not path.name.startswith("."))
    scans = [path for path in files if not is_picture(path)]
    return scans or files


def by_channel(
    paths: Iterable[Path], channels: int, *, numbered: bool | None = None
) -> dict[str, list[tuple[Path, ...]]]:
    """Group the image files of cases by id; several groups under one id are several cases of that name.

    With several channels, files are ``<id>_0000``, ``<id>_0001``, …; with one, a number at the end
    belongs to the id, unless it is ``_0000`` in every name or the layout wants it (``numbered``).
    """
    files = list(paths)
    if numbered is None:
        numbered = channels > 1 or all(stem_of(path).endswith(FIRST) for path in files)
    groups: dict[str, list[tuple[int, Path]]] = defaultdict(list)
    for path in files:
        stem = stem_of(path)
        number = CHANNEL.search(stem) if numbered and (channels > 1 or stem.endswith(FIRST)) else None
        groups[stem[: number.start()] if number else stem].append((int(number[1]) if number else 0, path))
    cases: dict[str, list[tuple[Path, ...]]] = {}
    for stem, found in groups.items():
        numbers = [number for number, _ in found]
        if len(set(numbers)) < len(numbers):  # a.nii beside a.nii.gz: two cases of one name, not two channels
            cases[stem] = [(path,) for _, path in sorted(found)]
        else:
            # of _0000 and _0002 the second is no second channel: too few are left, and the checks will say so
            ordered = [path for index, (number, path) in enumerate(sorted(found)) if number == index]
            cases[stem] = [tuple(ordered) or (found[0][1],)]
    return cases


def without_repeats(cases: Iterable[RawCase]) -> tuple[tuple[RawCase, ...], tuple[Refusal, ...]]:
    """Set aside every case whose id is used more than once: which of them is right, nobody can tell."""
    groups: dict[str, list[RawCase]] = defaultdict(list)
    for case in cases:
        groups[case.id].append(case)
    good = tuple(group[0] for group in groups.values() if len(group) == 1)
    refused = tuple(
        Refusal(
            name,
            f"{','.join(dict.fromkeys(case.images[0].name for case in group))}: the id is used {len(group)} times. "
            "Give each case its own name.",
        )
        for name, group in groups.items()
        if len(group) > 1
    )
    return good, refused


def without_image(labels: Mapping[str, Path], images: Collection[str]) -> tuple[Refusal, ...]:
    """Return a refusal for every label map whose name is that of no image."""
    return tuple(
        Refusal(safe_id(stem), f"{path.name}: a label map without an image. Add the image, or delete it.")
        for stem, path in labels.items()
        if stem not in images
    )


def reason_of(error: Exception) -> str:
    """Return the one sentence in an error: pydantic wraps it in lines of its own."""
    if isinstance(error, ValidationError):
        return str(error.errors()[0]["msg"]).removeprefix("Value error, ")
    return str(error).splitlines()[0]


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        DataError: It is missing or no JSON; the text names line and column.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise DataError(f"{path}: this is not valid JSON ({error}). Correct it there.") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, found {type(value).__name__}.")
    return value


def channels_of(value: Any, path: Path) -> tuple[Channel, ...]:
    """Return the channels of a ``{"0": "MRI"}`` mapping."""
    if not isinstance(value, dict) or not value:
        raise DataError(f'{path}: no channels are named. Add "channel_names": {{"0": "MRI"}}.')
    try:
        return tuple(Channel(name=str(name)) for _, name in sorted(value.items(), key=lambda item: int(item[0])))
    except ValueError as error:
        raise DataError(f'{path}: channels are numbered from 0, as in "channel_names": {{"0": "MRI"}}.') from error


def labels_of(value: Any, order: Any, path: Path) -> LabelSet:
    """Return the labels of a dataset.json: ``{"0": "background", …}``, ``{"background": 0, …}``, or regions.

    Args:
        value: The ``labels`` entry.
        order: The ``regions_class_order`` entry, or None.
        path: For the error text.
    """
    if not isinstance(value, dict) or not value:
        raise DataError(f'{path}: no labels are named. Add "labels": {{"background": 0, "tumour": 1}}.')
    try:
        named = {str(k): v for k, v in value.items()}
        if all(key.lstrip("-").isdigit() for key in named):  # MSD and nnU-Net v1: value -> name
            if len(set(map(str, named.values()))) < len(named):
                raise ValueError("two values have one name; a structure is named twice")
            named = {str(name): int(number) for number, name in named.items()}
        ignore = next((int(v) for name, v in named.items() if name == "ignore"), None)
        named = {name: v for name, v in named.items() if name != "ignore"}
        if not any(isinstance(v, list) for v in named.values()):
            return LabelSet.plain({name: int(v) for name, v in named.items()}, ignore)
        regions = {
            name: tuple(v) if isinstance(v, list) else (int(v),) for name, v in named.items() if v not in (0, [0])
        }
        paints = [int(v) for v in order] if order else [max(values) for values in regions.values()]
        if len(paints) != len(regions):
            raise ValueError(f"regions_class_order has {len(paints)} values for {len(regions)} structures")
        structures = [
            Structure(name=name, values=values, paint=paint)
            for (name, values), paint in zip(regions.items(), paints, strict=True)
        ]
        return LabelSet(structures=tuple(structures), ignore=ignore)
    except (ValueError, TypeError) as error:
        reason = reason_of(error)
        raise DataError(f"{path}: the labels make no sense ({reason}). Name each with its value.") from error
