"""2D patches varied by a list of albumentations' transforms: image, target and weight map move as one."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segpipe.core.errors import ConfigError
from segpipe.imaging.labels import LabelSet
from segpipe.learn.augment_albumentations import Entry, names_in, pipeline, reason_of
from segpipe.learn.batches import Batch, background
from segpipe.learn.chance import Chance, Purpose

Pixels = NDArray[Any]

MIRRORING = ("HorizontalFlip", "Transpose", "D4", "SquareSymmetry")
"""Transforms that can make left right."""
TRIES = 12
"""Times that a transform is tried before training: some turn or crop by chance."""
TINY = 1e-6


def listed(batch: Batch, entries: Sequence[Entry], chances: Sequence[Chance]) -> Batch:
    """Return the batch (N, C, *P) after the transforms, each patch with random numbers of its own.

    albumentations computes on the processor, whatever device the batch is on.
    """
    transform, device = pipeline(entries), batch.image.device
    whole = batch.to("cpu")
    weights = [None] * len(whole.image) if whole.weight is None else list(whole.weight.numpy())
    images, targets, moved = zip(
        *(
            _varied(transform, image, target, weight, chance)
            for image, target, weight, chance in zip(
                whole.image.numpy(), whole.target.numpy(), weights, chances, strict=True
            )
        ),
        strict=True,
    )
    return batch._replace(
        image=_together(images, device),
        target=_together(targets, device),
        weight=None if batch.weight is None else _together(moved, device),
    )


def _together(parts: Sequence[Any], device: torch.device) -> Tensor:
    return torch.from_numpy(np.stack(parts)).to(device)


def _varied(
    transform: Any, image: Pixels, target: Pixels, weight: Pixels | None, chance: Chance
) -> tuple[Pixels, Pixels, Pixels | None]:
    """Return image (C, X, Y), target (K, X, Y) and weight (1, X, Y) of one patch, moved together."""
    rng = chance.of(Purpose.LISTED)
    transform.set_random_state(rng, random.Random(int(rng.integers(2**63))))
    low = image.min(axis=(1, 2), keepdims=True)
    span = np.maximum(image.max(axis=(1, 2), keepdims=True) - low, TINY)
    nothing = background(target)
    given = {"image": _picture((image - low) / span)}
    if len(target):  # what a mask holds beyond the rim is 0: so that has to be background meanwhile
        given["mask"] = _picture(target - np.float32(nothing) if nothing else target)
    if weight is not None:
        given["weight"] = _picture(weight)
    made = transform(**given)
    new = _channels(made["image"]) * span + low
    moved = _channels(made["mask"]) + target.dtype.type(nothing) if len(target) else target
    return new.astype(np.float32), moved.astype(target.dtype), None if weight is None else _channels(made["weight"])


def _picture(channels: Pixels) -> Pixels:
    """Return (Y, X, C) of (C, X, Y), as the library wants it, and (Y, X) of a single channel: x runs to the right."""
    return np.ascontiguousarray(channels.transpose(2, 1, 0) if len(channels) > 1 else channels[0].T)


def _channels(picture: Pixels) -> Pixels:
    return (picture[..., None] if picture.ndim == 2 else picture).transpose(2, 1, 0)


def refuse_unfit(
    entries: Sequence[Entry], patch: Sequence[int], channels: int, labels: LabelSet | None, key: str
) -> None:
    """Try each transform on a patch of noise, so that what does not work is known before training.

    Args:
        entries: Of the settings.
        patch: Its size.
        channels: Of the image.
        labels: Of the target; None where it is not looked at.
        key: Of the setting, for messages.

    Raises:
        ConfigError: Patches are not 2D; a transform fails, or changes their size; or it would trade left for right
            where structures are named for a side.
    """
    if not entries:
        return
    if len(patch) != 2:
        raise ConfigError(
            f"{key} is for 2D images, and these have {len(patch)} axes. Take it out: the other settings beside it vary "
            "volumes too."
        )
    sided = [] if labels is None else [*labels.mirror_names(), *labels.one_sided()]
    if sided and (mirroring := [name for name in names_in(entries) if name in MIRRORING]):
        raise ConfigError(
            f"{key}: {mirroring[0]} can make left right, but '{sided[0]}' names a side: flipped images would have "
            "wrong labels. Take it out; without a list, train.augment.mirror_axes trades the sides."
        )
    noise = np.random.default_rng(0).random((channels, *patch), np.float32)
    target = np.zeros((1, *patch), np.uint8)
    for entry in entries:
        for name, arguments in entry.items():
            if problem := _fault(pipeline([{name: {**arguments, "p": 1.0}}]), noise, target):
                raise ConfigError(
                    f"{key}: {name} does not work on patches of {patch[0]}x{patch[1]} pixels with {channels} "
                    f"channel(s): {problem}. Change it, or take it out."
                )


def _fault(transform: Any, image: Pixels, target: Pixels) -> str | None:
    for attempt in range(TRIES):
        try:
            new, moved, weight = _varied(transform, image, target, np.ones_like(image[:1]), Chance(0, attempt, 0))
        except Exception as error:  # noqa: BLE001 - whatever a transform of another library may raise
            return reason_of(error) or type(error).__name__
        for made, before in ((new, image), (moved, target), (weight, image[:1])):
            if made is None or made.shape != before.shape:
                return f"it gives {'x'.join(map(str, new.shape[1:]))} pixels, and sizes must stay"
        if not np.isfinite(new).all():
            return "it gives values that are no numbers"
    return None
