"""Flags: accept, review or reject, and the reasons in words."""

import math
from pathlib import Path

import pytest
from pydantic import ValidationError

from segpipe.core.errors import ArtifactError
from segpipe.quality.checks import AGREEMENT, Check
from segpipe.quality.flag import FLAGS, NAMES, FlagsConfig, flag_of, read_flags, write_flags
from segpipe.quality.known import PLAUSIBLE
from segpipe.quality.predicted import Predicted
from segpipe.quality.usual import UNUSUAL

GOOD = Predicted(0.9, 0.05, {"front": 0.9, "back": 0.9})
NOTHING = Predicted(math.nan, math.nan, {}, (), "3 of 10 subjects to learn it from")


def told(predicted: Predicted, *checks: Check, limits: FlagsConfig | None = None) -> str:
    found = flag_of(checks, predicted, limits or FlagsConfig())
    assert found.words.startswith(NAMES[int(found.value)])
    return found.words


def test_a_good_prediction_of_a_usual_scan_is_accepted() -> None:
    assert told(GOOD, Check(UNUSUAL, 0.8, ""), Check(PLAUSIBLE, 0.9), Check(AGREEMENT, 0.95)) == "accept"


@pytest.mark.parametrize(
    ("predicted", "checks", "flag"),
    [
        (Predicted(0.72, 0.05, {}), [], "review: predicted Dice 0.72 ± 0.05: it may lie below 0.7"),
        (Predicted(0.45, 0.05, {"front": 0.5, "back": 0.4}), [], "reject: low predicted Dice 0.45 (below 0.5)"),
        (GOOD, [Check(UNUSUAL, 1.2, "noise")], "review: scan unlike the training scans (noise)"),
        (GOOD, [Check(PLAUSIBLE, 0.6, "cut")], "review: implausible shape (0.60, cut)"),
        (GOOD, [Check(PLAUSIBLE, 0.4, "cut")], "reject: implausible shape (0.40, cut)"),
        (GOOD, [Check(AGREEMENT, 0.65)], "review: other passes disagree (0.65)"),
        (GOOD, [Check(PLAUSIBLE, math.nan)], "accept"),
        (NOTHING, [], "review: no Dice can be predicted: 3 of 10 subjects to learn it from"),
        (
            Predicted(0.8, 0.02, {"front": 0.8, "back": 0.0}, ("back",)),
            [],
            "reject: back is missing, which nearly every reference shows",
        ),
        (Predicted(0.75, 0.02, {"front": 0.95, "back": 0.45}), [], "review: low predicted Dice of back, 0.45"),
    ],
)
def test_each_reason_by_itself(predicted: Predicted, checks: list[Check], flag: str) -> None:
    assert told(predicted, *checks) == flag


def test_the_worst_reason_decides_and_stands_first() -> None:
    words = told(Predicted(0.4, 0.1, {}), Check(UNUSUAL, 2.0, "blur"))
    assert words == "reject: low predicted Dice 0.40 (below 0.5); scan unlike the training scans (blur)"


def test_the_borders_are_settings() -> None:
    strict = FlagsConfig(accept_dice=0.95, reject_dice=0.91)
    assert told(GOOD, limits=strict).startswith("reject")
    with pytest.raises(ValidationError, match="reject_dice lies above accept_dice"):
        FlagsConfig(accept_dice=0.5, reject_dice=0.6)


def test_borders_are_kept_in_a_file(tmp_path: Path) -> None:
    assert read_flags(tmp_path / FLAGS) is None
    write_flags(tmp_path / FLAGS, FlagsConfig(accept_dice=0.8))
    assert read_flags(tmp_path / FLAGS) == FlagsConfig(accept_dice=0.8)
    write_flags(tmp_path / FLAGS, FlagsConfig(use=False))
    assert read_flags(tmp_path / FLAGS) is None
    (tmp_path / FLAGS).write_text("{")
    with pytest.raises(ArtifactError, match=r"flags\.json: damaged"):
        read_flags(tmp_path / FLAGS)
