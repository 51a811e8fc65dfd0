"""The untouched test split and the folds: by subject, never by image."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt

from segpipe.core.errors import ConfigError, DataError
from segpipe.core.section import Place, Section
from segpipe.dataset.manifest import Case

MEASURED = ("structures", "volume")


class SplitConfig(Section):
    """How cases are divided. Decided once, by ingest; no statistic ever sees a test case."""

    test_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of the subjects in the test split."""
    folds: Annotated[int, Field(ge=2)] = 5
    """Parts into which the other subjects are divided; each is the validation set of one fold."""
    seed: NonNegativeInt = 0
    """Another seed, another split."""
    stratify: tuple[str, ...] = ("structures", "volume")
    """What the folds should hold alike: `structures` (which are there), `volume` (of all of them, in powers of two),
    or a covariate by its name, such as site."""
    file: Place | None = None
    """A splits.json of your own, `{"test": [ids], "folds": [[ids], …]}`; it is used as it is."""


def divide(
    subjects: Mapping[str, str],
    declared_test: Iterable[str],
    config: SplitConfig,
    strata: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return ``{"test": [ids], "folds": [[ids], …]}`` of labelled cases, given the subject of each.

    Subjects are ordered by a hash of seed and name, so the split depends neither on the order of
    the files nor on the machine, and changes little when cases are added. The folds are dealt out stratum
    by stratum: no two of them differ by more than one subject, in all and in any stratum.

    Args:
        subjects: Subject by case id.
        declared_test: Cases that the data set itself calls test; where there are any, they are
            the test split and the fraction is not used.
        config: Fraction, number of folds, seed.
        strata: Stratum by subject; without, there is one.

    Raises:
        DataError: Too few subjects, or a split file that does not fit.
    """
    if config.file is not None:
        return _from_file(config.file, subjects)
    ordered = sorted(set(subjects.values()), key=lambda subject: _shuffled(config.seed, subject))
    declared = {subjects[case] for case in declared_test if case in subjects}
    if declared:
        held = declared
    else:
        count = round(config.test_fraction * len(ordered))
        held = set(ordered[: max(count, 1) if config.test_fraction > 0 else 0])
    rest = [subject for subject in ordered if subject not in held]
    if len(rest) < 2:
        raise DataError(
            f"{len(ordered)} labelled subject(s), {len(held)} of them for testing: at least 2 must be left to train "
            "and validate. Add cases, or lower ingest.split.test_fraction."
        )
    folds = min(config.folds, len(rest))
    rest.sort(key=lambda subject: (strata or {}).get(subject, ""))  # stable: by hash within a stratum
    return {
        "seed": config.seed,
        "test": _cases_of(held, subjects),
        "folds": [_cases_of(rest[index::folds], subjects) for index in range(folds)],
    }


def strata_of(cases: Iterable[Case], config: SplitConfig) -> dict[str, str]:
    """Return the stratum of each subject, that of its first case.

    Raises:
        ConfigError: A covariate is asked for that no case has.
    """
    ordered = sorted(cases, key=lambda case: case.id)
    known = {name for case in ordered for name in case.covariates}
    if unknown := [name for name in config.stratify if name not in (*MEASURED, *known)]:
        raise ConfigError(
            f"ingest.split.stratify: no case has a covariate '{unknown[0]}'. There are: "
            f"{', '.join([*MEASURED, *sorted(known)])}."
        )
    found: dict[str, str] = {}
    for case in ordered:
        found.setdefault(case.subject, " / ".join(_trait(case, name) for name in config.stratify))
    return found


def _trait(case: Case, name: str) -> str:
    if name == "structures":
        return ",".join(structure for structure, volume in case.volumes_mm3.items() if volume > 0)
    if name == "volume":
        total = sum(case.volumes_mm3.values())
        return str(math.floor(math.log2(total))) if total > 0 else ""
    return case.covariates.get(name, "")


def _shuffled(seed: int, subject: str) -> str:
    return hashlib.sha256(f"{seed}:{subject}".encode()).hexdigest()


def _cases_of(chosen: Iterable[str], subjects: Mapping[str, str]) -> list[str]:
    wanted = set(chosen)
    return sorted(case for case, subject in subjects.items() if subject in wanted)


def _from_file(path: Path, subjects: Mapping[str, str]) -> dict[str, Any]:
    try:
        split = json.loads(path.read_text())
        test: list[str] = list(split["test"])
        folds: list[list[str]] = [list(fold) for fold in split["folds"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f'{path}: no split file ({error}). It holds {{"test": [ids], "folds": [[ids], …]}}.') from error
    if len(folds) < 2:
        raise DataError(f"{path}: {len(folds)} fold(s). Give at least 2: each is the validation set of the others.")
    parts = [test, *folds]
    _refuse_leaks(path, parts, subjects)
    return {"test": _known(test, subjects), "folds": [_known(fold, subjects) for fold in folds]}


def _known(cases: Sequence[str], subjects: Mapping[str, str]) -> list[str]:
    return sorted(case for case in cases if case in subjects)


def _refuse_leaks(path: Path, parts: Sequence[Sequence[str]], subjects: Mapping[str, str]) -> None:
    home: dict[str, int] = {}
    for index, part in enumerate(parts):
        for case in part:
            subject = subjects.get(case, case)
            if home.setdefault(subject, index) != index:
                raise DataError(f"{path}: subject '{subject}' is in two parts. Keep all cases of a subject together.")
    if missing := sorted(set(subjects) - {case for part in parts for case in part}):
        raise DataError(f"{path}: {len(missing)} case(s) are in no part, such as '{missing[0]}'. Add them.")
