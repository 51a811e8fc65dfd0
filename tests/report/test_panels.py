"""Panels of 2D cases: upright, to scale, and in colours that can be told apart."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from segpipe.report import panels as shown
from segpipe.report.cuts import Cut
from segpipe.report.panels import Panel, panels

GROUPS = {"cell": (255,), "core": (7,)}


def cut(width: int = 12, height: int = 8, spacing: tuple[float, float] = (1.0, 1.0), weight: bool = False) -> Cut:
    """Return a case with a missed cell at the upper left, and one drawn without reference at the lower right."""
    truth, found = np.zeros((2, width, height, 1), np.int32)
    truth[0, -1], found[-1, 0] = 255, 255  # the second axis runs upwards
    truth[1, 1], found[1, 1] = 255, 7
    image = np.full((width, height, 1), 128, np.uint8)
    heat = np.linspace(1, 5, width * height, dtype=np.float32).reshape(width, height) if weight else None
    return Cut(image, truth, found, (*spacing, 1.0), (0, 0, 0), oriented=False, weight=heat)


def pixels(panel: Panel) -> np.ndarray:
    data = base64.b64decode(panel.source.removeprefix("data:image/webp;base64,"))
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_errors_lie_where_they_are_in_the_colours_of_their_kind() -> None:
    errors = pixels(panels(cut(), GROUPS)[-1])
    assert errors.shape == (8, 12, 3)
    assert tuple(errors[0, 0]) == shown.MISSED
    assert tuple(errors[-1, -1]) == shown.ADDED
    assert tuple(errors[-2, 1]) == shown.CONFUSED
    assert len(set(map(tuple, errors.reshape(-1, 3)))) == 4


def test_reference_and_prediction_are_painted_by_structure() -> None:
    shown = {panel.title: pixels(panel) for panel in panels(cut(), GROUPS)}
    assert list(shown) == ["Image", "Reference", "Prediction", "Errors"]
    assert shown["Reference"][0, 0].any()
    assert not shown["Prediction"][0, 0].any()
    assert tuple(shown["Reference"][-2, 1]) != tuple(shown["Prediction"][-2, 1])


def test_a_weight_map_says_its_range() -> None:
    weight = panels(cut(weight=True), GROUPS)[2]
    assert (weight.title, weight.note) == ("Weight map", "1 (dark) to 5 (bright)")


def test_pixels_come_out_square() -> None:
    assert panels(cut(spacing=(0.5, 1.0)), GROUPS)[1].size == (12, 16)


@pytest.mark.parametrize("size", [(3000, 20), (20, 3000)])
def test_a_large_image_is_shown_coarser(size: tuple[int, int]) -> None:
    image = panels(cut(*size), GROUPS)[0]
    assert max(image.size) == shown.LONGEST_PX
    assert image.note.endswith("shown at 33%")


def test_the_kind_that_one_structure_cannot_have_is_no_key() -> None:
    assert [len(list(shown.keys(count))) for count in (1, 2)] == [2, 3]
