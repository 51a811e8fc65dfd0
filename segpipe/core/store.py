"""Finished artifacts on disk: find one, or make one whole."""

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from segpipe import __version__
from segpipe.core.atomic import locked, write_json
from segpipe.core.contents import SUMS, files_in, sums_of, write_sums
from segpipe.core.fingerprint import canonical, fingerprint
from segpipe.core.machine import described
from segpipe.core.section import Section
from segpipe.core.stage import Artifact, Inputs, Stage, Workspace

S = TypeVar("S", bound=Section)

RECEIPT = "artifact.json"
HISTORY = "history.jsonl"


@dataclass(frozen=True)
class Store:
    """A folder of artifacts, ``<root>/<stage>/<fingerprint>/``; one that exists is finished."""

    root: Path

    def name(self, stage: Stage[Any], settings: Section, inputs: Mapping[str, str]) -> str:
        """Return the fingerprint of what ``stage`` would make; ``inputs`` are fingerprints by stage name."""
        return fingerprint(
            {
                "stage": stage.name,
                "version": stage.version,
                "settings": settings.deciding(),
                "inputs": dict(inputs),
                "identity": stage.identity(settings),
            }
        )

    def find(self, stage: str, name: str) -> Artifact | None:
        """Return the finished artifact, or None; a folder without a readable receipt is not finished."""
        path = self.root / stage / name
        try:
            summary = read_receipt(path)["summary"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return Artifact(stage, name, path, summary)

    def all(self, stage: str) -> Iterator[Artifact]:
        """Yield the finished artifacts of a stage, newest first."""
        folders = [path.parent for path in (self.root / stage).glob(f"*/{RECEIPT}")]
        for folder in sorted(folders, key=lambda path: (path / RECEIPT).stat().st_mtime_ns, reverse=True):
            if not folder.name.endswith(".partial") and (found := self.find(stage, folder.name)):
                yield found

    def make(self, stage: Stage[S], settings: S, inputs: Inputs, tools: Callable[[Path], Workspace]) -> Artifact:
        """Return the artifact of ``stage``: found if it was made before, else made now.

        What is being made lies at ``<fingerprint>.partial`` and stays there when the
        stage fails, so that the next attempt finds the cases that are done.

        Raises:
            LockedError: Another process is making the same artifact.
        """
        above = {key: artifact.fingerprint for key, artifact in inputs.artifacts.items()}
        name = self.name(stage, settings, above)
        if found := self.find(stage.name, name):
            return found
        final = self.root / stage.name / name
        partial = final.with_name(f"{name}.partial")
        with locked(final.with_name(f"{name}.lock")):
            if found := self.find(stage.name, name):  # made by somebody else while we waited at the door
                return found
            # a folder under the final name without a receipt was damaged from outside
            shutil.rmtree(final, ignore_errors=True)
            partial.mkdir(parents=True, exist_ok=True)
            for litter in partial.rglob(".*.tmp.*"):  # half-written files of a run that was killed
                litter.unlink()
            began, spent = datetime.now(UTC), _cpu_seconds()
            work = replace(tools(partial), earlier=tuple(artifact.path for artifact in self.all(stage.name)))
            summary = stage.run(settings, inputs, work)
            receipt = {
                "stage": stage.name,
                "fingerprint": name,
                "version": stage.version,
                "settings": settings.model_dump(mode="json"),
                "inputs": above,
                "inputs_contents": _contents_of(inputs),
                "contents": _sealed(partial, work),
                "summary": dict(summary),
                "made": {
                    "began": began.isoformat(timespec="seconds"),
                    "seconds": round((datetime.now(UTC) - began).total_seconds(), 1),
                    "cpu_seconds": round(_cpu_seconds() - spent, 1),
                    "segpipe": __version__,
                    "python": platform.python_version(),
                    **described(),
                    "gpu": work.gpu,
                },
            }
            write_json(partial / RECEIPT, receipt | {"seal": seal_of(receipt)})
            partial.replace(final)
        final.with_name(f"{name}.lock").unlink(missing_ok=True)
        return Artifact(stage.name, name, final, dict(summary))


def _contents_of(inputs: Inputs) -> dict[str, str]:
    """Return the hash of what each input held when it was read; those made before hashes were kept have none."""
    found = {}
    for key, artifact in inputs.artifacts.items():
        try:
            found[key] = str(read_receipt(artifact.path)["contents"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def _sealed(folder: Path, work: Workspace) -> str:
    """Write the SHA-256 of every file beside them; return the one of that list."""
    names = [name for name in files_in(folder) if name not in (SUMS, RECEIPT)]
    with work.progress("hashing", len(names)) as advance:
        return write_sums(folder, sums_of(folder, names, work.earlier, advance))


def seal_of(receipt: Mapping[str, Any]) -> str:
    """Return the SHA-256 over a receipt, its own seal left out: whether it says what it said when it was written."""
    return hashlib.sha256(canonical({k: v for k, v in receipt.items() if k != "seal"}).encode()).hexdigest()


def _cpu_seconds() -> float:
    """Return the seconds of processor that this process has spent, and its children that are gone."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def read_receipt(folder: Path) -> dict[str, Any]:
    """Return the receipt of an artifact's folder."""
    receipt: dict[str, Any] = json.loads((folder / RECEIPT).read_text())
    return receipt
