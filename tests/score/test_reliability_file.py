"""Bins of reliability come back from their file as they were; what is wrong in it is named by its line."""

from pathlib import Path

import numpy as np
import pytest

from segpipe.core.errors import ArtifactError
from segpipe.score.calibration import reliability
from segpipe.score.reliability_file import read_reliability, write_reliability


def test_bins_come_back_empty_ones_too(tmp_path: Path) -> None:
    some = reliability(np.array([0.05, 0.95, 0.9]), np.array([False, True, False]))
    none = reliability(np.zeros(0), np.zeros(0, bool))
    write_reliability(tmp_path / "bins.jsonl", {"b": {"front": some, "back": none}, "a": {"front": some}})
    found = read_reliability(tmp_path / "bins.jsonl")
    assert list(found) == ["a", "b"]
    again = found["b"]["front"]
    np.testing.assert_array_equal(again.count, some.count)
    np.testing.assert_array_equal(again.confidence, some.confidence)
    assert (again.ece, again.brier) == (some.ece, some.brier)
    assert np.isnan(found["b"]["back"].ece)


def test_no_file_is_no_probabilities_and_a_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bins.jsonl"
    assert read_reliability(path) == {}
    path.write_text('{"case": "a"}\n')
    with pytest.raises(ArtifactError, match="line 1: no bins of a case"):
        read_reliability(path)
