import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.learn.chance import Chance, Purpose, log_uniform

places = st.tuples(st.integers(0, 2**31), st.integers(0, 10**6), st.sampled_from(list(Purpose)), st.integers(0, 500))


def numbers(place: tuple[int, int, Purpose, int]) -> list[float]:
    seed, step, purpose, index = place
    return Chance(seed, step, index).of(purpose).random(3).tolist()


@settings(max_examples=60, deadline=None)
@given(places, places)
def test_numbers_are_the_same_at_the_same_place_and_others_elsewhere(one: tuple, other: tuple) -> None:  # type: ignore[type-arg]
    assert numbers(one) == numbers(one)
    assert (numbers(one) == numbers(other)) == (one == other)


def test_purposes_do_not_change_their_numbers() -> None:
    # a run that was stopped goes on with the very patches that it would have seen
    assert {purpose.name: purpose.value for purpose in Purpose} == {
        "CROP": 0,
        "TURN": 1,
        "BEND": 2,
        "MIRROR": 3,
        "BIAS": 4,
        "NOISE": 5,
        "BLUR": 6,
        "BRIGHTNESS": 7,
        "CONTRAST": 8,
        "LOW_RESOLUTION": 9,
        "GAMMA_INVERTED": 10,
        "GAMMA": 11,
        "LISTED": 12,
    }


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_a_share_of_the_patches_is_chosen(share: float) -> None:
    chosen = [Chance(0, step, 0).chosen(Purpose.BLUR, share) is not None for step in range(1000)]
    assert np.mean(chosen) == pytest.approx(share, abs=0.04)


def test_halves_are_drawn_as_often_as_doubles() -> None:
    drawn = log_uniform(np.random.default_rng(0), 0.5, 2.0, 4000)
    assert drawn.min() >= 0.5
    assert drawn.max() <= 2.0
    assert np.mean(drawn < 1) == pytest.approx(0.5, abs=0.03)
