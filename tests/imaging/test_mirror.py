"""Places beyond the rim."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.imaging.mirror import mirrored


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(0, 40), st.integers(0, 40))
def test_places_beyond_the_rim_are_those_of_numpys_reflection(count: int, before: int, after: int) -> None:
    wanted = np.pad(np.arange(count), (before, after), mode="reflect")
    assert mirrored(count, -before, before + count + after).tolist() == wanted.tolist()


def test_a_part_may_begin_and_end_anywhere() -> None:
    assert mirrored(4, 2, 5).tolist() == [2, 3, 2, 1, 0]
    assert mirrored(4, -5, 3).tolist() == [1, 2, 3]
