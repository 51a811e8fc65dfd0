"""The picture of a study, Dice against labelled cases, and the page that shows it."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from segpipe.report.page import asset
from segpipe.report.svg import Scale, element, figure, label_at, left_axis, line, path, scale_over
from segpipe.score.paired import Interval
from segpipe.study.figures import Figures
from segpipe.study.wording import POINTS, Table, facts, headline, notes, tables

WIDTH, LEFT, TOP = 900, 66, 14
TALL, LOW = 340, 260
"""Heights of the panel of Dice, and of that of the differences."""
BETWEEN = 62
SIDE = 46
"""Room beside the first and the last number of labels, in which conditions stand side by side."""
DODGE = 7.0
COLOURS = 8
ACROSS = 4
"""Names in a row of the legend."""
STYLE = "report.css"
FONT = 'svg { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }'
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


Line = Mapping[int, Interval]
"""What is drawn of a condition: an interval by number of labels."""


def chart(figures: Figures) -> str:
    """Return the SVG: Dice by labels (on a logarithmic axis) with 95 % intervals, and beneath it the differences."""
    study = figures.study
    dice = {
        name: {count: score.dice for count in study.labels if (score := figures.score(name, count))}
        for name in study.conditions
    }
    gained = {
        name: {
            count: _in_points(one.found.difference)
            for count in study.labels
            if (one := figures.against(name, study.baseline, count))
        }
        for name in study.conditions
    }
    middle = TOP + TALL + BETWEEN
    panels = [
        *_panel(figures, dice, (TOP, TOP + TALL), "Dice", (0.0, 1.0)),
        *_panel(figures, gained, (middle, middle + LOW), f"Dice points over {study.baseline}", (-math.inf, math.inf)),
    ]
    foot = middle + LOW + BETWEEN
    height = foot + 20 * math.ceil(len(study.conditions) / ACROSS)
    label = "Dice against the number of labelled cases, by condition, and differences to the baseline"
    return str(figure((WIDTH, height), label, *panels, *_legend(figures, foot)))


def _panel(
    figures: Figures, lines: Mapping[str, Line], down: tuple[int, int], label: str, bounds: tuple[float, float]
) -> list[str]:
    """Return axes and lines between two heights; conditions stand side by side at each number of labels."""
    top, bottom = down
    counts = sorted(figures.study.labels)
    x = Scale(math.log2(counts[0]), math.log2(counts[-1]), LEFT + SIDE, WIDTH - SIDE)
    if len(counts) == 1:
        x = scale_over([math.log2(counts[0])], (LEFT + SIDE, WIDTH - SIDE))
    ends = [end for one in lines.values() for interval in one.values() for end in vars(interval).values()]
    y = scale_over([end for end in ends if math.isfinite(end)], (bottom, top), bounds)
    parts: list[str] = [left_axis(y, (LEFT, WIDTH), label), line(LEFT, bottom, WIDTH, bottom, "axis")]
    parts += [label_at(x(math.log2(count)), bottom + 18, str(count), "tick", "middle") for count in counts]
    parts.append(label_at((LEFT + WIDTH) / 2, bottom + 36, "labelled cases", "tick", "middle"))
    if y.low < 0 < y.high:
        parts.append(line(LEFT, y(0), WIDTH, y(0), "bias"))
    aside = min(DODGE, 2 * SIDE / len(lines))
    for number, (name, drawn) in enumerate(lines.items()):
        move = (number - (len(lines) - 1) / 2) * aside
        placed = [(x(math.log2(count)) + move, drawn[count]) for count in counts if count in drawn]
        parts.append(element("g", *_marks(placed, y), element("title", name), class_=_colour(figures, name)))
    return parts


def _marks(placed: Sequence[tuple[float, Interval]], y: Scale) -> list[str]:
    """Return intervals, the line through the means, and a mark for each mean."""
    parts: list[str] = [
        path([(across, y(one.low)), (across, y(one.high))], "thin solid")
        for across, one in placed
        if math.isfinite(one.low)
    ]
    means = [(across, y(one.mean)) for across, one in placed]
    if len(means) > 1:
        parts.append(path(means, "bold"))
    return [*parts, *(element("circle", cx=across, cy=height, r=3.2, class_="mark") for across, height in means)]


def _in_points(difference: Interval) -> Interval:
    return Interval(*(POINTS * value for value in vars(difference).values()))


def _legend(figures: Figures, top: int) -> list[str]:
    parts: list[str] = []
    for number, name in enumerate(figures.study.conditions):
        row, column = divmod(number, ACROSS)
        left, foot = LEFT + column * (WIDTH - LEFT) / ACROSS, top + 20 * row
        mark = path([(left, foot - 4), (left + 20, foot - 4)], "bold")
        parts.append(element("g", mark, label_at(left + 27, foot, name), class_=_colour(figures, name)))
    return parts


def _colour(figures: Figures, name: str) -> str:
    if name == figures.study.baseline:
        return "ink"
    others = [one for one in figures.study.conditions if one != figures.study.baseline]
    return f"s{others.index(name) % COLOURS}"


def standalone(picture: str) -> str:
    """Return the SVG as a file of its own: with its colours for light and dark, and a ground to stand on."""
    head, _, rest = picture.partition(">")
    ground = '<rect x="-10" y="-10" width="110%" height="110%" style="fill: var(--paper)"></rect>'
    style = f"<style><![CDATA[{asset(STYLE)}{FONT}]]></style>"
    named = head.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    return f"{named}>{style}{ground}{rest}\n"


def page(figures: Figures, about: Mapping[str, Any], picture: str) -> str:
    """Return one HTML file that needs nothing else and fetches nothing."""
    title = escape(about["title"])
    told = "".join(f"<li>{escape(note)}</li>" for note in notes(figures))
    listed = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts(about))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<title>{title}</title>\n<link rel="icon" href="data:,">\n<style>{asset(STYLE)}</style>\n</head>\n<body>\n'
        f'<h1>{title}</h1>\n<p class="finding">{escape(headline(figures))}</p>\n<figure>{picture}</figure>\n'
        f"{''.join(map(_table, tables(figures)))}<h2>How to read it</h2>\n<ul>{told}</ul>\n"
        f'<h2>What was run</h2>\n<p class="id">{escape(about["command"])}</p>\n<dl class="facts">{listed}</dl>\n'
        "</body>\n</html>\n"
    )


def _table(table: Table) -> str:
    first, *others = table.header
    head = f'<th class="l">{escape(first)}</th>' + "".join(f"<th>{escape(one)}</th>" for one in others)
    rows = "".join(_row(row) for row in table.rows)
    return (
        f'<h2>{escape(table.title)}</h2>\n<p class="lead">{escape(table.note)}</p>\n<div class="scroll">'
        f'<table class="numbers">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n'
    )


def _row(row: Sequence[str]) -> str:
    cells = "".join(f"<td>{escape(one)}</td>" for one in row[1:])
    return f'<tr><th class="l" scope="row">{escape(row[0])}</th>{cells}</tr>\n'
