"""Image statistics: what each reacts to, and what it leaves alone."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from segpipe.quality.statistics import AXES, CELLS, coarse_of, in_words, likeness_of, statistics_of
from tests.quality.scenes import SHAPE, SPACING, scene

Floats = NDArray[np.float32]
PLAIN = scene(0)
NAMES = ("T1",)


def of(values: NDArray[np.floating], spacing: tuple[float, ...] = SPACING) -> dict[str, float]:
    return statistics_of(values[None].astype(np.float32), spacing, NAMES)


def likeness(values: Floats, *others: Floats) -> dict[str, float]:
    mean = np.mean([coarse_of(other[None]) for other in others or (scene(1), scene(2))], axis=0)
    return likeness_of(coarse_of(values[None]), mean, NAMES)


@pytest.mark.parametrize("sigma", [0.1, 0.3, 1.0])
def test_noise_is_the_standard_deviation_that_was_added(sigma: float) -> None:
    noise = np.random.default_rng(1).normal(0, sigma, SHAPE)
    assert math.exp(of(scene(0, texture=0.0) + noise)["noise"]) == pytest.approx(sigma, rel=0.1)


@pytest.mark.parametrize("axis", range(3))
def test_blur_along_an_axis_takes_the_sharpness_of_that_axis(axis: int) -> None:
    before, after = of(PLAIN), of(ndimage.gaussian_filter1d(PLAIN, 1.0, axis))
    change = [after[f"sharpness {name}"] - before[f"sharpness {name}"] for name in AXES]
    # averaging takes noise too, and with it some sharpness along the other axes
    assert change[axis] < -0.3
    assert change[axis] < 1.5 * min(value for other, value in enumerate(change) if other != axis)
    assert after[f"edges {AXES[axis]}"] < before[f"edges {AXES[axis]}"]


def test_inversion_turns_the_histogram_and_leaves_texture_alone() -> None:
    before, after = of(PLAIN), of(-PLAIN)
    assert abs(before["skewness"]) > 0.02
    assert after["skewness"] == pytest.approx(-before["skewness"], abs=1e-5)
    for name in ("noise", "tails", "contrast", "blank", "edges left-right", "sharpness feet-head"):
        assert after[name] == pytest.approx(before[name], abs=1e-3), name


def test_gamma_bends_the_histogram() -> None:
    up = (PLAIN - PLAIN.min()) / (PLAIN.max() - PLAIN.min())
    bent = up**2
    assert of((bent - bent.mean()) / bent.std())["skewness"] > of(PLAIN)["skewness"] + 0.1


def test_gain_and_offset_are_brightness_and_contrast() -> None:
    told, plain = of(2 * PLAIN + 3), of(PLAIN)
    assert told["brightness"] == pytest.approx(3 + 2 * plain["brightness"], abs=1e-4)
    assert told["contrast"] == pytest.approx(plain["contrast"] + math.log(2), abs=1e-4)
    assert told["skewness"] == pytest.approx(plain["skewness"], abs=1e-4)


def test_a_wave_is_a_spike_and_noise_is_none() -> None:
    wave = 0.15 * np.cos(2 * np.pi * np.indices(SHAPE)[1] * 9 / SHAPE[1])
    noise = np.random.default_rng(1).normal(0, 0.5, SHAPE)
    plain = of(PLAIN)["spikes"]
    assert of(PLAIN + wave)["spikes"] > plain + 2
    assert abs(of(PLAIN + noise)["spikes"] - plain) < 1


def test_a_missing_block_is_blank() -> None:
    holed = PLAIN.copy()
    holed[6:16, 10:20, 5:15] = 0
    assert of(holed)["blank"] == pytest.approx(math.log(1e-3))
    assert of(PLAIN)["blank"] > math.log(TEXTURE_BLOCK)


TEXTURE_BLOCK = 0.02
"""Less than the texture's SD, so that no block of the plain scene is so flat."""


@pytest.mark.parametrize("axis", range(3))
def test_a_flip_changes_where_things_lie_and_nothing_else(axis: int) -> None:
    before, after = of(PLAIN), of(np.flip(PLAIN, axis))
    changed = {name for name in before if abs(before[name] - after[name]) > 0.02}
    assert changed <= {f"slope {AXES[axis]}", "blank", "spikes"}
    assert after[f"slope {AXES[axis]}"] == pytest.approx(-before[f"slope {AXES[axis]}"], abs=1e-4)


@pytest.mark.parametrize("axis", range(3))
def test_likeness_tells_which_axis_is_flipped(axis: int) -> None:
    right, wrong = likeness(PLAIN), likeness(np.flip(PLAIN, axis))
    assert min(right.values()) > 0
    assert min(wrong, key=lambda name: wrong[name]) == f"flipped {AXES[axis]}"
    assert wrong[f"flipped {AXES[axis]}"] < 0


def test_likeness_tells_swapped_axes() -> None:
    assert likeness(PLAIN)["swapped"] > 0.3
    assert likeness(np.swapaxes(PLAIN, 0, 1))["swapped"] < -0.3


def test_likeness_of_an_inverted_image_is_negative() -> None:
    assert likeness(-PLAIN)["likeness"] == pytest.approx(-likeness(PLAIN)["likeness"], abs=1e-4)
    assert likeness(PLAIN)["likeness"] > 0.5


def test_likeness_does_not_care_for_noise_gain_and_offset() -> None:
    noisy = PLAIN + np.random.default_rng(0).normal(0, 0.3, SHAPE).astype(np.float32)
    for other in (noisy, 3 * PLAIN + 7):
        assert likeness(other)["likeness"] == pytest.approx(likeness(PLAIN)["likeness"], abs=0.15)


def test_extent_is_the_logarithm_of_millimetres() -> None:
    found = of(PLAIN)
    assert [math.exp(found[f"extent {name}"]) for name in AXES] == pytest.approx([24, 28, 30])


def test_several_channels_have_figures_of_their_own() -> None:
    one, two = of(PLAIN), of(-PLAIN)
    both = statistics_of(np.stack([PLAIN, -PLAIN]), SPACING, ("T1", "T2"))
    assert both["T1: skewness"] == one["skewness"]
    assert both["T2: skewness"] == two["skewness"]
    assert both["extent left-right"] == one["extent left-right"]
    assert in_words("T2: edges left-right") == "edges left-right of T2"


def test_a_coarse_image_is_the_mean_of_each_cell() -> None:
    values = np.random.default_rng(0).normal(size=(1, 2 * CELLS, 3 * CELLS)).astype(np.float32)
    cells = values.reshape(CELLS, 2, CELLS, 3).mean(axis=(1, 3))
    assert np.allclose(coarse_of(values)[0], (cells - cells.mean()) / cells.std(), atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.integers(1, 13), min_size=2, max_size=3),
    st.sampled_from(["constant", "noise", "huge", "infinite"]),
    st.integers(0, 99),
)
def test_figures_are_finite_whatever_the_image(shape: list[int], kind: str, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(1, *shape)).astype(np.float32)
    with np.errstate(over="ignore"):
        image = {
            "constant": np.full_like(values, 3),
            "noise": values,
            "huge": values * 6e4,
            "infinite": (values * 1e6).astype(np.float16),
        }[kind]
    found = statistics_of(image, (1.0,) * len(shape), NAMES)
    found |= likeness_of(coarse_of(image), coarse_of(values), NAMES)
    assert all(math.isfinite(value) for value in found.values()), found
    axes = len(shape)
    assert len(found) == 7 + 5 * axes + 2
