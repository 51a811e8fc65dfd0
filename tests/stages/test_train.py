"""The training stage: which cases it learns from, what it refuses."""

import itertools

import pytest

from segpipe.core.errors import ConfigError
from segpipe.dataset.manifest import Case
from segpipe.stages.train import few_of


def case(name: str) -> Case:
    axes = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    return Case(id=name, subject=name, part="develop", images=(), label=None, shape=(2, 2), affine=axes)


CASES = tuple(case(f"case{number:02d}") for number in range(20))


def test_fewer_labels_are_a_part_of_more() -> None:
    chosen = [{one.id for one in few_of(CASES, count, seed=0)} for count in (1, 4, 8, 20)]
    assert [len(ids) for ids in chosen] == [1, 4, 8, 20]
    assert all(few < more for few, more in itertools.pairwise(chosen))


def test_another_seed_takes_others_and_the_order_of_the_cases_plays_no_part() -> None:
    assert few_of(CASES, 6, seed=0) != few_of(CASES, 6, seed=1)
    assert few_of(CASES[::-1], 6, seed=0) == few_of(CASES, 6, seed=0)


def test_more_labels_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train.labels=21: there are 20 labelled cases"):
        few_of(CASES, 21, seed=0)
