"""What every pretraining objective builds: an encoder and a decoder that redraw images, and what is asked of them."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from segpipe.core.errors import ConfigError
from segpipe.core.section import Section
from segpipe.learn.batches import Batch
from segpipe.nets.decoder import Decoder
from segpipe.nets.encoder import Encoder, EncoderSpec
from segpipe.nets.layers import Axes

Distance = Literal["mse", "l1"]


class Reconstruction(Section):
    """What the objectives that redraw an image have in common."""

    distance: Distance = "mse"
    """How far a drawn image is from what it should be: `mse` squared, `l1` absolute, mean over voxels."""


@dataclass(frozen=True)
class Phase:
    """A part of a pretraining that is trained by itself, with a fresh optimiser."""

    name: str
    """Of its checkpoints and figures."""
    task: nn.Module
    """What is trained; it has ``figures`` too."""
    share: float
    """Of the steps."""


class Pretraining(nn.Module, ABC):
    """A task for fit() that trains an encoder on images alone.

    Convolutions keep the size (`same`), also where the model's do not: weights are of the same shapes.
    """

    encoder: Encoder
    """What is transferred."""
    decoder: Decoder
    ratio: float
    """Values in the code for each value in the patch; below 1, the code cannot hold the identity."""

    def __init__(self, spec: EncoderSpec, patch: Axes, *, skips: bool = False) -> None:
        """Build the encoder of a spec, and a decoder that ends in the image's own channels.

        Args:
            spec: The model's encoder.
            patch: Voxels along each axis.
            skips: Whether the decoder sees the encoder's features.

        Raises:
            ConfigError: The patch does not fit the encoder.
        """
        super().__init__()
        spec = same_padded(spec)
        self.patch = patch
        self.code_size = code_size(spec, patch)
        self.ratio = spec.widths[-1] * math.prod(self.code_size) / (spec.in_channels * math.prod(patch))
        self.encoder = Encoder(spec)
        self.decoder = Decoder(spec, spec.in_channels, skips=skips)

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the named losses of a batch, in float32: their sum is made small."""

    @abstractmethod
    def code(self, image: Tensor) -> Tensor:
        """Return the code (N, D, …) of images (N, C, *P), without chance."""

    @abstractmethod
    def reconstruct(self, image: Tensor) -> Tensor:
        """Return images (N, C, *P) as they come back, without chance: nothing masked, no noise."""

    @torch.no_grad()
    def figures(self, image: Tensor) -> dict[str, float]:
        """Return figures of validation patches (N, C, *P); ``mse``, the mean squared error of a voxel, always."""
        return {"mse": float(apart("mse", self.reconstruct(image), image).mean())}

    def phases(self) -> list[Phase]:
        """Return what is trained one after the other."""
        return [Phase("whole", self, 1.0)]

    def draw(self, code: Tensor, size: Sequence[int], skips: Sequence[Tensor] = ()) -> Tensor:
        """Return the image (N, C, *size) that the decoder draws of what the encoder's last step gives."""
        return started(self.decoder(code, skips)[0], size)


def apart(distance: Distance, drawn: Tensor, wanted: Tensor) -> Tensor:
    """Return how far each voxel is from what it should be, in float32."""
    difference = drawn.float() - wanted.float()
    return difference.square() if distance == "mse" else difference.abs()


def started(x: Tensor, size: Sequence[int]) -> Tensor:
    """Return the first ``size`` voxels of a map (N, C, *S): pooling that rounds up has its surplus at the end."""
    for axis, count in enumerate(size):
        x = x.narrow(axis + 2, 0, count)
    return x


def same_padded(spec: EncoderSpec) -> EncoderSpec:
    """Return the spec with convolutions that keep the size."""
    return spec.model_copy(update={"padding": "same"})


def code_size(spec: EncoderSpec, patch: Axes) -> Axes:
    """Return the voxels along each axis of the encoder's last step.

    Raises:
        ConfigError: The patch has other axes, or nothing of it would be left.
    """
    if len(patch) != spec.rank:
        raise ConfigError(f"a patch of {len(patch)} axes does not go with an encoder of {spec.rank}. Plan anew.")
    size = spec.sizes(patch)[-1]
    if math.prod(size) == 1 and spec.norm == "instance":
        raise ConfigError(
            f"a patch of {times(patch)} voxels leaves a code of one voxel, and normalising one voxel leaves nothing of "
            "it. Use larger patches, or a smaller preprocess.plan.depth, or model.norm=group."
        )
    return size


def times(size: Axes) -> str:
    """Return a size as it is written: 40x56x40."""
    return "x".join(map(str, size))
