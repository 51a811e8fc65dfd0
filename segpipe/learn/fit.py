"""The one training loop: resume, validate, average the weights, keep the best."""

import contextlib
import copy
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from segpipe.core.errors import ArtifactError, DataError, StopRequestError
from segpipe.core.section import Section, Undeciding
from segpipe.core.stage import Workspace
from segpipe.learn.augment import AugmentConfig, augmented
from segpipe.learn.batches import Batch, PatchSampler, ahead
from segpipe.learn.optim import OptimConfig, make_optimizer, rate_at
from segpipe.nets.checkpoint import load_tensors, save_tensors
from segpipe.nets.precision import Precision, computing

Validate = Callable[[nn.Module], Mapping[str, float]]
SCORE = "dice"
"""The validation figure by which the best weights are kept."""
LOG_EVERY = 10


class FitConfig(Section):
    """How long, how exactly, and how often to look."""

    steps: PositiveInt = 1000
    """Training steps; an epoch is no thing here."""
    seed: NonNegativeInt = 0
    """Decides first weights, patches and augmentation."""
    precision: Precision = "auto"
    """`auto`: bfloat16 where the hardware multiplies it natively, else float32."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.995
    """Decay of the running average of the weights, which is what is validated and kept."""
    validate_every: PositiveInt = 200
    """Steps between looks at whole validation images."""
    checkpoint_minutes: Annotated[PositiveFloat, Undeciding()] = 0.5
    """Minutes between checkpoints; a killed run goes on from the last."""


@dataclass
class _State:
    """All that a run needs to go on as if it had not been stopped."""

    task: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    best: float = -math.inf

    def save(self, path: Path) -> None:
        tensors: dict[str, Tensor] = {f"task.{name}": value for name, value in self.task.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        for index, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optim.{index}.{name}": value for name, value in slots.items() if value is not None}
        best = None if math.isinf(self.best) else self.best
        save_tensors(path, tensors, {"step": self.step, "best": best})

    def load(self, path: Path) -> None:
        tensors, meta = load_tensors(path)
        self.task.load_state_dict(_part(tensors, "task."))
        self.average.load_state_dict(_part(tensors, "average."))
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in _part(tensors, "optim.").items():
            number, name = key.split(".", 1)
            like = parameters[int(number)]
            # the fused optimiser walks parameter and moments side by side in memory: their layouts must agree
            slots.setdefault(int(number), {})[name] = (
                torch.empty_like(like).copy_(value) if value.shape == like.shape else value
            )
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": slots})
        self.step = meta["step"]
        self.best = -math.inf if meta["best"] is None else meta["best"]


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


@dataclass(frozen=True)
class Recipe:
    """The settings that one training goes by."""

    fit: FitConfig
    optim: OptimConfig
    augment: AugmentConfig
    spacing: tuple[float, ...]


def fit(
    task: nn.Module,
    sampler: PatchSampler,
    recipe: Recipe,
    work: Workspace,
    *,
    validate: Validate | None,
    name: str,
) -> dict[str, Any]:
    """Train ``task`` in place and leave it with the best averaged weights.

    What happens at a step depends on the seed and the step alone, so a run that was killed goes on
    from ``<name>.last.safetensors`` with the very batches it would have seen.

    Args:
        task: Turns a batch into named losses, whose sum is made small.
        sampler: Gives the batch of a step.
        recipe: Settings.
        work: Where checkpoints lie, where figures go.
        validate: Figures of the averaged task, such as ``dice``; None: the last weights are kept.
        name: Of the checkpoint files.

    Raises:
        DataError: A loss is not finite; the text names step and cases.
        StopRequestError: SIGTERM came; the state is saved.
    """
    config = recipe.fit
    state = _State(
        task,
        copy.deepcopy(task).eval().requires_grad_(requires_grad=False),
        make_optimizer(task, recipe.optim),
    )
    last, best = work.path / f"{name}.last.safetensors", work.path / f"{name}.best.safetensors"
    resumed = _resume(state, last)
    saved = time.monotonic()
    with work.progress("training", config.steps) as advance, _stop_requests() as stop:
        advance(state.step)
        for batch in ahead(sampler, state.step, config.steps):
            losses = _step(state, batch.to(work.device), recipe, work.device)
            state.step += 1
            advance(1)
            if state.step % LOG_EVERY == 0 or state.step == config.steps:
                work.log(losses, state.step)
            if validate and (state.step % config.validate_every == 0 or state.step == config.steps):
                _validate(state, validate, best, work)
            if time.monotonic() - saved > config.checkpoint_minutes * 60 or stop.is_set():
                state.save(last)
                saved = time.monotonic()
            if stop.is_set():
                raise StopRequestError(f"stopped at step {state.step} of {config.steps}, saved. Run again to go on.")
    if best.is_file():
        tensors, _ = load_tensors(best)
        task.load_state_dict(tensors)
    else:
        task.load_state_dict(state.average.state_dict())
    last.unlink(missing_ok=True)
    return {"steps": config.steps, "resumed_at": resumed} | (
        {} if math.isinf(state.best) else {f"best_{SCORE}": state.best}
    )


@contextlib.contextmanager
def _stop_requests() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM sets: what a scheduler sends before it takes the machine away."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may listen
        yield stop
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)


def _resume(state: _State, last: Path) -> int:
    if last.is_file():
        try:
            state.load(last)
        except (ArtifactError, RuntimeError, KeyError, ValueError):
            last.unlink()  # damaged, or of another network: begin anew
    return state.step


def _step(state: _State, batch: Batch, recipe: Recipe, device: str) -> dict[str, float]:
    config, task = recipe.fit, state.task
    rate = rate_at(state.step, config.steps, recipe.optim)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    task.train()
    varied = augmented(batch, recipe.augment, recipe.spacing, config.seed, state.step)
    with computing(config.precision, device):
        losses = task(varied)
    total = sum(losses.values())
    value = float(total.detach())
    if not math.isfinite(value):
        raise DataError(
            f"the loss is not finite at step {state.step}, on cases {', '.join(sorted(set(batch.cases)))}. "
            "Look at their images, or lower train.optim.learning_rate. The last checkpoint is kept."
        )
    state.optimizer.zero_grad(set_to_none=True)
    total.backward()
    norm = nn.utils.clip_grad_norm_(task.parameters(), recipe.optim.clip, foreach=True)
    state.optimizer.step()
    _follow(state.average, task, min(config.average, (1 + state.step) / (10 + state.step)))
    return {"loss": value, "learning_rate": rate, "gradient_norm": float(norm)}


@torch.no_grad()
def _follow(average: nn.Module, task: nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(task.parameters()), 1 - decay)
    for kept, value in zip(average.buffers(), task.buffers(), strict=True):
        kept.copy_(value)


def _validate(state: _State, validate: Validate, best: Path, work: Workspace) -> None:
    figures = dict(validate(state.average))
    work.log({f"validation_{name}": value for name, value in figures.items() if math.isfinite(value)}, state.step)
    score = figures.get(SCORE, math.nan)
    if score > state.best:
        state.best = score
        save_tensors(best, state.average.state_dict(), {"step": state.step, SCORE: score})
