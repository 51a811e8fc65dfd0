"""Boxes, what an image shows, and connected parts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage
from skimage import measure

from segpipe.imaging.masks import Box, box_of, clean_up, inside_of, largest_component

quick = settings(max_examples=60, deadline=None)
masks = arrays(np.bool_, array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=6))


@quick
@given(masks)
def test_a_box_is_the_smallest_that_holds_every_voxel(mask: np.ndarray) -> None:
    box = box_of(mask)
    found = ndimage.find_objects(mask.astype(int))
    if not found:
        assert box is None
        return
    assert box is not None
    assert box.slices == found[0]
    assert box.shape == mask[box.slices].shape


def test_a_box_indexes_what_it_says() -> None:
    box = Box((1, 2), (2, 1))
    assert np.arange(12).reshape(3, 4)[box.slices].tolist() == [[6], [10]]


def test_around_a_stripped_brain_or_a_ct_there_is_padding() -> None:
    image = np.zeros((2, 6, 6, 6))
    image[0, 2:4, 1:5, 3:5] = 7
    image[1] = -1024
    image[1, 5, 1, 1] = 40
    inside = inside_of(image)
    assert inside.sum() == 2 * 4 * 2 + 1
    assert inside[5, 1, 1]
    assert box_of(inside) == Box((2, 1, 1), (4, 4, 4))


def test_where_the_corners_differ_every_voxel_counts() -> None:
    image = np.zeros((1, 5, 5))
    image[0, 0, 0] = 1
    assert inside_of(image).all()


def test_a_hole_of_the_padding_value_is_not_shown_but_lies_in_the_box() -> None:
    image = np.zeros((1, 7, 7))
    image[0, 1:6, 1:6] = 3
    image[0, 3, 3] = 0
    assert not inside_of(image)[3, 3]
    assert box_of(inside_of(image)) == Box((1, 1), (5, 5))


def test_an_image_of_one_value_shows_nothing() -> None:
    assert box_of(inside_of(np.full((2, 4, 4, 4), 5))) is None


def test_corners_that_are_not_numbers_are_no_padding() -> None:
    image = np.zeros((1, 4, 4))
    image[0, 0, 0] = np.nan
    assert inside_of(image).all()


@quick
@given(masks)
def test_the_largest_part_is_one_part_and_none_is_larger(mask: np.ndarray) -> None:
    found = largest_component(mask)
    parts = measure.label(mask, connectivity=mask.ndim)
    sizes = np.bincount(parts.ravel())[1:]
    assert not (found & ~mask).any()
    assert found.sum() == (sizes.max() if len(sizes) else 0)
    assert measure.label(found, connectivity=mask.ndim).max() == min(len(sizes), 1)


def test_parts_that_touch_at_a_corner_are_one() -> None:
    mask = np.zeros((5, 5), bool)
    mask[0, 0] = mask[1, 1] = mask[2, 2] = True
    mask[4, 3:] = True
    assert largest_component(mask).sum() == 3


def test_clean_up_keeps_the_largest_part_of_each_group_and_all_of_the_rest() -> None:
    labels = np.zeros((3, 12), np.uint16)
    labels[0, :4], labels[0, 4:6], labels[0, 8] = 1, 2, 1  # 1 and 2 touch
    labels[2, 0], labels[2, 10] = 3, 3
    before = labels.copy()
    together = clean_up(labels, [(1, 2)])
    assert together[0].tolist() == [1, 1, 1, 1, 2, 2, 0, 0, 0, 0, 0, 0]
    assert together[2].tolist() == labels[2].tolist()
    assert clean_up(labels, [(1,), (2,)])[0].tolist() == [1, 1, 1, 1, 2, 2, 0, 0, 0, 0, 0, 0]
    assert clean_up(labels, [(3,)])[2].tolist().count(3) == 1
    assert np.array_equal(clean_up(labels, []), labels)
    assert np.array_equal(labels, before)


@pytest.mark.parametrize("groups", [[(9,)], [(9,), (1, 9)]])
def test_a_structure_that_is_not_there_needs_no_cleaning(groups: list[tuple[int, ...]]) -> None:
    labels = np.ones((2, 2), np.uint16)
    assert np.array_equal(clean_up(labels, groups), labels)
