"""Whole images through a patch network: overlapping tiles, mirrored margins."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name everybody knows

from segpipe.core.section import Section
from segpipe.imaging.mirror import mirrored
from segpipe.nets.layers import Axes
from segpipe.nets.precision import Precision, computing
from segpipe.nets.unet import UNet


class WindowConfig(Section):
    """How tiles cover an image."""

    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of a tile that its neighbour covers too; with `valid` convolutions tiles abut, whatever this says."""
    batch: PositiveInt = 2
    """Tiles at a time."""
    mirror_axes: tuple[NonNegativeInt, ...] = ()
    """Axes along which the image is also predicted flipped, and the results averaged (test-time augmentation)."""
    precision: Precision = "auto"
    """As in training."""


@torch.inference_mode()
def predict_scores(network: UNet, image: NDArray[np.floating], patch: Axes, config: WindowConfig) -> Tensor:
    """Return scores (K, *S) float32 of a prepared image (C, *S), on the network's device.

    With ``valid`` convolutions the image is mirrored beyond its rim by what the network trims, and
    tiles abut on its pooling grid, so that every voxel is predicted with full context (the
    overlap-tile strategy, Ronneberger et al. 2015): the same as one large pass that pools the same voxels
    together, as one does over the image with that margin, mirrored. With ``same``, tiles overlap and are blended
    with Gaussian weights, and an image smaller than a tile lies in the middle of zeros.
    """
    device = next(network.parameters()).device
    whole = torch.from_numpy(np.ascontiguousarray(image, np.float32)).to(device)
    spec = network.spec
    out = spec.output_size(patch)
    valid = spec.encoder.padding == "valid"
    starts, padded = _tiling(whole.shape[1:], out, spec.encoder.strides, 0.0 if valid else config.overlap, valid=valid)
    framed, before = _framed(whole, padded, spec.margin(patch), valid=valid)
    blend = torch.ones(out, device=device) if valid else _gaussian(out).to(device)
    total = torch.zeros((spec.out_channels, *padded), device=device)
    weight = torch.zeros(padded, device=device)
    for some in _chunks(starts, config.batch):
        tiles = torch.stack([framed[(slice(None), *_box(start, patch))] for start in some])
        for start, scores in zip(some, _with_mirrors(network, tiles, config), strict=True):
            place = _box(start, out)
            total[(slice(None), *place)] += scores.float() * blend
            weight[place] += blend
    result = total / weight
    return result[(slice(None), *_box(before, whole.shape[1:]))]


def _tiling(
    size: Sequence[int], out: Axes, strides: Sequence[Axes], overlap: float, *, valid: bool
) -> tuple[list[Axes], Axes]:
    """Return the first voxel of each tile in the map, and the size of the map that they cover."""
    along, covered = [], []
    for axis, (n, tile) in enumerate(zip(size, out, strict=True)):
        if valid:
            grid = math.prod(stride[axis] for stride in strides)
            step = max(tile // grid * grid, min(grid, tile))
            count = max(math.ceil((n - tile) / step) + 1, 1)
            along.append([index * step for index in range(count)])
            covered.append((count - 1) * step + tile)
        else:
            rest = max(n - tile, 0)
            count = math.ceil(rest / max(tile * (1 - overlap), 1)) + 1
            along.append([round(rest * index / max(count - 1, 1)) for index in range(count)])
            covered.append(max(n, tile))
    return list(itertools.product(*along)), tuple(covered)


def _framed(image: Tensor, padded: Axes, margin: Axes, *, valid: bool) -> tuple[Tensor, list[int]]:
    """Return the image with its frame, and where its first voxel lies in the map."""
    pads, before = [], []
    for n, covered, rim in zip(image.shape[1:], padded, margin, strict=True):
        first = 0 if valid else (covered - n) // 2
        before.append(first)
        pads.append((first + rim, covered - n - first + rim))
    if not valid:
        return F.pad(image, [side for pair in reversed(pads) for side in pair]), before
    for axis, (low, high) in enumerate(pads, start=1):
        count = image.shape[axis]
        places = torch.from_numpy(mirrored(count, -low, low + count + high))
        image = image.index_select(axis, places.to(image.device))
    return image, before


def _gaussian(size: Axes) -> Tensor:
    weight = torch.ones(size)
    for axis, n in enumerate(size):
        offset = (torch.arange(n) - (n - 1) / 2) / (n / 8)
        shape = [n if other == axis else 1 for other in range(len(size))]
        weight = weight * torch.exp(-0.5 * offset**2).reshape(shape)
    return weight.clamp_min(1e-5)


def _with_mirrors(network: UNet, tiles: Tensor, config: WindowConfig) -> Tensor:
    device = tiles.device.type
    sides = [axis + 2 for axis in config.mirror_axes if axis + 2 < tiles.ndim]
    total: Tensor | None = None
    flips = [list(some) for count in range(len(sides) + 1) for some in itertools.combinations(sides, count)]
    with computing(config.precision, device):
        for flip in flips:
            scores = network(tiles.flip(flip) if flip else tiles).float()
            scores = scores.flip(flip) if flip else scores
            total = scores if total is None else total + scores
    assert total is not None
    return total / len(flips)


def _box(start: Sequence[int], size: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(first, first + count) for first, count in zip(start, size, strict=True))


def _chunks(items: Sequence[Axes], size: int) -> Iterator[Sequence[Axes]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]
