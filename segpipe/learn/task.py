"""What fit() trains: a module that turns a batch into named losses."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody knows

from segpipe.learn.batches import Batch
from segpipe.nets.layers import center_crop
from segpipe.nets.unet import UNet

LossFunction = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class Segmentation(nn.Module):
    """A U-Net that learns to draw the target map, at every head it has."""

    def __init__(self, network: UNet, loss: LossFunction) -> None:
        super().__init__()
        self.network = network
        self.loss = loss

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of each head; head k, 2^k times as coarse, counts 2^-k (Lee et al. 2015)."""
        maps = self.network.maps(batch.image)
        total = sum(0.5**level for level in range(len(maps)))
        losses = {}
        for level, scores in enumerate(maps):
            target, weight = batch.target, batch.weight
            if level == 0:  # valid convolutions: only the middle was drawn
                target = center_crop(target, scores.shape[2:])
                weight = None if weight is None else center_crop(weight, scores.shape[2:])
            else:
                target = _coarser(target, scores.shape[2:])
                weight = None if weight is None else _coarser(weight, scores.shape[2:])
            losses[f"head{level}"] = 0.5**level / total * self.loss(scores, target, weight)
        return losses


def _coarser(x: Tensor, size: torch.Size) -> Tensor:
    # nearest, so that classes stay classes
    return F.interpolate(x.float(), size=list(size), mode="nearest-exact").to(x.dtype)
