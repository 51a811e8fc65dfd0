"""Whether the networks agree with themselves: each network alone, or one on the mirrored image."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from segpipe.imaging.labels import LabelSet
from segpipe.imaging.volume import Volume
from segpipe.predict.seen import Segmented
from segpipe.predict.segmenter import Segmenter
from segpipe.predict.window import LEFT_RIGHT
from segpipe.quality.checks import AGREEMENT, Check
from segpipe.quality.known import dice_of

TOLD = 0.7
"""Agreement below which a structure is named."""


@dataclass(frozen=True)
class AgreementChecker:
    """Tells how well the prediction agrees with other passes over the image."""

    labels: LabelSet

    def __call__(self, seen: Segmented) -> list[Check]:
        """Return ``agreement``, the mean Dice over structures and passes, and that of each structure; NaN: no pass."""
        each = {name: self._dice(values, seen) for name, values in self.labels.groups().items()}
        why = [
            f"{name}: another pass draws it otherwise (Dice {dice:.2f})" for name, dice in each.items() if dice < TOLD
        ]
        return [
            Check(AGREEMENT, float(np.mean(list(each.values()))), "; ".join(why)),
            *(Check(f"{AGREEMENT}[{name}]", dice) for name, dice in each.items()),
        ]

    def _dice(self, values: tuple[int, ...], seen: Segmented) -> float:
        mine = np.isin(seen.labels.array, values)
        found = [dice_of(mine, np.isin(other.array, values)) for other in seen.others]
        return float(np.mean(found)) if found else math.nan


def other_passes(segmenter: Segmenter, image: Volume, scan: Volume) -> Iterator[Volume]:
    """Yield label maps (1, *S) on the grid of a scan, of other passes over its prepared image (C, *T).

    Of several networks, what each draws alone (the pairwise agreement of an ensemble's members is the most robust
    sign of a failure: Zenk et al., Medical Image Analysis 2025). Of one, what it draws of the image mirrored
    left-right, where it has not been drawn so anyhow; else what it draws of the image as it lies alone. None where a
    structure is named for its side and has no partner on the other. Together they cost as much as the prediction did.
    """
    if len(segmenter.networks) > 1:
        for network in segmenter.networks:
            alone = replace(segmenter, networks=(network,), notes=())
            yield alone.labels(alone.drawn(image), scan)
    elif (upright := segmenter.window.upright()) != segmenter.window:
        plain = replace(segmenter, window=upright)
        yield plain.labels(plain.drawn(image), scan)
    elif not segmenter.plan.labels.one_sided():
        flipped = Volume(np.flip(image.array, LEFT_RIGHT + 1), image.geometry)
        scores = segmenter.drawn(flipped)
        back = Volume(np.flip(scores.array, LEFT_RIGHT + 1), scores.geometry)
        yield sides_swapped(segmenter.labels(back, scan), segmenter.plan.labels)


def sides_swapped(drawn: Volume, labels: LabelSet) -> Volume:
    """Return a label map (1, *S) in which structures named for the left and the right side have changed places."""
    paints = {structure.name: structure.paint for structure in labels.structures}
    partners = {paints[name]: paints[other] for name, other in labels.mirror_names().items()}
    partners |= {value: other for pair in labels.mirror_pairs() for value, other in (pair, pair[::-1])}
    if not partners:
        return drawn
    table = np.arange(int(drawn.array.max(initial=0)) + 1)
    for value, other in partners.items():
        if value < len(table):
            table[value] = other
    return Volume(table[drawn.array].astype(drawn.array.dtype), drawn.geometry)
