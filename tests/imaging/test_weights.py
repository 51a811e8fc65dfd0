"""How much a voxel counts: the published formula, computed the long way."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

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
