"""Whether the scans were like those trained on: how unusual each is, against how well it was segmented."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup
from scipy import stats

from segpipe.quality.checks import Check, values_of
from segpipe.quality.usual import UNUSUAL, UNUSUAL_P
from segpipe.report.material import Material
from segpipe.report.svg import WIDTH, bottom_axis, dot, element, figure, label_at, left_axis, line, scale_over
from segpipe.report.wording import counted, listed, number, p_value, percent, shown, signed

LEFT, TOP, RIGHT = 60, 20, WIDTH - 14
HEIGHT = 190
MOST_DOTS = 2000
WIDE = 8.0
"""From this score on the axis counts in powers of ten."""
LEAST_CASES = 5
"""For a rank correlation."""


def chapter(material: Material) -> dict[str, Any] | None:
    """Return what the template names: ``lead``, ``charts``, ``rows``; None where no scan was looked at."""
    scores = values_of(material.checks, UNUSUAL)
    if not scores:
        return None
    dice = material.scores.overall("dice")
    found = {case: scores[case] for case in sorted(scores, key=lambda case: -scores[case]) if scores[case] > 1}
    return {
        "lead": _lead(material, scores, found),
        "charts": _charts(material, scores, dice),
        "rows": [_row(material, case, value, dice.get(case, math.nan)) for case, value in found.items()],
    }


def unusual(material: Material) -> dict[str, str]:
    """Return the scored cases whose scans are unusual, the most unusual first, and why each is."""
    scores = values_of(material.checks, UNUSUAL)
    beyond = [case for case in sorted(scores, key=lambda case: -scores[case]) if scores[case] > 1]
    return {case: _check(material, case, UNUSUAL).words for case in beyond if case in material.index}


def _lead(material: Material, scores: Mapping[str, float], found: Mapping[str, float]) -> str:
    receipt = material.receipt("qc")
    subjects, count = receipt("summary.subjects"), receipt("summary.figures")
    against = f" with the scans of {counted(int(subjects), 'subject')} to develop" if subjects else ""
    by = f", by {int(count)} image statistics" if count else ""
    if redrawn := receipt("summary.reconstructed"):
        by += f" and by what the pretrained autoencoder leaves out of it (of {int(redrawn)} scans it had not seen)"
    alarm = receipt("settings.qc.alarm")
    border = f"; 1 is the border that {percent(alarm)} of scans like those should pass" if alarm else ""
    told = f"{len(found)} of {counted(len(scores), 'scan')} {'is' if len(found) == 1 else 'are'} beyond it."
    return f"Each scan was compared{against}{by}{border}. {told}"


def _charts(material: Material, scores: Mapping[str, float], dice: Mapping[str, float]) -> list[dict[str, Any]]:
    both = [case for case in sorted(scores) if case in dice and case in material.index]
    if not both or len(both) > MOST_DOTS:
        return []
    note = "do unusual scans fare worse?"
    places, quality = ([column[case] for case in both] for column in (scores, dice))
    if len(both) >= LEAST_CASES and len(set(places)) > 1 and len(set(quality)) > 1:
        found = stats.spearmanr(places, quality)
        note += f" Rank correlation {signed(float(found.statistic), 2)}, {p_value(float(found.pvalue))}"
    svg = _scatter([(scores[case], dice[case], material.index[case]) for case in both])
    return [{"title": "Dice over how unusual the scan is", "note": note, "legend": Markup(), "svg": svg}]


def _scatter(points: Sequence[tuple[float, float, int]]) -> Markup:
    powers = max(score for score, _, _ in points) > WIDE
    places = [(math.log10(max(score, 1e-2)) if powers else score, dice, case) for score, dice, case in points]
    border = 0.0 if powers else 1.0
    x = scale_over([*(place for place, _, _ in places), border], (LEFT, RIGHT))
    y = scale_over([dice for _, dice, _ in places], (HEIGHT, TOP), (0.0, 1.0))
    unit = "powers of ten of the border" if powers else "in units of the border"
    parts = [
        left_axis(y, (LEFT, RIGHT), "Dice, mean of structures"),
        bottom_axis(x, HEIGHT + 6, f"how unusual the scan is ({unit})"),
        line(x(border), TOP - 6, x(border), HEIGHT, "limit"),
        label_at(x(border) - 4, TOP - 8, "usual", "tick", "end"),
        element("g", *[dot(x(place), y(dice), case) for place, dice, case in places], class_="s0"),
    ]
    return figure((WIDTH, HEIGHT + 48), "Dice of each case over how unusual its scan is", *parts)


def _row(material: Material, case: str, value: float, dice: float) -> dict[str, Any]:
    return {
        "case": case,
        "number": material.index.get(case, -1),
        "score": number(value, 2),
        "p": number(_check(material, case, UNUSUAL_P).value, 3),
        "words": _check(material, case, UNUSUAL).words,
        "dice": shown(dice, "dice"),
    }


def _check(material: Material, case: str, name: str) -> Check:
    return next((one for one in material.checks[case] if one.name == name), Check(name, math.nan))


def compared(material: Material) -> Iterator[str]:
    """Yield what the methods say of it; nothing where no scan was looked at."""
    receipt = material.receipt("qc")
    if not material.checks or receipt("summary.figures") is None:
        return
    redrawn = receipt("summary.reconstructed")
    joined = ", joined with that of what the pretrained autoencoder leaves out" if redrawn else ""
    yield (
        f"Each scan was compared with those of the {receipt('summary.subjects')} subjects to develop, by the "
        f"Mahalanobis distance of {receipt('summary.figures')} image statistics with the shrunk covariance of Ledoit "
        f"and Wolf{joined}. Unusual is what lies beyond the conformal quantile of their own distances, each from the "
        f"other subjects, that {percent(receipt('settings.qc.alarm') or 0)} of such scans should pass."
    )


def sentence(cases: Mapping[str, str]) -> str:
    """Return cases and their reasons in one sentence."""
    return listed([f"{case} ({words})" if words else case for case, words in cases.items()], 3)
