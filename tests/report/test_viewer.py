"""The volumes of the slice viewer: exact where there is room, coarser where there is not."""

import base64
import gzip
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from segpipe.imaging.labels import LabelSet
from segpipe.report.cuts import Cut
from segpipe.report.viewer import pack, structures_of, too_large

LABELS = LabelSet.plain({"background": 0, "liver": 2, "tumour": 7})


def cut(shape: tuple[int, int, int], spacing: tuple[float, float, float] = (1, 1, 1)) -> Cut:
    rng = np.random.default_rng(1)
    truth = rng.choice(np.asarray([0, 2, 7, 9], np.int32), shape)
    centre = (shape[0] // 2, shape[1] // 3, shape[2] // 2)
    return Cut(rng.integers(0, 255, shape, np.uint8), truth, np.roll(truth, 1, 0), spacing, centre, oriented=True)


def unpacked(packed: dict[str, Any]) -> NDArray[np.uint8]:
    data = gzip.decompress(base64.b64decode(packed["data"]))
    return np.frombuffer(data, np.uint8).reshape(3, *packed["shape"])


def test_labels_come_back_as_their_numbers() -> None:
    source = cut((6, 7, 5))
    packed = pack(source, LABELS.values, 1e6)
    image, truth, found = unpacked(packed)
    table = {0: 0, 2: 1, 7: 2, 9: 0}
    assert np.array_equal(truth, np.vectorize(table.get)(source.truth))
    assert np.array_equal(found, np.vectorize(table.get)(source.prediction))
    assert np.abs(image.astype(int) - source.image).max() < 4
    assert packed["begin"] == list(source.centre)
    assert structures_of(LABELS) == [{"name": "liver", "numbers": [1]}, {"name": "tumour", "numbers": [2]}]


@pytest.mark.parametrize("shape", [(90, 80, 70), (200, 180, 1), (60, 60, 300)])
def test_a_large_volume_is_made_coarser_until_it_fits(shape: tuple[int, int, int]) -> None:
    packed = pack(cut(shape), LABELS.values, 60_000)
    assert len(packed["data"]) <= 60_000
    assert unpacked(packed).shape[1:] == tuple(packed["shape"])
    mm = [n * spacing for n, spacing in zip(packed["shape"], packed["spacing"], strict=True)]
    assert mm == pytest.approx(shape, rel=0.1)
    assert all(0 <= at < n for at, n in zip(packed["begin"], packed["shape"], strict=True))


def test_no_axis_is_longer_than_what_is_shown() -> None:
    assert max(pack(cut((300, 20, 20)), LABELS.values, 1e9)["shape"]) <= 160


def test_the_same_case_gives_the_same_text() -> None:
    assert pack(cut((9, 9, 9)), LABELS.values, 1e6) == pack(cut((9, 9, 9)), LABELS.values, 1e6)


def test_a_whole_head_is_too_large_and_a_long_leg_is_not() -> None:
    assert too_large(cut((20, 20, 20), (8, 9, 8)), 140)
    assert not too_large(cut((20, 20, 90), (8, 6, 8)), 140)
    assert not too_large(cut((200, 200, 1)), 140)


def test_more_structures_than_a_byte_holds_have_no_viewer() -> None:
    assert structures_of(LabelSet.plain({f"s{n}": n for n in range(1, 300)})) is None
