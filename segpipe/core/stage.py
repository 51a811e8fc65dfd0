"""What a stage is, what it is given, and what it leaves behind."""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import AbstractContextManager
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


@dataclass(frozen=True)
class Inputs:
    """The artifacts a stage may read, by the name of the stage that made them."""

    artifacts: Mapping[str, Artifact]

    def __getitem__(self, stage: str) -> Path:
        """Return the folder of a stage that must have run.

        Raises:
            ArtifactError: There is none.
        """
        if stage not in self.artifacts:
            raise ArtifactError(f"the result of stage '{stage}' is needed first. Run without --only, or run {stage}.")
        return self.artifacts[stage].path

    def get(self, stage: str) -> Path | None:
        """Return the folder of a stage, or None where it did not run."""
        return self.artifacts[stage].path if stage in self.artifacts else None

    def summary(self, stage: str) -> Summary:
        """Return what a stage said of itself; empty where it did not run."""
        return self.artifacts[stage].summary if stage in self.artifacts else {}


def say_nothing(text: str) -> None:
    """Take a line for people, and show it to nobody."""


@dataclass(frozen=True)
class Workspace:
    """Where a stage writes, and the tools it works with. None of them decides a result."""

    path: Path
    executor: Executor
    log: Log
    progress: Progress
    device: str = "cpu"
    earlier: tuple[Path, ...] = ()
    """Finished folders of the same stage, newest first: what did not change may be linked from them."""
    tell: Callable[[str], None] = say_nothing
    """Shows a line to people, now: what is expected of long work."""


def nothing_else(settings: Any) -> Any:
    """Return what decides an output beside settings and inputs: for most stages, nothing."""
    return None


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
    identity: Callable[[S], Any] = nothing_else
    """What else decides the output: for ingest, the listing of the source files."""
