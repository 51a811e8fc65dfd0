"""Any source -> checked cases, manifest and split."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from segpipe.core.errors import ConfigError, DataError
from segpipe.core.fingerprint import file_sha256, fingerprint, listing
from segpipe.core.parallel import run_cases
from segpipe.core.section import Section
from segpipe.core.stage import Inputs, Stage, Summary, Workspace
from segpipe.dataset.checks import CheckJob, check_case
from segpipe.dataset.manifest import (
    DESCRIBED,
    Case,
    Dataset,
    FileRef,
    RawCase,
    Refusal,
    read_jsonl,
    write_jsonl,
)
from segpipe.dataset.settings import IngestConfig
from segpipe.dataset.sources.found import Found
from segpipe.dataset.splits import divide, strata_of
from segpipe.dataset.survey import survey

CHECKED = "checked.jsonl"
VERSION = 3


class Settings(Section):
    """Everything that decides what this stage writes."""

    ingest: IngestConfig


def run(settings: Settings, inputs: Inputs, work: Workspace) -> Summary:
    """Find the cases, check each, set the bad ones aside, divide the good ones."""
    config = settings.ingest
    found = survey(config.source.read(), config.pictures)
    for note in found.notes:
        work.tell(note)
    raw = _with_subjects(found.cases, config)
    results = _of_one_rank(_check_all(found, raw, config, work))
    cases = [case for case in results if isinstance(case, Case)]
    refused = [*found.refused, *(result for result in results if isinstance(result, Refusal))]
    labelled = [case for case in cases if case.label]
    if not labelled:
        first = f" The first: {refused[0]}" if refused else ""
        total = len(raw) + len(found.refused)
        raise DataError(f"no usable labelled case: {len(refused)} of {total} set aside.{first}")
    cases = _twins_together(cases)
    subjects = {case.id: case.subject for case in cases if case.label}
    try:
        strata = strata_of([case for case in cases if case.label], config.split)
        split = divide(subjects, {case.id for case in raw if case.test}, config.split, strata)
    except DataError as error:
        if any(case.page is not None for case in cases) and not config.pictures.page_is_subject:
            raise DataError(
                f"{error} The pages of one TIFF stack count as one subject: ingest.pictures.page_is_subject=true "
                "divides them, which tells less about other specimens."
            ) from error
        if not refused:
            raise
        raise DataError(f"{error} {len(refused)} case(s) were set aside, the first: {refused[0]}") from error
    placed = [_placed(case, split) for case in sorted(cases, key=lambda case: case.id)]
    dataset = Dataset(found.header, tuple(placed), tuple(refused), (), found.root)
    dataset.save(work.path, split)
    write_jsonl(work.path / DESCRIBED, [ref.model_dump() for ref in _described(found)])
    return {
        "cases": len(cases),
        "develop": len(dataset.part("develop")),
        "test": len(dataset.part("test")),
        "unlabelled": len(dataset.part("unlabelled")),
        "quarantined": len(refused),
        "subjects": len(set(dataset.subjects.values())),
    }


def _described(found: Found) -> list[FileRef]:
    return [
        FileRef(path=path.relative_to(found.root).as_posix(), sha256=file_sha256(path))
        for path in found.described_by
        if path.is_relative_to(found.root) and path.is_file()
    ]


def _with_subjects(cases: Sequence[RawCase], config: IngestConfig) -> list[RawCase]:
    if config.subject_pattern is None:
        return list(cases)
    try:
        pattern = re.compile(config.subject_pattern)
    except re.error as error:
        raise ConfigError(f"ingest.subject_pattern: no regular expression ({error}).") from error
    if not pattern.groups:
        raise ConfigError(
            "ingest.subject_pattern: needs a group in parentheses around the subject, as in '(sub-\\d+)'."
        )
    named = []
    for case in cases:
        match = pattern.search(case.id)
        named.append(replace(case, subject=match[1]) if match else case)
    return named


def _check_all(found: Found, cases: Sequence[RawCase], config: IngestConfig, work: Workspace) -> list[Case | Refusal]:
    """Check every case; what was checked before and has not changed since is taken over."""
    known = _checked_before([work.path, *work.earlier])
    jobs = {case.id: CheckJob(case, found.root, found.header, config.check) for case in cases}
    keys = {case: _key(job) for case, job in jobs.items()}
    results = {case: known[key] for case, key in keys.items() if key in known}
    with work.progress("checking", len(jobs)) as advance:
        advance(len(results))
        todo = [(case, job) for case, job in jobs.items() if case not in results]
        for case, result in run_cases(work.executor, check_case, todo):
            results[case] = result
            advance(1)
    write_jsonl(work.path / CHECKED, [_record(keys[case], result) for case, result in sorted(results.items())])
    return [results[case] for case in sorted(results)]


def _of_one_rank(results: Sequence[Case | Refusal]) -> list[Case | Refusal]:
    """Set aside the images with another number of axes than most: no network works on both."""
    ranks = [len(case.shape) for case in results if isinstance(case, Case)]
    usual = max(set(ranks), key=lambda rank: (ranks.count(rank), rank), default=0)
    return [
        result
        if isinstance(result, Refusal) or len(result.shape) == usual
        else Refusal(
            result.id,
            f"{result.images[0].path}: is {len(result.shape)}D, while most images are {usual}D. Take it out, or put "
            f"the {len(result.shape)}D images into a data set of their own.",
        )
        for result in results
    ]


def _key(job: CheckJob) -> str:
    raw = job.raw
    return fingerprint(
        {
            "version": VERSION,
            "files": listing(job.root, raw.files),
            "case": [raw.id, raw.subject, raw.unlabelled, dict(raw.covariates), raw.page],
            "header": job.header.deciding(),
            "check": job.config.deciding(),
        }
    )


def _record(key: str, result: Case | Refusal) -> dict[str, Any]:
    if isinstance(result, Case):
        return {"key": key, "case": result.model_dump(mode="json")}
    return {"key": key, "refused": vars(result)}


def _checked_before(folders: Sequence[Path]) -> dict[str, Case | Refusal]:
    results: dict[str, Case | Refusal] = {}
    for folder in folders:
        if not (folder / CHECKED).is_file():
            continue
        for row in read_jsonl(folder / CHECKED):
            result = Case.model_validate(row["case"]) if "case" in row else Refusal(**row["refused"])
            results.setdefault(row["key"], result)
    return results


def _twins_together(cases: Sequence[Case]) -> list[Case]:
    """Give subjects that share the very same image one name: they must not face each other across a split."""
    first: dict[tuple[str, int | None], str] = {}
    merged: dict[str, str] = {}
    for case in cases:
        mine = _root(case.subject, merged)
        for image in case.images:
            theirs = _root(first.setdefault((image.sha256, case.page), mine), merged)
            if theirs != mine:
                mine, other = sorted((theirs, mine))
                merged[other] = mine
    return [case.model_copy(update={"subject": _root(case.subject, merged)}) for case in cases]


def _root(subject: str, merged: Mapping[str, str]) -> str:
    while subject in merged:
        subject = merged[subject]
    return subject


def _placed(case: Case, split: dict[str, Any]) -> Case:
    if case.label is None:
        return case.model_copy(update={"part": "unlabelled"})
    return case.model_copy(update={"part": "test" if case.id in split["test"] else "develop"})


def _identity(settings: Settings) -> Any:
    """Return what the source files are: a changed, added or missing file makes another data set."""
    found = settings.ingest.source.read()
    paths = [*found.described_by, *(path for case in found.cases for path in case.files)]
    split = settings.ingest.split.file
    return {
        "files": listing(found.root, paths),
        "listed": [[case.id, case.subject, case.label is not None] for case in found.cases],
        "refused": [str(refusal) for refusal in found.refused],
        "split": listing(split.parent, [split]) if split else None,
    }


STAGE = Stage("ingest", Settings, run, version=VERSION, identity=_identity)
