"""Accept, review or reject: what to do with a prediction, by all that is known of it without its reference."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from segpipe.core.atomic import write_json
from segpipe.core.section import Section, read_section
from segpipe.quality.checks import AGREEMENT, Check
from segpipe.quality.known import FEW, PLAUSIBLE
from segpipe.quality.predicted import Predicted
from segpipe.quality.usual import UNUSUAL

FLAGS = "flags.json"
FLAG = "flag"
PREDICTED, PREDICTED_ERROR = "predicted_dice", "predicted_dice_error"
UNCERTAINTY = "uncertainty"
ACCEPT, REVIEW, REJECT = "accept", "review", "reject"
NAMES = (ACCEPT, REVIEW, REJECT)
"""A flag's value in ``checks.csv`` is its place here."""


class FlagsConfig(Section):
    """When a prediction is accepted, to be reviewed, or rejected."""

    use: bool = True
    """Whether predictions are flagged."""
    accept_dice: Annotated[float, Field(ge=0, le=1)] = 0.7
    """A prediction is accepted if its predicted Dice less its error reaches this, and nothing else speaks against
    it. 0.7 is what studies of quality control take for usable; set what your use needs."""
    reject_dice: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Below this predicted Dice (or plausibility, or agreement of other passes) a prediction is rejected."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.reject_dice > self.accept_dice:
            raise ValueError("reject_dice lies above accept_dice. Raise the one or lower the other.")
        return self


def flag_of(checks: Sequence[Check], predicted: Predicted, limits: FlagsConfig) -> Check:
    """Return the flag of a prediction: the worst of its reasons, which stand in its words; none: accept.

    Args:
        checks: All others of the case.
        predicted: The Dice to expect.
        limits: The borders.
    """
    reasons = [*_of_dice(predicted, limits), *_of_checks({one.name: one for one in checks}, limits)]
    worst = max((place for place, _ in reasons), default=0)
    ordered = [words for place in (2, 1) for found, words in reasons if found == place]
    return Check(FLAG, float(worst), f"{NAMES[worst]}: {'; '.join(ordered)}" if ordered else NAMES[worst])


def _of_dice(predicted: Predicted, limits: FlagsConfig) -> Iterator[tuple[int, str]]:
    for name in predicted.missing:
        yield 2, f"{name} is missing, which nearly every reference shows"
    mean, error = predicted.mean, predicted.error
    if not math.isfinite(mean):
        yield 1, f"no Dice can be predicted: {predicted.why}"
    elif mean < limits.reject_dice:
        yield 2, f"low predicted Dice {mean:.2f} (below {limits.reject_dice:g})"
    elif mean - error < limits.accept_dice:
        yield 1, f"predicted Dice {mean:.2f} ± {error:.2f}: it may lie below {limits.accept_dice:g}"
    if mean < limits.reject_dice:
        return  # then single structures are no news
    for name, value in predicted.each.items():
        if value < limits.reject_dice and name not in predicted.missing and len(predicted.each) > 1:
            yield 1, f"low predicted Dice of {name}, {value:.2f}"


def _of_checks(checks: Mapping[str, Check], limits: FlagsConfig) -> Iterator[tuple[int, str]]:
    if (scan := checks.get(UNUSUAL)) and scan.value > 1:
        yield 1, f"scan unlike the training scans ({scan.words})" if scan.words else "scan unlike the training scans"
    for name, said in ((PLAUSIBLE, "implausible shape"), (AGREEMENT, "other passes disagree")):
        if (one := checks.get(name)) and one.value < FEW:
            words = f", {one.words}" if one.words else ""
            yield (2 if one.value < limits.reject_dice else 1), f"{said} ({one.value:.2f}{words})"


def write_flags(path: Path, limits: FlagsConfig) -> None:
    """Write the borders, whole or not at all."""
    write_json(path, limits.model_dump(mode="json"))


def read_flags(path: Path) -> FlagsConfig | None:
    """Return the borders; None where there is no such file, or no flag is wanted.

    Raises:
        ArtifactError: It is damaged.
    """
    limits = read_section(path, FlagsConfig, "Run the stage qc again, or take the file out.")
    return limits if limits and limits.use else None
