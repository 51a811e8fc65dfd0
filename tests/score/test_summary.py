"""Summaries: intervals over subjects, what is left out, and the degenerate."""

import math
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from segpipe.score.summary import Summary, summarise
from segpipe.score.table import Row, error_row


def table(values: Sequence[float], metric: str = "dice", label: str = "organ") -> list[Row]:
    return [Row(f"case{number}", label, metric, value) for number, value in enumerate(values)]


def alone(count: int) -> dict[str, str]:
    """Each case is a subject."""
    return {f"case{number}": f"subject{number}" for number in range(count)}


def only(rows: Sequence[Row], subjects: Mapping[str, str], label: str = "organ", metric: str = "dice") -> Summary:
    found = [row for row in summarise(rows, subjects) if (row.label, row.metric) == (label, metric)]
    assert len(found) == 1
    return found[0]


def test_numbers_are_those_of_numpy() -> None:
    values = [0.9, 0.7, 0.8, 0.2, 0.95]
    summary = only(table(values), alone(5))
    assert summary.mean == pytest.approx(np.mean(values))
    assert summary.sd == pytest.approx(np.std(values, ddof=1))
    assert [summary.q1, summary.median, summary.q3] == pytest.approx(np.percentile(values, [25, 50, 75]))
    assert (summary.worst, summary.n, summary.undefined) == (0.2, 5, 0)
    assert summary.low < summary.mean < summary.high


@pytest.mark.parametrize(("metric", "worst"), [("nsd_1mm", 0.1), ("hd95_mm", 0.9)])
def test_worst_knows_which_way_is_bad(metric: str, worst: float) -> None:
    assert only(table([0.5, 0.1, 0.9], metric), alone(3), metric=metric).worst == worst


def test_volumes_have_no_worst_and_no_mean_over_structures() -> None:
    summaries = summarise(table([5.0, 7.0], "vol_ref_mm3"), alone(2))
    assert [summary.label for summary in summaries] == ["organ"]
    assert math.isnan(summaries[0].worst)


def test_subjects_with_several_cases_make_the_interval_wider() -> None:
    # Twelve subjects, five equal cases each: sixty cases carry the information of twelve.
    values = np.repeat(np.random.default_rng(2).normal(0.8, 0.1, 12), 5).tolist()
    clustered = only(table(values), {f"case{number}": f"subject{number // 5}" for number in range(60)})
    pretended = only(table(values), alone(60))
    assert clustered.mean == pretended.mean
    assert (clustered.high - clustered.low) > 1.8 * (pretended.high - pretended.low)


def test_a_subject_with_more_cases_weighs_more() -> None:
    subjects = {"case0": "a", "case1": "b", "case2": "b", "case3": "b"}
    assert only(table([0.0, 1.0, 1.0, 1.0]), subjects).mean == 0.75


def test_undefined_values_are_left_out_and_counted() -> None:
    rows = [*table([0.5, math.nan, 0.7]), error_row("case3", "no truth")]
    summary = only(rows, alone(4))
    assert summary.mean == pytest.approx(0.6)
    assert (summary.n, summary.undefined) == (2, 2)


def test_a_case_counts_over_structures_with_the_mean_of_those_defined() -> None:
    rows = table([0.2, math.nan, math.nan], label="left") + table([0.4, 0.6, math.nan], label="right")
    summary = only(rows, alone(3), label="mean")
    assert summary.mean == pytest.approx((0.3 + 0.6) / 2)
    assert (summary.n, summary.undefined) == (2, 1)


def test_rows_stand_in_the_order_of_the_table_and_the_mean_last() -> None:
    rows = table([0.5, 0.6], label="left") + table([0.4, 0.6], label="right") + table([1, 2], "hd95_mm", "left")
    names = [(summary.label, summary.metric) for summary in summarise(rows, alone(2))]
    assert names == [
        ("left", "dice"),
        ("right", "dice"),
        ("left", "hd95_mm"),
        ("mean", "dice"),
        ("mean", "hd95_mm"),
    ]


def test_an_interval_depends_on_nothing_else_in_the_table() -> None:
    rows = table([0.5, 0.6, 0.9, 0.3])
    more = table([0.1, 0.2, 0.7, 0.2], "hd95_mm") + rows
    assert only(rows, alone(4)) == only(more, alone(4))


def test_a_case_without_a_subject_is_an_error() -> None:
    with pytest.raises(KeyError, match="case1"):
        summarise(table([0.5, 0.6]), {"case0": "a"})


@pytest.mark.parametrize(
    ("values", "interval"),
    [
        ([0.8, 0.8, 0.8, 0.8], (0.8, 0.8)),
        ([1.0, 1.0], (1.0, 1.0)),
        ([0.25, 0.75], (0.0, 1.0)),
        ([0.5], (math.nan, math.nan)),
        ([math.nan, math.nan], (math.nan, math.nan)),
        ([math.nan, 0.5], (math.nan, math.nan)),
    ],
)
def test_degenerate_tables_have_an_answer_and_no_warning(values: list[float], interval: tuple[float, float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        summary = only(table(values), alone(len(values)))
    assert (summary.low, summary.high) == pytest.approx(interval, nan_ok=True)


def test_an_empty_table_has_no_summary() -> None:
    assert summarise([], {}) == []
    assert summarise([error_row("a", "broken")], {"a": "a"}) == []


def test_many_cases_of_one_subject_have_no_interval() -> None:
    summary = only(table([0.5, 0.6, 0.7]), dict.fromkeys(alone(3), "a"))
    assert (summary.n, math.isnan(summary.low)) == (3, True)
