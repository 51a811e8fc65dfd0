"""Centreline Dice: right for lines, blind to thickness."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from segpipe.core.errors import GeometryError
from segpipe.score.centreline import centreline_dice

Mask = NDArray[np.bool_]


def tube(radius: int, length: slice = slice(2, 38)) -> Mask:
    mask = np.zeros((40, 21, 21), bool)
    rows, columns = np.ogrid[-10:11, -10:11]
    mask[length] = rows**2 + columns**2 <= radius**2
    return mask


def test_a_tube_that_is_too_thick_is_perfect_all_the_same() -> None:
    thin, thick = tube(2), tube(4)
    assert centreline_dice(thick, thin) == pytest.approx(1.0, abs=0.05)
    assert 2 * np.count_nonzero(thin) / (np.count_nonzero(thin) + np.count_nonzero(thick)) < 0.5


def test_half_a_line_is_found_with_full_precision_and_half_the_sensitivity() -> None:
    line, half = np.zeros((2, 30, 9), bool)
    line[5:25, 4], half[5:15, 4] = True, True
    assert centreline_dice(half, line) == pytest.approx(2 * 0.5 / 1.5)
    assert centreline_dice(line, half) == centreline_dice(half, line)


def test_a_tube_elsewhere_scores_nothing() -> None:
    line, other = np.zeros((2, 30, 9), bool)
    line[5:25, 2], other[5:25, 6] = True, True
    assert centreline_dice(line, other) == 0.0


def test_the_border_of_the_image_takes_nothing_away() -> None:
    line = np.zeros((12, 5), bool)
    line[:, 0] = True
    assert centreline_dice(line, line) == 1.0


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_small_blobs_do_not_vanish(width: int) -> None:
    blob = np.zeros((12, 12, 12), bool)
    blob[2 : 2 + width, 2 : 2 + width, 2 : 2 + width] = True
    assert centreline_dice(blob, blob) == 1.0
    assert centreline_dice(blob, blob | np.roll(blob, 6, axis=0)) == pytest.approx(2 / 3)


def test_empty_masks() -> None:
    nothing = np.zeros((40, 21, 21), bool)
    assert centreline_dice(nothing, tube(2)) == centreline_dice(tube(2), nothing) == 0.0
    assert math.isnan(centreline_dice(nothing, nothing))


def test_masks_of_two_shapes_are_refused() -> None:
    with pytest.raises(GeometryError, match="shape"):
        centreline_dice(tube(2), tube(2)[1:])
