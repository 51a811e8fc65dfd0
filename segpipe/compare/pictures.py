"""The charts of a comparison: differences with intervals, case by case, and the models side by side."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from segpipe.compare.figures import Compared, Key, Pair
from segpipe.compare.wording import score_name, signed_score, signed_span
from segpipe.report.forest import Line, forest
from segpipe.report.raincloud import Cloud, beyond, crowded, raincloud
from segpipe.report.svg import WIDTH, dot, element, figure, label_at, left_axis, line, path, scale_over
from segpipe.report.wording import MINUS, name_of, unit_of
from segpipe.score.case import meaning
from segpipe.score.summary import OVERALL

LEFT, TOP, RIGHT, BOTTOM = 66, 12, WIDTH - 14, 270
MOST_LINES = 400
"""Cases beyond which single lines would be a grey block."""
LONGEST_NAME = 22
SIDE = 60


def differences(found: Compared) -> list[str]:
    """Return a forest plot of each primary metric: each pair, over structures and in each."""
    metrics = dict.fromkeys(metric for _, metric in found.plan.primary)
    return [_forest(found, metric) for metric in metrics]


def _forest(found: Compared, metric: str) -> str:
    rows = []
    couples = dict.fromkeys((pair.model, pair.other) for pair in found.pairs)
    for number, (model, other) in enumerate(couples):
        rows.append(Line(f"{model} {MINUS} {other}", "subjects"))
        for pair in found.pairs:
            if (pair.model, pair.other, pair.key[1]) == (model, other, metric):
                name = score_name(pair.key, found)
                told = f"{signed_score(pair.found.mean.value, metric)} [{signed_span(pair).replace(' to ', ', ')}]"
                count = str(pair.found.subjects)
                rows.append(Line(name, count, pair.found.mean, told, number % 8, faint=not pair.primary))
    guides = [(0.0, "bias")]
    if found.plan.margin is not None and metric == found.plan.primary[0][1]:
        loss = -found.plan.margin if meaning(metric).better == "higher" else found.plan.margin
        guides.append((loss, "limit"))
    said = f"Differences of {name_of(metric)} with intervals"
    return forest(rows, f"difference of {_with_unit(metric, found)}", said, guides=guides)


def _with_unit(metric: str, found: Compared) -> str:
    unit = unit_of(metric, found.runs[0].rank)
    return name_of(metric) + (f" ({unit})" if unit else "")


def waterfall(found: Compared, pair: Pair, index: Mapping[str, int]) -> str:
    """Return the differences of all cases, the largest loss first, with the mean and its interval."""
    scores, others = found.values[pair.model][pair.key], found.values[pair.other][pair.key]
    ordered = sorted((scores[case] - others[case], case) for case in scores)
    one, metric = pair.found.mean, pair.key[1]
    ends = [one.low, one.high] if one.sure else []
    y = scale_over([0.0, *ends, *(value for value, _ in ordered)], (BOTTOM, TOP))
    x = scale_over([0.0, float(max(len(ordered) - 1, 1))], (LEFT + 6, RIGHT - 6))
    more = meaning(metric).better == "higher"
    parts = [left_axis(y, (LEFT, RIGHT), f"{pair.model} {MINUS} {pair.other}, {_with_unit(metric, found)}")]
    if one.sure:
        top, foot = y(one.high), y(one.low)
        parts.append(element("rect", x=LEFT, y=top, width=RIGHT - LEFT, height=max(foot - top, 1), class_="band"))
    parts.append(line(LEFT, y(one.value), RIGHT, y(one.value), "limit"))
    stems, dots = [], []
    for number, (value, case) in enumerate(ordered):
        colour = "s0" if (value > 0) == more else "s1"
        stems.append(element("g", line(x(number), y(0), x(number), y(value), "stem"), class_=colour))
        dots.append(element("g", dot(x(number), y(value), index[case]), class_=colour))
    parts += [*stems, line(LEFT, y(0), RIGHT, y(0), "bias"), *dots]
    parts.append(
        label_at((LEFT + RIGHT) / 2, BOTTOM + 22, f"{len(ordered)} cases, from least to most", "tick", "middle")
    )
    return figure((WIDTH, BOTTOM + 34), f"Difference of each case, {score_name(pair.key, found)}", *parts)


def slopes(found: Compared, key: Key, index: Mapping[str, int]) -> str:
    """Return a line for each case from model to model, and the means."""
    names = found.names
    columns = [found.values[name][key] for name in names]
    cases = list(columns[0])
    y = scale_over([value for column in columns for value in column.values()], (BOTTOM, TOP), _bounds(key[1]))
    x = scale_over([0.0, float(len(names) - 1)], (LEFT + SIDE, RIGHT - SIDE))
    parts = [left_axis(y, (LEFT, RIGHT), _with_unit(key[1], found))]
    lines = []
    for case in cases if len(cases) <= MOST_LINES else ():
        points = [(x(number), y(column[case])) for number, column in enumerate(columns)]
        lines.append(path(points, "thin"))
        lines += [dot(across, up, index[case]) for across, up in points]
    parts.append(element("g", *lines, class_="s7"))
    means = [(x(number), y(sum(column.values()) / len(column))) for number, column in enumerate(columns)]
    parts.append(element("g", path(means, "bold"), class_="ink"))
    for number, (name, (across, up)) in enumerate(zip(names, means, strict=True)):
        parts.append(element("g", element("circle", cx=across, cy=up, r=6, class_="mark"), class_=f"s{number % 8}"))
        parts.append(label_at(across, BOTTOM + 22, _short(name), "name", "middle"))
    return figure((WIDTH, BOTTOM + 34), f"{score_name(key, found)} of each case in each run", *parts)


def clouds(found: Compared, index: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    """Yield rainclouds of the main metrics over structures, one cloud a run."""
    metrics = [metric for label, metric in found.values[found.names[0]] if label == OVERALL]
    nsd = next((metric for metric in metrics if metric.startswith("nsd_")), "")
    wanted = [metric for metric in ("dice", nsd, "hd95_mm") if metric in metrics]
    for metric in dict.fromkeys([*(metric for _, metric in found.plan.primary), *wanted]):
        key = (OVERALL, metric)
        if key not in found.values[found.names[0]]:
            continue
        drawn = [
            Cloud(name, number % 8, found.values[name][key], found.summaries[name].get(key))
            for number, name in enumerate(found.names)
        ]
        notes = ["hollow: beyond the end of the axis"] if beyond(drawn, metric) else []
        notes += ["only outlying cases have a dot"] if crowded(drawn) else []
        chart = raincloud(drawn, metric, index, found.runs[0].rank)
        yield {"title": score_name(key, found), "note": "; ".join(notes), "svg": chart}


def _bounds(metric: str) -> tuple[float, float]:
    return (0.0, 1.0) if meaning(metric).better == "higher" else (0.0, math.inf)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def told_apart(pairs: Sequence[Pair], most: int) -> list[Pair]:
    """Return the pairs that have a chart of their own: those of least p."""
    kept = sorted(pairs, key=lambda pair: pair.found.p)[:most]
    return [pair for pair in pairs if any(pair is one for one in kept)]
