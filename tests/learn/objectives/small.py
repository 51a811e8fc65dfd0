"""Encoders and images as small as can be, and a few steps of the real training."""

import itertools
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from segpipe.core.section import Section, members
from segpipe.learn.augment import AugmentConfig
from segpipe.learn.batches import Batch
from segpipe.learn.objectives import Objective
from segpipe.learn.optim import OptimConfig
from segpipe.learn.recipe import FitConfig, Recipe
from segpipe.learn.state import State
from segpipe.learn.step import train_step
from segpipe.nets.encoder import EncoderSpec

PATCH = {2: (16, 16), 3: (8, 12, 8)}
SHARES = (
    *("spatial", "elastic", "bias_field", "noise", "blur", "brightness", "contrast", "low_resolution"),
    *("gamma", "gamma_inverted"),
)
NOTHING = AugmentConfig(mirror_axes=(), **dict.fromkeys(SHARES, 0.0))
KINDS = {str(kind.model_fields["kind"].default): kind for kind in members(Objective)}
CHANGES = {"autoencoder": {"code_channels": 4}, "masked": {"block": 4}, "vae": {"units": 8, "warmup_steps": 10}}


def objective(kind: str, **changes: object) -> Section:
    """Return an objective of the menu, made to go with small patches."""
    return KINDS[kind].model_validate(CHANGES.get(kind, {}) | changes)


def spec(rank: int = 2, depth: int = 2, **changes: object) -> EncoderSpec:
    basis = {
        "in_channels": 1,
        "widths": tuple(4 * 2**level for level in range(depth + 1)),
        "strides": ((2,) * rank,) * depth,
        "kernels": ((3,) * rank,) * (depth + 1),
    }
    return EncoderSpec.model_validate(basis | changes)


def phantoms(size: tuple[int, ...], count: int = 4, channels: int = 1, seed: int = 0) -> Tensor:
    """Return normalised images (count, channels, *size), each of a bright ball somewhere, with noise."""
    chance = torch.Generator().manual_seed(seed)
    axes = torch.meshgrid(*[torch.linspace(-1, 1, n) for n in size], indexing="ij")
    images = []
    for _ in range(count * channels):
        centre = torch.rand(len(size), generator=chance) - 0.5
        radius = 0.3 + 0.3 * torch.rand(1, generator=chance)
        far = torch.stack([(axis - middle).square() for axis, middle in zip(axes, centre, strict=True)]).sum(0).sqrt()
        image = torch.sigmoid(10 * (radius - far)) + 0.05 * torch.randn(size, generator=chance)
        images.append((image - image.mean()) / image.std())
    return torch.stack(images).reshape(count, channels, *size)


def batch(image: Tensor) -> Batch:
    return Batch(image, torch.zeros(len(image), 1, *image.shape[2:]), None, ("a",) * len(image))


def few_steps(task: nn.Module, image: Tensor, steps: int = 30) -> tuple[State, list[float]]:
    """Train as fit() does, by AdamW with weight decay, without augmentation; return the state and every loss."""
    optim = OptimConfig(learning_rate=1e-2, warmup_steps=2, weight_decay=0.1)
    settings = Recipe(FitConfig(steps=steps, precision="fp32"), optim, NOTHING, (1.0,) * (image.ndim - 2))
    state = State.of(task, optim)
    losses = []
    for step in range(steps):
        state.step = step
        losses.append(train_step(state, task, batch(image), settings, "cpu")["loss"])
    return state, losses


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return a copy of all weights and running statistics."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def every(kinds: Iterable[str] = KINDS) -> list[tuple[str, int]]:
    return list(itertools.product(kinds, (2, 3)))
