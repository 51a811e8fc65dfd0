"""Agreement: networks alone, or one on the mirrored image; sides trade places; nothing is made up where none is."""

from dataclasses import replace

import numpy as np
import pytest

from segpipe.imaging.geometry import Geometry
from segpipe.imaging.labels import LabelSet
from segpipe.imaging.volume import Volume
from segpipe.predict.agreement import AgreementChecker, other_passes, sides_swapped
from segpipe.predict.seen import segmented
from segpipe.predict.segmenter import Segmenter
from segpipe.predict.window import WindowConfig
from tests.predict.test_segmenter import BALL, EXACT, grid, plan_of, scan_of, segmenter, threshold

SIDED = LabelSet.plain({"left_part": 1, "right_part": 2, "middle": 3})


def agreement(of: Segmenter) -> dict[str, float]:
    scan, _ = scan_of(grid(order=(1, 2, 0), signs=(1, -1, 1)))
    seen = segmented("case", scan, of, other_passes)
    return {check.name: check.value for check in AgreementChecker(BALL)(seen)}


def test_a_network_that_knows_no_sides_agrees_with_itself_on_the_mirrored_image() -> None:
    assert agreement(segmenter()) == {"agreement": 1.0, "agreement[ball]": 1.0}


def test_networks_that_differ_are_told_by_their_dice() -> None:
    plan = plan_of()
    inside, outside = threshold(plan, 1.0), threshold(plan, -1.0)
    assert agreement(Segmenter((inside, inside), plan, EXACT)) == {"agreement": 1.0, "agreement[ball]": 1.0}
    found = agreement(Segmenter((inside, inside, outside), plan, EXACT))
    # two draw what all together do, one draws the rest
    assert found["agreement"] == pytest.approx(2 / 3)


def test_a_window_that_mirrors_is_compared_with_one_that_does_not() -> None:
    mirrored = replace(segmenter(), window=WindowConfig(precision="fp32", mirror_axes=(0, 1)))
    scan, _ = scan_of(grid())
    (other,) = other_passes(mirrored, mirrored.prepared(scan), scan)
    np.testing.assert_array_equal(other.array, segmenter()(scan).array)


def test_a_lone_side_has_no_mirror_image() -> None:
    lone = segmenter(plan_of(LabelSet.plain({"left_part": 3})))
    scan, _ = scan_of(grid())
    seen = segmented("case", scan, lone, other_passes)
    assert seen.others == ()
    values = [check.value for check in AgreementChecker(LabelSet.plain({"left_part": 3}))(seen)]
    assert np.isnan(values).all()


def test_sides_change_places_and_the_rest_stays() -> None:
    drawn = Volume(np.asarray([[[0, 1, 2], [3, 2, 1]]], np.uint8), Geometry((2, 3), np.eye(3)))
    found = sides_swapped(drawn, SIDED)
    assert found.array.tolist() == [[[0, 2, 1], [3, 1, 2]]]
    assert found.array.dtype == np.uint8
    assert sides_swapped(drawn, BALL) is drawn
