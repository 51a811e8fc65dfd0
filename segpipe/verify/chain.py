"""Which finished folders a result rests on: from what ``latest`` shows back to what ingest wrote."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpipe.core.errors import ArtifactError
from segpipe.core.stage import AT
from segpipe.core.store import RECEIPT, read_receipt
from segpipe.latest import KEPT, LATEST
from segpipe.stages import STAGES


@dataclass(frozen=True)
class Kept:
    """A finished folder as it lies there; its receipt is empty where it cannot be read."""

    stage: str
    fingerprint: str
    path: Path
    receipt: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Where it lies in the store."""
        return f"{self.stage}/{self.fingerprint}"

    @property
    def inputs(self) -> dict[str, str]:
        """Name of each input, as the stage saw it -> where it lies in the store."""
        named = self.receipt.get("inputs")
        if not isinstance(named, dict):
            return {}
        return {key: f"{key.partition(AT)[0]}/{fingerprint}" for key, fingerprint in named.items()}


@dataclass(frozen=True)
class Chain:
    """The folders that are looked at, by name, those that are read first."""

    store: Path
    kept: Mapping[str, Kept]
    others: int
    """Finished folders of the store that ``latest`` does not rest on."""

    def of(self, stage: str) -> list[Kept]:
        """Return the folders of a stage."""
        return [kept for kept in self.kept.values() if kept.stage == stage]

    def input_of(self, kept: Kept, stage: str) -> Kept | None:
        """Return the folder of a stage that another one read; None where it is not there."""
        names = [name for key, name in kept.inputs.items() if key.partition(AT)[0] == stage]
        return self.kept.get(names[0]) if names else None


def chain_of(store: Path, *, everything: bool) -> Chain:
    """Return what ``latest`` rests on, or every finished folder.

    Raises:
        ArtifactError: Nothing was ever finished there.
    """
    there = {kept.name: kept for kept in _finished(store)}
    if not there:
        raise ArtifactError(f"{store}: holds no finished result. Give the folder that a run was given with -o.")
    shown = {name for name in map(shown_by, _entries(store)) if name in there}
    wanted = set(there) if everything or not shown else _rests_on(shown, there)
    kept = {name: one for name, one in there.items() if name in wanted}
    return Chain(store, kept, len(there) - len(kept))


def _finished(store: Path) -> Iterator[Kept]:
    for stage in STAGES:
        for path in sorted((store / stage).glob("*")):
            if path.is_dir() and path.suffix != ".partial":
                yield Kept(stage, path.name, path, _receipt(path))


def _receipt(path: Path) -> Mapping[str, Any]:
    try:
        receipt = read_receipt(path)
    except (OSError, ValueError):
        return {}
    return receipt if isinstance(receipt, dict) else {}


def _entries(store: Path) -> Iterator[Path]:
    """Yield what lies in ``latest``; of several models each."""
    for name in KEPT:
        entry = store / LATEST / name
        if entry.is_dir() and not entry.is_symlink():
            yield from (inner for inner in sorted(entry.iterdir()) if inner.is_symlink())
        yield entry


def shown_by(entry: Path) -> str:
    """Return the name of the folder that a link in ``latest`` leads to; empty where it is none."""
    if not entry.is_symlink():
        return ""
    store = next(folder.parent for folder in entry.parents if folder.name == LATEST).resolve()
    target = entry.resolve()
    return "/".join(target.relative_to(store).parts[:2]) if target.is_relative_to(store) else ""


def _rests_on(names: Iterable[str], there: Mapping[str, Kept]) -> set[str]:
    found: set[str] = set()
    left = list(names)
    while left:
        name = left.pop()
        if name in there and name not in found:
            found.add(name)
            left += there[name].inputs.values()
    return found


def has_receipt(kept: Kept) -> bool:
    """Tell whether a folder says what made it."""
    return bool(kept.receipt) and (kept.path / RECEIPT).is_file()
