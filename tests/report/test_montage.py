"""Which cases are shown, and that their outlines lie where the masks do."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from segpipe.report.cuts import Cut
from segpipe.report.montage import MOST_POINTS, common_width, outline, picks, picture
from segpipe.report.settings import MontageCases


def cut(shape: tuple[int, int, int], spacing: tuple[float, float, float] = (1, 1, 1)) -> Cut:
    rng = np.random.default_rng(0)
    labels = np.zeros(shape, np.int32)
    labels[tuple(slice(n // 4, n - n // 4 or 1) for n in shape)] = 1
    centre = (shape[0] // 2, shape[1] // 2, shape[2] // 2)
    return Cut(rng.integers(0, 255, shape, np.uint8), labels, np.roll(labels, 1, 0), spacing, centre, oriented=True)


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, []),
        (1, [("c0", "The only case")]),
        (2, [("c0", "Worst"), ("c1", "Best")]),
        (3, [("c0", "Worst"), ("c1", "Median"), ("c2", "Best")]),
        (9, [("c0", "Worst"), ("c1", "2nd worst"), ("c4", "Median"), ("c8", "Best")]),
    ],
)
def test_each_case_is_shown_once(count: int, shown: list[tuple[str, str]]) -> None:
    found = picks([f"c{n}" for n in range(count)], MontageCases(worst=2))
    assert [(pick.case, pick.role) for pick in found] == shown


def test_any_number_may_be_asked_for() -> None:
    ranked = [f"c{n}" for n in range(20)]
    assert picks(ranked, MontageCases(worst=0, median=0, best=0)) == []
    assert [pick.case for pick in picks(ranked, MontageCases(worst=1, median=3, best=2))] == [
        "c0", "c8", "c9", "c10", "c18", "c19",
    ]  # fmt: skip
    assert len(picks(ranked, MontageCases(worst=50, median=50, best=50))) == 20


def test_an_outline_runs_along_the_rim_of_the_mask() -> None:
    mask = np.zeros((10, 12), bool)
    mask[2:5, 3:9] = True
    numbers = np.asarray(re.findall(r"[\d.]+", outline(mask)), float).reshape(-1, 2)
    assert numbers[:, 0].min() == pytest.approx(3, abs=0.01)
    assert numbers[:, 0].max() == pytest.approx(9, abs=0.01)
    assert (numbers[:, 1].min(), numbers[:, 1].max()) == pytest.approx((2, 5), abs=0.01)
    assert outline(np.zeros((5, 5), bool)) == ""


def test_an_outline_of_thousands_of_specks_stays_small() -> None:
    mask = np.random.default_rng(0).random((400, 400)) < 0.3
    assert outline(mask).count("L") <= MOST_POINTS


def test_tiles_are_webp_without_any_metadata_and_square_in_mm() -> None:
    svg = picture(cut((20, 30, 8), (1, 1, 3)), {"organ": (1,)}, 60, "A case")
    tiles = [base64.b64decode(text) for text in re.findall(r"data:image/webp;base64,([^\"]+)", svg)]
    assert len(tiles) == 3
    sizes = []
    for tile in tiles:
        image = Image.open(io.BytesIO(tile))
        assert not {"exif", "xmp", "icc_profile"} & image.info.keys()
        sizes.append(image.width / image.height)
    assert sizes == pytest.approx([20 / 24, 30 / 24, 20 / 30], rel=0.03)


def test_cases_are_drawn_to_one_scale_unless_they_differ_much() -> None:
    widths = common_width([cut((20, 20, 20)), cut((30, 30, 30)), cut((8, 8, 8))])
    assert widths[0] == widths[1] > 60
    assert widths[2] < 20
    assert common_width([]) == []


def test_one_slice_makes_one_tile() -> None:
    assert picture(cut((20, 30, 1)), {"organ": (1,)}, 30, "A slice").count("<image") == 1


def test_the_label_is_escaped() -> None:
    assert "<script" not in picture(cut((8, 8, 8)), {"organ": (1,)}, 30, "<script>")
