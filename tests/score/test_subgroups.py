"""Subgroups: how cases are divided, what is hidden, and what is tested."""

import numpy as np
import pytest
from scipy import stats

from segpipe.score.subgroups import SubgroupsConfig, divide, subgroups

QUICK = {"resamples": 100}


def cohort(count: int, gap: float = 0.0) -> tuple[dict[str, float], dict[str, dict[str, str]], dict[str, str]]:
    """Return scores, covariates and subjects; site B scores lower by the gap."""
    random = np.random.default_rng(4)
    names = [f"case{number:03d}" for number in range(count)]
    sites = {name: {"site": "AB"[number % 2], "age": str(30 + number)} for number, name in enumerate(names)}
    scores = {name: float(random.normal(0.9, 0.02)) - gap * (sites[name]["site"] == "B") for name in names}
    return scores, sites, {name: name for name in names}


def test_texts_and_few_numbers_are_kinds_and_come_in_order() -> None:
    assert list(divide({"a": "3", "b": "1.5", "c": "3", "d": ""})) == ["1.5", "3", "not stated"]
    assert divide({"a": "F", "b": "M", "c": "F"}) == {"F": ["a", "c"], "M": ["b"]}


def test_many_numbers_are_thirds_unless_bands_are_given() -> None:
    ages = {f"c{age}": str(age) for age in range(20, 80)}
    thirds = divide(ages)
    assert [len(cases) for cases in thirds.values()] == [20, 20, 20]
    assert list(divide(ages, (40, 60))) == ["below 40", "40 to below 60", "60 and above"]
    assert divide(ages, (40, 60))["40 to below 60"] == [f"c{age}" for age in range(40, 60)]
    assert list(divide(ages | {"x": "old"}, (60,))) == ["below 60", "60 and above", "not stated"]


def test_a_column_that_names_subjects_divides_nothing() -> None:
    assert divide({f"c{n}": f"Jane Doe {n}" for n in range(30)}) == {}
    scores, _, subjects = cohort(30)
    assert subgroups(scores, {c: {"name": f"Jane {c}"} for c in scores}, subjects, SubgroupsConfig(), **QUICK) == []


def test_a_gap_is_found_with_its_size_and_tested() -> None:
    scores, sites, subjects = cohort(60, gap=0.05)
    site, age = subgroups(scores, sites, subjects, SubgroupsConfig(), **QUICK)
    assert site.gap is not None
    assert (site.gap.higher, site.gap.lower) == ("A", "B")
    assert site.gap.difference.low < 0.05 < site.gap.difference.high
    assert site.gap.difference.low > 0
    parts = [[scores[c] for c in scores if sites[c]["site"] == one] for one in "AB"]
    assert site.gap.p == pytest.approx(stats.kruskal(*parts).pvalue)
    assert site.gap.corrected == pytest.approx(2 * site.gap.p)
    welch = stats.ttest_ind(*parts, equal_var=False).confidence_interval(0.95)
    assert (site.gap.difference.low, site.gap.difference.high) == pytest.approx((welch.low, welch.high))
    assert [group.subjects for group in site.groups] == [30, 30]
    assert age.gap is not None
    assert age.gap.corrected > 0.05


def test_small_groups_are_counted_but_not_named() -> None:
    scores, sites, subjects = cohort(40)
    for case in list(scores)[:4]:
        sites[case]["site"] = "rare"
    site = subgroups(scores, sites, subjects, SubgroupsConfig(covariates=("site",)), **QUICK)[0]
    assert [group.name for group in site.groups] == ["A", "B"]
    assert (site.hidden_groups, site.hidden_subjects) == (1, 4)
    assert "rare" not in str(site)


def test_groups_below_ten_subjects_are_shown_and_not_tested() -> None:
    scores, sites, subjects = cohort(16)
    site = subgroups(scores, sites, subjects, SubgroupsConfig(covariates=("site",)), **QUICK)[0]
    assert [(group.subjects, group.tested) for group in site.groups] == [(8, False), (8, False)]
    assert (site.gap, site.reason) == (None, "fewer than two groups are large enough")


def test_subjects_in_several_groups_are_not_tested() -> None:
    scores, sites, _ = cohort(60)
    subjects = {case: str(number // 2) for number, case in enumerate(scores)}
    site = subgroups(scores, sites, subjects, SubgroupsConfig(covariates=("site",)), **QUICK)[0]
    assert (site.gap, site.reason) == (None, "some subjects lie in several groups")


def test_equal_scores_are_not_tested() -> None:
    scores, sites, subjects = cohort(40)
    site = subgroups(dict.fromkeys(scores, 1.0), sites, subjects, SubgroupsConfig(covariates=("site",)), **QUICK)[0]
    assert site.reason == "all scores are equal"
