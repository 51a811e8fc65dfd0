"""What a U-Net costs before it is built: weights, multiplications, memory of training and of prediction.

Pure arithmetic on the description of a network, without torch, so that planning may use it.
"""

import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # loading it would load torch
    from segpipe.nets.unet import UNetSpec

Axes = tuple[int, ...]

GIB = 2**30
BASE = 560 * 2**20
"""Bytes of a process that trains next to nothing: Python, torch, MLflow, and the programs that oneDNN writes.
This and the other constants are calibrated on a CPU by benchmarks/step_memory.py."""
PREDICTING_BASE = 500 * 2**20
"""Of a process that only predicts."""
STEP_FACTOR = 3
"""A training step has three times the operations of a look: forward, for the input, and for the weights."""
WEIGHT_BYTES = 4 + 4 + 8 + 4
"""Of a parameter in training: itself, its gradient, both moments of AdamW, its running average."""
SAVING_BYTES = 16
"""Of a parameter while a checkpoint is written: copies of it, of its average and of both moments."""
LOSS_BYTES = 9 * 4
"""Of a voxel and score channel in the loss: scores, log, exponent, truth and products, with gradients, in float32."""
GRADIENTS = 3
"""Maps of the finest step that the backward pass holds beside what was kept: a gradient before and behind, and a copy
in another layout."""
HELD = 1.1
"""What a process holds of each byte asked for: freed blocks that fit nothing else."""
INDEX_BYTES = 8


class Convolution(NamedTuple):
    """One convolution of a network, up-convolutions and heads included."""

    before: int
    """Channels that go in."""
    after: int
    """Channels that come out."""
    kernel: Axes
    size: Axes
    """Voxels at which the kernel is applied: those that come out; of an up-convolution, those that go in."""
    bias: bool
    norm: bool

    @property
    def taps(self) -> int:
        """Multiplications of one application."""
        return self.before * self.after * math.prod(self.kernel)

    @property
    def weights(self) -> int:
        """Parameters, those of its normalisation included."""
        return self.taps + self.after * (self.bias + 2 * self.norm)


def convolutions(spec: "UNetSpec", patch: Axes) -> Iterator[Convolution]:
    """Yield every convolution of a network on a patch, in the order of computing.

    Raises:
        ConfigError: The patch is too small.
    """
    encoder = spec.encoder
    way = spec.sizes(patch)
    inputs = (encoder.in_channels, *encoder.widths[:-1])
    for level, (before, end) in enumerate(zip(inputs, way[: encoder.depth + 1], strict=True)):
        yield from _block(spec, level, before, end)
    for level, x, end in _decoding(spec, way):
        width = encoder.widths[level]
        yield Convolution(encoder.widths[level + 1], width, encoder.strides[level], x, bias=True, norm=False)
        yield from _block(spec, level, 2 * width, end)
        if level < spec.heads:
            yield Convolution(width, spec.out_channels, (1,) * encoder.rank, end, bias=True, norm=False)


def _decoding(spec: "UNetSpec", way: list[Axes]) -> Iterator[tuple[int, Axes, Axes]]:
    """Yield the level of each decoding step, the size that it starts from, and the size that it ends with."""
    depth = spec.encoder.depth
    for step, (x, end) in enumerate(itertools.pairwise(way[depth:])):
        yield depth - 1 - step, x, end


def _block(spec: "UNetSpec", level: int, before: int, end: Axes) -> Iterator[Convolution]:
    encoder = spec.encoder
    kernel, width = encoder.kernels[level], encoder.widths[level]
    norm = encoder.norm != "none"
    for index in range(encoder.convolutions):
        size = _before_trimming(spec, level, end, encoder.convolutions - 1 - index)
        yield Convolution(before if index == 0 else width, width, kernel, size, bias=not norm, norm=norm)


def _before_trimming(spec: "UNetSpec", level: int, end: Axes, count: int) -> Axes:
    """Return the size from which ``count`` convolutions of a level lead to ``end``."""
    if spec.encoder.padding == "same":
        return end
    return tuple(n + count * (k - 1) for n, k in zip(end, spec.encoder.kernels[level], strict=True))


def parameters(spec: "UNetSpec") -> int:
    """Return the number of parameters of a network."""
    return sum(one.weights for one in convolutions(spec, _some_patch(spec)))


def _some_patch(spec: "UNetSpec") -> Axes:
    encoder = spec.encoder
    size = (1,) * encoder.rank
    if encoder.padding == "valid":  # room for every convolution on the way down and up
        taken = 4 * encoder.convolutions * (max(itertools.chain(*encoder.kernels)) - 1)
        size = tuple((taken + 1) * math.prod(axis) for axis in zip(*encoder.strides, strict=True))
    return size


def flops(spec: "UNetSpec", patch: Axes, batch: int = 1) -> int:
    """Return the operations (a multiplication and an addition are two) of all convolutions, forward.

    A training step has ``STEP_FACTOR`` times as many. Padding is multiplied too, as in torch's own count.
    """
    return 2 * batch * sum(one.taps * math.prod(one.size) for one in convolutions(spec, patch))


def kept_bytes(spec: "UNetSpec", patch: Axes, batch: int, *, bf16: bool) -> int:
    """Return the bytes that autograd keeps of one forward pass for the backward pass, the loss left out.

    Of each convolution its input (which is what came out before it) and its output; of an activation
    its result, where it works in place; of pooling the places of its maxima, and in bf16 and 3D a
    float32 copy of its input, since torch pools in float32 there on a CPU.
    """
    encoder = spec.encoder
    number = 2 if bf16 else 4
    way = spec.sizes(patch)
    tensors = 1 + (encoder.norm != "none") + (encoder.activation == "gelu")
    total = encoder.in_channels * math.prod(patch) * number
    for level, width in enumerate(encoder.widths):
        if level:
            copied = 4 * math.prod(way[level - 1]) if bf16 and encoder.rank == 3 else 0
            pooled = math.prod(_before_trimming(spec, level, way[level], encoder.convolutions))
            total += encoder.widths[level - 1] * (copied + (INDEX_BYTES + number) * pooled)
        for one in _block(spec, level, 0, way[level]):
            total += tensors * width * math.prod(one.size) * number
    if encoder.dropout:
        total += encoder.widths[-1] * math.prod(way[encoder.depth]) * number
    for level, _, end in _decoding(spec, way):
        width = encoder.widths[level]
        joined = _before_trimming(spec, level, end, encoder.convolutions)
        total += 2 * width * math.prod(joined) * number
        for one in _block(spec, level, 0, end):
            total += tensors * width * math.prod(one.size) * number
    return batch * total + (2 * parameters(spec) if bf16 else 0)


def activation_bytes(spec: "UNetSpec", patch: Axes, batch: int, *, bf16: bool) -> int:
    """Return the bytes that grow with the batch, at the peak of a training step: early in the backward pass.

    What autograd keeps, the loss of all heads, the gradients of the finest step, and the batch itself
    (being read, varied and trained on).
    """
    number = 2 if bf16 else 4
    way = spec.sizes(patch)
    heads = sum(math.prod(size) for size in way[len(way) - spec.heads :])
    loss = LOSS_BYTES * spec.out_channels * heads
    finest = max(one.after * math.prod(one.size) for one in convolutions(spec, patch))
    images = 3 * 4 * (spec.encoder.in_channels + 1) * math.prod(patch)
    kept = kept_bytes(spec, patch, batch, bf16=bf16)
    return int(HELD * (kept + batch * (loss + GRADIENTS * number * finest + images)))


def training_bytes(spec: "UNetSpec", patch: Axes, batch: int, *, bf16: bool) -> int:
    """Return the peak memory in bytes of a process that trains a network.

    The process itself, weights with gradients, moments and average, and the activations or the copies
    of a checkpoint, whichever are more. Measured peaks lie up to a fifth below it where malloc gives freed
    blocks back to the system, as benchmarks/step_memory.py makes it; where not, long runs hold up to twice as much.
    On a GPU the process and its weights weigh less on the device, and what cuDNN takes is not in it.

    Args:
        spec: The network.
        patch: Voxels of a training patch.
        batch: Patches of a step in this process.
        bf16: Whether activations are bfloat16, as opposed to float32.

    Raises:
        ConfigError: The patch is too small.
    """
    weights = parameters(spec)
    passing = max(activation_bytes(spec, patch, batch, bf16=bf16), SAVING_BYTES * weights)
    return BASE + WEIGHT_BYTES * weights + passing


def prediction_bytes(spec: "UNetSpec", patch: Axes, batch: int, image: Axes, *, bf16: bool) -> int:
    """Return the peak memory in bytes of a process that predicts an image by tiles.

    Args:
        spec: The network.
        patch: Voxels of a tile.
        batch: Tiles at a time.
        image: Voxels of the whole image, as prepared.
        bf16: Whether activations are bfloat16, as opposed to float32.

    Raises:
        ConfigError: The tile is too small.
    """
    encoder = spec.encoder
    number = 2 if bf16 else 4
    way = spec.sizes(patch)
    down = list(zip(encoder.widths, way[: encoder.depth], strict=False))
    skips = number * sum(width * math.prod(size) for width, size in down)
    # a convolution holds its input, its output, the normalised one image by image, and those joined
    step = max(number * math.prod(one.size) * (one.before + 3 * one.after) for one in convolutions(spec, patch))
    pooling = max((4 + number) * width * math.prod(size) for width, size in down)
    tiles = batch * (skips + max(step, pooling) + 3 * 4 * spec.out_channels * math.prod(patch))
    covered = math.prod(max(n, p) for n, p in zip(image, patch, strict=True))
    framed = 2 * encoder.in_channels + spec.out_channels + 2  # the image twice, the sum of scores, two maps of weights
    whole = 4 * covered * framed
    quotient = 4 * covered * spec.out_channels
    return PREDICTING_BASE + int(HELD * (whole + max(tiles, quotient))) + (4 + number) * parameters(spec)


def even_patch(spec: "UNetSpec", patch: Axes) -> Axes:
    """Return the smallest patch, at least as large along every axis, that stays even where it is pooled.

    With valid convolutions a size that is odd at some level loses a voxel there, and its skip is cropped off
    the centre. A valid network's maps shrink, so the few voxels more cost less than ``same`` padding would.

    Raises:
        ConfigError: The patch is too small for the network.
    """
    found = tuple(next(n for n in itertools.count(size) if _divides(spec, axis, n)) for axis, size in enumerate(patch))
    spec.sizes(found)
    return found


def _divides(spec: "UNetSpec", axis: int, size: int) -> bool:
    encoder = spec.encoder
    for kernel, stride in zip(encoder.kernels, encoder.strides, strict=False):
        size -= encoder.convolutions * (kernel[axis] - 1) if encoder.padding == "valid" else 0
        if size % stride[axis]:
            return False
        size //= stride[axis]
    return True
