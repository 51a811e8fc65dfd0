"""How much a voxel counts: the published formula, computed the long way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from skimage import measure

from segpipe.imaging.weights import BorderWeight, ClassBalance

OBJECTS = [(slice(3, 11), slice(4, 12)), (slice(3, 12), slice(14, 22)), (slice(14, 24), slice(8, 20))]
"""Three cells: the first two 2 voxels apart, the third 2 to 3 below them."""


def cells() -> np.ndarray:
    labels = np.zeros((1, 28, 26), np.uint8)
    for number, part in enumerate(OBJECTS, start=1):
        labels[0][part] = number
    return labels


def by_the_book(labels: np.ndarray, w0: float, sigma: float, *, balance: bool) -> np.ndarray:
    """Return equation 2 of Ronneberger et al. 2015 from all pairs of pixels; the ridge on background only."""
    points = np.indices(labels.shape[1:]).reshape(2, -1).T
    distances = []
    for part in OBJECTS:
        mask = np.zeros(labels.shape[1:], bool)
        mask[part] = True
        distances.append(cdist(points, points[mask.ravel()]).min(axis=1))
    d1, d2 = np.sort(distances, axis=0)[:2].reshape(2, *labels.shape[1:])
    labelled = labels[0] > 0
    half = labels[0].size / 2
    w_c = np.where(labelled, half / labelled.sum(), half / (~labelled).sum()) if balance else np.ones(labelled.shape)
    return w_c + np.where(labelled, 0, w0 * np.exp(-((d1 + d2) ** 2) / (2 * sigma**2)))


@pytest.mark.parametrize("balance", [True, False])
@pytest.mark.parametrize(("w0", "sigma"), [(10.0, 5.0), (3.0, 2.0)])
def test_the_border_weight_is_the_published_formula(w0: float, sigma: float, balance: bool) -> None:
    labels = cells()
    found = BorderWeight(w0=w0, sigma_voxels=sigma, balance=balance)(labels)
    wanted = by_the_book(labels, w0, sigma, balance=balance)
    # objects farther than 4 sigma are left out: that is exp(-8) of the height, at most
    assert np.abs(found[0] - wanted).max() < w0 * np.exp(-8)
    assert found.shape == labels.shape
    assert found.dtype == np.float32


def test_the_published_numbers_are_the_defaults() -> None:
    assert BorderWeight().w0 == 10
    assert BorderWeight().sigma_voxels == 5


def test_the_gap_between_touching_cells_counts_most() -> None:
    weight = BorderWeight()(cells())[0]
    between = weight[6, 12:14]
    assert (between > 8).all()
    assert between.min() > 3 * weight[6, 0]
    assert np.unravel_index(weight.argmax(), weight.shape)[0] in range(3, 14)


def test_one_object_or_none_has_no_ridge() -> None:
    labels = np.zeros((1, 9, 9), np.uint8)
    assert (BorderWeight(balance=False)(labels) == 1).all()
    labels[0, 3:5, 3:5] = 1
    assert (BorderWeight(balance=False)(labels) == 1).all()


def test_labels_that_touch_are_one_object_whatever_their_values() -> None:
    labels = np.zeros((1, 9, 9), np.uint8)
    labels[0, 3:5, 3:5], labels[0, 5, 5] = 1, 2
    assert (BorderWeight(balance=False)(labels) == 1).all()


def test_objects_far_apart_have_nothing_between_them() -> None:
    labels = np.zeros((1, 3, 200), np.uint8)
    labels[0, 1, 2], labels[0, 1, 197] = 1, 1
    assert BorderWeight(sigma_voxels=2, balance=False)(labels).max() == pytest.approx(1, abs=1e-6)


def test_the_border_weight_works_in_3d() -> None:
    labels = np.zeros((1, 7, 7, 9), np.uint8)
    labels[0, 2:5, 2:5, 1:4], labels[0, 2:5, 2:5, 5:8] = 1, 1
    weight = BorderWeight(balance=False)(labels)[0]
    assert weight[3, 3, 4] == pytest.approx(1 + 10 * np.exp(-4 / 50), rel=1e-5)  # one voxel from either
    assert (weight[2:5, 2:5, 1:4] == 1).all()


@pytest.mark.parametrize("shape", [(1, 12, 10), (1, 5, 6, 7)])
def test_class_balance_makes_every_class_count_alike_and_the_mean_1(shape: tuple[int, ...]) -> None:
    labels = np.random.default_rng(0).choice([0, 1, 7], shape, p=[0.9, 0.08, 0.02])
    weight = ClassBalance()(labels)
    sums = [weight[labels == value].sum() for value in (0, 1, 7)]
    assert np.allclose(sums, labels.size / 3, rtol=1e-5)
    assert weight.mean() == pytest.approx(1, rel=1e-5)
    assert weight.shape == shape


def test_where_there_is_one_class_every_voxel_weighs_1() -> None:
    assert (ClassBalance()(np.zeros((1, 4, 4), int)) == 1).all()


def blobs(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Return a mask (*S) of a few boxes, some of which touch."""
    mask = np.zeros(size, np.uint8)
    for _ in range(int(rng.integers(0, 6))):
        row, column = (int(rng.integers(0, n)) for n in size)
        mask[row : row + int(rng.integers(1, 5)), column : column + int(rng.integers(1, 5))] = int(rng.integers(1, 4))
    return mask


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.tuples(st.integers(3, 16), st.integers(3, 16)), st.sampled_from([1.5, 5.0]))
def test_the_border_weight_of_any_mask_is_what_a_loop_over_pixels_and_objects_gives(
    seed: int, size: tuple[int, int], sigma: float
) -> None:
    mask = blobs(np.random.default_rng(seed), size)
    objects, count = measure.label(mask > 0, connectivity=2, return_num=True)
    found = BorderWeight(w0=10, sigma_voxels=sigma)(mask[None])[0]
    parts = [np.argwhere(objects == number) for number in range(1, count + 1)]
    share = {flag: mask.size / (2 * max((mask > 0).sum() if flag else (mask == 0).sum(), 1)) for flag in (True, False)}
    both = 0 < (mask > 0).sum() < mask.size
    for place in np.ndindex(*size):
        wanted = share[bool(mask[place])] if both else 1.0
        if not mask[place] and count >= 2:
            near = sorted(float(np.sqrt(((part - place) ** 2).sum(axis=1)).min()) for part in parts)
            wanted += 10 * np.exp(-((near[0] + near[1]) ** 2) / (2 * sigma**2))
        assert found[place] == pytest.approx(wanted, abs=10 * np.exp(-8))


def test_the_border_weight_looks_as_figure_3_of_the_paper() -> None:
    """Bright lines run along narrow gaps, the wider the fainter; the rest of the background is even."""
    labels = np.zeros((1, 60, 90), np.uint8)
    for number, (rows, columns) in enumerate(
        [((5, 25), (5, 25)), ((5, 25), (27, 47)), ((5, 25), (53, 73)), ((40, 55), (5, 47))], start=1
    ):
        labels[(0, slice(*rows), slice(*columns))] = number
    weight = BorderWeight()(labels)[0]
    inside, far = weight[labels[0] > 0], weight[32:36, 84:]
    narrow, wide, widest = weight[15, 25:27], weight[15, 47:53], weight[25:40, 15]
    assert np.ptp(inside) == 0
    assert np.ptp(far) < 0.01
    assert far.mean() > 0
    assert narrow.max() - far.mean() == pytest.approx(10 * np.exp(-(3**2) / 50), rel=0.02)
    assert narrow.min() > wide.max() > widest.max() > far.max()
    assert wide.max() - far.mean() == pytest.approx(10 * np.exp(-(7**2) / 50), rel=0.02)
    # along a gap the ridge is even, and across it highest nowhere but there
    assert np.ptp(weight[10:20, 25]) < 0.05
    assert weight[15].argmax() in (25, 26)
