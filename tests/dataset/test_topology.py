"""Patches and pooling: what fits into memory, divides evenly, and treats every axis as its spacing deserves."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.dataset.topology import SMALLEST, Topology, fit_patch, flat_axes, topology_for

SHAPES = st.tuples(*[st.integers(1, 600)] * 3)
SPACINGS = st.tuples(*[st.floats(0.1, 8)] * 3)
ISOTROPIC = (1.0, 1.0, 1.0)


def within(voxels: int) -> Callable[[tuple[int, ...], Topology], bool]:
    return lambda patch, topology: math.prod(patch) <= voxels


@settings(deadline=None)
@given(SHAPES, SPACINGS, st.integers(1, 7), st.sampled_from([1_000, 50_000, 10**6, 10**9]))
def test_any_image_gets_a_patch_that_pooling_divides(
    shape: tuple[int, ...], spacing: tuple[float, ...], depth: int, voxels: int
) -> None:
    patch, topology = fit_patch(shape, spacing, depth, within(voxels))
    assert 1 <= topology.depth <= depth
    assert len(topology.kernels) == topology.depth + 1
    assert all(n % total == 0 for n, total in zip(patch, topology.total, strict=True))
    assert all(set(step) <= {1, 2} for step in topology.strides)
    assert all(set(kernel) <= {1, 3} for kernel in topology.kernels)
    assert max(topology.strides[-1]) == 2 or max(patch) == 1


@settings(deadline=None)
@given(SHAPES, SPACINGS, st.sampled_from([1_000, 50_000, 10**6]))
def test_the_patch_fits_unless_it_is_the_smallest(
    shape: tuple[int, ...], spacing: tuple[float, ...], voxels: int
) -> None:
    patch, _ = fit_patch(shape, spacing, 4, within(voxels))
    assert math.prod(patch) <= voxels or max(patch) <= 2 * SMALLEST


@settings(deadline=None)
@given(SHAPES, SPACINGS)
def test_more_memory_never_gives_a_smaller_patch(shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    small, large = (math.prod(fit_patch(shape, spacing, 4, within(voxels))[0]) for voxels in (10**5, 10**7))
    assert small <= large


@settings(deadline=None)
@given(SHAPES, SPACINGS)
def test_along_a_flat_axis_nothing_is_pooled_or_filtered(shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    patch, topology = fit_patch((*shape[:2], 3), spacing, 4, within(10**6))
    assert patch[2] in (3, 4)  # 4 where all axes are so short that pooling is all there is to do
    if flat_axes(patch)[2]:
        assert topology.total[2] == 1
        assert {kernel[2] for kernel in topology.kernels} == {1}
        assert max(max(kernel) for kernel in topology.kernels) == 3


def test_a_small_image_is_taken_whole() -> None:
    patch, topology = fit_patch((36, 50, 35), ISOTROPIC, 4, within(10**6))
    assert all(p >= n for p, n in zip(patch, (36, 50, 35), strict=True))
    assert all(p < n + total for p, n, total in zip(patch, (36, 50, 35), topology.total, strict=True))


def test_a_large_image_is_cut_to_what_fits_and_keeps_its_form() -> None:
    patch, _ = fit_patch((512, 512, 400), (0.8, 0.8, 0.8), 4, within(10**6))
    assert 0.7 < math.prod(patch) / 10**6 <= 1
    shares = [n / m for n, m in zip(patch, (512, 512, 400), strict=True)]
    assert max(shares) / min(shares) < 1.25


def test_a_long_image_gives_a_patch_at_most_about_twice_as_long_as_it_is_wide() -> None:
    patch, _ = fit_patch((400, 400, 2000), ISOTROPIC, 4, within(10**6))
    assert patch[2] > patch[0]
    assert max(patch) <= 2 * min(patch) + 32


def test_thick_slices_are_all_kept_while_the_plane_is_cut() -> None:
    patch, _ = fit_patch((512, 512, 12), (0.4, 0.4, 6.0), 4, within(2 * 10**6))
    assert patch[2] == 12
    assert patch[0] < 512


def test_axes_are_halved_while_four_voxels_are_left() -> None:
    assert topology_for((64, 32, 8), ISOTROPIC, 7).strides == ((2, 2, 2), (2, 2, 1), (2, 2, 1), (2, 1, 1))


def test_a_coarse_axis_is_neither_pooled_nor_filtered_along_until_the_others_are_as_coarse() -> None:
    topology = topology_for((128, 128, 16), (0.5, 0.5, 5.0), 4)
    assert topology.strides == ((2, 2, 1), (2, 2, 1), (2, 2, 1), (2, 2, 2))
    assert topology.kernels == ((3, 3, 1), (3, 3, 1), (3, 3, 1), (3, 3, 3), (3, 3, 3))


def test_equal_axes_are_treated_alike() -> None:
    topology = topology_for((64, 64, 64), ISOTROPIC, 4)
    assert topology.strides == ((2, 2, 2),) * 4
    assert topology.kernels == ((3, 3, 3),) * 5
    assert topology.total == (16, 16, 16)


@pytest.mark.parametrize("patch", [(1, 1, 1), (2, 2, 2), (4, 5, 6), (5, 5, 5)])
def test_a_few_voxels_still_get_one_step(patch: tuple[int, ...]) -> None:
    topology = topology_for(patch, ISOTROPIC, 4)
    assert topology.depth == 1
    assert topology.strides[0] == tuple(2 if n > 1 else 1 for n in patch)


@pytest.mark.parametrize("thickness", [0.1, 1.0, 4.0])
def test_a_single_slice_is_planned_as_the_picture_it_is(thickness: float) -> None:
    patch, topology = fit_patch((512, 512, 1), (0.5, 0.5, thickness), 4, within(10**6))
    assert patch == (512, 512, 1)
    assert topology.strides == ((2, 2, 1),) * 4
    assert topology.kernels == ((3, 3, 1),) * 5


@pytest.mark.parametrize(
    ("size", "flat"),
    [
        ((512, 512, 1), (False, False, True)),
        ((64, 64, 4), (False, False, False)),
        ((64, 3, 2), (False, True, True)),
        ((1, 1, 1), (False, False, False)),
        ((64, 1), (False, True)),
    ],
)
def test_an_axis_is_flat_beside_longer_ones(size: tuple[int, ...], flat: tuple[bool, ...]) -> None:
    assert flat_axes(size) == flat


def test_a_few_flat_voxels_are_pooled_where_they_lie() -> None:
    topology = topology_for((3, 4, 5), ISOTROPIC, 4)
    assert (topology.strides, topology.kernels) == (((1, 2, 2),), ((1, 3, 3),) * 2)


def test_two_axes_go_the_same_way_as_three() -> None:
    patch, topology = fit_patch((300, 200), (1.0, 1.0), 4, within(10**6))
    assert patch == (304, 208)
    assert topology.strides == ((2, 2),) * 4
