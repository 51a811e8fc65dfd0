"""The phases of a pretraining, one after the other: one that was killed goes on with the phase it was in."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from torch import nn

from segpipe.core.stage import Log, Workspace
from segpipe.learn import ranks
from segpipe.learn.batches import PatchSampler
from segpipe.learn.fit import Recipe, fit
from segpipe.learn.objectives import Pretraining
from segpipe.learn.transfer import WHOLE
from segpipe.nets.checkpoint import load_tensors, save_tensors

APART = 1_000_000
"""Between the seeds of two phases, so that each sees patches of its own."""

Validate = Callable[[nn.Module], dict[str, float]]


def train_phases(
    task: Pretraining, sampler: PatchSampler, recipe: Recipe, validate: Validate, work: Workspace
) -> dict[str, dict[str, Any]]:
    """Train each phase of a pretraining that is not over yet; return what each said, by name.

    Args:
        task: On its device; it is left as the last phase leaves it.
        sampler: Of the first phase; every other one sees patches of its own.
        recipe: Of all phases together: each takes its share of the steps.
        validate: Finds the figures of a phase's task, of which ``score`` tells the better one.
        work: What has been trained before lies there.
    """
    phases = task.phases()
    told = _finished(task, work)
    ends = ends_of([phase.share for phase in phases], recipe.fit.steps)
    for index, phase in enumerate(phases):
        if phase.name in told:
            continue
        seed, first = recipe.fit.seed + APART * index, ends[index - 1] if index else 0
        own = recipe.fit.model_copy(update={"steps": ends[index] - first, "seed": seed})
        with work.part(phase.name) if len(phases) > 1 else nullcontext():
            summary = fit(
                phase.task,
                replace(sampler, seed=seed),
                replace(recipe, fit=own),
                replace(work, log=_later(work.log, first)),
                validate=validate,
                name=phase.name,
                score="score",
            )
        told[phase.name] = summary | {"resumed_at": summary["resumed_at"] and first + summary["resumed_at"]}
        if ranks.first():
            save_tensors(work.path / WHOLE, task.state_dict(), {"phases": told})
    return told


def _finished(task: Pretraining, work: Workspace) -> dict[str, dict[str, Any]]:
    """Put the task in the state after the phases that are over, and return what they said."""
    path = work.path / WHOLE
    if not ranks.broadcast_text("yes" if path.is_file() else ""):
        return {}
    tensors, meta = load_tensors(path)
    task.load_state_dict(tensors)
    told: dict[str, dict[str, Any]] = meta["phases"]
    return told


def ends_of(shares: Sequence[float], steps: int) -> list[int]:
    """Return the step after the last one of each phase; every phase has a step at least."""
    ends: list[int] = []
    for index in range(len(shares)):
        end = round(steps * sum(shares[: index + 1]) / sum(shares))
        ends.append(max(end, (ends[-1] if ends else 0) + 1))
    return ends


def _later(log: Log, first: int) -> Log:
    """Return a log that counts the steps of the phases before."""

    def logged(metrics: Mapping[str, float], step: int) -> None:
        log(metrics, first + step)

    return logged
