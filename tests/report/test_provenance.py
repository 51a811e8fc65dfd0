"""Times as people say them; no clock of our own."""

import pytest

from segpipe.report.provenance import duration, moment


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0.4\N{NARROW NO-BREAK SPACE}s"), (75, "1 min 15 s"), (7384.2, "2 h 3 min"), (None, "\N{EN DASH}")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_moments() -> None:
    assert moment("2026-11-23T18:44:05+00:00") == "2026-11-23 18:44 UTC"
    assert moment(None) == ""
