"""Voxels and their grid move together."""

import itertools

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from segpipe.core.errors import GeometryError
from segpipe.imaging.geometry import Geometry
from segpipe.imaging.volume import Volume, turn

TURNS = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))
OBLIQUE = Rotation.from_euler("xyz", (12, -20, 25), degrees=True).as_matrix()


def stored(order: tuple[int, ...], signs: tuple[int, ...]) -> Volume:
    """Return two channels of numbered voxels on an oblique grid whose axes are stored in this way."""
    affine = np.eye(4)
    affine[:3, :3] = (OBLIQUE * (0.8, 1.1, 4.0))[:, order] * signs
    affine[:3, 3] = (-30, 12, 77)
    array = np.random.default_rng(0).permutation(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    return Volume(array.astype(np.int16), Geometry((3, 4, 5), affine))


def where(volume: Volume) -> dict[int, NDArray[np.float64]]:
    """Return the world position of each number of the first channel."""
    points = volume.geometry.world(np.indices(volume.geometry.shape).reshape(3, -1).T)
    return dict(zip(volume.array[0].ravel().tolist(), points, strict=True))


@pytest.mark.parametrize(("order", "signs"), TURNS)
def test_canonical_is_what_nibabel_makes_of_it_in_all_48_orders(order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    volume = stored(order, signs)
    image = nib.Nifti1Image(np.moveaxis(volume.array, 0, -1), volume.geometry.affine)
    wanted = nib.as_closest_canonical(image)
    canonical = volume.canonical()
    assert canonical.geometry.axes == "RAS"
    assert np.array_equal(np.moveaxis(canonical.array, 0, -1), np.asarray(wanted.dataobj))
    assert np.allclose(canonical.geometry.affine, wanted.affine, atol=1e-9)
    before, after = where(volume), where(canonical)
    assert all(np.allclose(before[number], after[number], atol=1e-9) for number in before)


@pytest.mark.parametrize(("order", "signs"), TURNS[::5])
def test_turn_says_which_axis_lies_where(order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    volume = stored(order, signs)
    there = stored((0, 1, 2), (1, 1, 1)).geometry.respaced((2, 2, 2))
    axes, flips = turn(volume.geometry, there)
    assert axes == [order.index(axis) for axis in range(3)]
    assert flips == [signs[axis] < 0 for axis in axes]


@pytest.mark.parametrize("degrees", [0.5, 30, 45])
def test_grids_that_are_not_parallel_have_no_turn(degrees: float) -> None:
    grid = Geometry((3, 3, 3), np.eye(4))
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("z", degrees, degrees=True).as_matrix()
    with pytest.raises(GeometryError, match="not parallel"):
        turn(grid, Geometry((3, 3, 3), affine))


def test_rounding_in_a_header_is_no_turn() -> None:
    grid = stored((1, 0, 2), (1, -1, 1)).geometry
    rounded = Geometry(grid.shape, grid.affine.astype(np.float32))
    assert turn(grid, rounded) == ([0, 1, 2], [False, False, False])


def test_an_array_of_another_shape_than_its_grid_is_refused() -> None:
    grid = Geometry((3, 4, 5), np.eye(4))
    for shape in ((1, 3, 4, 6), (3, 4, 5), (1, 5, 4, 3)):
        with pytest.raises(GeometryError, match="3x4x5"):
            Volume(np.zeros(shape), grid)


def test_a_crop_keeps_numbers_in_their_place() -> None:
    volume = stored((2, 0, 1), (1, -1, -1))
    part = volume.cropped((1, 0, 2), (2, 3, 1))
    assert part.array.shape == (2, 2, 3, 1)
    assert np.array_equal(part.array, volume.array[:, 1:3, 0:3, 2:3])
    before = where(volume)
    assert all(np.allclose(before[number], point, atol=1e-9) for number, point in where(part).items())


@pytest.mark.parametrize(("start", "shape"), [((-1, 0, 0), (2, 2, 2)), ((0, 0, 3), (3, 4, 3)), ((3, 0, 0), (1, 1, 1))])
def test_a_crop_that_reaches_outside_is_refused(start: tuple[int, ...], shape: tuple[int, ...]) -> None:
    with pytest.raises(GeometryError, match="cannot crop"):
        stored((0, 1, 2), (1, 1, 1)).cropped(start, shape)


def test_canonical_works_in_2d() -> None:
    affine = np.array([[0.0, -2, 5], [3, 0, 1], [0, 0, 1]])
    volume = Volume(np.arange(6).reshape(1, 2, 3), Geometry((2, 3), affine))
    canonical = volume.canonical()
    assert canonical.geometry.axes == "RA"
    assert canonical.array[0].tolist() == [[2, 5], [1, 4], [0, 3]]
    assert canonical.geometry.affine.tolist() == [[2, 0, 1], [0, 3, 1], [0, 0, 1]]
