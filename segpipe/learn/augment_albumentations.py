"""Transforms of albumentations, named in the settings and checked there: the only door to that library."""

import difflib
import inspect
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from pydantic import ValidationError, field_validator

from segpipe.core.errors import MachineError
from segpipe.core.section import Section
from segpipe.learn.coarse_elastic import NAME, coarse_elastic

Entry = Mapping[str, Mapping[str, Any]]
"""One transform: its name, and the arguments it gets."""

CHOICES = ("OneOf", "SomeOf", "RandomOrder", "Sequential")
"""Transforms that are lists of others."""
INSIDE = "transforms"
"""The argument that holds their list."""
UNUSABLE = ("Lambda", "Normalize", "ToFloat", "FromFloat", "ToRGB")
"""Transforms that take functions, or change what an intensity means."""
BY_NAME = ("INTER_", "BORDER_")
"""Constants of OpenCV begin so; in the settings they are written by name."""


class ListConfig(Section):
    """Transforms by name, for 2D images."""

    albumentations: tuple[dict[str, dict[str, Any]], ...] = ()
    """2D images only: transforms of albumentations 2.0 in their order, such as [RandomRotate90, {ElasticTransform:
    {alpha: 40, sigma: 6, p: 0.5}}]; they then are all that is done, and the other settings here are not used. OneOf,
    SomeOf, RandomOrder and Sequential hold lists: {OneOf: {transforms: [...]}}. CoarseElastic {sd_pixels: 10, grid: 3}
    is the original U-Net's deformation. Geometry moves image, target and weight map together; each channel runs
    from 0 to 1 within its patch; constants of OpenCV go by name (border_mode: BORDER_REFLECT_101)."""

    @field_validator("albumentations", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        entries = _entries(value, "")
        if entries:
            pipeline(entries)
        return entries


def _entries(value: Any, where: str) -> list[dict[str, dict[str, Any]]]:
    """Return the entries of a list from a config; a name alone has no arguments."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"{where}expected a list such as [HorizontalFlip, {{Rotate: {{limit: 15}}}}]")
    found = []
    for one in value:
        entry = {one: {}} if isinstance(one, str) else one
        if not isinstance(entry, dict) or len(entry) != 1:
            raise ValueError(f"{where}expected a name, or one name with its arguments ({{Rotate: {{limit: 15}}}})")
        ((name, arguments),) = entry.items()
        if not isinstance(arguments, dict | None):
            raise ValueError(f"{where}{name}: expected arguments by name ({{{name}: {{p: 0.5}}}})")
        found.append({str(name): _plain(str(name), arguments or {}, where)})
    return found


def _plain(name: str, arguments: Mapping[str, Any], where: str) -> dict[str, Any]:
    if name in CHOICES and INSIDE in arguments:
        return {**arguments, INSIDE: _entries(arguments[INSIDE], f"{where}{name}: ")}
    return dict(arguments)


def names_in(entries: Sequence[Entry]) -> Iterator[str]:
    """Yield the name of every transform, also of those inside of others."""
    for entry in entries:
        for name, arguments in entry.items():
            yield name
            yield from names_in(arguments.get(INSIDE, ()) if name in CHOICES else ())


# ---- the library


@lru_cache(1)
def _library() -> Any:
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask a server for its newest version
    try:
        import albumentations  # noqa: PLC0415
        import cv2  # noqa: PLC0415
    except ImportError as error:
        raise MachineError(
            f"train.augment.albumentations needs a library that is not here ({error.name}): pip install 'segpipe[2d]'"
        ) from error
    cv2.setNumThreads(1)  # its threads would spin beside torch's, for images of this size in vain
    return albumentations


@lru_cache(1)
def _transforms() -> dict[str, Any]:
    """Return the transforms that there are for 2D images."""
    library = _library()
    kinds = (library.DualTransform, library.ImageOnlyTransform)
    found = {name: value for name, value in vars(library).items() if inspect.isclass(value)}
    chosen = {
        name: value
        for name, value in found.items()
        if issubclass(value, kinds)
        and not issubclass(value, library.Transform3D)
        and value not in (*kinds, library.Transform3D)
        and name not in UNUSABLE
    }
    return chosen | {name: found[name] for name in CHOICES} | {NAME: coarse_elastic(library)}


@lru_cache(16)
def _pipeline(text: str) -> Any:
    library = _library()
    made = [_made(name, arguments) for entry in json.loads(text) for name, arguments in entry.items()]
    return library.Compose(made, additional_targets={"weight": "mask"})


def pipeline(entries: Sequence[Entry]) -> Any:
    """Return the transforms as one callable of albumentations.

    Raises:
        ValueError: A name is unknown, or an argument is unknown or wrong; one line, with the nearest that there is.
        MachineError: The library is not installed.
    """
    return _pipeline(json.dumps(entries, default=str))


def _made(name: str, arguments: Mapping[str, Any]) -> Any:
    known = _transforms()
    if name not in known:
        raise ValueError(f"there is no transform {name}.{_near(name, known)}")
    accepted = [key for key in inspect.signature(known[name].__init__).parameters if key != "self"]
    for key in arguments:
        if key not in accepted:
            raise ValueError(f"{name} has no argument {key}.{_near(key, accepted)} It has: {', '.join(accepted)}.")
    given = {key: _constant(name, key, value) for key, value in arguments.items()}
    if name in CHOICES:
        given[INSIDE] = [_made(*item) for entry in given.get(INSIDE, ()) for item in entry.items()]
        if not given[INSIDE]:
            raise ValueError(f"{name} needs a list of transforms: {{{name}: {{{INSIDE}: [...]}}}}")
        share = given.get("p", 0.5)
        if not (isinstance(share, int | float) and 0 <= share <= 1):
            raise ValueError(f"{name}: p={share}: a probability lies from 0 to 1.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            return known[name](**given)
    except (ValueError, TypeError, UserWarning) as error:
        raise ValueError(f"{name}: {reason_of(error)}") from error


def _near(word: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    lower = {one.lower(): one for one in known}
    found = difflib.get_close_matches(word.lower(), lower, n=1, cutoff=0.5)
    return f" Did you mean {lower[found[0]]}?" if found else ""


def _constant(name: str, key: str, value: Any) -> Any:
    if not (isinstance(value, str) and value.startswith(BY_NAME)):
        return tuple(value) if isinstance(value, list) and key != INSIDE else value
    import cv2  # noqa: PLC0415

    if not hasattr(cv2, value):
        known = [one for one in dir(cv2) if one.startswith(BY_NAME)]
        raise ValueError(f"{name}: {key}={value}: OpenCV has no such constant.{_near(value, known)}")
    return getattr(cv2, value)


def reason_of(error: BaseException) -> str:
    """Return in one line why the library refuses something."""
    cause = error.__cause__
    if isinstance(cause, ValidationError):
        first = cause.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else ""
        return f"{field}: {str(first['msg']).removeprefix('Value error, ')}"
    return " ".join(str(error).split())
