"""Patches and pooling: what fits into memory, divides evenly, and treats every axis as its spacing deserves."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.dataset.topology import BATCH_RANGE, BYTES_A_VOXEL, Topology, fit_patch, topology_for

SHAPES = st.tuples(*[st.integers(1, 600)] * 3)
SPACINGS = st.tuples(*[st.floats(0.1, 8)] * 3)
ISOTROPIC = (1.0, 1.0, 1.0)


def bytes_of(patch: tuple[int, ...]) -> int:
    return BYTES_A_VOXEL * math.prod(patch) * BATCH_RANGE[0]


@settings(deadline=None)
@given(SHAPES, SPACINGS, st.integers(1, 7), st.sampled_from([0.05, 0.5, 2.0, 16.0]))
def test_any_image_gets_a_patch_that_pooling_divides(
    shape: tuple[int, ...], spacing: tuple[float, ...], depth: int, gib: float
) -> None:
    patch, topology = fit_patch(shape, spacing, depth, gib)
    assert 1 <= topology.depth <= depth
    assert len(topology.kernels) == topology.depth + 1
    assert all(n % total == 0 for n, total in zip(patch, topology.total, strict=True))
    assert all(set(step) <= {1, 2} for step in topology.strides)
    assert all(set(kernel) <= {1, 3} for kernel in topology.kernels)
    assert max(topology.strides[-1]) == 2 or max(patch) == 1


@settings(deadline=None)
@given(SHAPES, SPACINGS, st.sampled_from([0.5, 2.0, 16.0]))
def test_two_patches_fit_into_the_memory(shape: tuple[int, ...], spacing: tuple[float, ...], gib: float) -> None:
    patch, _ = fit_patch(shape, spacing, 4, gib)
    assert bytes_of(patch) <= gib * 2**30


@settings(deadline=None)
@given(SHAPES, SPACINGS)
def test_more_memory_never_gives_a_smaller_patch(shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    small, large = (math.prod(fit_patch(shape, spacing, 4, gib)[0]) for gib in (1.0, 32.0))
    assert small <= large


def test_a_small_image_is_taken_whole() -> None:
    patch, topology = fit_patch((36, 50, 35), ISOTROPIC, 4, 2.0)
    assert all(p >= n for p, n in zip(patch, (36, 50, 35), strict=True))
    assert all(p < n + total for p, n, total in zip(patch, (36, 50, 35), topology.total, strict=True))


def test_a_large_image_is_cut_to_the_memory_and_uses_most_of_it() -> None:
    patch, _ = fit_patch((512, 512, 200), (0.8, 0.8, 2.5), 4, 2.0)
    assert all(p <= n for p, n in zip(patch, (512, 512, 208), strict=True))
    assert 0.5 < bytes_of(patch) / (2 * 2**30) <= 1
    extents = [n * mm for n, mm in zip(patch, (0.8, 0.8, 2.5), strict=True)]
    assert max(extents) / min(extents) < 2


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


@pytest.mark.parametrize("patch", [(1, 1, 1), (2, 2, 2), (4, 3, 1), (5, 5, 5)])
def test_a_few_voxels_still_get_one_step(patch: tuple[int, ...]) -> None:
    topology = topology_for(patch, ISOTROPIC, 4)
    assert topology.depth == 1
    assert topology.strides[0] == tuple(2 if n > 1 else 1 for n in patch)


def test_a_flat_image_is_never_pooled_across() -> None:
    patch, topology = fit_patch((256, 256, 1), (1.0, 1.0, 4.0), 4, 2.0)
    assert patch == (256, 256, 1)
    assert topology.total[2] == 1


def test_two_axes_go_the_same_way_as_three() -> None:
    patch, topology = fit_patch((300, 200), (1.0, 1.0), 4, 2.0)
    assert patch == (304, 208)
    assert topology.strides == ((2, 2),) * 4


@pytest.mark.parametrize(("patch", "batch"), [((8, 8, 8), 4), ((64, 64, 64), 2), ((300, 300, 300), 2)])
def test_a_batch_is_what_fits_within_bounds(patch: tuple[int, ...], batch: int) -> None:
    topology = Topology(strides=((2, 2, 2),), kernels=((3, 3, 3),) * 2)
    assert topology.batch_for(patch, 2.0) == batch
