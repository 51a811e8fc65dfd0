"""What `make demo` promises: phantoms segmented to the accuracy that the README tells."""

from pathlib import Path

import pytest
from phantoms import QUIET, mean_dice, segpipe

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_the_demo_segments_phantoms_it_never_trained_on(tmp_path: Path) -> None:
    assert segpipe("phantom", tmp_path / "phantoms").code == 0
    ran = segpipe("run", "demo", "--data", tmp_path / "phantoms", "-o", tmp_path / "out", *QUIET)
    assert ran.code == 0, ran.out + ran.err
    assert mean_dice(tmp_path / "out")["mean"] >= 0.85
