"""The one training loop: resume, validate, average the weights, keep the best."""

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from segpipe.core.errors import StopRequestError
from segpipe.core.stage import Workspace
from segpipe.learn import ranks
from segpipe.learn.batches import PatchSampler, ahead
from segpipe.learn.optim import Pace
from segpipe.learn.recipe import FitConfig, Recipe
from segpipe.learn.state import Checkpoints, State
from segpipe.learn.step import onto, train_step
from segpipe.nets.checkpoint import load_tensors, save_tensors
from segpipe.nets.compiled import compile_networks
from segpipe.nets.precision import tune

__all__ = ["FitConfig", "Recipe", "Validate", "fit"]

Validate = Callable[[nn.Module], Mapping[str, float]]
LOG_EVERY = 10


def fit(  # noqa: PLR0913 - all but the first four are given by name
    task: nn.Module,
    sampler: PatchSampler,
    recipe: Recipe,
    work: Workspace,
    *,
    validate: Validate | None,
    name: str,
    score: str = "dice",
    pace: Pace | None = None,
) -> dict[str, Any]:
    """Train ``task`` in place and leave it with the best averaged weights.

    What happens at a step depends on the seed and the step alone, so a run that was killed goes on
    from ``<name>.last.safetensors`` with the very batches it would have seen. Of several processes
    (``ranks.joined``) each trains on its part of the batch; the first one alone logs, validates
    and writes, into a folder that all can read.

    Args:
        task: Turns a batch into named losses, whose sum is made small.
        sampler: Gives this process's part of the batch of a step.
        recipe: Settings.
        work: Where checkpoints lie, where figures go.
        validate: Figures of the averaged task, such as ``dice``; None: the last weights are kept.
        name: Of the checkpoint files.
        score: The validation figure by which the best weights are kept: the larger, the better.
        pace: A part of the task that goes more slowly than the rest.

    Raises:
        DataError: A loss is not finite; the text names step, cases and channels.
        StopRequestError: SIGTERM came, to this process or to another; the state is saved.
    """
    config = recipe.fit
    tune(work.device)
    state = State.of(task, recipe.optim, pace)
    keeper = _Keeper(state, recipe, work, validate, name, score)
    resumed = keeper.begin()
    if config.compile:
        compile_networks(task, work.tell)
    model = ranks.parallel(task)
    with work.progress("training", config.steps) as advance, _stop_requests() as stop:
        advance(state.step)
        for batch in ahead(sampler, state.step, config.steps):
            losses = train_step(state, model, onto(batch, work.device), recipe, work.device)
            state.step += 1
            advance(1)
            stopping = ranks.any_of(stop.is_set())
            if ranks.first():
                keeper.after_step(losses, stopping=stopping)
            if stopping:
                ranks.barrier()  # nobody leaves before all is saved: torchrun ends the rest with the first to go
                raise StopRequestError(f"stopped at step {state.step} of {config.steps}, saved. Run again to go on.")
    if ranks.first():
        keeper.finish()
    ranks.broadcast_weights(task)
    best = {} if math.isinf(state.best) or config.keep == "last" else {f"best_{score}": state.best}
    return {"steps": config.steps, "resumed_at": resumed} | best


@dataclass
class _Keeper:
    """What one process does for all: look at the figures, and keep weights."""

    state: State
    recipe: Recipe
    work: Workspace
    validate: Validate | None
    name: str
    score: str
    saved: float = field(default_factory=time.monotonic)

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.work.path, self.name, self.recipe.fit.checkpoints)

    @property
    def best(self) -> Path:
        return self.work.path / f"{self.name}.best.safetensors"

    def after_step(self, losses: Mapping[str, float], *, stopping: bool) -> None:
        """Log, validate and save where it is time to."""
        config, step = self.recipe.fit, self.state.step
        if step % LOG_EVERY == 0 or step == config.steps:
            self.work.log(losses, step)
        if self.validate and (step % config.validate_every == 0 or step == config.steps):
            self._look(self.validate)
        if stopping or time.monotonic() - self.saved > config.checkpoint_minutes * 60:
            self.checkpoints.save(self.state)
            self.saved = time.monotonic()

    def begin(self) -> int:
        """Go on from the newest checkpoint, and return its step."""
        step = self.checkpoints.resume(self.state)
        if step == 0 and ranks.first():
            self.best.unlink(missing_ok=True)  # of an earlier trial
        return step

    def finish(self) -> None:
        """Leave the task with the weights that are kept, and the folder without checkpoints."""
        if self.best.is_file():
            tensors, _ = load_tensors(self.best)
        else:
            tensors = self.state.average.state_dict()
        self.state.task.load_state_dict(tensors)
        self.checkpoints.clear()

    def _look(self, validate: Validate) -> None:
        state = self.state
        figures = dict(validate(state.average))
        shown = {f"validation_{name}": value for name, value in figures.items() if math.isfinite(value)}
        self.work.log(shown, state.step)
        score = figures.get(self.score, math.nan)
        if self.recipe.fit.keep == "best" and score > state.best:
            state.best = score
            save_tensors(self.best, state.average.state_dict(), {"step": state.step, self.score: score})


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
