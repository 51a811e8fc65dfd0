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

from segpipe.core.errors import ConfigError
from segpipe.core.section import Section
from segpipe.imaging.labels import LabelSet
from segpipe.imaging.mirror import mirrored
from segpipe.nets.layers import Axes
from segpipe.nets.precision import Precision, computing
from segpipe.nets.unet import UNet

LEFT_RIGHT = 0
"""The axis of a prepared image that runs from left to right."""
PLANE = 2
"""Axes of a picture."""
TURNED = (2, 3)
"""The axes of tiles (N, C, *P) that a quarter turn takes into each other."""


class WindowConfig(Section):
    """How tiles cover an image."""

    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of a tile that its neighbour covers too; with `valid` convolutions tiles abut, whatever this says."""
    batch: PositiveInt = 2
    """Tiles at a time."""
    mirror_axes: tuple[NonNegativeInt, ...] = ()
    """Axes along which the image is also predicted flipped, and the results averaged (test-time augmentation)."""
    quarter_turns: bool = False
    """Whether 2D images are also predicted turned by quarters, and the results averaged. With `mirror_axes: [0, 1]`
    these are all 8 ways to lay down a square: for pictures without an upside, such as microscopy."""
    precision: Precision = "auto"
    """As in training."""

    def upright(self) -> "WindowConfig":
        """Return the same, with an image predicted once only, as it lies."""
        return self.model_copy(update={"mirror_axes": (), "quarter_turns": False})

    def refuse_unfit(self, patch: Axes, strides: Sequence[Axes], kernels: Sequence[Axes]) -> None:
        """Refuse quarter turns where a turned tile is another tile.

        Raises:
            ConfigError: They are asked for in 3D, or tiles or the network's strides and kernels are not square.
        """
        if not self.quarter_turns:
            return
        if len(patch) != PLANE:
            raise ConfigError("infer.window.quarter_turns is for 2D images, and these have 3 axes. Take it out.")
        for name, shapes in {"tiles": (patch,), "strides": strides, "kernels": kernels}.items():
            if odd := next((shape for shape in shapes if len(set(shape)) > 1), None):
                raise ConfigError(
                    f"infer.window.quarter_turns wants square {name}, and these are {'x'.join(map(str, odd))}. "
                    "Take it out, or set preprocess.plan.patch for square tiles."
                )

    def refuse_turned_sides(self, labels: LabelSet) -> None:
        """Refuse a mirrored left-right axis where a structure is named for its side.

        Raises:
            ConfigError: One is.
        """
        sided = [*labels.mirror_names(), *labels.one_sided()]
        if LEFT_RIGHT in self.mirror_axes and sided:
            raise ConfigError(
                f"infer.window.mirror_axes holds axis 0 (left-right), but '{sided[0]}' names a side: in a mirrored "
                "image it would be drawn on the other one. Take the 0 out."
            )


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
        for start, scores in zip(some, _from_all_sides(network, tiles, config), strict=True):
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


def _from_all_sides(network: UNet, tiles: Tensor, config: WindowConfig) -> Tensor:
    device = tiles.device.type
    total: Tensor | None = None
    ways = _ways(config, tiles.ndim - 2)
    with computing(config.precision, device):
        for flip, turns in ways:
            seen = tiles.flip(flip) if flip else tiles
            scores = network(seen.rot90(turns, TURNED) if turns else seen).float()
            scores = scores.rot90(-turns, TURNED) if turns else scores
            scores = scores.flip(flip) if flip else scores
            total = scores if total is None else total + scores
    assert total is not None
    return total / len(ways)


def _ways(config: WindowConfig, rank: int) -> list[tuple[list[int], int]]:
    """Return each way to look at tiles (N, C, *P) once: axes to flip, and quarter turns after that."""
    sides = sorted({axis + 2 for axis in config.mirror_axes if axis < rank})
    flips = [list(some) for count in range(len(sides) + 1) for some in itertools.combinations(sides, count)]
    if not config.quarter_turns:
        return [(flip, 0) for flip in flips]
    # half a turn is both flips
    turns = range(2) if len(sides) == len(TURNED) else range(4)
    return [(flip, turn) for flip in flips for turn in turns]


def _box(start: Sequence[int], size: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(first, first + count) for first, count in zip(start, size, strict=True))


def _chunks(items: Sequence[Axes], size: int) -> Iterator[Sequence[Axes]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]
