"""The one rule for structures that are missing from the reference, from the prediction, or from both, in words."""

RULE = (
    "A structure that is in the reference but not in the prediction was missed: its overlaps (Dice, IoU, sensitivity) "
    "and its NSD are 0 and count, its distances and its precision are undefined.",
    "One that is in the prediction but not in the reference was drawn without reference: its overlaps (Dice, IoU, "
    "precision) and its NSD are 0 and count, its distances and its sensitivity are undefined.",
    "One that is in neither is absent, which is right and which no metric rewards: every share and every distance is "
    "undefined, and it counts in none.",
    "An undefined value is never replaced by a number: it is left out of means and quantiles, and how many were left "
    "out stands beside each. A case that could not be scored counts as undefined everywhere.",
)
"""Sentences for people; ``case.status`` and the metrics keep to them."""


def rule() -> str:
    """Return the rule as one paragraph."""
    return " ".join(("Empty masks.", *RULE))
