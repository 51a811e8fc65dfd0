"""The test split and the folds: by subject, of the right size, the same on every machine."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.core.errors import ConfigError, DataError
from segpipe.dataset.manifest import Case
from segpipe.dataset.splits import SplitConfig, divide, strata_of

NAMES = [f"subject {number}" for number in range(12)]
COHORTS = st.dictionaries(st.from_regex(r"[a-z0-9]{1,6}", fullmatch=True), st.sampled_from(NAMES), min_size=2).filter(
    lambda cohort: len(set(cohort.values())) >= 4
)
CONFIGS = st.builds(
    SplitConfig, test_fraction=st.sampled_from([0, 0.1, 0.2, 0.5]), folds=st.integers(2, 6), seed=st.integers(0, 9)
)


def subjects_of(cases: list[str], cohort: Mapping[str, str]) -> set[str]:
    return {cohort[case] for case in cases}


@settings(deadline=None)
@given(COHORTS, CONFIGS)
def test_no_subject_is_in_two_parts_and_every_case_is_in_one(cohort: dict[str, str], config: SplitConfig) -> None:
    split = divide(cohort, [], config)
    parts = [split["test"], *split["folds"]]
    assert sorted(case for part in parts for case in part) == sorted(cohort)
    for index, part in enumerate(parts):
        for other in parts[index + 1 :]:
            assert not subjects_of(part, cohort) & subjects_of(other, cohort)


@settings(deadline=None)
@given(COHORTS, CONFIGS)
def test_parts_have_the_sizes_that_were_asked_for(cohort: dict[str, str], config: SplitConfig) -> None:
    count = len(set(cohort.values()))
    split = divide(cohort, [], config)
    wanted = max(round(config.test_fraction * count), 1) if config.test_fraction else 0
    assert len(subjects_of(split["test"], cohort)) == wanted
    sizes = [len(subjects_of(fold, cohort)) for fold in split["folds"]]
    assert len(sizes) == min(config.folds, count - wanted)
    assert max(sizes) - min(sizes) <= 1


@settings(deadline=None)
@given(COHORTS, CONFIGS, st.randoms())
def test_the_order_of_the_cases_plays_no_part(cohort: dict[str, str], config: SplitConfig, random: Any) -> None:
    shuffled = list(cohort.items())
    random.shuffle(shuffled)
    assert divide(dict(shuffled), [], config) == divide(cohort, [], config)


@settings(deadline=None)
@given(COHORTS, CONFIGS, st.data())
def test_declared_test_cases_are_the_test_split_with_all_of_their_subjects(
    cohort: dict[str, str], config: SplitConfig, data: st.DataObject
) -> None:
    subjects = sorted(set(cohort.values()))
    held = subjects[: len(subjects) - 2]
    declared = [min(case for case in cohort if cohort[case] == subject) for subject in held]
    split = divide(cohort, [*declared, "a case that was set aside"], config)
    assert subjects_of(split["test"], cohort) == set(held)


def test_other_seeds_give_other_splits() -> None:
    cohort = {f"case {number}": f"subject {number}" for number in range(40)}
    splits = [divide(cohort, [], SplitConfig(seed=seed)) for seed in range(5)]
    assert len({json.dumps(split["test"]) for split in splits}) == 5
    assert len({json.dumps(split["folds"]) for split in splits}) == 5


def test_a_split_is_the_same_on_every_machine() -> None:
    cohort = {f"case_{number}": f"case_{number}" for number in range(8)}
    assert divide(cohort, [], SplitConfig(folds=2)) == {
        "seed": 0,
        "test": ["case_1", "case_5"],
        "folds": [["case_0", "case_2", "case_7"], ["case_3", "case_4", "case_6"]],
    }


def test_a_new_case_moves_no_old_one_between_folds_and_test_beyond_the_border() -> None:
    cohort = {f"case_{number}": f"case_{number}" for number in range(50)}
    before = set(divide(cohort, [], SplitConfig())["test"])
    after = set(divide(cohort | {"new": "new"}, [], SplitConfig())["test"])
    assert len(before - after) <= 1


@pytest.mark.parametrize(
    ("count", "fraction", "fine"), [(1, 0.2, False), (2, 0.2, False), (3, 0.2, True), (2, 0, True), (4, 0.9, False)]
)
def test_too_few_subjects_are_refused(count: int, fraction: float, fine: bool) -> None:
    cohort = {f"case {number}": f"subject {number % count}" for number in range(12)}
    config = SplitConfig(test_fraction=fraction)
    if fine:
        assert len(divide(cohort, [], config)["folds"]) == 2
    else:
        with pytest.raises(DataError, match=rf"{count} labelled subject\(s\).* at least 2 must be left .* lower"):
            divide(cohort, [], config)


class TestASplitFile:
    COHORT = {"a1": "a", "a2": "a", "b": "b", "c": "c", "d": "d"}  # noqa: RUF012 - read only

    def divided(self, folder: Path, split: object) -> dict[str, Any]:
        path = folder / "splits.json"
        path.write_text(split if isinstance(split, str) else json.dumps(split))
        return divide(self.COHORT, ["d"], SplitConfig(file=path))

    def test_is_used_as_it_is(self, tmp_path: Path) -> None:
        split = {"test": ["b"], "folds": [["a1", "a2", "d"], ["c"]]}
        assert self.divided(tmp_path, split) == split

    def test_may_name_cases_that_were_set_aside(self, tmp_path: Path) -> None:
        split = {"test": ["b", "gone"], "folds": [["a1", "a2", "d"], ["c", "lost"]]}
        assert self.divided(tmp_path, split) == {"test": ["b"], "folds": [["a1", "a2", "d"], ["c"]]}

    @pytest.mark.parametrize(
        "split",
        [
            {"test": ["a1"], "folds": [["a2", "b"], ["c", "d"]]},
            {"test": ["b"], "folds": [["a1", "c"], ["a2", "d"]]},
            {"test": ["b"], "folds": [["a1", "a2", "c"], ["a1", "d"]]},
        ],
        ids=["test and fold", "two folds", "one case twice"],
    )
    def test_that_leaks_is_refused(self, split: object, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"splits\.json: subject 'a' is in two parts\. Keep all cases"):
            self.divided(tmp_path, split)

    def test_that_leaves_cases_out_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"2 case\(s\) are in no part, such as 'c'"):
            self.divided(tmp_path, {"test": ["b"], "folds": [["a1", "a2"], []]})

    @pytest.mark.parametrize("folds", [[], [["a1", "a2", "c", "d"]]])
    def test_with_nothing_to_train_on_is_refused(self, folds: list[list[str]], tmp_path: Path) -> None:
        with pytest.raises(DataError, match="Give at least 2"):
            self.divided(tmp_path, {"test": ["b"], "folds": folds})

    @pytest.mark.parametrize("split", ["{", "[]", "{}", {"test": []}, {"test": None, "folds": []}, "12"])
    def test_of_another_form_is_shown_the_form(self, split: object, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r'splits\.json: no split file .*It holds \{"test": \[ids\]'):
            self.divided(tmp_path, split)

    def test_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"nowhere\.json: no split file"):
            divide(self.COHORT, [], SplitConfig(file=tmp_path / "nowhere.json"))


def case(name: str, site: str, **volumes: float) -> Case:
    grid = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    return Case(
        id=name,
        subject=name,
        part="develop",
        images=(),
        label=None,
        shape=(2, 2),
        affine=grid,
        covariates={"site": site},
        volumes_mm3=volumes,
    )


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([0.0, 3.0, 900.0])), min_size=4, max_size=40))
def test_no_two_folds_differ_by_more_than_one_subject_of_any_stratum(kinds: list[tuple[str, float]]) -> None:
    cases = [case(f"case{number}", site, tumour=volume) for number, (site, volume) in enumerate(kinds)]
    config = SplitConfig(test_fraction=0, folds=3, stratify=("structures", "volume", "site"))
    strata = strata_of(cases, config)
    split = divide({one.id: one.subject for one in cases}, [], config, strata)
    for stratum in set(strata.values()):
        counts = [sum(strata[name] == stratum for name in fold) for fold in split["folds"]]
        assert max(counts) - min(counts) <= 1


def test_strata_do_not_change_who_is_tested() -> None:
    cases = [case(f"case{number}", "a", tumour=float(number % 2)) for number in range(20)]
    subjects = {one.id: one.subject for one in cases}
    plain = divide(subjects, [], SplitConfig())
    assert divide(subjects, [], SplitConfig(), strata_of(cases, SplitConfig()))["test"] == plain["test"]


def test_a_covariate_that_no_case_has_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no case has a covariate 'age'.*structures, volume, site"):
        strata_of([case("a", "x")], SplitConfig(stratify=("age",)))
