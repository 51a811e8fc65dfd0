"""The state of a training, and its checkpoints on disk: the latest few, the newest that can be read is gone on from."""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from segpipe.core.errors import ArtifactError
from segpipe.learn import ranks
from segpipe.learn.optim import OptimConfig, Pace, make_optimizer
from segpipe.nets.checkpoint import load_tensors, save_tensors

SUFFIX = ".safetensors"


@dataclass
class State:
    """All that a run needs to go on as if it had not been stopped."""

    task: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    best: float = -math.inf
    """The best validation score so far."""

    @classmethod
    def of(cls, task: nn.Module, config: OptimConfig, pace: Pace | None = None) -> Self:
        """Return the state before the first step; a part of the task may go more slowly than the rest."""
        average = copy.deepcopy(task).eval().requires_grad_(requires_grad=False)
        return cls(task, average, make_optimizer(task, config, pace))

    def save(self, path: Path) -> None:
        """Write everything to one file."""
        tensors: dict[str, Tensor] = {f"task.{name}": value for name, value in self.task.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        for index, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optim.{index}.{name}": value for name, value in slots.items() if value is not None}
        best = None if math.isinf(self.best) else self.best
        save_tensors(path, tensors, {"step": self.step, "best": best})

    def load(self, path: Path) -> None:
        """Take everything from a file, or nothing.

        Raises:
            ArtifactError: It is damaged, or of another network.
        """
        tensors, meta = load_tensors(path)
        parts = {prefix: _part(tensors, prefix) for prefix in ("task.", "average.")}
        try:
            for prefix, module in (("task.", self.task), ("average.", self.average)):
                _must_fit(parts[prefix], module)
            slots = self._slots(_part(tensors, "optim."))
            step, best = int(meta["step"]), meta["best"]
        except (KeyError, ValueError, IndexError, TypeError) as error:
            raise ArtifactError(f"{path}: no state of this training ({error}). Delete it.") from error
        self.task.load_state_dict(parts["task."])
        self.average.load_state_dict(parts["average."])
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": slots})
        self.step = step
        self.best = -math.inf if best is None else best

    def _slots(self, tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            number, name = key.split(".", 1)
            like = parameters[int(number)]
            # the fused optimiser walks parameter and moments side by side in memory: their layouts must agree
            slots.setdefault(int(number), {})[name] = (
                torch.empty_like(like).copy_(value) if value.shape == like.shape else value
            )
        return slots


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _must_fit(tensors: Mapping[str, Tensor], module: nn.Module) -> None:
    have = {name: value.shape for name, value in tensors.items()}
    if have != {name: value.shape for name, value in module.state_dict().items()}:
        raise ValueError("of another network")


@dataclass(frozen=True)
class Checkpoints:
    """``<name>.last.safetensors``, and before it ``<name>.last-1.safetensors``, ``-2``, … : the older, the higher."""

    folder: Path
    name: str
    kept: int = 1

    def save(self, state: State) -> None:
        """Write the newest; the others grow older by one, and the oldest goes."""
        for age in range(self.kept - 1, 0, -1):
            if (younger := self._path(age - 1)).is_file():
                younger.replace(self._path(age))
        state.save(self._path(0))

    def resume(self, state: State) -> int:
        """Load the newest that can be read, the same in every process, and return its step; 0: there is none.

        Raises:
            ArtifactError: Another process reads it, and this one cannot.
        """
        chosen = ""
        if ranks.first():
            for path in self._found():
                try:
                    state.load(path)
                except ArtifactError:
                    path.unlink()  # damaged, or of another network
                else:
                    chosen = path.name
                    break
        chosen = ranks.broadcast_text(chosen)
        if chosen and not ranks.first():
            state.load(self.folder / chosen)
        return state.step

    def clear(self) -> None:
        """Delete them all."""
        for path in self._found():
            path.unlink(missing_ok=True)

    def _path(self, age: int) -> Path:
        return self.folder / f"{self.name}.last{f'-{age}' if age else ''}{SUFFIX}"

    def _found(self) -> list[Path]:
        """Return those that are there, the newest first, also where more were kept before."""
        older = f"{self.name}.last-"
        ages = [
            path.name.removeprefix(older).removesuffix(SUFFIX)
            for path in self.folder.glob(f"{self.name}.last-*{SUFFIX}")
        ]
        paths = [self._path(age) for age in (0, *sorted(int(age) for age in ages if age.isdigit()))]
        return [path for path in paths if path.is_file()]
