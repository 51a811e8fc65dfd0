"""What a stage is, what it is given, and what it leaves behind."""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from segpipe.core.errors import ArtifactError
from segpipe.core.section import Section

S = TypeVar("S", bound=Section)

Summary = Mapping[str, Any]
"""A few numbers or words worth a line in a table."""


class Log(Protocol):
    """Takes named numbers at a step; where they go is not the stage's concern."""

    def __call__(self, metrics: Mapping[str, float], step: int) -> None:
        """Record ``metrics`` at ``step``."""


class Progress(Protocol):
    """Shows people how far long work has come."""

    def __call__(self, what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Open a bar; the callable it yields is told how many of ``total`` are done."""


@dataclass(frozen=True)
class Artifact:
    """A finished folder: which stage made it, under which fingerprint."""

    stage: str
    fingerprint: str
    path: Path
    summary: Summary


Point = Mapping[str, int]
"""Where along the axes of a run something lies: ``{"seed": 1, "fold": 3}``; empty where nothing is repeated."""

AT = "@"


def point_name(point: Point) -> str:
    """Return a point in words: ``seed 1 fold 3``."""
    return " ".join(f"{axis} {value}" for axis, value in point.items())


def step_key(stage: str, point: Point) -> str:
    """Return the name of a stage's result at a point: ``train``, or ``train@fold 3`` where it is one of several."""
    return f"{stage}{AT}{point_name(point)}" if point else stage


@dataclass(frozen=True)
class Inputs:
    """The artifacts a stage may read, by the name of the stage that made them: ``train``, or ``train@fold 0``, …."""

    artifacts: Mapping[str, Artifact]

    def every(self, stage: str) -> dict[str, Artifact]:
        """Return all results of a stage by their point in words, in order; the name of an only one is empty."""
        found = {key.partition(AT): artifact for key, artifact in self.artifacts.items()}
        return {point: artifact for (name, _, point), artifact in found.items() if name == stage}

    def _first(self, stage: str) -> Artifact | None:
        return next(iter(self.every(stage).values()), None)

    def __getitem__(self, stage: str) -> Path:
        """Return the folder of a stage that must have run; of several results, the first.

        Raises:
            ArtifactError: There is none.
        """
        if (found := self._first(stage)) is None:
            raise ArtifactError(f"the result of stage '{stage}' is needed first. Run without --only, or run {stage}.")
        return found.path

    def get(self, stage: str) -> Path | None:
        """Return the folder of a stage, or None where it did not run; of several results, the first."""
        return None if (found := self._first(stage)) is None else found.path

    def summary(self, stage: str) -> Summary:
        """Return what a stage said of itself; empty where it did not run."""
        return {} if (found := self._first(stage)) is None else found.summary


def say_nothing(text: str) -> None:
    """Take a line for people, and show it to nobody."""


def undivided(name: str) -> AbstractContextManager[None]:
    """Take a part of long work for no other than the rest."""
    return nullcontext()


@dataclass(frozen=True)
class Workspace:
    """Where a stage writes, and the tools it works with. None of them decides a result."""

    path: Path
    executor: Executor
    log: Log
    progress: Progress
    device: str = "cpu"
    gpu: str = ""
    """The name of the graphics card that computes, for the receipt; empty where there is none."""
    earlier: tuple[Path, ...] = ()
    """Finished folders of the same stage, newest first: what did not change may be linked from them."""
    tell: Callable[[str], None] = say_nothing
    """Shows a line to people, now: what is expected of long work."""
    part: Callable[[str], AbstractContextManager[None]] = undivided
    """Opened around a named part of long work, such as a phase of a training: figures logged inside are its own."""


def nothing_else(settings: Any) -> Any:
    """Return what decides an output beside settings and inputs: for most stages, nothing."""
    return None


def always(settings: Any) -> bool:
    """Tell that a stage is wanted: most are, whenever a pipeline names them."""
    return True


def nothing_to_refuse(settings: Any, inputs: Inputs) -> None:
    """Accept all settings until the stage is run."""


@dataclass(frozen=True)
class Stage(Generic[S]):
    """A named function from settings and input artifacts to one output folder."""

    name: str
    settings: type[S]
    """The sections of the configuration that it reads; nothing else reaches it."""
    run: Callable[[S, Inputs, Workspace], Summary]
    needs: tuple[str, ...] = ()
    may_use: tuple[str, ...] = ()
    version: int = 1
    """Raise it when the same settings come to mean another output."""
    spread: tuple[str, ...] = ()
    """The axes along which it is repeated, ``seed`` and ``fold``; along those of an input that are not among
    them, it sees all results of that input together."""
    together: bool = False
    """Whether all processes of a distributed run work on it, and not only the first."""
    identity: Callable[[S], Any] = nothing_else
    """What else decides the output: for ingest, the listing of the source files."""
    wanted: Callable[[S], bool] = always
    """Whether the settings ask for it; where they do not, a pipeline goes on without."""
    foresee: Callable[[S, Inputs], None] = nothing_to_refuse
    """Raises ConfigError for settings that cannot work, by the names and sizes that ingest and preprocess found. It is
    called once these are there: nobody should wait for a training to be told of a slip in a later section."""
