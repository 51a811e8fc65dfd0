"""The nearest point, found by looking around, by the tree and by the map: always that which all pairs give."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from segpipe.score import nearest as module
from segpipe.score.nearest import nearest

Mask = NDArray[np.bool_]


def by_all_pairs(edge: Mask, other: Mask, sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    gaps = (np.argwhere(edge)[:, None] - np.argwhere(other)[None]) * sizes
    return np.asarray(np.sqrt((gaps**2).sum(axis=-1)).min(axis=1))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_it_is_that_of_all_pairs(data: st.DataObject) -> None:
    shape = data.draw(array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=9))
    edge, other = data.draw(arrays(np.bool_, shape)), data.draw(arrays(np.bool_, shape))
    assume(other.any())
    sizes = np.array(data.draw(st.tuples(*[st.sampled_from((0.3, 0.7, 1.0, 5.0))] * len(shape))))
    assert nearest(edge, other, sizes) == pytest.approx(by_all_pairs(edge, other, sizes))


@pytest.mark.parametrize("far_share", [0.0, 1.0])
def test_far_points_are_found_by_tree_and_by_map(far_share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FAR_SHARE", far_share)
    edge, other = np.zeros((2, 40, 30, 20), bool)
    edge[tuple(np.random.default_rng(0).integers(0, edge.shape, (50, 3)).T)] = True
    other[38:, 28:, 18:] = True
    sizes = np.array([0.5, 1.0, 2.5])
    assert nearest(edge, other, sizes) == pytest.approx(by_all_pairs(edge, other, sizes))


def test_rings_hold_every_point_nearer_than_their_last() -> None:
    for sizes in ((1.0, 1.0, 1.0), (0.5, 0.5, 5.0), (0.7, 3.0)):
        rings, reach = module._rings(sizes)
        last = rings[-1][0]
        span = [np.arange(-int(last / size) - 1, int(last / size) + 2) for size in sizes]
        grid = np.stack(np.meshgrid(*span, indexing="ij"), axis=-1) * np.array(sizes)
        inside = np.count_nonzero(np.sqrt((grid**2).sum(axis=-1)) <= last + 1e-9) - 1
        assert sum(len(ring) for _, ring in rings) == inside
        assert all(np.abs(ring).max(axis=0).tolist() <= list(reach) for _, ring in rings)
        assert [distance for distance, _ in rings] == sorted(distance for distance, _ in rings)
