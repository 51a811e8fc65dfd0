"""The few blocks of every network here, in 2D and in 3D; and centre cropping."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from segpipe.core.errors import GeometryError

CONV: dict[int, Any] = {2: nn.Conv2d, 3: nn.Conv3d}
UP: dict[int, Any] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
POOL: dict[int, Any] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
BATCH_NORM: dict[int, type[nn.Module]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
DROPOUT: dict[int, type[nn.Module]] = {2: nn.Dropout2d, 3: nn.Dropout3d}
CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}

Norm = Literal["instance", "batch", "group", "none"]
Activation = Literal["leaky_relu", "relu", "gelu"]
Padding = Literal["same", "valid"]
FirstWeights = Literal["he", "he_2015"]
Axes = tuple[int, ...]

GROUP = 8
SLOPE = 0.01
EPS = 1e-5


class InstanceNorm(nn.Module):
    """Instance normalisation that keeps the channels-last layout.

    PyTorch's own makes its input contiguous, so that copies between layouts surround it on a CPU
    (pytorch#59168). Batch normalisation of one image is the same function, and its
    kernel keeps the layout.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C, *S), each channel of each image with mean 0 and variance 1, then scaled and shifted."""
        cudnn = torch.backends.cudnn.enabled
        if x.device.type != "cpu":  # not torch.nn's function: that refuses a bottleneck of one voxel
            return torch.instance_norm(x, self.weight, self.bias, None, None, True, 0.0, EPS, cudnn)  # noqa: FBT003
        images = [
            torch.batch_norm(one, self.weight, self.bias, None, None, True, 0.0, EPS, cudnn)  # noqa: FBT003 - positional in torch
            for one in torch.split(x, 1)
        ]
        return images[0] if len(images) == 1 else torch.cat(images)


def norm_layer(kind: Norm, rank: int, channels: int) -> nn.Module:
    """Return the normalisation layer of a kind."""
    match kind:
        case "instance":
            return InstanceNorm(channels)
        case "batch":
            return BATCH_NORM[rank](channels)
        case "group":
            return nn.GroupNorm(min(GROUP, channels), channels)
        case "none":
            return nn.Identity()


def activation_layer(kind: Activation) -> nn.Module:
    """Return the activation layer of a kind."""
    match kind:
        case "leaky_relu":
            return nn.LeakyReLU(SLOPE, inplace=True)
        case "relu":
            return nn.ReLU(inplace=True)
        case "gelu":
            return nn.GELU()


class ConvBlock(nn.Sequential):
    """Convolutions, each followed by normalisation and activation."""

    def __init__(
        self,
        channels: Sequence[int],
        kernel: Axes,
        *,
        norm: Norm = "instance",
        activation: Activation = "leaky_relu",
        padding: Padding = "same",
    ) -> None:
        """Build one convolution for each step in ``channels``, [in, out, out, …]; its rank is that of ``kernel``."""
        rank = len(kernel)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(channels):
            around = tuple(k // 2 for k in kernel) if padding == "same" else 0
            # a bias before a normalisation cancels exactly
            layers.append(CONV[rank](before, after, kernel, padding=around, bias=norm == "none"))
            layers += [norm_layer(norm, rank, after), activation_layer(activation)]
        super().__init__(*layers)


def center_crop(x: Tensor, size: Sequence[int]) -> Tensor:
    """Return the middle ``size`` voxels of ``x`` (N, C, *S); of an odd surplus, the larger part goes at the end.

    Raises:
        GeometryError: ``size`` is larger than S along some axis.
    """
    have = tuple(x.shape[2:])
    if any(h < s for h, s in zip(have, size, strict=True)):
        raise GeometryError(f"cannot crop {have} to {tuple(size)}: it is larger")
    if have == tuple(size):
        return x
    middle = tuple(slice((h - s) // 2, (h - s) // 2 + s) for h, s in zip(have, size, strict=True))
    return x[(slice(None), slice(None), *middle)]


def crop_to_smaller(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return both (N, C, *S) cropped about their centres to the smaller size along each axis."""
    size = [min(x, y) for x, y in zip(a.shape[2:], b.shape[2:], strict=True)]
    return center_crop(a, size), center_crop(b, size)


def start_weights(network: nn.Module, activation: Activation, kind: FirstWeights = "he") -> None:
    """Draw the weights of all convolutions anew from a Gaussian (He et al. 2015), biases zero.

    ``he``: variance 2 / N, less for a leaky activation, N the incoming nodes of one neuron. Of an up-convolution
    PyTorch counts the outgoing ones, so that its variance is about half as large (a quarter in 3D); no activation
    follows it. ``he_2015``: variance 2 / N for every layer, as the U-Net's paper has it (arXiv 1505.04597, 3).
    """
    slope = SLOPE if activation == "leaky_relu" and kind == "he" else 0.0
    for layer in network.modules():
        if isinstance(layer, (*CONV.values(), *UP.values())):
            weight, bias = layer.get_parameter("weight"), layer.bias
            if kind == "he_2015" and isinstance(layer, tuple(UP.values())):
                # each voxel that comes out sees one tap of the kernel, and all channels: the stride is the kernel
                nn.init.normal_(weight, std=math.sqrt(2 / weight.shape[0]))
            else:
                nn.init.kaiming_normal_(weight, a=slope)
            if isinstance(bias, Tensor):
                nn.init.zeros_(bias)
