"""What is compared: the scores of a run or of a folder that was scored, and whether they may be compared at all."""

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpipe.core.errors import ArtifactError, ConfigError, DataError
from segpipe.core.stage import AT
from segpipe.core.store import RECEIPT
from segpipe.dataset.manifest import MANIFEST, read_jsonl
from segpipe.latest import LATEST
from segpipe.score.summary import Scores, columns
from segpipe.score.table import read_scores

SCORES, SUMMARY = "scores.csv", "summary.json"
MOST = 8
"""Runs that one page can tell apart."""
SAME_VOLUME = 1e-6
"""Share by which the volumes of one reference may differ by rounding."""
REFERENCE = "vol_ref_mm3"


@dataclass(frozen=True)
class Run:
    """The scores of one model, and what is known of them."""

    name: str
    scores: Scores
    """(label, metric) -> case -> value, NaN where undefined."""
    errors: Mapping[str, str]
    """Why cases could not be scored."""
    parts: Mapping[str, str]
    """Why each case is one that the model never saw."""
    definitions: Mapping[str, str]
    """Metric -> the id of its definition; empty where nobody says."""
    subjects: Mapping[str, str]
    """Subject of each case; empty where nobody says."""
    references: Mapping[str, str]
    """SHA-256 of each case's reference; empty where nobody says."""
    settings: Mapping[str, Any]
    """Everything that decided the run, by dotted key; empty where nobody says."""
    training_seconds: float | None
    """Of processor, over all networks; None where nobody says."""
    rank: int
    """2 or 3 axes."""

    @property
    def cases(self) -> set[str]:
        """The cases that have scores."""
        return {case for column in self.scores.values() for case in column}


def read_runs(arguments: Sequence[str]) -> list[Run]:
    """Read runs, each given as a folder or ``name=folder``: OUT, OUT/latest, or any folder with a scores.csv.

    Raises:
        ConfigError: There are fewer than two, or too many, or two of one name.
        ArtifactError: A folder has no scores, or they are damaged.
    """
    if not 2 <= len(arguments) <= MOST:
        raise ConfigError(f"{len(arguments)} given: compare takes 2 to {MOST} runs, each a folder or name=folder.")
    given = [_named(argument) for argument in arguments]
    names = [name for name, _ in given]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"two runs are called '{twice}'. Give them names: first={given[0][1]} second={given[1][1]} …")
    return [_read(name, _folder(folder)) for name, folder in given]


def refuse_strangers(runs: Sequence[Run]) -> None:
    """Refuse runs whose numbers do not mean the same.

    Raises:
        DataError: Metrics are defined otherwise, references differ, or there is no common case or label.
    """
    for one, other in itertools.combinations(runs, 2):
        both = f"{one.name} and {other.name}"
        for metric in one.definitions.keys() & other.definitions.keys():
            mine, its = one.definitions[metric], other.definitions[metric]
            if mine != its:
                raise DataError(
                    f"{both}: {metric} is {mine} in one and {its} in the other. Score both in the same way: run "
                    "their evaluation again, or segpipe score."
                )
        if differing := _other_references(one, other):
            more = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
            raise DataError(
                f"{both} were scored on other references: {differing[0]}{more} differ. Score both on the same ones."
            )
    if not set.intersection(*(run.cases for run in runs)):
        raise DataError(f"{', '.join(run.name for run in runs)}: no case has scores in all of them.")
    if not set.intersection(*({label for label, _ in run.scores} for run in runs)):
        labels = "; ".join(f"{run.name}: {', '.join(dict.fromkeys(label for label, _ in run.scores))}" for run in runs)
        raise DataError(f"the runs have no label in common ({labels}).")


def _other_references(one: Run, other: Run) -> list[str]:
    """Return the cases whose references differ, by their hashes or, where nobody knows these, by their volumes."""
    shared = sorted(one.cases & other.cases)
    hashed = [case for case in shared if case in one.references and case in other.references]
    found = [case for case in hashed if one.references[case] != other.references[case]]
    for key in one.scores.keys() & other.scores.keys():
        if key[1] == REFERENCE:
            pairs = (
                (case, one.scores[key].get(case, math.nan), other.scores[key].get(case, math.nan)) for case in shared
            )
            found += [case for case, a, b in pairs if abs(a - b) > SAME_VOLUME * max(abs(a), abs(b))]
    return list(dict.fromkeys(found))


def _named(argument: str) -> tuple[str, Path]:
    name, equals, folder = argument.partition("=")
    if equals and name and "/" not in name and not Path(argument).exists():
        return name, Path(folder)
    path = Path(argument)
    absolute = path.absolute()
    return (absolute.parent if absolute.name == LATEST else absolute).name, path


def _folder(folder: Path) -> Path:
    for place in (folder, folder / LATEST):
        if (place / SCORES).is_file():
            return place
    raise ArtifactError(
        f"{folder}: there is no {SCORES}, nor in {LATEST}/. Give the folder of a run (OUT), or one that was scored."
    )


def _read(name: str, folder: Path) -> Run:
    rows = read_scores(folder / SCORES)
    scores, errors = columns(rows)
    if not scores:
        raise ArtifactError(f"{folder / SCORES}: no case has scores.")
    evaluated = (folder / SCORES).resolve().parent
    receipts = dict(_receipts(evaluated))
    ingested = evaluated.parent.parent / "ingest" / str(receipts.get("ingest", {}).get("fingerprint"))
    manifest = next((place / MANIFEST for place in (folder, ingested) if (place / MANIFEST).is_file()), None)
    cases = _manifest(manifest) if manifest else []
    seconds = [
        receipt.get("made", {}).get("cpu_seconds") for key, receipt in receipts.items() if _stage(key) == "train"
    ]
    return Run(
        name,
        scores,
        errors,
        {row.case: row.part for row in rows},
        _json(folder / SUMMARY).get("definitions", {}),
        {case["id"]: case["subject"] for case in cases},
        {case["id"]: case["label"]["sha256"] for case in cases if case.get("label")},
        dict(_flat(receipts)),
        math.fsum(seconds) if seconds and None not in seconds else None,
        len(cases[0].get("shape", (0, 0, 0))) if cases else 3,
    )


def _manifest(path: Path) -> list[dict[str, Any]]:
    try:
        cases = read_jsonl(path)
        for case in cases:
            str(case["id"]), str(case["subject"]), (case.get("label") or {"sha256": ""})["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path}: damaged ({error}). Run the ingest again.") from error
    return cases


def _receipts(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the receipts of a stage and of all that it was made from, by key; none where the store does not tell."""
    receipt = _json(folder / RECEIPT)
    if not receipt:
        return
    yield str(receipt.get("stage", folder.parent.name)), receipt
    waiting, seen = dict(receipt.get("inputs", {})), set()
    while waiting:
        key, name = waiting.popitem()
        if (key, name) in seen:
            continue
        seen.add((key, name))
        above = _json(folder.parent.parent / _stage(key) / str(name) / RECEIPT)
        if above:
            yield key, above
            waiting |= above.get("inputs", {})


def _stage(key: str) -> str:
    return key.partition(AT)[0]


def _flat(receipts: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Yield all settings by dotted key, but those that name a place on this machine."""

    def walk(value: Any, key: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict) and value:
            for name, inner in value.items():
                yield from walk(inner, f"{key}.{name}" if key else str(name))
        elif not (isinstance(value, str) and ("/" in value or "\\" in value)):
            yield key, value

    for receipt in receipts.values():
        yield from walk(receipt.get("settings", {}), "")


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
