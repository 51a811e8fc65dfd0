"""The chapter on subgroups: whether some subjects fare worse than others."""

import math
from collections.abc import Mapping
from typing import Any

from segpipe.report.forest import Line, forest
from segpipe.report.material import Material
from segpipe.report.wording import counted, number, p_value, shown, signed, span
from segpipe.score.interval import Estimate

DICE = "dice"


def chapter(material: Material) -> dict[str, Any] | None:
    """Return the forest plot and a sentence for each covariate; None where nothing divides the cases."""
    shown_ones = [one for one in material.subgroups if one["groups"]]
    if not shown_ones:
        return None
    rows = []
    for one in shown_ones:
        rows.append(Line(one["covariate"], "subjects"))
        for group in one["groups"]:
            mean = estimate(group["mean"])
            said = f"{shown(mean.value, DICE)} {span(mean.low, mean.high, DICE)}" if mean.sure else "no interval"
            rows.append(Line(group["name"], number(group["subjects"], 0), mean, said, faint=not group["tested"]))
    overall = material.figure(DICE)
    guides = [(overall.mean, "limit")] if overall and math.isfinite(overall.mean) else []
    chart = forest(rows, "mean Dice", "Mean Dice by subgroup, with intervals", guides=guides, bounds=(0.0, 1.0))
    return {"svg": chart, "told": [sentence(one) for one in material.subgroups]}


def sentence(one: Mapping[str, Any]) -> dict[str, str]:
    """Return what is said of one covariate: its gap and the test, or why there is none, and what is not shown."""
    parts = []
    if gap := one["gap"]:
        apart = estimate(gap["difference"])
        parts.append(
            f"{gap['higher']} is ahead of {gap['lower']} by {number(apart.value, 3)} "
            f"(interval {signed(apart.low, 3)} to {signed(apart.high, 3)}); "
            f"that groups differ at all: {p_value(gap['corrected'])} after Holm's correction."
        )
    else:
        parts.append(f"Not tested: {one['reason']}.")
    if one["hidden_groups"]:
        parts.append(
            f"{counted(one['hidden_groups'], 'group')} of {counted(one['hidden_subjects'], 'subject')} in all "
            f"{'is' if one['hidden_groups'] == 1 else 'are'} too small to be shown."
        )
    return {"name": one["covariate"], "text": " ".join(parts)}


def estimate(told: Mapping[str, float | None]) -> Estimate:
    """Return an estimate as summary.json holds it."""
    return Estimate(*(math.nan if told[key] is None else float(told[key] or 0.0) for key in ("value", "low", "high")))
