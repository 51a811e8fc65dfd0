"""Recompute the whole chain from raw file to report, and say which link is broken."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from segpipe.core.stage import Progress
from segpipe.verify.chain import chain_of
from segpipe.verify.figures import models_link, scores_link, sources_link
from segpipe.verify.folders import files_link, latest_link, receipts_link, report_link
from segpipe.verify.looks import Link


@dataclass(frozen=True)
class Fault:
    """One broken thing."""

    link: str
    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what} ({self.link})"


@dataclass(frozen=True)
class Verdict:
    """What was found of one link."""

    link: str
    looked: int
    faults: Sequence[Fault]
    note: str

    def __str__(self) -> str:
        state = f"{len(self.faults)} broken" if self.faults else "fine" if self.looked else "not looked at"
        return f"{self.link:<28} {self.looked:>7}  {state}" + (f"  ({self.note})" if self.note else "")


def verify(
    store: Path, progress: Progress, *, data: Path | None = None, scores: bool = False, everything: bool = False
) -> list[Verdict]:
    """Look at every link of what ``latest`` rests on.

    Args:
        store: Folder of all results.
        progress: Shows how far it has come.
        data: Where the data set lies now; empty: where it lay when it was ingested.
        scores: Whether every case is scored again, and not a few.
        everything: Whether finished folders are looked at too that ``latest`` does not rest on.

    Raises:
        ArtifactError: There is nothing to look at.
    """
    chain = chain_of(store, everything=everything)
    links = [
        latest_link(chain),
        receipts_link(chain),
        files_link(chain),
        sources_link(chain, data),
        models_link(chain),
        scores_link(chain, data, everything=scores),
        report_link(chain),
    ]
    with progress("looking", sum(len(link.looks) for link in links)) as advance:
        found = [_looked_at(link, advance) for link in links]
    if chain.others:
        found.append(Verdict("other finished folders", 0, (), f"{chain.others}; --all looks at them too"))
    return found


def _looked_at(link: Link, advance: Callable[[int], None]) -> Verdict:
    faults = []
    for look in link.looks:
        if what := look():
            faults.append(Fault(link.name, look.file, what))
        advance(1)
    return Verdict(link.name, len(link.looks), faults, link.note)
