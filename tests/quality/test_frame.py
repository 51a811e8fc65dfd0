"""The window of shapes: large enough for all of them, small enough for the network, the same wherever a shape lies."""

import numpy as np
import pytest

from segpipe.quality.frame import coarse_spacing, plan_frame, reach_of
from tests.bodies import LABELS, bodies, body, shapes, shifted


@pytest.mark.parametrize("rank", [2, 3])
def test_the_window_holds_every_shape_whole_and_fits_the_pooling(rank: int) -> None:
    cases = bodies(8, rank)
    frame = plan_frame(LABELS, [reach_of(one) for one in cases], (2.0,) * rank, 3)
    for one in cases:
        assert np.count_nonzero(frame.cut(one)) == np.count_nonzero(one.classes)
    assert all(n % total == 0 for n, total in zip(frame.size, frame.topology.total, strict=True))


def test_the_window_follows_the_shape() -> None:
    one = body(0)
    frame = plan_frame(LABELS, [reach_of(one)], (2.0,) * 3, 2)
    np.testing.assert_array_equal(frame.cut(shifted(one, 3)), frame.cut(one))
    wide = frame.cut(one, rim=2)
    np.testing.assert_array_equal(wide[2:-2, 2:-2, 2:-2], frame.cut(one))


def test_a_window_beyond_the_grid_is_background_there() -> None:
    one = shapes(np.pad(np.ones((2, 2, 2), np.uint8), ((0, 26), (0, 24), (0, 22))))
    frame = plan_frame(LABELS, [(12.0,) * 3], (2.0,) * 3, 1)
    assert np.count_nonzero(frame.cut(one)) == 8


def test_large_shapes_are_compared_at_a_coarser_spacing() -> None:
    reaches = [(100.0, 80.0, 60.0)]
    spacing = coarse_spacing(reaches, (1.0, 1.0, 5.0), 20_000)
    assert spacing[0] == spacing[1] > 1
    assert spacing[2] == max(5.0, spacing[0])
    size = np.asarray([2 * 1.15 * mm for mm in reaches[0]]) / spacing
    assert 15_000 < np.prod(size) <= 20_000
    assert coarse_spacing([(10.0,) * 3], (1.0,) * 3, 20_000) == (1.0, 1.0, 1.0)
