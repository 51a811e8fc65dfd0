"""Optimiser and learning-rate schedule."""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch import nn

from segpipe.core.section import Section


class OptimConfig(Section):
    """The optimiser and its schedule."""

    kind: Literal["adamw", "sgd"] = "adamw"
    """`adamw`, or `sgd` with Nesterov momentum."""
    learning_rate: PositiveFloat = 1e-3
    """Peak learning rate, reached after warm-up."""
    warmup_steps: NonNegativeInt = 50
    """Steps of linear rise from zero."""
    weight_decay: NonNegativeFloat = 1e-2
    """Decoupled decay of the weights; norms and biases are spared."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Momentum of sgd."""
    clip: PositiveFloat = 12.0
    """Largest norm of the gradient; a larger one is scaled down to it."""


def make_optimizer(module: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """Return the optimiser of all parameters; only matrices and kernels decay."""
    named = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in named if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in named if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.kind == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, nesterov=True)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99), fused=True)


def rate_at(step: int, steps: int, config: OptimConfig) -> float:
    """Return the learning rate of a step: linear warm-up, then half a cosine down to zero (Loshchilov, Hutter 2017)."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    share = (step - config.warmup_steps) / max(steps - config.warmup_steps, 1)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * share))
