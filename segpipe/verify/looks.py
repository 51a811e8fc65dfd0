"""What is looked at, link by link: every look returns what is wrong, or nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from segpipe.core.errors import SegpipeError

SHOWN = 12
"""Digits of a hash that a line shows."""


@dataclass(frozen=True)
class Look:
    """One thing to look at."""

    file: str
    """What is named where it is broken."""
    fault: Callable[[], str]
    """Looks; returns what is wrong, or nothing."""

    def __call__(self) -> str:
        """Look; what cannot be looked at is broken."""
        try:
            return self.fault()
        except SegpipeError as error:
            return str(error)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            return f"cannot be read ({' '.join(str(error).split()) or type(error).__name__})"


@dataclass(frozen=True)
class Link:
    """A link of the chain: what joins two kinds of files."""

    name: str
    looks: Sequence[Look] = ()
    note: str = ""
    """Why something was not looked at."""


def broken(file: str, what: str) -> Look:
    """Return a look at something of which it is known already that it is broken."""
    return Look(file, lambda: what)


def differs(found: str, wanted: str, whose: str) -> str:
    """Return what is said of a hash that is not the one that was noted; nothing where it is."""
    if found == wanted:
        return ""
    return f"its SHA-256 is {found[:SHOWN]}…, {whose} says {wanted[:SHOWN]}…"
