"""What went wrong in a case, structure by structure, told from its figures: missed, partly missed, spilt, misplaced."""

import math

from segpipe.report.scores import Scores
from segpipe.report.wording import listed, number, percent

APART = 0.1
"""Sensitivity and precision that differ by this much make one kind of error."""
GOOD = 0.8
"""Dice from which nothing is called an error."""
HARDLY = 0.1
"""Sensitivity and precision below which nothing is said of the kind."""
MOST = 3


def failure(scores: Scores, case: str) -> str:
    """Return the errors of a case in a few words, the worst structure first; empty where none stands out."""
    told = sorted(
        (dice, words)
        for structure in scores.structures
        if (dice := scores.get(case, structure, "dice")) < GOOD and (words := _kind(scores, case, structure))
    )
    return listed([words for _, words in told], MOST)


def _kind(scores: Scores, case: str, structure: str) -> str:
    reference, predicted = (scores.get(case, structure, metric) for metric in ("vol_ref_mm3", "vol_pred_mm3"))
    if predicted == 0 and reference > 0:
        return f"{structure} missed"
    if reference == 0 and predicted > 0:
        return f"{structure} drawn where there is none"
    sensitivity, precision = (scores.get(case, structure, metric) for metric in ("sensitivity", "precision"))
    return _balance(structure, sensitivity, precision) if math.isfinite(sensitivity + precision) else ""


def _balance(structure: str, sensitivity: float, precision: float) -> str:
    if max(sensitivity, precision) < HARDLY:
        return f"hardly any of {structure} where it is"
    if sensitivity < precision - APART:
        return f"{percent(round(1 - sensitivity, 2))} of {structure} missing"
    if precision < sensitivity - APART:
        return f"{percent(round(1 - precision, 2))} of what is drawn as {structure} lies outside"
    return f"{structure} displaced (sensitivity {number(sensitivity, 2)}, precision {number(precision, 2)})"
