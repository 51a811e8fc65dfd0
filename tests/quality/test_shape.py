"""Figures of shapes: closed forms of boxes, what turning and moving leaves alone, what overlapping structures are."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.imaging.geometry import Geometry
from segpipe.imaging.labels import LabelSet, Structure
from segpipe.imaging.volume import Volume
from segpipe.quality.shape import Shapes, classes_held, components_of, features_of, position_of, shapes_of
from tests.bodies import LABELS, body, grid, shapes, with_an_island

ALONE = LabelSet.plain({"organ": 3})


def box(shape: tuple[int, ...], sides: tuple[int, ...], spacing: tuple[float, ...]) -> Shapes:
    classes = np.zeros(shape, np.uint8)
    classes[tuple(slice(2, 2 + n) for n in sides)] = 1
    return Shapes(classes, Geometry(shape, np.diag([*spacing, 1.0])), classes_held(ALONE))


@pytest.mark.parametrize(
    ("shape", "sides", "spacing", "surface"),
    [
        ((9, 9, 9), (4, 3, 2), (1.0, 2.0, 3.0), 2 * (4 * 6 + 4 * 6 + 6 * 6)),
        ((9, 9), (4, 3), (1.0, 2.0), 2 * (4 + 6)),
    ],
)
def test_figures_of_a_box_are_those_of_geometry(
    shape: tuple[int, ...], sides: tuple[int, ...], spacing: tuple[float, ...], surface: float
) -> None:
    lengths = [n * mm for n, mm in zip(sides, spacing, strict=True)]
    found = features_of(box(shape, sides, spacing), "organ")
    assert found["volume"] == pytest.approx(math.log(math.prod(lengths)))
    assert found["surface"] == pytest.approx(math.log(surface / math.prod(lengths)))
    assert found["loose"] == 0
    # the SD of a uniform distribution over a length is that length / √12, voxels being no points
    for axis, length in zip(("left-right", "back-front", "feet-head"), lengths, strict=False):
        assert found[f"extent {axis}"] == pytest.approx(math.log(length / math.sqrt(12)))
    assert not any(name.startswith(("share", "offset")) for name in found)


def test_parts_of_several_structures_are_told_from_the_whole() -> None:
    classes = np.zeros((10, 6), np.uint8)
    classes[1:4, 2:4], classes[4:7, 2:4] = 1, 2
    one = Shapes(classes, Geometry((10, 6), np.diag([2.0, 1.0, 1.0])), classes_held(LABELS))
    found = features_of(one, "front")
    assert found["share"] == pytest.approx(math.log(0.5))
    assert found["offset left-right"] == pytest.approx(-1.5 * 2.0)
    assert found["offset back-front"] == pytest.approx(0)


def test_an_island_is_told_by_its_share() -> None:
    one = with_an_island(body(0))
    share = 125 / (one.mask("front").sum())
    assert features_of(one, "front")["loose"] == pytest.approx(share)
    assert components_of(one.mask("front")) == 2
    assert features_of(one, "back")["loose"] == 0


def test_a_missing_structure_has_no_figures() -> None:
    one = shapes(np.where(body(0).classes == 2, 2, 0))
    assert features_of(one, "front") == {}
    assert position_of(one, "front") is None


@settings(max_examples=15, deadline=None)
@given(step=st.tuples(*[st.integers(-2, 2)] * 3))
def test_moving_changes_the_place_and_nothing_else(step: tuple[int, int, int]) -> None:
    one = body(3)
    moved = shapes(np.roll(one.classes, step, (0, 1, 2)))
    assert features_of(moved, "back") == pytest.approx(features_of(one, "back"))
    way = np.subtract(position_of(moved, "back"), position_of(one, "back"))
    assert way == pytest.approx(np.asarray(step) * 2.0)


def test_the_same_label_map_on_another_grid_has_nearly_the_same_figures() -> None:
    one = body(1)
    values = Volume(one.classes[None].astype(np.int32), one.geometry)
    turned = Volume(np.flip(values.array.transpose(0, 3, 1, 2), 2), _turned(one.geometry))
    same = shapes_of(turned, LABELS, one.geometry, one.geometry.spacing)
    np.testing.assert_array_equal(same.classes, one.classes)
    coarse = shapes_of(values, LABELS, one.geometry, (3.0, 3.0, 3.0))
    assert coarse.geometry.spacing == (3.0, 3.0, 3.0)
    assert features_of(coarse, "front")["volume"] == pytest.approx(features_of(one, "front")["volume"], abs=0.1)
    assert position_of(coarse, "front") == pytest.approx(position_of(one, "front"), abs=0.7)


def _turned(geometry: Geometry) -> Geometry:
    return geometry.permuted([2, 0, 1]).flipped([False, True, False])


def test_nested_structures_hold_the_inner_ones() -> None:
    labels = LabelSet(
        structures=(
            Structure(name="whole", values=(1, 2, 4), paint=1),
            Structure(name="core", values=(2, 4), paint=2),
            Structure(name="bright", values=(4,), paint=4),
        )
    )
    array = np.zeros((1, 8, 8), np.int32)
    array[0, 1:7, 1:7], array[0, 2:6, 2:6], array[0, 3:5, 3:5] = 1, 2, 4
    geometry = Geometry((8, 8), np.eye(3))
    one = shapes_of(Volume(array, geometry), labels, geometry, (1.0, 1.0))
    assert [int(one.mask(name).sum()) for name in labels.names] == [36, 16, 4]


def test_nothing_drawn_is_no_error() -> None:
    one = shapes_of(Volume(np.zeros((1, 28, 26, 24), np.uint8), grid(3)), LABELS, grid(3), (2.0, 2.0, 2.0))
    assert not one.classes.any()
    assert one.centre == (14, 12, 12)
