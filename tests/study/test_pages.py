"""What a study writes for people: it is honest, whole, names nobody, and can be read in light and dark."""

import csv
import io
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest

from segpipe.study.cells import Cell
from segpipe.study.figures import Figures
from segpipe.study.picture import chart, page, standalone
from segpipe.study.wording import as_csv, headline, markdown, tables
from tests.study.fakes import CASES, figures_of

MINUS = "\N{MINUS SIGN}"


def about(figures: Figures) -> dict[str, object]:
    return {
        "title": "Label efficiency: <Phantom>",
        "command": "segpipe study mine.yaml --data DATA -o OUT",
        "data": "Phantom",
        "cases": len(figures.cases),
        "subjects": figures.subjects,
        "config": "default",
        "settings": ["model.features=4"],
        "conditions": {name: [f"x={name}"] for name in figures.study.conditions},
        "seeds": [0, 1],
        "seeded": ["train.fit.seed"],
        "segpipe": "0",
    }


def test_where_nothing_helps_it_says_so() -> None:
    figures = figures_of({"same": 0.0, "alike": 0.0})
    told = headline(figures)
    assert told.startswith("Nothing helped: in none of 4 comparisons with scratch")
    low = min(one.found.difference.low for one in figures.compared)
    assert f"from {MINUS}{abs(low) * 100:.2f} to +" in told


def test_what_helps_is_told_with_where_and_how_much() -> None:
    figures = figures_of({"good": 0.05, "bad": -0.05, "same": 0.0})
    told = headline(figures)
    gain = [one.found.difference.mean * 100 for one in figures.compared if one.condition == "good"]
    assert f"good helped at 4 and 8 labels (+{gain[0]:.2f} and +{gain[1]:.2f} Dice points)." in told
    assert "bad harmed at 4 and 8 labels" in told
    assert "In 2 of 6 comparisons with scratch there is no evidence." in told


@pytest.mark.parametrize(
    ("control", "told"), [(0.0, "is ahead"), (0.05, "shows no evidence of a difference"), (0.1, "is behind")]
)
def test_what_helps_is_held_against_its_controls(control: float, told: str) -> None:
    figures = figures_of({"good": 0.05, "shuffled": control}, controls={"good": ["shuffled"]})
    assert f"Against shuffled, good {told} at 4 and 8 labels." in headline(figures)


def test_without_a_baseline_nothing_is_claimed() -> None:
    gone = [Cell("scratch", labels, seed) for labels in (4, 8) for seed in range(4)]
    assert headline(figures_of({"good": 0.05}, missing=gone)) == "Nothing can be compared with scratch yet."


def test_tables_hold_every_condition_comparison_and_what_is_missing() -> None:
    gone = [Cell("good", 8, seed) for seed in range(4)]
    figures = figures_of({"good": 0.05, "shuffled": 0.0}, missing=gone, controls={"good": ["shuffled"]})
    dice, against, controls, steps = tables(figures)
    assert [row[0] for row in dice.rows] == [row[0] for row in steps.rows] == ["scratch", "good", "shuffled"]
    assert dice.rows[1][2] == "\N{EN DASH}"
    assert [row[:2] for row in against.rows] == [("good", "4"), ("good", "8"), ("shuffled", "4"), ("shuffled", "8")]
    assert [row[-1] for row in against.rows] == ["helped", "not there", "no evidence", "no evidence"]
    assert [row[0] for row in controls.rows] == [f"good {MINUS} shuffled"] * 2
    written = markdown(figures, about(figures), "study.svg")
    assert "Missing, 4 cells: good, 8 labels, seed 0; good, 8 labels, seed 1" in written


def test_markdown_tells_what_was_run_and_its_tables_are_square() -> None:
    figures = figures_of({"good": 0.05})
    written = markdown(figures, about(figures), "study.svg")
    assert "segpipe study mine.yaml --data DATA -o OUT" in written
    assert "condition good: x=good" in written
    assert "30 held-out cases of 30 subjects" in written
    for block in re.findall(r"(?:^\|.*\n)+", written, re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1


def test_few_seeds_are_called_few() -> None:
    few, many = figures_of({"good": 0.05}, seeds=3), figures_of({"good": 0.05}, seeds=4)
    assert "3 seeds: too few" in markdown(few, about(few), "p")
    assert "too few" not in markdown(many, about(many), "p")


def test_the_csv_has_a_row_for_each_cell() -> None:
    gone = [Cell("good", 8, 3)]
    rows = list(csv.DictReader(io.StringIO(as_csv(figures_of({"good": 0.05}, missing=gone)))))
    assert len(rows) == 2 * 2 * 4
    assert rows[0] | {"mean_dice": ""} == {
        "condition": "scratch",
        "labels": "4",
        "seed": "0",
        "mean_dice": "",
        "cpu_s": "12.5",
        "fingerprint": "print0",
    }
    assert [row["mean_dice"] == "" for row in rows] == [False] * 15 + [True]


def drawn(svg: str) -> list[tuple[str, ET.Element]]:
    """Return name and group of each condition that is drawn, panel by panel."""
    space = "{http://www.w3.org/2000/svg}"
    groups = ET.fromstring(svg).iter(f"{space}g")
    return [(name, group) for group in groups if (name := group.findtext(f"{space}title"))]


def kinds(group: ET.Element) -> list[str]:
    return [kind for part in group if (kind := part.get("class"))]


def heights(group: ET.Element) -> list[float]:
    return [float(str(mark.get("cy"))) for mark in group if mark.get("class") == "mark"]


def test_the_picture_has_a_line_a_mark_and_an_interval_for_each_figure() -> None:
    gone = [Cell("good", 64, seed) for seed in range(4)]
    (_, scratch), (_, good), (_, itself), (_, gained) = drawn(
        standalone(chart(figures_of({"good": 0.05}, labels=(4, 8, 64), missing=gone)))
    )
    assert kinds(scratch) == ["thin solid"] * 3 + ["bold"] + ["mark"] * 3
    assert kinds(good) == kinds(gained) == ["thin solid"] * 2 + ["bold"] + ["mark"] * 2
    assert kinds(itself) == []
    assert heights(good)[0] < heights(scratch)[0], "more Dice lies higher"


def test_the_picture_follows_light_and_dark_and_stands_on_its_own_ground() -> None:
    svg = standalone(chart(figures_of({"good": 0.05})))
    assert "prefers-color-scheme: dark" in svg
    assert "fill: var(--paper)" in svg
    assert not re.search(r'(?:fill|stroke)="#', svg)


def test_a_single_number_of_labels_can_be_drawn() -> None:
    figures = figures_of({"good": 0.05}, labels=(4,))
    assert [name for name, _ in drawn(standalone(chart(figures)))] == ["scratch", "good"] * 2


class _Balanced(HTMLParser):
    """Follows tags, and keeps those that are open."""

    open: list[str]

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_fetches_nothing() -> None:
    figures = figures_of({"good": 0.05})
    html = page(figures, about(figures), chart(figures))
    reader = _Balanced()
    reader.open = []
    reader.feed(html)
    assert reader.open == []
    assert "default-src 'none'" in html
    assert "Label efficiency: &lt;Phantom&gt;" in html
    assert not re.search(r"(?:src|href)=\"(?!data:)", html)


def test_nothing_that_is_written_names_a_case() -> None:
    figures = figures_of({"good": 0.05})
    written = [markdown(figures, about(figures), "p"), as_csv(figures), page(figures, about(figures), chart(figures))]
    assert not [case for case in CASES for text in written if case in text]
