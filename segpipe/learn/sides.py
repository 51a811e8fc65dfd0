"""Left and right: what becomes of a target map when its patch is mirrored."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from segpipe.core.errors import ConfigError
from segpipe.imaging.labels import LabelSet
from segpipe.imaging.targets import Classes, Target

LEFT_RIGHT = 0
"""The axis of a prepared image that runs from left to right."""


@dataclass(frozen=True)
class Swap:
    """Trades what is named for the left side for what is named for the right one."""

    order: tuple[int, ...]
    """At each place, the class or channel that comes there; twice it is nothing."""
    channels: bool
    """Whether these are channels of the target; otherwise they are class numbers in its only one."""

    def __call__(self, target: Tensor) -> Tensor:
        """Return the target (K, *P) of a mirrored patch with both sides traded; other numbers stay."""
        if self.channels:
            return target[list(self.order)]
        table = torch.arange(256)
        table[: len(self.order)] = torch.tensor(self.order)
        return table.to(target.device, target.dtype)[target.long()]


def swap_for(target: Target, labels: LabelSet) -> Swap | None:
    """Return what mirroring along axis 0 does to a target map; None where no structure has a partner.

    Args:
        target: How label maps are encoded: class numbers in one channel, or one channel a structure.
        labels: The structures, whose names tell the sides.
    """
    if isinstance(target, Classes):
        numbers = {value: number for number, value in enumerate(labels.values, start=1)}
        partners = {numbers[a]: numbers[b] for pair in labels.mirror_pairs() for a, b in (pair, pair[::-1])}
        order = tuple(partners.get(number, number) for number in range(len(numbers) + 1))
    else:
        names = labels.mirror_names()
        order = tuple(labels.names.index(names.get(name, name)) for name in labels.names)
    return None if order == tuple(range(len(order))) else Swap(order, channels=not isinstance(target, Classes))


def refuse_lone_sides(target: Target, labels: LabelSet, mirror_axes: Sequence[int]) -> None:
    """Refuse to mirror left and right where a structure of one side has no partner on the other.

    Raises:
        ConfigError: Names the structure and the setting.
    """
    lone = labels.one_sided() or (labels.unpaired() if isinstance(target, Classes) else ())
    if lone and LEFT_RIGHT in mirror_axes:
        others = f" (as {len(lone) - 1} more do)" if len(lone) > 1 else ""
        raise ConfigError(
            f"'{lone[0]}' names a side{others} and no label is its mirror image, but train.augment.mirror_axes holds "
            "axis 0 (left-right): flipped images would have wrong labels. Set train.augment.mirror_axes=[]."
        )
