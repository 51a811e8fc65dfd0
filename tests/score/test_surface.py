"""Distances between surfaces: laws that hold for every pair of masks, and traps of other libraries."""

import importlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from segpipe.core.errors import GeometryError
from segpipe.score.surface import (
    SurfaceDistances,
    average_distance,
    hausdorff,
    nominal,
    surface_dice,
    surfel_distances,
    voxel_distances,
)

Mask = NDArray[np.bool_]
Pair = tuple[Mask, Mask, tuple[float, ...]]
Measure = Callable[[Mask, Mask, Sequence[float]], SurfaceDistances]
FAMILIES = (voxel_distances, surfel_distances)
TOLERANCES = (0.25, 0.6, 1.0, 2.0)
monai_metrics: Any = importlib.import_module("monai.metrics")
quick = settings(max_examples=25, deadline=None)


@st.composite
def pairs(draw: st.DrawFn) -> Pair:
    """Two masks that hold something, and a spacing in quarters of a mm: sums of squares are then exact."""
    shape = draw(array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=6))
    first, second = draw(arrays(np.bool_, shape)), draw(arrays(np.bool_, shape))
    assume(first.any() and second.any())
    spacing = draw(st.tuples(*[st.sampled_from((0.25, 0.5, 1.0, 1.25, 3.0))] * len(shape)))
    return first, second, spacing


def numbers(measure: Measure, first: Mask, second: Mask, spacing: Sequence[float]) -> list[float]:
    distances = measure(first, second, spacing)
    shares = [surface_dice(distances, tolerance) for tolerance in TOLERANCES]
    return [hausdorff(distances), hausdorff(distances, 95.0), average_distance(distances), *shares]


@pytest.mark.parametrize("measure", FAMILIES)
class TestEveryFamily:
    @quick
    @given(pairs())
    def test_does_not_care_which_mask_comes_first(self, measure: Measure, pair: Pair) -> None:
        first, second, spacing = pair
        assert numbers(measure, first, second, spacing) == pytest.approx(numbers(measure, second, first, spacing))

    @quick
    @given(pairs())
    def test_a_mask_is_no_distance_from_itself(self, measure: Measure, pair: Pair) -> None:
        first, _, spacing = pair
        assert numbers(measure, first, first, spacing) == [0, 0, 0, 1, 1, 1, 1]

    @quick
    @given(pairs(), st.data())
    def test_moving_both_masks_changes_nothing(self, measure: Measure, pair: Pair, data: st.DataObject) -> None:
        first, second, spacing = pair
        pad = data.draw(st.lists(st.tuples(*[st.integers(0, 3)] * 2), min_size=first.ndim, max_size=first.ndim))
        moved = np.pad(first, pad), np.pad(second, pad)
        assert numbers(measure, *moved, spacing) == pytest.approx(numbers(measure, first, second, spacing))

    @quick
    @given(pairs(), st.data())
    def test_turning_the_axes_with_their_spacing_changes_nothing(
        self, measure: Measure, pair: Pair, data: st.DataObject
    ) -> None:
        first, second, spacing = pair
        order = data.draw(st.permutations(range(first.ndim)))
        turned = numbers(measure, first.transpose(order), second.transpose(order), [spacing[axis] for axis in order])
        assert turned == pytest.approx(numbers(measure, first, second, spacing))

    @quick
    @given(pairs(), st.data())
    def test_a_mirror_changes_nothing(self, measure: Measure, pair: Pair, data: st.DataObject) -> None:
        first, second, spacing = pair
        axis = data.draw(st.integers(0, first.ndim - 1))
        mirrored = numbers(measure, np.flip(first, axis), np.flip(second, axis), spacing)
        assert mirrored == pytest.approx(numbers(measure, first, second, spacing))

    @quick
    @given(pairs(), st.sampled_from((0.5, 2.0, 4.0)))
    def test_distances_grow_with_the_spacing(self, measure: Measure, pair: Pair, factor: float) -> None:
        first, second, spacing = pair
        before = measure(first, second, spacing)
        after = measure(first, second, [factor * size for size in spacing])
        assert hausdorff(after) == pytest.approx(factor * hausdorff(before))
        assert average_distance(after) == pytest.approx(factor * average_distance(before))
        assert surface_dice(after, factor) == pytest.approx(surface_dice(before, 1.0))

    @quick
    @given(pairs())
    def test_a_wider_tolerance_never_lowers_the_surface_dice(self, measure: Measure, pair: Pair) -> None:
        shares = numbers(measure, *pair)[3:]
        assert shares == sorted(shares)
        assert 0 <= shares[0] <= shares[-1] <= 1

    def test_the_border_of_the_image_is_surface(self, measure: Measure) -> None:
        whole, half = np.ones((4, 4, 6), bool), np.ones((4, 4, 6), bool)
        half[:, :, 3:] = False
        assert hausdorff(measure(half, whole, (1, 1, 2))) == 6.0

    def test_a_file_that_keeps_float32_loses_nothing_at_the_tolerance(self, measure: Measure) -> None:
        first, second = np.zeros((2, 6, 6, 3), bool)
        first[2, 2, 1] = second[3, 3, 1] = True
        spacing = tuple(float(size) for size in np.array([0.6, 0.8, 1.0], np.float32))
        assert surface_dice(measure(first, second, spacing), 1.0) == 1.0

    def test_ten_small_voxels_are_one_millimetre(self, measure: Measure) -> None:
        first, second = np.zeros((2, 20, 4, 4), bool)
        first[:5], second[:15] = True, True
        spacing = tuple(float(size) for size in np.full(3, 0.1, np.float32))
        assert surface_dice(measure(first, second, spacing), 1.0) == 1.0

    def test_three_tenths_of_a_millimetre_are_within_three_tenths(self, measure: Measure) -> None:
        first, second = np.zeros((2, 8, 4, 4), bool)
        first[0, 1, 1] = second[3, 1, 1] = True
        assert 3 * 0.1 > 0.3
        assert surface_dice(measure(first, second, (0.1, 0.1, 0.1)), 0.3) == 1.0

    @pytest.mark.parametrize("shapes", [((3, 3), (3, 4), 2), ((3, 3), (3, 3), 3), ((9,), (9,), 1)])
    def test_grids_that_do_not_fit_are_refused(
        self, measure: Measure, shapes: tuple[tuple[int, ...], tuple[int, ...], int]
    ) -> None:
        with pytest.raises(GeometryError, match="one shape"):
            measure(np.ones(shapes[0], bool), np.ones(shapes[1], bool), (1.0,) * shapes[2])

    def test_an_empty_mask_has_no_surface(self, measure: Measure) -> None:
        with pytest.raises(GeometryError, match="empty"):
            measure(np.zeros((4, 4), bool), np.ones((4, 4), bool), (1.0, 1.0))

    def test_nothing_is_said_aside(self, measure: Measure) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            measure(np.ones((4, 4, 4), bool), np.ones((4, 4, 4), bool), (1, 1, 1))


def test_microscopy_spacing_keeps_its_digits() -> None:
    assert nominal((0.000325, 0.6000000238418579)).tolist() == [0.000325, 0.6]


def test_percentile_is_the_larger_of_both_directions_and_not_pooled() -> None:
    forward, backward = np.r_[np.zeros(5), 10.0], np.zeros(994)
    distances = SurfaceDistances(forward, backward, np.ones(6), np.ones(994))
    assert hausdorff(distances, 95.0) == np.percentile(forward, 95) > 0


def test_two_dimensional_contours_are_weighted_by_their_length() -> None:
    # A rectangle of 6 x 4 pixels and the same with one row more, pixels 3 mm by 1 mm: the contours part only
    # at the last row. Apart are, of the taller one, 3 straight elements (1 mm) and 2 cut corners (half a
    # diagonal); of the shorter one the 3 straight elements, for its corners lie on the sides of the taller.
    short, tall = np.zeros((2, 12, 8), bool)
    short[2:8, 2:6], tall[2:9, 2:6] = True, True
    cut = 0.5 * np.hypot(3, 1)
    sides = {"short": 2 * 5 * 3 + 2 * 3 * 1 + 4 * cut, "tall": 2 * 6 * 3 + 2 * 3 * 1 + 4 * cut}
    apart = (3 * 1 + 2 * cut) + 3 * 1
    distances = surfel_distances(tall, short, (3.0, 1.0))
    assert distances.forward_area.sum() == pytest.approx(sides["tall"])
    assert distances.backward_area.sum() == pytest.approx(sides["short"])
    # The middle of the shorter one's last row is 2 mm from the sides, its other two straight corners 1 mm.
    assert surface_dice(distances, 0.5) == pytest.approx(1 - apart / sum(sides.values()))
    assert surface_dice(distances, 1.0) == pytest.approx(1 - (apart - 2 * 1) / sum(sides.values()))
    assert surface_dice(distances, 2.0) == pytest.approx(1 - (apart - 3 * 1) / sum(sides.values()))
    assert surface_dice(distances, 3.0) == 1.0


@pytest.mark.parametrize("measure", FAMILIES)
def test_far_and_speckled_predictions_are_measured_exactly(measure: Measure) -> None:
    # One far speck takes the search, many take the distance map: both must be what all pairs give.
    spacing = np.array([0.7, 1.0, 2.5])
    truth = np.zeros((40, 30, 20), bool)
    truth[2:6, 2:6, 2:6] = True
    for specks in (1, 200):
        prediction = truth.copy()
        corner = np.random.default_rng(specks).integers((20, 15, 10), truth.shape, (specks, 3))
        prediction[tuple(corner.T)] = True
        farthest = (np.maximum(corner - 5, 0) * spacing)[:, None]
        expected = np.sqrt((farthest**2).sum(axis=-1)).max()
        assert hausdorff(measure(prediction, truth, spacing.tolist())) == pytest.approx(expected, abs=1e-9)


def test_surface_area_of_a_box_is_close_to_its_faces() -> None:
    box = np.zeros((24, 24, 24), bool)
    box[2:22, 2:22, 2:22] = True
    area = surfel_distances(box, box, (0.5, 0.5, 2.0)).forward_area.sum()
    assert area == pytest.approx(2 * (10 * 10 + 2 * 10 * 40), rel=0.05)


@pytest.mark.parametrize(("shape", "spacing"), [((14, 12), (0.7, 2.0)), ((9, 8, 7), (0.7, 0.9, 2.0))])
def test_monai_finds_the_same_surface_dice(shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    prediction, truth = np.random.default_rng(4).random((2, *shape)) < 0.3
    channels = [torch.as_tensor(np.stack([~mask, mask])[None]) for mask in (prediction, truth)]
    with warnings.catch_warnings():
        # MONAI 1.6 calls itself with an argument that it deprecated.
        warnings.filterwarnings("ignore", "monai.metrics.utils get_mask_edges", FutureWarning)
        theirs = monai_metrics.compute_surface_dice(
            *channels, class_thresholds=[1.0], spacing=list(spacing), use_subvoxels=True
        )
    ours = surface_dice(surfel_distances(prediction, truth, spacing), 1.0)
    assert ours == pytest.approx(float(theirs[0, 0]), abs=1e-6)
