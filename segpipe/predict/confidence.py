"""How sure the networks are of a prediction, the Dice to expect of it, and what to do with it."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segpipe.dataset.plan import Plan
from segpipe.nets.checkpoint import model_folders
from segpipe.predict.seen import Checker, Segmented
from segpipe.quality.checks import Check
from segpipe.quality.confidence import UNDRAWN, Confidence, confidence_of
from segpipe.quality.flag import FLAGS, PREDICTED, PREDICTED_ERROR, UNCERTAINTY, FlagsConfig, flag_of, read_flags
from segpipe.quality.predicted import DicePredictor, Predicted, held_in

TRAINED_ON = "a network was trained on this very case"


@dataclass(frozen=True)
class Judge:
    """Asks all checkers about a segmented scan, predicts its Dice, and flags it."""

    checkers: Sequence[Checker]
    predictor: DicePredictor
    plan: Plan
    flags: FlagsConfig | None = None
    """None: nothing is flagged."""
    subjects: Mapping[str, str] = field(default_factory=dict)
    """Of the cases that the predictor may know: each is predicted from the others."""
    trained: Collection[str] = ()
    """Cases on which the networks were trained: what they say of these is no measure."""

    @property
    def knows(self) -> bool:
        """Whether there is anything by which to judge."""
        return bool(self.checkers or self.predictor.structures or self.flags)

    def __call__(self, seen: Segmented) -> list[Check]:
        """Return all that is known of a case without its reference; its flag, if wanted, comes last."""
        found = [check for checker in self.checkers for check in checker(seen)]
        confidence = confidence_in(seen.scores.array, self.plan)
        if seen.case in self.trained:
            predicted = Predicted(math.nan, math.nan, {}, (), TRAINED_ON)
        else:
            predicted = self.predictor(confidence, self.subjects.get(seen.case))
        found += _uncertain(confidence)
        if self.predictor.structures:
            found += _expected(predicted, self.plan)
        return [*found, flag_of(found, predicted, self.flags)] if self.flags else found


def confidence_in(scores: NDArray[np.floating], plan: Plan) -> dict[str, Confidence]:
    """Return how sure networks are of each structure, by their averaged scores (K, *S); NaN without probabilities."""
    probabilities = plan.target.probabilities(scores, plan.labels)
    if probabilities is None:
        return dict.fromkeys(plan.labels.names, UNDRAWN)
    return confidence_of(probabilities, plan.target.decode(scores, plan.labels), plan.labels.groups())


def judge_of(folder: Path, checkers: Sequence[Checker], plan: Plan) -> Judge:
    """Return the judge that a model folder tells of: what its models did on held-out cases, and when to accept.

    Raises:
        ArtifactError: One of the files is damaged.
    """
    return Judge(checkers, DicePredictor(held_in(model_folders(folder))), plan, read_flags(folder / FLAGS))


def _uncertain(confidence: Mapping[str, Confidence]) -> list[Check]:
    each = {name: one.uncertainty for name, one in confidence.items()}
    known = [value for value in each.values() if math.isfinite(value)]
    mean = float(np.mean(known)) if known else math.nan
    return [Check(UNCERTAINTY, mean), *(Check(f"{UNCERTAINTY}[{name}]", value) for name, value in each.items())]


def _expected(predicted: Predicted, plan: Plan) -> list[Check]:
    each = [Check(f"{PREDICTED}[{name}]", predicted.each.get(name, math.nan)) for name in plan.labels.names]
    return [
        Check(PREDICTED, predicted.mean, predicted.why),
        Check(PREDICTED_ERROR, predicted.error),
        *(each if predicted.each else []),
    ]
