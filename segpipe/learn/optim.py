"""Optimiser and learning-rate schedule."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch import nn

from segpipe.core.section import Section
from segpipe.learn.muon import ORTHOGONAL, Muon, between_features, flops

BETAS = (0.9, 0.99)
"""AdamW's memories of the gradient and of its square."""

Kind = Literal["muon", "adamw", "sgd"]


class OptimConfig(Section):
    """The optimiser and its schedule."""

    kind: Kind = "muon"
    """`muon`: convolutions between feature maps get updates that are made orthogonal, which learns in fewer steps, and
    everything else is AdamW's; `adamw`; `sgd` with momentum."""
    learning_rate: PositiveFloat = 8e-3
    """Peak learning rate, reached after warm-up."""
    warmup_steps: NonNegativeInt = 50
    """Steps of linear rise from zero."""
    weight_decay: NonNegativeFloat = 1e-2
    """Decoupled decay of the weights; norms and biases are spared."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Momentum of sgd."""
    nesterov: bool = True
    """Whether it is Nesterov's."""
    clip: PositiveFloat = 12.0
    """Largest norm of the gradient; a larger one is scaled down to it."""


@dataclass(frozen=True)
class Pace:
    """A part of the network that goes more slowly than the rest, such as an encoder that was pretrained."""

    part: nn.Module
    factor: float = 1.0
    """Of the learning rate of the rest."""
    frozen_steps: int = 0
    """First steps at which it does not move at all."""


FACTOR, FROZEN = "factor", "frozen_steps"
"""What a group of parameters is told of its pace, beside what PyTorch tells it."""


def make_optimizer(module: nn.Module, config: OptimConfig, pace: Pace | None = None) -> torch.optim.Optimizer:
    """Return the optimiser of all parameters; only matrices and kernels decay.

    Args:
        module: What is trained; parameters without gradients are left out.
        config: Settings.
        pace: A part of ``module`` that goes more slowly; its groups are the last ones. ``keep_pace`` says when.
    """
    slow = {id(parameter) for parameter in pace.part.parameters()} if pace else set()
    every = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = _groups([p for p in every if id(p) not in slow], config)
    if pace:
        own = {FACTOR: pace.factor, FROZEN: pace.frozen_steps}
        groups += [group | own for group in _groups([p for p in every if id(p) in slow], config)]
    if config.kind == "sgd":
        return torch.optim.SGD(
            groups, lr=config.learning_rate, momentum=config.momentum, nesterov=config.nesterov and config.momentum > 0
        )
    if config.kind == "muon":
        return Muon(_told_apart(groups), lr=config.learning_rate, betas=BETAS)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=BETAS, fused=True)


def _told_apart(groups: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the groups, each divided: kernels between feature maps by themselves, where there are some."""
    parts = [
        {
            **group,
            "params": [p for p in group["params"] if between_features(p.shape) == orthogonal],
            ORTHOGONAL: orthogonal,
        }
        for group in groups
        for orthogonal in (False, True)
    ]
    return [part for part in parts if part["params"] or not part[ORTHOGONAL]]


def update_flops(module: nn.Module, config: OptimConfig, device: str) -> int:
    """Return the operations of an update that lies beside forward and backward pass: Muon's products of matrices."""
    shapes = [parameter.shape for parameter in module.parameters() if parameter.requires_grad]
    return sum(flops(shape, device) for shape in shapes if between_features(shape)) if config.kind == "muon" else 0


def _groups(parameters: Sequence[nn.Parameter], config: OptimConfig) -> list[dict[str, Any]]:
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def keep_pace(optimizer: torch.optim.Optimizer, step: int) -> None:
    """Lower the rate of the groups that go more slowly, once it is set for the step: by their factor, or to zero.

    At a rate of zero neither gradient nor decay moves a weight by a bit, while the optimiser's moments, and so its
    whole state, go on as ever: a frozen run resumes like any other.
    """
    for group in optimizer.param_groups:
        group["lr"] *= 0.0 if step < group.get(FROZEN, 0) else group.get(FACTOR, 1.0)


def rate_at(step: int, steps: int, config: OptimConfig) -> float:
    """Return the learning rate of a step: linear warm-up, then half a cosine down to zero (Loshchilov, Hutter 2017)."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    share = (step - config.warmup_steps) / max(steps - config.warmup_steps, 1)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * share))
