"""Figures of studies: what is found, what is paired, and what is left out."""

import json

import numpy as np
import pytest

from segpipe.score.paired import compare, holm
from segpipe.study.cells import Cell
from segpipe.study.figures import as_json, gather, steps_to_reach
from segpipe.study.settings import StudyConfig
from tests.study.fakes import CASES, figures_of, result_of


def test_what_helps_and_what_harms_is_found_and_what_does_nothing_is_not() -> None:
    figures = figures_of({"good": 0.05, "bad": -0.05, "same": 0.0})
    verdicts = {(one.condition, one.labels): one.verdict for one in figures.compared}
    assert verdicts == {
        ("good", 4): "helped",
        ("good", 8): "helped",
        ("bad", 4): "harmed",
        ("bad", 8): "harmed",
        ("same", 4): "no evidence",
        ("same", 8): "no evidence",
    }


def test_figures_are_those_of_the_cells() -> None:
    figures = figures_of({"good": 0.05})
    found = {(one.cell.condition, one.cell.labels, one.cell.seed): one.dice for one in figures.results}
    good, base = (
        np.array([[found[name, 4, seed][case] for seed in range(4)] for case in CASES]) for name in ("good", "scratch")
    )
    score, one = figures.score("good", 4), figures.against("good", "scratch", 4)
    assert score is not None
    assert one is not None
    assert score.dice.mean == pytest.approx(good.mean())
    assert one.found == compare(good, base, CASES)
    assert [other.corrected for other in figures.compared] == holm([other.found.p for other in figures.compared])


def test_an_interval_of_dice_ends_where_dice_does() -> None:
    score = figures_of({"good": 0.37}, seeds=2).score("good", 4)
    assert score is not None
    assert score.dice.high == 1.0


def test_conditions_pair_over_the_seeds_that_both_have() -> None:
    gone = (Cell("good", 4, 1), Cell("scratch", 4, 2))
    figures = figures_of({"good": 0.05}, missing=gone)
    seeds = {(one.condition, one.labels): one.found.seeds for one in figures.compared}
    assert seeds == {("good", 4): 2, ("good", 8): 4}
    assert figures.missing == gone


def test_without_the_baseline_nothing_is_compared() -> None:
    figures = figures_of({"good": 0.05}, missing=[Cell("scratch", 4, seed) for seed in range(4)])
    assert figures.against("good", "scratch", 4) is None
    assert figures.score("scratch", 4) is None
    assert figures.against("good", "scratch", 8) is not None


def test_only_cases_that_every_cell_scored_are_compared() -> None:
    study = StudyConfig.model_validate({"conditions": {"scratch": [], "good": []}, "labels": [4], "seeds": 2})
    cells = [Cell(name, 4, seed) for seed in range(2) for name in study.conditions]
    results = [result_of(cell, 0.0, CASES[1:] if cell.seed else CASES) for cell in cells]
    figures = gather(study, results, [], {case: "one" if case == CASES[1] else "other" for case in CASES})
    assert (figures.cases, figures.left_out, figures.subjects) == (tuple(CASES[1:]), 1, 2)


def test_where_nothing_is_there_nothing_is_said() -> None:
    figures = gather(StudyConfig.model_validate({"conditions": {"scratch": [], "good": []}}), [], [], {})
    assert (figures.cases, figures.scores, figures.compared) == ((), (), ())


def test_steps_are_a_share_of_the_baselines() -> None:
    baseline = {50: 0.5, 100: 0.6, 150: 0.7, 200: 0.65}
    assert steps_to_reach([({50: 0.4, 100: 0.66, 200: 0.6}, baseline)]) == 0.5
    assert steps_to_reach([(baseline, baseline)]) == 0.75
    assert steps_to_reach([({200: 0.64}, baseline)]) is None
    assert steps_to_reach([({50: 0.9}, {})]) is None
    assert steps_to_reach([]) is None


def test_a_seed_that_never_gets_there_counts_as_endless() -> None:
    fast, slow, baseline = {50: 0.9}, {100: 0.1}, {100: 0.5}
    assert steps_to_reach([(fast, baseline), (slow, baseline), (fast, baseline)]) == 0.5
    assert steps_to_reach([(fast, baseline), (slow, baseline)]) is None


def test_json_holds_every_figure_and_no_name_of_a_case() -> None:
    text = json.dumps(as_json(figures_of({"good": 0.05}, missing=[Cell("good", 8, 3)]), {"title": "t"}))
    assert "jane" not in text
    told = json.loads(text)
    assert len(told["cells"]) == 2 * 2 * 4 - 1
    assert len(told["cells"][0]["dice_of_cases"]) == len(CASES)
    assert told["missing"] == [{"condition": "good", "labels": 8, "seed": 3}]
    assert {one["verdict"] for one in told["comparisons"]} == {"helped"}
