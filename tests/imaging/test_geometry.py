"""Grids in world space: no operation may move a voxel that it does not mean to move."""

import itertools

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from segpipe.core.errors import GeometryError
from segpipe.imaging.geometry import Geometry

quick = settings(max_examples=60, deadline=None)
TURNS = [(order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)]
"""All 48 ways in which three axes can be stored."""


def turned(rank: int, degrees: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a rotation by at most so many degrees about any axis."""
    angle = np.radians(rng.uniform(0, degrees))
    if rank == 2:
        return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    axis = rng.standard_normal(3)
    return Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).as_matrix()


@st.composite
def geometries(
    draw: st.DrawFn, ranks: tuple[int, ...] = (2, 3), degrees: float = 180.0, shear: float = 0.0
) -> Geometry:
    rank = draw(st.sampled_from(ranks))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    directions = turned(rank, degrees, rng)[:, rng.permutation(rank)] * rng.choice([-1, 1], rank)
    directions = directions @ (np.eye(rank) + np.triu(rng.uniform(-shear, shear, (rank, rank)), 1))
    affine = np.eye(rank + 1)
    affine[:-1, :-1] = directions * np.exp(rng.uniform(np.log(0.05), np.log(8), rank))
    affine[:-1, -1] = rng.uniform(-500, 500, rank)
    return Geometry(tuple(rng.integers(1, 9, rank).tolist()), affine)


def indices_of(geometry: Geometry) -> NDArray[np.intp]:
    return np.indices(geometry.shape).reshape(geometry.ndim, -1).T


@quick
@given(geometries(shear=0.2))
def test_canonical_points_to_ras_and_keeps_every_voxel_where_it_is(geometry: Geometry) -> None:
    canonical = geometry.canonical()
    assert canonical.axes == "RAS"[: geometry.ndim]
    assert sorted(canonical.shape) == sorted(geometry.shape)
    at = geometry.index(canonical.world(indices_of(canonical)))
    assert {tuple(row) for row in np.rint(at).astype(int)} == {tuple(row) for row in indices_of(geometry)}
    assert np.abs(at - np.rint(at)).max() < 1e-6


@quick
@given(geometries(shear=0.2))
def test_canonical_twice_is_canonical_once(geometry: Geometry) -> None:
    once = geometry.canonical()
    assert once.canonical().shape == once.shape
    assert np.array_equal(once.canonical().affine, once.affine)


@pytest.mark.parametrize(("order", "signs"), TURNS)
def test_axes_of_all_48_storage_orders_are_those_nibabel_names(order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    rng = np.random.default_rng(sum(order) * 10 + sum(signs))
    affine = np.eye(4)
    affine[:3, :3] = turned(3, 30, rng)[:, order] * signs * (0.7, 1.2, 5.0)
    geometry = Geometry((3, 4, 5), affine)
    assert geometry.axes == "".join(nib.aff2axcodes(affine))
    canonical = geometry.canonical()
    wanted = nib.as_closest_canonical(nib.Nifti1Image(np.zeros((3, 4, 5), np.uint8), affine))
    assert canonical.shape == wanted.shape
    assert np.allclose(canonical.affine, wanted.affine, atol=1e-9)


@quick
@given(geometries(degrees=44, ranks=(3,)))
def test_axes_are_nibabels_where_each_axis_has_one_nearest_direction(geometry: Geometry) -> None:
    assert geometry.axes == "".join(nib.aff2axcodes(geometry.affine))


@quick
@given(geometries(degrees=44, ranks=(2,)))
def test_axes_in_2d_are_nibabels_too(geometry: Geometry) -> None:
    assert geometry.axes == "".join(nib.aff2axcodes(geometry.affine, (("L", "R"), ("P", "A"))))


@quick
@given(geometries(shear=0.2))
def test_index_undoes_world(geometry: Geometry) -> None:
    points = np.random.default_rng(0).uniform(-5, 20, (7, geometry.ndim))
    assert np.allclose(geometry.index(geometry.world(points)), points, atol=1e-7)
    assert np.allclose(geometry.world(np.zeros(geometry.ndim)), geometry.affine[:-1, -1])


@quick
@given(geometries(), st.data())
def test_what_is_cropped_or_padded_stays_in_place(geometry: Geometry, data: st.DataObject) -> None:
    start = [data.draw(st.integers(-3, n)) for n in geometry.shape]
    shape = [data.draw(st.integers(1, 9)) for _ in geometry.shape]
    part = geometry.cropped(start, shape)
    assert part.shape == tuple(shape)
    assert np.allclose(part.world(indices_of(part)), geometry.world(indices_of(part) + start), atol=1e-9)
    back = part.cropped([-first for first in start], geometry.shape)
    assert back.matches(geometry, 1e-9)
    assert np.allclose(back.affine, geometry.affine, atol=1e-9)


@quick
@given(geometries(shear=0.1), st.data())
def test_respaced_keeps_centre_and_directions_and_moves_the_rim_by_half_a_voxel_at_most(
    geometry: Geometry, data: st.DataObject
) -> None:
    spacing = np.array([data.draw(st.floats(0.1, 5)) for _ in geometry.shape])
    new = geometry.respaced(spacing)
    for grid in (geometry, new):
        assert np.allclose(grid.corners().mean(axis=0), grid.edges().mean(axis=0), atol=1e-9)
    assert np.allclose(new.edges().mean(axis=0), geometry.edges().mean(axis=0), atol=1e-9)
    assert np.allclose(new.spacing, spacing, atol=1e-6)
    assert new.angle_to(geometry) < 1e-4
    before = np.array(geometry.shape) * np.linalg.norm(geometry.affine[:-1, :-1], axis=0)
    after = np.array(new.shape) * spacing
    assert ((np.abs(after - before) <= spacing / 2 + 1e-3) | (np.array(new.shape) == 1)).all()


@quick
@given(geometries())
def test_respaced_to_its_own_spacing_is_the_same_grid(geometry: Geometry) -> None:
    exact = np.linalg.norm(geometry.affine[:-1, :-1], axis=0)
    same = geometry.respaced(exact)
    assert same.shape == geometry.shape
    assert np.allclose(same.affine, geometry.affine, atol=1e-9)
    assert geometry.respaced(geometry.spacing).matches(geometry, 1e-4)  # spacing is told rounded to a nanometre


@quick
@given(geometries(ranks=(3,)), st.data())
def test_permuted_and_flipped_say_where_each_voxel_went(geometry: Geometry, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(geometry.ndim)))
    flips = data.draw(st.tuples(*[st.booleans()] * geometry.ndim))
    new = geometry.permuted(order).flipped(flips)
    numbers = np.arange(np.prod(geometry.shape)).reshape(geometry.shape)
    moved = np.flip(numbers.transpose(order), [axis for axis, flip in enumerate(flips) if flip])
    old = indices_of(geometry)[moved.ravel()]
    assert new.shape == moved.shape
    assert np.allclose(new.world(indices_of(new)), geometry.world(old), atol=1e-9)
    assert new.matches(geometry.permuted(order).flipped(flips))
    assert np.allclose(new.flipped(flips).permuted(np.argsort(order).tolist()).affine, geometry.affine, atol=1e-9)


@quick
@given(geometries(shear=0.1))
def test_a_grid_comes_back_from_its_json_to_the_last_bit(geometry: Geometry) -> None:
    back = Geometry.from_json(geometry.to_json())
    assert back.shape == geometry.shape
    assert np.array_equal(back.affine, geometry.affine)
    assert back.matches(geometry, 0.0)


def test_corners_are_outermost_centres_and_edges_half_a_voxel_beyond() -> None:
    grid = Geometry((3, 5), np.array([[2.0, 0, 10], [0, 1, 20], [0, 0, 1]]))
    assert grid.corners().tolist() == [[10, 20], [10, 24], [14, 20], [14, 24]]
    assert grid.edges().tolist() == [[9, 19.5], [9, 24.5], [15, 19.5], [15, 24.5]]


def test_a_shift_is_told_in_millimetres() -> None:
    grid = Geometry((4, 4, 4), np.diag([2.0, 2, 2, 1]))
    moved = grid.affine.copy()
    moved[:3, 3] = (0.03, 0.0, 0.04)
    other = Geometry((4, 4, 4), moved)
    assert grid.gap_mm(other) == pytest.approx(0.05)
    assert grid.matches(other, 0.051)
    assert not grid.matches(other, 0.049)
    assert grid.gap_mm(Geometry((4, 4, 5), grid.affine)) == float("inf")
    assert not grid.matches(Geometry((4, 4, 5), grid.affine), 1e9)


@quick
@given(st.floats(0.01, 179), st.integers(0, 2**32))
def test_an_angle_is_told_in_degrees(degrees: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    axis = rng.integers(3)
    first, second = np.eye(4), np.eye(4)
    first[:3, :3] = turned(3, 180, rng)
    about = np.radians(degrees) * np.eye(3)[axis]
    second[:3, :3] = first[:3, :3] @ Rotation.from_rotvec(about).as_matrix() * rng.uniform(0.5, 3)
    angle = Geometry((2, 2, 2), first).angle_to(Geometry((3, 3, 3), second))
    assert angle == pytest.approx(degrees, abs=1e-3)


@pytest.mark.parametrize(
    ("affine", "said"),
    [
        (np.eye(3), "needs a 4x4 affine"),
        (np.full((4, 4), np.nan), "not numbers"),
        (np.diag([1, np.inf, 1, 1]), "not numbers"),
        (np.diag([1.0, 0, 1, 1]), "singular"),
        (np.array([[1.0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "singular"),
    ],
)
def test_an_affine_that_is_none_is_refused(affine: NDArray[np.float64], said: str) -> None:
    with pytest.raises(GeometryError, match=said):
        Geometry((2, 2, 2), affine)


def test_very_small_and_very_unequal_voxels_are_not_mistaken_for_a_flat_grid() -> None:
    assert Geometry((2, 2, 2), np.diag([1e-4, 1e-4, 50.0, 1])).spacing == (1e-4, 1e-4, 50.0)


def test_a_grid_does_not_change_with_the_array_it_was_made_of() -> None:
    affine = np.eye(4)
    grid = Geometry((2, 2, 2), affine)
    affine[0, 3] = 7
    assert grid.affine[0, 3] == 0


def test_a_grid_says_what_it_is() -> None:
    grid = Geometry((30, 40, 20), np.diag([-0.5, -0.5, 3.0, 1]))
    assert repr(grid) == "30x40x20 voxels of 0.5x0.5x3 mm, LPS"
    assert Geometry((2, 2), np.eye(3)).axes == "RA"
