"""A study in words and tables, for Markdown and HTML alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segpipe.report.wording import UNDEFINED, counted, listed, number, percent, signed
from segpipe.score.paired import LEVEL, Interval
from segpipe.study.figures import Compared, Figures

POINTS = 100
"""A Dice point is a hundredth."""
FEW_SEEDS = 3
CONTROLLED = {"helped": "is ahead", "harmed": "is behind", "no evidence": "shows no evidence of a difference"}
"""Verdicts on what helped against the baseline, when it is held against a control."""


@dataclass(frozen=True)
class Table:
    """A heading, a sentence on how to read it, and rows of text."""

    title: str
    note: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def headline(figures: Figures) -> str:
    """Return what the study found against its baseline, in a few sentences, also where that is nothing."""
    base = figures.study.baseline
    against = [one for one in figures.compared if one.other == base]
    if not against:
        return f"Nothing can be compared with {base} yet."
    told = []
    for kind in ("helped", "harmed"):
        by_name: dict[str, list[Compared]] = {}
        for one in against:
            if one.verdict == kind:
                by_name.setdefault(one.condition, []).append(one)
        told += [f"{name} {kind} {_where(found)}." for name, found in by_name.items()]
    if not told:
        return (
            f"Nothing helped: in none of {counted(len(against), 'comparison')} with {base} is there evidence of a "
            f"difference. The intervals leave room for differences from {_room(against)} Dice points."
        )
    if quiet := [one for one in against if one.verdict == "no evidence"]:
        told.append(f"In {len(quiet)} of {counted(len(against), 'comparison')} with {base} there is no evidence.")
    return " ".join(told) + _against_controls(figures)


def _where(found: Sequence[Compared]) -> str:
    places = listed([str(one.labels) for one in found], len(found))
    points = listed([_points(one.found.difference.mean) for one in found], len(found))
    return f"at {places} labels ({points} Dice points)"


def _room(found: Sequence[Compared]) -> str:
    low = min(one.found.difference.low for one in found)
    high = max(one.found.difference.high for one in found)
    return f"{_points(low)} to {_points(high)}"


def _against_controls(figures: Figures) -> str:
    """Return whether what helped is also ahead of its controls: only then it is the features that help."""
    base = figures.study.baseline
    helped = {(one.condition, one.labels) for one in figures.compared if (one.other, one.verdict) == (base, "helped")}
    by_outcome: dict[tuple[str, str, str], list[str]] = {}
    for one in figures.compared:
        if one.other != base and (one.condition, one.labels) in helped:
            by_outcome.setdefault((one.condition, one.other, CONTROLLED[one.verdict]), []).append(str(one.labels))
    return "".join(
        f" Against {other}, {name} {outcome} at {listed(labels, len(labels))} labels."
        for (name, other, outcome), labels in by_outcome.items()
    )


def tables(figures: Figures) -> list[Table]:
    """Return the tables: Dice, differences to the baseline, further comparisons, steps."""
    study = figures.study
    header = ("condition", *(counted(labels, "label") for labels in study.labels))
    made = [
        Table(
            "Dice by labelled cases",
            f"Mean over {counted(len(figures.cases), 'held-out case')} and the seeds, with the 95 % interval.",
            header,
            tuple((name, *(_dice(figures, name, labels) for labels in study.labels)) for name in study.conditions),
        ),
        _differences(figures, f"Against {study.baseline}", [(n, o) for n, o in study.pairs() if o == study.baseline]),
    ]
    if further := [(name, other) for name, other in study.pairs() if other != study.baseline]:
        made.append(_differences(figures, "Against the controls", further))
    made.append(
        Table(
            f"Steps to the final validation Dice of {study.baseline}",
            f"As a share of the steps of {study.baseline}, which may itself get there early; the median over seeds; "
            "a dash where it is not reached, or was not validated.",
            header,
            tuple((name, *(_steps(figures, name, labels) for labels in study.labels)) for name in study.conditions),
        )
    )
    return made


def _differences(figures: Figures, title: str, pairs: Sequence[tuple[str, str]]) -> Table:
    several = len({other for _, other in pairs}) > 1
    rows = []
    for name, other in pairs:
        for labels in figures.study.labels:
            who = f"{name} \N{MINUS SIGN} {other}" if several or other != figures.study.baseline else name
            if (one := figures.against(name, other, labels)) is None:
                rows.append((who, str(labels), *[UNDEFINED] * 4, "not there"))
                continue
            told = (signed_span(one.found.difference), _p(one.found.p), _p(one.corrected))
            rows.append((who, str(labels), _points(one.found.difference.mean), *told, one.verdict))
    note = (
        "Differences of Dice in points (hundredths), paired by case and seed. Evidence is a corrected p below "
        f"{LEVEL:g} and an interval without zero."
    )
    header = ("condition", "labels", "difference", "95 % interval", "p", "p corrected", "verdict")
    return Table(title, note, header, tuple(rows))


def _dice(figures: Figures, name: str, labels: int) -> str:
    if (score := figures.score(name, labels)) is None:
        return UNDEFINED
    low, high = (number(value, 3) for value in (score.dice.low, score.dice.high))
    seeds = "" if score.seeds == figures.study.seeds else f" ({counted(score.seeds, 'seed')})"
    return f"{number(score.dice.mean, 3)} [{low}, {high}]{seeds}"


def _steps(figures: Figures, name: str, labels: int) -> str:
    score = figures.score(name, labels)
    return UNDEFINED if score is None or score.steps is None else percent(round(score.steps, 2))


def _points(difference: float) -> str:
    return signed(difference * POINTS, 2)


def signed_span(interval: Interval) -> str:
    """Return an interval of differences in Dice points."""
    return f"[{_points(interval.low)}, {_points(interval.high)}]"


def _p(p: float) -> str:
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def notes(figures: Figures) -> list[str]:
    """Return what a reader has to know to judge the figures."""
    study = figures.study
    said = [
        "Interval: subjects and seeds drawn with replacement, each for itself (crossed bootstrap), widened for "
        "their number. p: Wilcoxon's signed-rank test on subject means over seeds, two-sided; corrected after Holm "
        f"over all {len(figures.compared)} comparisons.",
        "No evidence is no proof that two are equal: look at the interval.",
    ]
    if study.seeds <= FEW_SEEDS:
        said.append(f"{counted(study.seeds, 'seed')}: too few to tell small differences from chance.")
    if len(study.seeded) == 1:
        said.append(
            f"Only {study.seeded[0]} differs between seeds; what comes before training, such as a pretraining, was "
            "made once, and its chance is not in the intervals."
        )
    if figures.left_out:
        said.append(f"{counted(figures.left_out, 'case')} left out: not scored in every cell.")
    if figures.missing:
        titles = [cell.title for cell in figures.missing]
        said.append(f"Missing, {counted(len(titles), 'cell')}: {'; '.join(titles)}.")
    return said


def markdown(figures: Figures, about: Mapping[str, Any], picture: str) -> str:
    """Return the whole study as Markdown; ``picture`` is the name of a file beside it."""
    parts = [f"# {about['title']}", headline(figures), f"![Dice by labelled cases]({picture})"]
    for table in tables(figures):
        head = [f"| {' | '.join(table.header)} |", "|---" * len(table.header) + "|"]
        rows = [f"| {' | '.join(row)} |" for row in table.rows]
        parts += [f"## {table.title}", table.note, "\n".join([*head, *rows])]
    parts += ["## How to read it", "\n".join(f"- {note}" for note in notes(figures)), "## What was run"]
    parts += [f"```sh\n{about['command']}\n```", "\n".join(f"- {key}: {value}" for key, value in facts(about))]
    return "\n\n".join(parts) + "\n"


def facts(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what was run, as pairs of a name and a text."""
    conditions = [(f"condition {name}", " ".join(own) or "no change") for name, own in about["conditions"].items()]
    return [
        (
            "data",
            f"{about['data']}: {counted(about['cases'], 'held-out case')} of {counted(about['subjects'], 'subject')}",
        ),
        ("configuration", about["config"]),
        ("settings of all", " ".join(about["settings"]) or "none"),
        *conditions,
        ("seeds", f"{', '.join(map(str, about['seeds']))} ({', '.join(about['seeded'])})"),
        ("segpipe", about["segpipe"]),
    ]


def as_csv(figures: Figures) -> str:
    """Return a row for each cell; an empty figure is one that nobody knows."""
    lines = ["condition,labels,seed,mean_dice,cpu_s,fingerprint"]
    there = {one.cell: one for one in figures.results}
    for cell in (*there, *figures.missing):
        one = there.get(cell)
        told = ("", "", "") if one is None else (f"{one.mean:.6f}", _known(one.cpu_s), one.fingerprint)
        lines.append(",".join([cell.condition, str(cell.labels), str(cell.seed), *told]))
    return "\n".join(lines) + "\n"


def _known(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:g}"
