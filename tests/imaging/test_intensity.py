"""Normalisation: what comes out has the numbers it promises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scipy import stats

from segpipe.core.section import members
from segpipe.imaging.intensity import (
    SAMPLES,
    Normalise,
    Unchanged,
    Window,
    ZScore,
    foreground_samples,
    window_of,
)

quick = settings(max_examples=40, deadline=None)
SHAPE = (6, 7, 8)
CT = Window(low=-100, high=300, mean=40, sd=50)


def channel(seed: int = 0, scale: float = 100, shift: float = 500) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, scale, SHAPE).astype(np.float32)


def half() -> np.ndarray:
    inside = np.zeros(SHAPE, bool)
    inside[:, :4] = True
    return inside


@quick
@given(st.integers(0, 99), st.floats(0.01, 1e4), st.floats(-1e4, 1e4))
def test_a_z_score_has_mean_0_and_sd_1_inside(seed: int, scale: float, shift: float) -> None:
    array = channel(seed, scale, shift)
    found = ZScore()(array, half())
    wanted = stats.zscore(array[half()].astype(float))
    assert np.allclose(found[half()], wanted, atol=1e-3 * max(1, abs(shift) / scale / 1000))
    assert found.dtype == np.float32
    assert found.shape == SHAPE


def test_a_z_score_does_not_look_at_what_lies_outside() -> None:
    array = channel()
    other = np.where(half(), array, 9e4).astype(np.float32)
    assert np.array_equal(ZScore()(array, half())[half()], ZScore()(other, half())[half()])


@quick
@given(st.floats(0.1, 50), st.floats(-1e3, 1e3))
def test_a_z_score_does_not_know_the_scanners_units(factor: float, offset: float) -> None:
    array = channel().astype(np.float64)
    assert np.allclose(ZScore()(array * factor + offset, half()), ZScore()(array, half()), atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 0.1, -1024.0, 1e6])
def test_an_image_without_contrast_becomes_zero_and_not_noise(value: float) -> None:
    found = ZScore()(np.full(SHAPE, value, np.float32), half())
    assert (found == 0).all()


def test_where_nothing_is_inside_the_whole_image_counts() -> None:
    array = channel()
    nothing, everything = np.zeros(SHAPE, bool), np.ones(SHAPE, bool)
    assert np.array_equal(ZScore()(array, nothing), ZScore()(array, everything))


def test_a_window_clips_then_shifts_and_scales() -> None:
    array = np.array([-2000.0, -100, 40, 90, 300, 3000])
    assert CT(array, array > 0).tolist() == pytest.approx([-2.8, -2.8, 0, 1, 5.2, 5.2])


@pytest.mark.parametrize("normalise", [ZScore(), CT, Unchanged()])
@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float64, np.float32])
def test_every_normalisation_gives_float32_and_leaves_its_input_alone(normalise: Normalise, dtype: type) -> None:
    array = np.clip(channel(), 0, 200).astype(dtype)
    before = array.copy()
    found = normalise(array, half())
    assert found.dtype == np.float32
    assert found.shape == SHAPE
    assert np.isfinite(found).all()
    found += 1
    assert np.array_equal(array, before)


def test_every_normalisation_comes_back_from_its_settings() -> None:
    adapter = TypeAdapter(Normalise)
    found = [adapter.validate_python(one.model_dump()) for one in (ZScore(), CT, Unchanged())]
    assert found == [ZScore(), CT, Unchanged()]
    assert {type(one) for one in found} == set(members(Normalise))
    with pytest.raises(ValidationError):
        Window(low=0, high=1, mean=0, sd=0)


def test_samples_are_the_labelled_voxels_when_they_are_few() -> None:
    array = channel()
    assert np.array_equal(foreground_samples(array, half()), array[half()])


@quick
@given(st.integers(1, 200), st.integers(0, 2))
def test_samples_of_many_voxels_are_spread_over_all_of_them(count: int, more: int) -> None:
    total = SAMPLES * count // 50 + more
    array = np.arange(total, dtype=np.float32)
    found = foreground_samples(array, np.ones(total, bool))
    assert len(found) == min(total, SAMPLES)
    assert found[0] == 0
    assert found[-1] >= total - max(total / SAMPLES, 1)
    gaps = np.diff(found)
    assert gaps.min(initial=1) >= 1
    assert gaps.max(initial=1) <= total / SAMPLES + 2


def test_the_window_of_a_data_set_holds_the_middle_99_percent_of_all_foreground() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(40, 30, 5000).astype(np.float32), rng.normal(100, 10, 3000).astype(np.float32)]
    window = window_of(parts)
    everything = np.concatenate(parts).astype(float)
    assert window.low == pytest.approx(stats.scoreatpercentile(everything, 0.5), abs=1e-3)
    assert window.high == pytest.approx(stats.scoreatpercentile(everything, 99.5), abs=1e-3)
    assert window.mean == pytest.approx(everything.mean(), abs=1e-3)
    assert window.sd == pytest.approx(everything.std(), abs=1e-3)
    assert window_of(parts[::-1]) == window


def test_a_foreground_of_one_value_still_has_a_window() -> None:
    window = window_of([np.full(10, 7, np.float32)])
    assert window.sd > 0
    assert np.isfinite(window(np.arange(10.0), np.ones(10, bool))).all()
