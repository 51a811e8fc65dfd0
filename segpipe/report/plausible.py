"""Whether the predictions are plausible: what was known of each without its reference, against its Dice."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup
from scipy import stats

from segpipe.quality.checks import AGREEMENT, Check, values_of
from segpipe.quality.known import FEW, PLAUSIBLE
from segpipe.report.material import Material
from segpipe.report.svg import WIDTH, Scale, bottom_axis, dot, element, figure, label_at, left_axis, line
from segpipe.report.wording import counted, number, p_value, shown, signed

LEFT, TOP, RIGHT = 60, 20, WIDTH - 14
HEIGHT = 190
MOST_DOTS = 2000
LEAST_CASES = 5
"""For a rank correlation."""
TITLES = {
    PLAUSIBLE: ("plausibility", "Dice over the plausibility of the shape", "does an odd shape tell a bad prediction?"),
    AGREEMENT: ("agreement", "Dice over the agreement of other passes", "do networks that disagree fare worse?"),
}


def chapter(material: Material) -> dict[str, Any] | None:
    """Return what the template names: ``lead``, ``charts``, ``rows``; None where no prediction was judged."""
    judged = {name: found for name in TITLES if (found := values_of(material.checks, name))}
    if not judged:
        return None
    dice = material.scores.overall("dice")
    low = implausible(material)
    return {
        "lead": _lead(material, judged, low),
        "charts": [_chart(material, name, values, dice) for name, values in judged.items() if len(values) <= MOST_DOTS],
        "rows": [_row(material, case, words, dice) for case, words in low.items()],
    }


def implausible(material: Material) -> dict[str, str]:
    """Return the cases whose predictions are not plausible, the worst first, and why each is."""
    low = {
        case: min(one.value for one in found)
        for case, those in material.checks.items()
        if (found := [one for one in those if one.name in TITLES and one.value < FEW])
    }
    return {
        case: "; ".join(dict.fromkeys(one.words for one in material.checks[case] if one.name in TITLES and one.words))
        for case in sorted(low, key=lambda case: (low[case], case))
    }


def judged_by(material: Material) -> Iterator[str]:
    """Yield what the methods say of it; nothing where no prediction was judged."""
    if values_of(material.checks, PLAUSIBLE):
        receipt = material.receipt("qc")
        cases, held = receipt("summary.shape_cases"), receipt("summary.shape_held_out")
        of = f" of {cases} training cases" if cases else ""
        by = f" of {held} other cases" if held else ""
        yield (
            "The plausibility of a prediction is the Dice to expect of it by its shape alone: from its Dice with its "
            f"reconstruction by a variational autoencoder of the reference label maps{of}, and from the Mahalanobis "
            f"distances of simple figures and of its place, each calibrated on reference label maps{by} that were "
            "damaged by known amounts."
        )
    if values_of(material.checks, AGREEMENT):
        yield (
            "Agreement is the mean Dice of a prediction with other passes over the image: each network alone where "
            "there are several, else the network on the image mirrored left-right."
        )


def _lead(material: Material, judged: Mapping[str, Mapping[str, float]], low: Mapping[str, str]) -> str:
    cases = {case for values in judged.values() for case in values}
    what = " and ".join(TITLES[name][0] for name in judged)
    verb = "is" if len(low) == 1 else "are"
    return (
        f"{what.capitalize()} of each prediction, found without its reference. {len(low)} of "
        f"{counted(len(cases), 'prediction')} {verb} below {FEW:g}. It is an alarm: it does not rank good predictions."
    )


def _chart(material: Material, name: str, values: Mapping[str, float], dice: Mapping[str, float]) -> dict[str, Any]:
    _, title, note = TITLES[name]
    both = [case for case in sorted(values) if case in dice and case in material.index]
    if len(both) >= LEAST_CASES and min(len({each[case] for case in both}) for each in (values, dice)) > 1:
        found = stats.spearmanr([values[case] for case in both], [dice[case] for case in both])
        note += f" Rank correlation {signed(float(found.statistic), 2)}, {p_value(float(found.pvalue))}"
    svg = _scatter([(values[case], dice[case], material.index[case]) for case in both], name)
    return {"title": title, "note": note, "legend": Markup(), "svg": svg}


def _scatter(points: Sequence[tuple[float, float, int]], name: str) -> Markup:
    x, y = Scale(0, 1, LEFT, RIGHT), Scale(0, 1, HEIGHT, TOP)
    parts = [
        left_axis(y, (LEFT, RIGHT), "Dice, mean of structures"),
        bottom_axis(x, HEIGHT + 6, f"{TITLES[name][0]} (Dice to expect)" if name == PLAUSIBLE else TITLES[name][0]),
        line(x(FEW), TOP - 6, x(FEW), HEIGHT, "limit"),
        label_at(x(FEW) - 4, TOP - 8, "look at it", "tick", "end"),
        element("g", *[dot(x(value), y(dice), case) for value, dice, case in points], class_="s0"),
    ]
    return figure((WIDTH, HEIGHT + 48), TITLES[name][1], *parts)


def _row(material: Material, case: str, words: str, dice: Mapping[str, float]) -> dict[str, Any]:
    def value(name: str) -> str:
        one = next((each for each in material.checks[case] if each.name == name), Check(name, math.nan))
        return number(one.value, 2)

    return {
        "case": case,
        "number": material.index.get(case, -1),
        "plausibility": value(PLAUSIBLE),
        "agreement": value(AGREEMENT),
        "words": words,
        "dice": shown(dice.get(case, math.nan), "dice"),
    }
