"""Every error raised on purpose: one clear line for the user, and the exit code that goes with it."""

from collections.abc import Mapping
from enum import IntEnum

SHOWN = 5
"""Failures that one message spells out."""


class Exit(IntEnum):
    """Exit codes of the command line."""

    FINE = 0
    UNUSABLE = 2
    """Nothing usable, or wrong usage."""
    QUARANTINED = 3
    """Finished, but some cases were set aside, or something that was looked at is broken."""
    ENVIRONMENT = 4
    """The machine, not the data: disk full, no permission, a library is missing."""
    LOCKED = 5
    """Another process is making the same thing."""
    REQUEUE = 75
    """Asked to stop, and stopped with everything saved: the same command goes on (EX_TEMPFAIL of sysexits.h)."""


class SegpipeError(Exception):
    """Root of all errors that a user can mend. The text is one line and says how."""

    code: Exit = Exit.UNUSABLE


class ConfigError(SegpipeError):
    """A setting is wrong."""


class DataError(SegpipeError):
    """The user's files are not what they should be."""


class GeometryError(SegpipeError):
    """Two grids, or a grid and an operation, do not fit."""


class ArtifactError(SegpipeError):
    """Something in the store is missing or damaged."""


class MachineError(SegpipeError):
    """The machine does not let us go on."""

    code = Exit.ENVIRONMENT


class LockedError(SegpipeError):
    """Somebody else is at work here."""

    code = Exit.LOCKED


class StopRequestError(SegpipeError):
    """The process was asked to stop; what it had is saved."""

    code = Exit.REQUEUE


class FailedCasesError(SegpipeError):
    """Some cases failed; every other one was finished before this was raised."""

    def __init__(self, failures: Mapping[str, BaseException]) -> None:
        self.failures = dict(failures)
        lines = [f"{case}: {_one_line(error)}" for case, error in self.failures.items()]
        more = f" | and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
        super().__init__(f"{len(lines)} case(s) failed, the others are done. " + " | ".join(lines[:SHOWN]) + more)
        if any(isinstance(error, MachineError) for error in self.failures.values()):
            self.code = Exit.ENVIRONMENT

    def __reduce__(self) -> tuple[type["FailedCasesError"], tuple[dict[str, BaseException]]]:
        return type(self), (self.failures,)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, SegpipeError) else f"{type(error).__name__}: {text}"
