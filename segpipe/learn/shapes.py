"""Learning plausible shapes from the label maps of training cases: the task, and the maps that it is shown."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from segpipe.core.atomic import write_array
from segpipe.dataset.prepare import Prepared
from segpipe.learn.augment import AugmentConfig
from segpipe.learn.batches import Batch
from segpipe.learn.losses import DiceCE
from segpipe.nets.encoder import EncoderSpec
from segpipe.nets.precision import Precision, computing
from segpipe.nets.shape import ShapeNetwork, ShapeSpec, one_hot, redrawn
from segpipe.quality.frame import Frame
from segpipe.quality.shape import Shapes

RIM = 2
"""Voxels by which a map is wider than the window on each side: it is shown shifted by so many at most."""
VARIED = AugmentConfig(
    spatial=0.8,
    rotate_degrees=10.0,
    scale=(0.9, 1.1),
    elastic=0.2,
    elastic_mm=(1.0, 4.0),
    mirror_axes=(),
    bias_field=0.0,
    noise=0.0,
    blur=0.0,
    brightness=0.0,
    contrast=0.0,
    low_resolution=0.0,
    gamma=0.0,
    gamma_inverted=0.0,
)
"""How shapes are varied: by as much as patients differ, and not by what makes a shape implausible."""


class ShapeTask(nn.Module):
    """Draws label maps again from a sample of their code: cross-entropy + soft Dice + β · KL[q(y|x) ‖ N(0, I)]."""

    def __init__(self, network: ShapeNetwork, beta: float) -> None:
        super().__init__()
        self.network = network
        self.beta = beta
        self.loss = DiceCE()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of maps (N, K - 1, *S): one channel a structure, between 0 and 1 where they were moved."""
        classes = classes_of(batch.image)
        posterior = self.network.encode(one_hot(classes, self.network.spec.encoder.in_channels))
        drawn = self.network.decode(posterior.sample(torch.randn_like(posterior.mean)))
        return {
            "reconstruction": self.loss(drawn, classes[:, None].to(torch.uint8)),
            "kl": self.beta * posterior.kl().sum(1).mean(),
        }


def classes_of(shares: Tensor) -> Tensor:
    """Return class numbers (N, *S) of shares (N, K - 1, *S) of the structures; what they leave is background."""
    background = 1 - shares.sum(1, keepdim=True)
    return torch.cat([background, shares], dim=1).argmax(1)


def shape_spec(frame: Frame, features: int, units: int) -> ShapeSpec:
    """Return the network for a window; each step has twice the channels of the one before."""
    strides, kernels = frame.topology.strides, frame.topology.kernels
    widths = tuple(features * 2**level for level in range(len(kernels)))
    encoder = EncoderSpec(in_channels=frame.classes, widths=widths, strides=strides, kernels=kernels, convolutions=1)
    return ShapeSpec(encoder=encoder, size=frame.size, units=units)


def write_maps(folder: Path, frame: Frame, shapes: Mapping[str, Shapes]) -> list[Prepared]:
    """Write the window of each case as a patch sampler reads it, (K - 1, *S) uint8, one channel a structure."""
    found = []
    for case, one in shapes.items():
        window = frame.cut(one, RIM)
        masks = np.stack([window == number for number in range(1, frame.classes)]).astype(np.uint8)
        write_array(folder / case / "image.npy", masks)
        found.append(Prepared(case, folder / case))
    return found


def redrawer(
    network: ShapeNetwork, precision: Precision, device: str
) -> Callable[[np.ndarray], np.ndarray]:
    """Return what draws class numbers (N, *S) again."""

    def draw(classes: np.ndarray) -> np.ndarray:
        with computing(precision, device):
            return redrawn(network, torch.from_numpy(classes).to(device)).to(torch.uint8).cpu().numpy()

    return draw
