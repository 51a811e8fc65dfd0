"""A comparison from its folders to its folder: compare.html, compare.json, compare.csv."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from segpipe import __version__
from segpipe.compare import tables
from segpipe.compare.figures import Compared, Plan, compare_runs
from segpipe.compare.pictures import clouds, differences, slopes, told_apart, waterfall
from segpipe.compare.runs import Run, read_runs, refuse_strangers
from segpipe.compare.wording import amount, cautions, methods, score_name, verdicts
from segpipe.core.atomic import write_json, write_text
from segpipe.core.errors import DataError, Exit
from segpipe.report.page import page
from segpipe.report.wording import MINUS, counted, listed, percent

TEMPLATE = "compare.html.j2"
MOST_WATERFALLS = 3


def compare(
    arguments: Sequence[str], out: Path, plan: Plan, subjects: Path | None, tell: Callable[[str], None]
) -> Exit:
    """Compare runs and write what was found into ``out``.

    Args:
        arguments: Folders, or name=folder.
        out: Where compare.html, .json and .csv are written.
        plan: What is asked.
        subjects: A table with the columns case and subject; None: as the runs' manifests say.
        tell: Shows a line to people.

    Returns:
        FINE, or QUARANTINED where cases were left out because some run has no scores of them.

    Raises:
        SegpipeError: The runs cannot be read, or not be compared.
    """
    runs = read_runs(arguments)
    if subjects is not None:
        table = _subjects(subjects)
        runs = [_owned(run, table, subjects) for run in runs]
    refuse_strangers(runs)
    found = compare_runs(runs, plan)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "compare.json", tables.as_json(found))
    write_text(out / "compare.csv", tables.as_csv(found))
    write_text(out / "compare.html", page(chapters(found), TEMPLATE))
    for one in verdicts(found):
        tell(f"{one['title']} {one['text']}")
    for name, cases in found.missing.items():
        if cases:
            tell(f"left out, no scores in {name}: {listed(cases)}")
    for kind in ("html", "json", "csv"):
        tell(str(out / f"compare.{kind}"))
    return Exit.QUARANTINED if any(found.missing.values()) else Exit.FINE


def chapters(found: Compared) -> dict[str, Any]:
    """Return everything that the page's template names."""
    index = {case: number for number, case in enumerate(sorted(found.subjects))}
    plan, names = found.plan, found.names
    key = plan.primary[0]
    first = [pair for pair in found.primary if pair.key == key]
    panels = [
        {
            "title": f"{pair.model} {MINUS} {pair.other}, case by case",
            "note": f"{score_name(pair.key, found)}; dashed: mean and its CI",
            "svg": waterfall(found, pair, index),
        }
        for pair in told_apart(first, MOST_WATERFALLS)
    ]
    panels.append(
        {"title": "From model to model", "note": "one line a case; bold: means", "svg": slopes(found, key, index)}
    )
    owners = {found.subjects[case] for case in found.cases}
    return {
        "title": f"{listed(names, len(names))}: comparison",
        "subtitle": f"{counted(len(found.cases), 'common case')} of {counted(len(owners), 'subject')} · "
        f"structures: {', '.join(found.labels)}",
        "verdicts": verdicts(found),
        "cautions": cautions(found),
        "confidence": percent(plan.confidence),
        "margin": amount(plan.margin, key, found) if plan.margin is not None else "",
        "forest": differences(found),
        "panels": panels,
        "clouds": list(clouds(found, index)),
        "settings": tables.differing_settings(found),
        "names": names,
        "models": list(tables.models(found, main=True)),
        "pairs": list(tables.pairs(found, main=True)),
        "more_models": list(tables.models(found, main=False)),
        "more_pairs": list(tables.pairs(found, main=False)),
        "case_score": score_name(key, found),
        "grouped": any(found.subjects[case] != case for case in index),
        "cases": tables.cases(found, index),
        "methods": methods(found),
        "facts": [("segpipe", __version__), *_definitions(found)],
    }


def _definitions(found: Compared) -> list[tuple[str, str]]:
    known: dict[str, str] = {}
    for run in found.runs:
        known |= run.definitions
    used = dict.fromkeys(pair.key[1] for pair in found.pairs)
    return [("Definitions", ", ".join(known[metric] for metric in used if metric in known))]


def _subjects(path: Path) -> dict[str, str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error}).") from error
    if not rows or not {"case", "subject"} <= rows[0].keys():
        raise DataError(f"{path}: a table with the columns case and subject is wanted.")
    return {row["case"]: row["subject"] for row in rows}


def _owned(run: Run, table: Mapping[str, str], path: Path) -> Run:
    unknown = sorted(case for case in run.cases if not table.get(case))
    if unknown:
        raise DataError(f"{path}: no subject of {listed(unknown)}. Name one for every case.")
    return replace(run, subjects=table)
