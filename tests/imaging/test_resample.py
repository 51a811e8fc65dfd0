"""Moving volumes between grids: against SimpleITK, and there and back again."""

import itertools
import tracemalloc

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from segpipe.core.errors import GeometryError
from segpipe.imaging.geometry import Geometry
from segpipe.imaging.resample import resample_image, resample_labels, resample_scores
from segpipe.imaging.volume import Volume

quick = settings(max_examples=30, deadline=None)
TURNS = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))


def grid(
    shape: tuple[int, ...],
    spacing: tuple[float, ...],
    order: tuple[int, ...] | None = None,
    signs: tuple[int, ...] | None = None,
    degrees: float = 20,
) -> Geometry:
    """Return an oblique grid, its axes stored in some order and direction."""
    rank = len(shape)
    if rank == 2:
        turn = Rotation.from_euler("z", degrees, degrees=True).as_matrix()[:2, :2]
    else:
        turn = Rotation.from_euler("xyz", (degrees, -degrees / 2, degrees / 3), degrees=True).as_matrix()
    affine = np.eye(rank + 1)
    affine[:-1, :-1] = turn[:, order or range(rank)] * np.array(signs or (1,) * rank) * spacing
    affine[:-1, -1] = np.arange(rank) * 17.0 - 40
    return Geometry(shape, affine)


@st.composite
def grids(draw: st.DrawFn, ranks: tuple[int, ...] = (2, 3), sides: tuple[int, int] = (1, 9)) -> Geometry:
    rank = draw(st.sampled_from(ranks))
    return grid(
        draw(st.tuples(*[st.integers(*sides)] * rank)),
        draw(st.tuples(*[st.floats(0.3, 5)] * rank)),
        tuple(draw(st.permutations(range(rank)))),
        draw(st.tuples(*[st.sampled_from((1, -1))] * rank)),
        draw(st.floats(-40, 40)),
    )


def smooth(shape: tuple[int, ...], sigma: float = 2.0, seed: int = 0) -> NDArray[np.float32]:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), sigma)
    return np.asarray(100 + 50 * noise / noise.std(), np.float32)


def ball(onto: Geometry, native: Geometry) -> NDArray[np.uint8]:
    """Return the two halves of a ball in the middle of ``native``, drawn on a grid in the same world."""
    points = onto.world(np.indices(onto.shape).reshape(onto.ndim, -1).T)
    away = points - native.edges().mean(axis=0)
    radius = 0.42 * (np.array(native.shape) * native.spacing).min()
    parts = np.where(np.linalg.norm(away, axis=1) < radius, np.where(away[:, 0] > 0, 7, 3), 0)
    return parts.reshape((1, *onto.shape)).astype(np.uint8)


def dice(a: NDArray[np.generic], b: NDArray[np.generic], value: int) -> float:
    x, y = a == value, b == value
    return float(2 * (x & y).sum() / (x.sum() + y.sum()))


def as_itk(volume: Volume) -> sitk.Image:
    """Return one channel as SimpleITK sees it: axes (z, y, x), world LPS."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array[0].T))
    geometry, rank = volume.geometry, volume.geometry.ndim
    spacing = np.linalg.norm(geometry.affine[:-1, :-1], axis=0)
    lps = np.array((-1.0, -1.0, 1.0))[:rank]
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:, None] * geometry.affine[:-1, :-1] / spacing).ravel().tolist())
    image.SetOrigin((lps * geometry.affine[:-1, -1]).tolist())
    return image


def by_itk(volume: Volume, onto: Geometry, interpolator: int) -> NDArray[np.float32]:
    there = as_itk(Volume(np.zeros((1, *onto.shape), np.float32), onto))
    moved = sitk.Resample(as_itk(volume), there, sitk.Transform(onto.ndim, sitk.sitkIdentity), interpolator, 0.0)
    return np.asarray(sitk.GetArrayFromImage(moved).T)


def inner(onto: Geometry, source: Geometry, rim: float) -> NDArray[np.bool_]:
    """Tell which voxels of a grid lie at least ``rim`` voxels inside another."""
    at = source.index(onto.world(np.indices(onto.shape).reshape(onto.ndim, -1).T))
    inside = ((at >= rim) & (at <= np.array(source.shape) - 1 - rim)).all(axis=1)
    return np.asarray(inside.reshape(onto.shape))


# ---- against SimpleITK


@pytest.mark.parametrize(("order", "signs"), TURNS[::7])
def test_linear_interpolation_is_simpleitks_for_flipped_and_reordered_grids(
    order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    source = grid((21, 18, 14), (1.0, 1.3, 2.0), order, signs)
    volume = Volume(smooth(source.shape)[None], source)
    onto = source.canonical().respaced((0.8, 0.9, 0.7))
    wanted = by_itk(volume, onto, sitk.sitkLinear)
    inside = inner(onto, source, 0)
    assert inside.mean() > 0.8
    # float32 in both: 100 +- 150 is known to 2e-5
    assert np.abs(resample_image(volume, onto, order=1).array[0] - wanted)[inside].max() < 1e-3
    assert np.abs(resample_scores(volume, onto).array[0] - wanted)[inside].max() < 1e-3


@pytest.mark.parametrize(("order", "signs"), TURNS[::7])
def test_cubic_interpolation_is_simpleitks_away_from_the_rim(order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    source = grid((31, 28, 26), (1.0, 1.3, 2.0), order, signs)
    volume = Volume(smooth(source.shape)[None], source)
    onto = source.canonical().respaced(np.array(source.canonical().spacing) * (0.8, 0.55, 1.0))
    wanted = by_itk(volume, onto, sitk.sitkBSpline)
    # ITK mirrors at the rim, ours ends without a knot: the difference dies by 2 - sqrt(3) = 0.27 a voxel
    inside = inner(onto, source, 9)
    assert inside.sum() > 500
    assert np.abs(resample_image(volume, onto).array[0] - wanted)[inside].max() < 2e-3


def test_both_interpolations_are_simpleitks_in_2d() -> None:
    source = grid((40, 33), (0.7, 1.9), (1, 0), (1, -1))
    volume = Volume(smooth(source.shape)[None], source)
    onto = source.canonical().respaced((0.6, 0.6))
    for order, interpolator, rim in ((1, sitk.sitkLinear, 0), (3, sitk.sitkBSpline, 9)):
        inside = inner(onto, source, rim)
        found = resample_image(volume, onto, order).array[0]
        assert inside.sum() > 100
        assert np.abs(found - by_itk(volume, onto, interpolator))[inside].max() < 2e-3


def test_a_coarser_grid_gets_what_simpleitk_gives_for_the_smoothed_image() -> None:
    source = grid((40, 36, 30), (1.0, 1.0, 1.0))
    volume = Volume(smooth(source.shape, 1.0)[None], source)
    onto = source.respaced((2.0, 3.0, 1.0))
    # the same Gaussian (sigma = (ratio - 1) / 2 voxels, as scikit-image has it) from scipy
    soft = ndimage.gaussian_filter(volume.array[0].astype(float), (0.5, 1.0, 0), truncate=8)
    wanted = by_itk(Volume(soft.astype(np.float32)[None], source), onto, sitk.sitkLinear)
    inside = inner(onto, source, 6)
    assert inside.sum() > 200
    assert np.abs(resample_image(volume, onto, order=1).array[0] - wanted)[inside].max() < 1e-3


# ---- laws


@quick
@given(grids(), st.data(), st.sampled_from((1, 3)), st.floats(-1e4, 1e4, width=32))
def test_a_constant_image_stays_constant(geometry: Geometry, data: st.DataObject, order: int, value: float) -> None:
    spacing = data.draw(st.tuples(*[st.floats(0.3, 9)] * geometry.ndim))
    volume = Volume(np.full((2, *geometry.shape), value, np.float32), geometry)
    onto = geometry.canonical().respaced(spacing)
    found = resample_image(volume, onto, order).array
    assert found.shape == (2, *onto.shape)
    assert np.allclose(found, value, rtol=1e-5, atol=1e-6)
    assert np.allclose(resample_scores(volume, onto).array, value, rtol=1e-5, atol=1e-6)


@quick
@given(grids(sides=(2, 9)), st.data(), st.sampled_from((1, 3)))
def test_values_stay_in_the_range_of_the_old_ones(geometry: Geometry, data: st.DataObject, order: int) -> None:
    spacing = data.draw(st.tuples(*[st.floats(0.3, 9)] * geometry.ndim))
    array = np.random.default_rng(1).choice([-3.0, 11.0], (1, *geometry.shape)).astype(np.float32)
    found = resample_image(Volume(array, geometry), geometry.canonical().respaced(spacing), order).array
    assert np.isfinite(found).all()
    assert array.min() <= found.min()
    assert found.max() <= array.max()


@quick
@given(grids(sides=(2, 9)), st.data())
def test_a_ramp_is_a_ramp_on_every_grid(geometry: Geometry, data: st.DataObject) -> None:
    spacing = data.draw(st.tuples(*[st.floats(0.3, 1)] * geometry.ndim))
    slope = np.random.default_rng(2).standard_normal(geometry.ndim)
    onto = geometry.canonical().respaced(np.minimum(spacing, geometry.canonical().spacing))

    def ramp(where: Geometry) -> NDArray[np.float64]:
        points = where.world(np.indices(where.shape).reshape(where.ndim, -1).T)
        return np.asarray((points @ slope).reshape((1, *where.shape)))

    inside = inner(onto, geometry, 0)
    for order in (1, 3):
        found = resample_image(Volume(ramp(geometry), geometry), onto, order).array
        assert np.abs(found - ramp(onto))[0][inside].max(initial=0) < 1e-3


@quick
@given(grids())
def test_turning_alone_changes_no_value_of_any_type(geometry: Geometry) -> None:
    rng = np.random.default_rng(3)
    for dtype in (np.uint8, np.int16, np.float64):
        volume = Volume(rng.integers(0, 200, (1, *geometry.shape)).astype(dtype), geometry)
        canonical = volume.canonical()
        for resample in (resample_image, resample_labels, resample_scores):
            there = resample(volume, canonical.geometry)
            assert there.array.dtype == dtype
            assert np.array_equal(there.array, canonical.array)
            back = resample(there, geometry)
            assert np.array_equal(back.array, volume.array)
            assert back.geometry is geometry


@quick
@given(grids(sides=(3, 9)), st.data())
def test_a_part_of_a_grid_gets_the_voxels_that_lie_there(geometry: Geometry, data: st.DataObject) -> None:
    start = [data.draw(st.integers(-2, n - 1)) for n in geometry.shape]
    shape = [data.draw(st.integers(1, 6)) for _ in start]
    onto = geometry.cropped(start, shape)
    array = np.random.default_rng(4).integers(1, 9, (1, *geometry.shape)).astype(np.uint8)
    padded = np.pad(array[0], 8)
    wanted = padded[tuple(slice(first + 8, first + 8 + n) for first, n in zip(start, shape, strict=True))]
    found = resample_labels(Volume(array, geometry), onto).array[0]
    assert np.array_equal(found, wanted)  # outside it is background
    repeated = np.pad(array[0], 8, mode="edge")
    wanted = repeated[tuple(slice(first + 8, first + 8 + n) for first, n in zip(start, shape, strict=True))]
    assert np.allclose(resample_image(Volume(array, geometry), onto).array[0], wanted, atol=1e-4)
    assert np.allclose(resample_scores(Volume(array, geometry), onto).array[0], wanted, atol=1e-4)


def test_a_position_far_from_the_origin_is_not_rounded_away() -> None:
    # spacing is told rounded to a nanometre; over 2000 voxels of 12.3456789 micrometres that is a tenth of a voxel
    step = 0.0123456489
    fine = Geometry((2000, 2), np.array([[step, 0, 0], [0, 1.0, 0], [0, 0, 1]]))
    ramp = np.repeat(np.arange(2000.0)[None, :, None], 2, axis=2).astype(np.float32)
    onto = Geometry((3, 2), np.array([[999.5 * step, 0, 0], [0, 1.0, 0], [0, 0, 1]]))
    assert np.allclose(resample_scores(Volume(ramp, fine), onto).array[0, :, 0], [0, 999.5, 1999], atol=1e-2)


@pytest.mark.parametrize("ratio", [1.5, 2.0, 2.6, 3.0, 4.0])
def test_downsampling_does_not_alias(ratio: float) -> None:
    source = Geometry((48, 48, 48), np.eye(4))
    checkerboard = (np.indices(source.shape).sum(axis=0) % 2).astype(np.float32)
    found = resample_image(Volume(checkerboard[None], source), source.respaced((ratio,) * 3)).array[0]
    core = found[3:-3, 3:-3, 3:-3]
    assert core.mean() == pytest.approx(0.5, abs=0.01)
    # a Gaussian of (ratio - 1) / 2 voxels lets exp(-sigma^2 pi^2 / 2) of the finest wave pass, along each axis
    passes = float(np.exp(-0.5 * ((ratio - 1) / 2 * np.pi) ** 2)) ** 3
    assert np.abs(core - 0.5).max() < 0.5 * passes + 1e-3
    assert ratio < 2 or passes < 0.03


def test_stripes_one_voxel_wide_are_averaged_also_into_one_voxel() -> None:
    source = Geometry((16, 4), np.eye(3))
    stripes = np.zeros((1, 16, 4), np.float32)
    stripes[:, 8] = 1  # nothing lies at the centre, 7.5, of the one voxel but the half of this line
    found = resample_image(Volume(stripes, source), Geometry((1, 4), source.respaced((16, 1)).affine)).array
    assert np.allclose(found, 1 / 16, atol=0.03)


def test_grids_that_are_not_parallel_are_refused() -> None:
    volume = Volume(np.zeros((1, 4, 4, 4)), grid((4, 4, 4), (1, 1, 1), degrees=20))
    for resample in (resample_image, resample_labels, resample_scores):
        with pytest.raises(GeometryError, match="not parallel"):
            resample(volume, grid((4, 4, 4), (1, 1, 1), degrees=25))


# ---- labels


@pytest.mark.parametrize(("order", "signs"), TURNS[::5])
@pytest.mark.parametrize("spacing", [(0.7, 0.7, 0.7), (1.5, 1.5, 1.5), (1.0, 1.0, 3.0), (2.0, 0.8, 1.2)])
def test_a_label_map_survives_the_way_to_the_network_and_back(
    order: tuple[int, ...], signs: tuple[int, ...], spacing: tuple[float, ...]
) -> None:
    native = grid((48, 44, 36), (0.9, 1.0, 1.2), order, signs)
    labels = Volume(ball(native, native), native)
    there = resample_labels(labels, native.canonical().respaced(spacing))
    back = resample_labels(there, native)
    assert there.geometry.axes == "RAS"
    assert back.geometry.shape == native.shape
    assert np.abs(back.geometry.affine - native.affine).max() < 1e-9
    for value in (3, 7):
        assert dice(there.array, ball(there.geometry, native), value) > 0.95
        assert dice(back.array, labels.array, value) >= 0.95


@quick
@given(grids(sides=(2, 9)), st.data())
def test_no_new_label_appears(geometry: Geometry, data: st.DataObject) -> None:
    spacing = data.draw(st.tuples(*[st.floats(0.3, 9)] * geometry.ndim))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    labels = Volume(rng.choice([0, 1, 4, 250, 60000], (1, *geometry.shape)).astype(np.uint16), geometry)
    found = resample_labels(labels, geometry.canonical().respaced(spacing)).array
    assert found.dtype == np.uint16
    assert set(np.unique(found)) <= set(np.unique(labels.array))


def test_each_voxel_takes_the_label_it_has_most_of() -> None:
    source = Geometry((4, 4), np.eye(3))
    labels = np.zeros((1, 4, 4), np.uint8)
    labels[0, :2], labels[0, 2:, 0] = 5, 9
    onto = Geometry((1, 1), np.array([[1.0, 0, 1.4], [0, 1, 0.0], [0, 0, 1]]))  # 0.6 of 5, 0.4 of 9
    assert resample_labels(Volume(labels, source), onto).array.item() == 5
    onto = Geometry((1, 1), np.array([[1.0, 0, 1.6], [0, 1, 0.3], [0, 0, 1]]))  # 0.4 of 5, 0.42 of 9, 0.18 of 0
    assert resample_labels(Volume(labels, source), onto).array.item() == 9
    onto = Geometry((1, 1), np.array([[1.0, 0, 1.6], [0, 1, 0.5], [0, 0, 1]]))  # 0.4 of 5, 0.3 of 9, 0.3 of 0
    assert resample_labels(Volume(labels, source), onto).array.item() == 5
    onto = Geometry((1, 1), np.array([[1.0, 0, 2.0], [0, 1, 0.6], [0, 0, 1]]))  # 0.4 of 9, 0.6 of 0
    assert resample_labels(Volume(labels, source), onto).array.item() == 0


def test_a_sheet_one_voxel_thin_does_not_vanish_on_a_finer_grid() -> None:
    source = Geometry((9, 9, 9), np.eye(4))
    labels = np.zeros((1, 9, 9, 9), np.uint8)
    labels[:, :, :, 4] = 1
    found = resample_labels(Volume(labels, source), source.respaced((0.5, 0.5, 0.5)))
    volume = found.array.sum() * 0.5**3
    assert volume == pytest.approx(81, rel=0.05)


def test_many_labels_need_no_more_memory_than_few() -> None:
    source = Geometry((40, 40, 40), np.eye(4))
    onto = source.respaced((0.8, 0.8, 0.8))
    peaks = []
    for count in (2, 40):
        labels = np.random.default_rng(0).integers(0, count + 1, (1, 40, 40, 40)).astype(np.uint8)
        resample_labels(Volume(labels, source), onto)
        tracemalloc.start()
        resample_labels(Volume(labels, source), onto)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]
