"""Losses: frozen settings that can be called on scores, target and weight."""

from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name everybody knows

from segpipe.core.section import Section
from segpipe.imaging.targets import IGNORED
from segpipe.learn.ranks import summed, world

SMOOTH = 1e-5


class DiceCE(Section):
    """Soft Dice over the structures, plus cross-entropy over all classes; for ``classes`` targets.

    Dice is taken over the whole batch, so that a patch without a structure does not make it jump
    (Milletari et al. 2016; Isensee et al. 2021).
    """

    kind: Literal["dice_ce"] = "dice_ce"
    dice: NonNegativeFloat = 1.0
    """Weight of the Dice term."""
    cross_entropy: NonNegativeFloat = 1.0
    """Weight of the cross-entropy term."""

    def __call__(self, scores: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the mean loss.

        Args:
            scores: (N, K, *S) logits.
            target: (N, 1, *S) class numbers; ``IGNORED`` counts nowhere.
            weight: (N, 1, *S) or None: how much a voxel counts in the cross-entropy.
        """
        scores = scores.float()
        counted = (target != IGNORED).float()
        classes = torch.where(target == IGNORED, 0, target).long()
        share = counted if weight is None else counted * weight
        log_p = F.log_softmax(scores, dim=1)
        entropy = _mean(-(log_p.gather(1, classes) * share).sum(), share.sum())
        truth = torch.zeros_like(scores).scatter_(1, classes, 1.0)
        return self.cross_entropy * entropy + self.dice * (1 - soft_dice(log_p.exp(), truth, counted)[1:].mean())


class DiceBce(Section):
    """Soft Dice plus binary cross-entropy of each structure by itself; for ``regions`` targets."""

    kind: Literal["dice_bce"] = "dice_bce"
    dice: NonNegativeFloat = 1.0
    """Weight of the Dice term."""
    cross_entropy: NonNegativeFloat = 1.0
    """Weight of the cross-entropy term."""

    def __call__(self, scores: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the mean loss of scores (N, R, *S) against zeros and ones (N, R, *S)."""
        scores = scores.float()
        counted = (target[:, :1] != IGNORED).float()
        truth = torch.where(target == IGNORED, 0, target).float()
        share = counted if weight is None else counted * weight
        each = F.binary_cross_entropy_with_logits(scores, truth, reduction="none")
        entropy = _mean((each * share).sum(), share.sum() * scores.shape[1])
        return self.cross_entropy * entropy + self.dice * (1 - soft_dice(scores.sigmoid(), truth, counted).mean())


class SmoothL1(Section):
    """Squared for small differences, absolute for large ones; for ``signed_distance`` targets."""

    kind: Literal["smooth_l1"] = "smooth_l1"
    beta: Annotated[float, Field(gt=0)] = 0.1
    """Where squared turns into absolute, in units of the target."""

    def __call__(self, scores: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the mean loss of scores (N, R, *S) against distances (N, R, *S); NaN counts nowhere."""
        counted = (~target.isnan()).float()
        share = counted if weight is None else counted * weight
        each = F.smooth_l1_loss(scores.float(), target.nan_to_num(), beta=self.beta, reduction="none")
        return _mean((each * share).sum(), share.sum())


Loss = Annotated[DiceCE | DiceBce | SmoothL1, Field(discriminator="kind")]
"""What training makes small."""

FOR_TARGET = {"classes": DiceCE, "regions": DiceBce, "signed_distance": SmoothL1}
"""The loss that goes with each kind of target."""


def soft_dice(probabilities: Tensor, truth: Tensor, counted: Tensor) -> Tensor:
    """Return the soft Dice (K,) of each channel over the whole batch, that of all processes.

    Args:
        probabilities: (N, K, *S) in 0 to 1.
        truth: (N, K, *S) zeros and ones.
        counted: (N, 1, *S) one where a voxel counts.
    """
    over = (0, *range(2, probabilities.ndim))
    hit = (probabilities * truth * counted).sum(over)
    size = (probabilities * counted).sum(over) + (truth * counted).sum(over)
    if world() > 1:
        hit, size = summed(torch.stack([hit, size]))
    return (2 * hit + SMOOTH) / (size + SMOOTH)


def _mean(total: Tensor, count: Tensor) -> Tensor:
    """Return the mean of values over all processes, from their sum here and how many they are here."""
    if world() > 1:
        total, count = summed(torch.stack([total, count]))
    return total / count.clamp_min(SMOOTH)
