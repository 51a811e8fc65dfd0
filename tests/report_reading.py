"""Reads a report as a person would: its tables, its words, and whether they are those of the summary."""

import math
import re
from collections.abc import Sequence
from html.parser import HTMLParser

from report_artifacts import Made


class Reader(HTMLParser):
    """Gathers the cells of tables, row by row, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words.append(data)
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def table(self, first: str) -> list[list[str]]:
        """Return the rows below the header of the first table whose header begins so."""
        return next(table[1:] for table in self.tables if table[0][0].strip() == first)


def as_float(text: str) -> float:
    cleaned = re.sub(r"[\s+\[\]]", "", text.replace("\N{MINUS SIGN}", "-"))
    return math.nan if cleaned == "\N{EN DASH}" else float(cleaned)


def same(text: str, value: float | None) -> bool:
    """Tell whether a printed number is a value, to the digits that are printed."""
    shown = as_float(text)
    if value is None:
        return math.isnan(shown)
    digits = len(text.partition(".")[2].strip("]"))
    return abs(shown - value) <= 0.5 * 0.1**digits + 1e-9


def both(texts: Sequence[str], values: Sequence[float]) -> bool:
    return all(same(text, value) for text, value in zip(texts, values, strict=True))


def check_accuracy(made: Made, text: str) -> int:
    """Compare both accuracy tables with summary.json; return how many rows there are."""
    figures = {(f["label"], f["metric"]): f for f in made.summary()["scores"]}
    definitions = made.summary()["definitions"]
    rows = [row for table in Reader(text).tables if "n / undefined" in table[0] for row in table[1:]]
    label = ""
    for row in rows:
        label = row[0] or label
        metric = next(name for name, definition in definitions.items() if definition == row[9])
        figure = figures["mean" if label == "Mean of structures" else label, metric]
        assert same(row[2], figure["mean"]), row
        if figure["low"] is not None:
            assert both(row[3].split(","), (figure["low"], figure["high"])), row
        assert same(row[4], figure["median"]), row
        if figure["median_low"] is not None:
            assert both(row[5].split(","), (figure["median_low"], figure["median_high"])), row
        if figure["q1"] is not None:
            assert both(row[6].split("\N{EN DASH}"), (figure["q1"], figure["q3"])), row
        assert same(row[7], figure["worst"]), row
        assert row[8] == f"{figure['n']} / {figure['undefined']}"
    return len(rows)
