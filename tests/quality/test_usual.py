"""What is usual, learned from scenes: other scenes are, corrupted ones are not, and the words say why."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from segpipe.core.errors import ArtifactError
from segpipe.quality.checks import Check
from segpipe.quality.residuals import residuals_of
from segpipe.quality.statistics import coarse_of, statistics_of
from segpipe.quality.usual import (
    RECONSTRUCTION,
    STATISTICS,
    UNUSUAL,
    UNUSUAL_P,
    UsualScans,
    read_usual,
    usual_scans,
    write_usual,
)
from tests.quality.scenes import SHAPE, SPACING, scene, scenes

Floats = NDArray[np.float32]
NAMES = ("T1",)
COUNT = 40
ALARM = 0.05
FORM = (NAMES, SPACING, ALARM)


def smoothed(image: Floats) -> Floats:
    """Stand for an autoencoder: it draws what is smooth."""
    return ndimage.gaussian_filter(image, (0, 2, 2, 2))


def redrawn(image: Floats) -> dict[str, float]:
    return residuals_of(image, smoothed(image), NAMES)


def learned(*, pretrained: bool = False) -> tuple[UsualScans, list[list[Check]]]:
    images = scenes(COUNT)
    return usual_scans(
        [statistics_of(image, SPACING, NAMES) for image in images],
        [coarse_of(image) for image in images],
        [str(number) for number in range(COUNT)],
        {number: redrawn(image) for number, image in enumerate(images) if number % 2} if pretrained else {},
        FORM,
    )


@pytest.fixture(scope="module")
def usual() -> UsualScans:
    return learned()[0]


@pytest.fixture(scope="module")
def with_autoencoder() -> tuple[UsualScans, list[list[Check]]]:
    return learned(pretrained=True)


def looked_at(usual: UsualScans, image: Floats) -> dict[str, Check]:
    other = redrawn(image) if usual.reconstruction else None
    return {one.name: one for one in usual.checks(usual.figures(image), other)}


def noisy(image: Floats) -> Floats:
    return image + np.random.default_rng(0).normal(0, 0.4, image.shape).astype(np.float32)


def holed(image: Floats) -> Floats:
    image = image.copy()
    image[:, 6:16, 10:20, 5:15] = 0
    return image


CORRUPTED: dict[str, tuple[Callable[[Floats], Floats], str]] = {
    "noise": (noisy, "noise .* SD above training"),
    "blur": (lambda image: ndimage.gaussian_filter(image, (0, 1, 1, 1)), "noise .* SD below training"),
    "thick slices": (lambda image: ndimage.gaussian_filter1d(image, 1.5, 3), "feet-head .* SD below training"),
    "inverted": (lambda image: -image, "brightness looks inverted"),
    "flipped": (lambda image: np.flip(image, 2), "looks flipped back-front"),
    "swapped": (lambda image: np.swapaxes(image, 1, 2), "axes look swapped"),
    "holed": (holed, "blankest part .* SD below training"),
}


@pytest.mark.parametrize("kind", CORRUPTED)
def test_a_corrupted_scan_is_unusual_and_the_words_say_why(usual: UsualScans, kind: str) -> None:
    corrupt, words = CORRUPTED[kind]
    found = looked_at(usual, corrupt(scene(COUNT + 1)[None]))
    assert found[UNUSUAL].value > 1.5
    assert re.search(words, found[UNUSUAL].words), found[UNUSUAL].words
    assert found[UNUSUAL_P].value == pytest.approx(1 / (COUNT + 1))


def test_other_scenes_are_usual_and_nothing_is_said_of_them(usual: UsualScans) -> None:
    found = [looked_at(usual, image) for image in scenes(40, first=COUNT)]
    quiet = [one for one in found if one[UNUSUAL].value <= 1]
    assert len(quiet) >= 34
    assert not any(one[UNUSUAL].words for one in quiet)
    assert 0.2 < np.mean([one[UNUSUAL_P].value for one in found]) < 0.8


def test_the_cases_themselves_are_judged_by_the_others() -> None:
    usual, told = learned()
    assert sorted(one[2].value * usual.statistics.border(ALARM) for one in told) == pytest.approx(
        list(usual.statistics.usual)
    )
    assert sum(one[0].value > 1 for one in told) <= ALARM * COUNT


def test_the_order_of_the_cases_changes_nothing() -> None:
    images = scenes(12)
    found = []
    for order in (range(12), range(11, -1, -1)):
        some = [images[number] for number in order]
        figures = [statistics_of(image, SPACING, NAMES) for image in some]
        subjects = [str(number // 2) for number in order]
        found.append(usual_scans(figures, [coarse_of(image) for image in some], subjects, {}, FORM)[0])
    image = scene(50)[None]
    first, second = (looked_at(usual, image)[UNUSUAL].value for usual in found)
    assert first == pytest.approx(second, rel=1e-4)


class TestWithAnAutoencoder:
    def test_both_count(self, with_autoencoder: tuple[UsualScans, list[list[Check]]]) -> None:
        usual, _ = with_autoencoder
        found = looked_at(usual, scene(COUNT + 1)[None])
        assert list(found) == [UNUSUAL, UNUSUAL_P, STATISTICS, RECONSTRUCTION]
        assert usual.reconstruction is not None
        plain = found[STATISTICS].value * usual.statistics.border(ALARM)
        other = found[RECONSTRUCTION].value * usual.reconstruction.border(ALARM)
        assert found[UNUSUAL].value == pytest.approx(math.hypot(plain, other) / usual.together[-1])
        assert len(usual.together) == COUNT // 2

    def test_cases_that_it_has_seen_are_judged_by_their_statistics_alone(
        self, with_autoencoder: tuple[UsualScans, list[list[Check]]]
    ) -> None:
        _, told = with_autoencoder
        assert [len(one) for one in told] == [3, 4] * (COUNT // 2)
        alone = learned()[1]
        assert told[0] == alone[0]

    def test_a_scan_comes_back_too_well_as_well_as_too_badly(
        self, with_autoencoder: tuple[UsualScans, list[list[Check]]]
    ) -> None:
        usual, _ = with_autoencoder
        for corrupt in (noisy, lambda image: ndimage.gaussian_filter(image, (0, 1, 1, 1))):
            assert looked_at(usual, corrupt(scene(COUNT + 1)[None]))[RECONSTRUCTION].value > 1.5

    def test_without_it_at_hand_statistics_are_enough(
        self, with_autoencoder: tuple[UsualScans, list[list[Check]]], usual: UsualScans
    ) -> None:
        image = scene(COUNT + 1)[None]
        model, _ = with_autoencoder
        assert model.checks(model.figures(image)) == usual.checks(usual.figures(image))


class TestOnDisk:
    def test_it_comes_back_as_it_was(self, usual: UsualScans, tmp_path: Path) -> None:
        write_usual(tmp_path / "usual_scans.json", usual)
        again = read_usual(tmp_path / "usual_scans.json")
        assert again == usual
        image = scene(COUNT + 2)[None]
        assert looked_at(usual, image) == looked_at(again, image)

    def test_no_file_is_nothing_known(self, tmp_path: Path) -> None:
        assert read_usual(tmp_path / "usual_scans.json") is None

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda text: text[:200], "JSON"),
            (lambda text: json.dumps(json.loads(text) | {"format": 9}), "format"),
            (lambda text: json.dumps(json.loads(text) | {"alarm": "often"}), "alarm"),
        ],
        ids=["cut off", "later version", "no number"],
    )
    def test_a_damaged_file_is_named_with_the_mend(
        self, usual: UsualScans, tmp_path: Path, change: Callable[[str], str], told: str
    ) -> None:
        path = tmp_path / "usual_scans.json"
        write_usual(path, usual)
        path.write_text(change(path.read_text()))
        with pytest.raises(
            ArtifactError, match=rf"usual_scans\.json: damaged.*{told}.*Run the stage qc again"
        ) as raised:
            read_usual(path)
        assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("shape", [SHAPE[:2], SHAPE])
def test_residuals_part_fine_from_coarse(shape: tuple[int, ...]) -> None:
    image = scene(0, shape)[None]
    random = np.random.default_rng(0)
    speckle = random.normal(0, 0.3, image.shape).astype(np.float32)
    shift = ndimage.gaussian_filter(random.normal(0, 1, image.shape), (0, *(5,) * len(shape))).astype(np.float32)
    shift *= 0.3 / shift.std()
    fine, coarse = (residuals_of(image, image + error, NAMES) for error in (speckle, shift))
    assert fine["fine redrawing error"] > fine["coarse redrawing error"] + 0.5
    assert coarse["coarse redrawing error"] > coarse["fine redrawing error"] + 0.5


def test_residuals_find_a_place_that_comes_back_too_well() -> None:
    image = scene(0)[None]
    even = image + np.float32(0.3) * np.sign(np.random.default_rng(0).normal(size=image.shape)).astype(np.float32)
    holed_error = even.copy()
    holed_error[:, 4:16, 4:16, 4:16] = image[:, 4:16, 4:16, 4:16]
    name = "best redrawn place"
    assert residuals_of(image, holed_error, NAMES)[name] < residuals_of(image, even, NAMES)[name] - 1


def test_residuals_tell_errors_upwards_from_errors_downwards() -> None:
    image = scene(0)[None]
    spots = np.where(np.random.default_rng(0).random(image.shape) < 0.02, 3, 0).astype(np.float32)
    name = "asymmetry of its redrawing error"
    assert residuals_of(image, image - spots, NAMES)[name] > 1
    assert residuals_of(image, image + spots, NAMES)[name] < -1


def test_a_perfect_copy_has_figures_too() -> None:
    image = scene(0)[None]
    assert all(math.isfinite(value) for value in residuals_of(image, image, NAMES).values())
