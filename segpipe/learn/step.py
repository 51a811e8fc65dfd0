"""One training step: vary the batch, forward, backward, clip, update, average."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from segpipe.core.errors import DataError
from segpipe.learn import ranks
from segpipe.learn.augment import augmented
from segpipe.learn.batches import Batch
from segpipe.learn.blame import why_not_finite
from segpipe.learn.optim import keep_pace, rate_at
from segpipe.learn.recipe import Recipe
from segpipe.learn.state import State
from segpipe.nets.precision import computing

AUGMENTATION, FORWARD, BACKWARD, OPTIMISER = "augmentation", "forward and loss", "backward", "optimiser"
Span = Callable[[str], AbstractContextManager[object]]
"""Is opened around each part of a step, and told its name; a profile measures time in it."""


def unmeasured(part: str) -> AbstractContextManager[object]:
    """Measure nothing."""
    return nullcontext()


def train_step(
    state: State, model: nn.Module, batch: Batch, recipe: Recipe, device: str, span: Span = unmeasured
) -> dict[str, float]:
    """Train one step and return its figures; all but ``state.step`` goes on.

    Args:
        state: Task, average and optimiser.
        model: The task as it is called: itself, or parallel over processes.
        batch: On the device.
        recipe: Settings.
        device: Where everything lies.
        span: Opened around each part.

    Raises:
        DataError: The loss is not finite, in this process or in another; nothing was changed.
    """
    config = recipe.fit
    rate = rate_at(state.step, config.steps, recipe.optim)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    keep_pace(state.optimizer, state.step)
    state.task.train()
    torch.manual_seed((config.seed * 1_000_003 + state.step) * 1_009 + ranks.rank())  # dropout, also when resumed
    with span(AUGMENTATION):
        varied = augmented(batch, recipe.augment, recipe.spacing, config.seed, state.step, recipe.swap)
    with span(FORWARD):
        with computing(config.precision, device):
            losses = model(varied)
        total = sum(losses.values())
        value = float(total.detach())
    if ranks.any_of(not math.isfinite(value)):
        raise DataError(why_not_finite(state.task, batch, varied, recipe, state.step, device))
    with span(BACKWARD):
        state.optimizer.zero_grad(set_to_none=True)
        total.backward()
    with span(OPTIMISER):
        norm = nn.utils.clip_grad_norm_(state.task.parameters(), recipe.optim.clip, foreach=True)
        state.optimizer.step()
        _follow(state.average, state.task, min(config.average, (1 + state.step) / (10 + state.step)))
    return {"loss": value, "learning_rate": rate, "gradient_norm": float(norm)}


@torch.no_grad()
def _follow(average: nn.Module, task: nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(task.parameters()), 1 - decay)
    for kept, value in zip(average.buffers(), task.buffers(), strict=True):
        kept.copy_(value)


def onto(batch: Batch, device: str) -> Batch:
    """Return the batch on the device; a GPU fetches it from locked memory while other work goes on."""
    if not device.startswith("cuda"):
        return batch.to(device)

    def moved(part: Tensor) -> Tensor:
        return part.pin_memory().to(device, non_blocking=True)

    weight = None if batch.weight is None else moved(batch.weight)
    return batch._replace(image=moved(batch.image), target=moved(batch.target), weight=weight)
