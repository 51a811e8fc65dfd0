"""What the structures in two folders of label maps are called: said by the user, by a file, or by the values alone."""

import re
from collections.abc import Iterable
from pathlib import Path

import yaml
from pydantic import ValidationError

from segpipe.core.errors import DataError
from segpipe.dataset.sources.found import labels_of, read_json, reason_of
from segpipe.dataset.sources.naming import ONLY
from segpipe.imaging.labels import LabelSet

DESCRIBED = "dataset.json"
PAIR = re.compile(r"\s*([^=,]+?)\s*=\s*(\d+)\s*")


def given_names(said: str) -> LabelSet:
    """Return the labels that a user named: ``a=1,b=2``, a YAML file of ``{a: 1, b: 2}``, or a dataset.json.

    Raises:
        DataError: It is none of these, or names no structure.
    """
    path = Path(said)
    if path.suffix.lower() == ".json":
        return described_names(path)
    if path.suffix.lower() in (".yaml", ".yml"):
        return _plain(_yaml(path), said)
    matches = [PAIR.fullmatch(part) for part in said.split(",")]
    if not all(matches):
        raise DataError(f"--labels {said}: no names of labels. Write a=1,b=2, or give a YAML file or a dataset.json.")
    return _plain({match[1]: int(match[2]) for match in matches if match}, said)


def described_names(path: Path) -> LabelSet:
    """Return the labels of a dataset.json, as nnU-Net and the Decathlon write it.

    Raises:
        DataError: It is damaged, or names no structure.
    """
    described = read_json(path)
    return labels_of(described.get("labels"), described.get("regions_class_order"), path)


def found_file(predictions: Path, references: Path) -> Path | None:
    """Return the dataset.json that lies in one of the folders, or beside the references; None where there is none."""
    places = (references / DESCRIBED, references.parent / DESCRIBED, predictions / DESCRIBED)
    return next((path for path in places if path.is_file()), None)


def names_of_values(values: Iterable[int], *, pictures: bool = False) -> LabelSet:
    """Return labels that are called by their values; the only one of pictures, such as 255, is the foreground.

    Raises:
        DataError: There are none.
    """
    named = {str(value): value for value in sorted(set(values)) if value > 0}
    if pictures and len(named) == 1:
        (only,) = named.values()
        named = {ONLY: only}
    if not named:
        raise DataError("the label maps hold nothing but background. Name the labels with --labels a=1,b=2.")
    return LabelSet.plain(named)


def _yaml(path: Path) -> dict[str, int]:
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read ({' '.join(str(error).split())}).") from error
    value = value.get("labels", value) if isinstance(value, dict) else value
    if not isinstance(value, dict) or not all(type(number) is int for number in value.values()):
        raise DataError(f"{path}: names no labels. Write one line for each: liver: 1")
    return {str(name): number for name, number in value.items()}


def _plain(named: dict[str, int], said: str) -> LabelSet:
    try:
        if len(set(named.values())) < len(named):
            raise ValueError("a value has two names")
        return LabelSet.plain({name: value for name, value in named.items() if name != "ignore"}, named.get("ignore"))
    except (ValidationError, ValueError) as error:
        raise DataError(f"--labels {said}: {reason_of(error)}. Give each structure its own name and value.") from error
