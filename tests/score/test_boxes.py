"""Boxes around structures: the smallest, whatever lies how in memory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from segpipe.score.boxes import boxes_of, filled, whole_numbers


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_box_holds_everything_and_no_empty_margin(data: st.DataObject) -> None:
    shape = data.draw(array_shapes(min_dims=2, max_dims=3, max_side=6))
    kind = data.draw(st.sampled_from([np.bool_, np.uint8, np.int16, np.int64]))
    array = data.draw(arrays(kind, shape, elements=st.integers(0, 1) if kind != np.bool_ else None))
    array = -array if kind in (np.int16, np.int64) else array
    turned = array.transpose(data.draw(st.permutations(range(len(shape)))))
    box = filled(turned)
    points = np.argwhere(turned)
    if not len(points):
        assert turned[box].size == 0
        return
    expected = [
        slice(int(low), int(high) + 1) for low, high in zip(points.min(axis=0), points.max(axis=0), strict=True)
    ]
    assert list(box) == expected


def test_each_structure_has_the_box_of_both_maps() -> None:
    first, second = np.zeros((2, 8, 9), np.uint8)
    first[2, 3], second[5, 1], second[7, 8] = 1, 1, 2
    boxes = boxes_of((first, second), {"one": (1,), "both": (1, 2), "none": (5,), "rest": (0,)})
    assert boxes["one"] == (slice(2, 6), slice(1, 4))
    assert boxes["both"] == (slice(2, 8), slice(1, 9))
    assert boxes["none"] == (slice(0, 0), slice(0, 0))
    assert boxes["rest"] == (slice(0, 8), slice(0, 9))


@pytest.mark.parametrize("kind", [np.uint8, np.int64])
def test_integers_are_taken_as_they_are(kind: type[np.integer]) -> None:
    labels = np.ones((2, 2), kind)
    assert whole_numbers(labels) is labels
    assert whole_numbers(labels.astype(np.float32)).dtype == np.int64
