"""Which predictions to trust: the flag of each with its reasons, and its predicted Dice against the true one."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from segpipe.quality.checks import Check, values_of
from segpipe.quality.flag import ACCEPT, FLAG, NAMES, PREDICTED, PREDICTED_ERROR, REJECT, UNCERTAINTY
from segpipe.report.material import Material
from segpipe.report.svg import WIDTH, Scale, bottom_axis, dot, element, figure, left_axis, line, scale_over
from segpipe.report.wording import UNDEFINED, counted, number, percent, shown, signed

LEFT, TOP, RIGHT = 60, 14, WIDTH - 14
HEIGHT = 250
MOST_DOTS = 2000
MOST_ROWS = 200
"""Rows of the table; with more cases those that were accepted are left out, then the best of the others."""
MARKS = {"accept": ("s0", "dot"), "review": ("s3", "dot out"), "reject": ("s1", "dot")}
SAID = {"accept": "accepted", "review": "to review", "reject": "rejected"}


def chapter(material: Material) -> dict[str, Any] | None:
    """Return what the template names; None where nothing was flagged."""
    flags = values_of(material.checks, FLAG)
    if not flags:
        return None
    dice = material.scores.overall("dice")
    order = sorted(flags, key=lambda case: (-flags[case], _value(material, case, PREDICTED, 1.0), case))
    listed = order if len(order) <= MOST_ROWS else [case for case in order if flags[case] > 0][:MOST_ROWS]
    return {
        "lead": " ".join(_lead(material)),
        "charts": _charts(material, flags, dice),
        "groups": [_group(one) for one in material.judged.get("flags") or []],
        "rows": [_row(material, case, dice.get(case, math.nan)) for case in listed],
        "more": len(order) - len(listed),
    }


def rejected(material: Material) -> dict[str, str]:
    """Return the cases that are to be rejected, and why."""
    return {
        case: one.words.partition(": ")[2]
        for case, those in material.checks.items()
        for one in those
        if one.name == FLAG and one.words.startswith(REJECT)
    }


def wrongly_accepted(material: Material) -> list[str]:
    """Return the accepted cases whose Dice is below what they were accepted for, the worst first."""
    border = material.receipt("qc")("settings.qc.flags.accept_dice")
    if border is None:
        return []
    dice = material.scores.overall("dice")
    accepted = [case for case, value in values_of(material.checks, FLAG).items() if NAMES[int(value)] == ACCEPT]
    return sorted((case for case in accepted if dice.get(case, 1.0) < border), key=lambda case: dice[case])


def judged_by(material: Material) -> Iterator[str]:
    """Yield what the methods say of it; nothing where nothing was flagged."""
    limits = material.receipt("qc")("settings.qc.flags")
    if not (isinstance(limits, dict) and values_of(material.checks, FLAG)):
        return
    if count := material.receipt("infer")("summary.dice_learned_from"):
        yield (
            "The Dice of each structure was predicted from the Dice that the probabilities of the network promise "
            f"(2 Σp over the prediction, by its size and Σp over the image), by isotonic regression on "
            f"{counted(int(count), 'case')} on which the network was not trained; a case that is among these was "
            "predicted from the other subjects. Its error is the conformal quantile that 90 % of these cases, each "
            "predicted from the other subjects, do not pass."
        )
    yield (
        f"A prediction is accepted where its predicted Dice less its error reaches {limits.get('accept_dice', 0):g} "
        f"and no other check speaks against it, rejected where it is predicted below {limits.get('reject_dice', 0):g} "
        "or lacks a structure that 90 % of references show, and to be reviewed otherwise."
    )


def _lead(material: Material) -> Iterator[str]:
    found = material.judged
    yield "Told of each case without its reference, for a day when there is none."
    groups = found.get("flags") or []
    yield ", ".join(f"{group['cases']} {SAID[group['flag']]}" for group in groups).capitalize() + "."
    if not found.get("compared"):
        yield from _unpredicted(material)
        return
    count = material.receipt("infer")("summary.dice_learned_from")
    learned = f", learned from {counted(int(count), 'validation case')}," if count else ""
    yield (
        f"The predicted Dice{learned} was off by {number(found['mean_absolute_error'], 3)} on average on "
        f"{counted(found['compared'], 'held-out case')}, from none of which it was learned "
        f"(bias {signed(found['bias'], 3)}); the true Dice lay within the error that was told in "
        f"{percent(round(found['within'], 3))} of them, and should in {percent(found['wanted'])}."
    )


def _group(told: Mapping[str, Any]) -> dict[str, Any]:
    mean, lowest = (math.nan if told[key] is None else float(told[key]) for key in ("mean_dice", "lowest_dice"))
    return dict(told) | {"mean": shown(mean, "dice"), "lowest": shown(lowest, "dice")}


def _unpredicted(material: Material) -> Iterator[str]:
    why = {one.words for those in material.checks.values() for one in those if one.name == PREDICTED and one.words}
    if why:
        yield f"No Dice was predicted: {'; '.join(sorted(why))}. Flags rest on the other checks."


def _charts(material: Material, flags: Mapping[str, float], dice: Mapping[str, float]) -> list[dict[str, Any]]:
    predicted = values_of(material.checks, PREDICTED)
    both = [case for case in sorted(predicted) if case in dice and case in material.index and case in flags]
    if not both or len(both) > MOST_DOTS:
        return []
    note = "on the line: as predicted; between the dashes: within the error"
    found = float(material.judged.get("rank_correlation", math.nan))
    if math.isfinite(found):
        note += f". Rank correlation {signed(found, 2)}"
    points = [(predicted[case], dice[case], NAMES[int(flags[case])], material.index[case]) for case in both]
    error = next(iter(values_of(material.checks, PREDICTED_ERROR).values()), math.nan)
    there = [name for name in NAMES if any(flag == name for *_, flag, _ in points)]
    title = "True over predicted Dice"
    return [{"title": title, "note": note, "legend": _legend(there), "svg": _scatter(points, error)}]


def _scatter(points: Sequence[tuple[float, float, str, int]], error: float) -> Markup:
    values = [value for point in points for value in point[:2]]
    bounds = (0.0, 1.0)
    x, y = scale_over(values, (LEFT, RIGHT), bounds), scale_over(values, (HEIGHT, TOP), bounds)
    parts = [
        left_axis(y, (LEFT, RIGHT), "true Dice, mean of structures"),
        bottom_axis(x, HEIGHT + 6, "predicted Dice, mean of structures"),
        _diagonal(x, y, 0.0, "bias"),
    ]
    if math.isfinite(error):
        parts += [_diagonal(x, y, above, "limit") for above in (error, -error)]
    for name, (colour, mark) in MARKS.items():
        dots = [dot(x(told), y(true), case, mark) for told, true, flag, case in points if flag == name]
        parts.append(element("g", *dots, class_=colour))
    return figure((WIDTH, HEIGHT + 48), "True Dice of each case over the Dice that was predicted", *parts)


def _diagonal(x: Scale, y: Scale, above: float, class_: str) -> Markup:
    """Return the line of a true value that lies ``above`` the predicted one, as far as both axes reach."""
    first, last = max(x.low, y.low - above), min(x.high, y.high - above)
    if first >= last:
        return Markup()
    return line(x(first), y(first + above), x(last), y(last + above), class_)


def _legend(names: Sequence[str]) -> Markup:
    keys = [
        element(
            "span", element("i", class_=f"{'hollow' if 'out' in MARKS[name][1] else 'ball'} {MARKS[name][0]}"), name
        )
        for name in names
    ]
    return element("span", *[element("span", key, class_="key") for key in keys], class_="legend")


def _row(material: Material, case: str, dice: float) -> dict[str, Any]:
    flag = _check(material, case, FLAG)
    mean, error = _value(material, case, PREDICTED), _value(material, case, PREDICTED_ERROR)
    told = f"{number(mean, 2)} ± {number(error, 2)}" if math.isfinite(mean) else UNDEFINED
    return {
        "case": case,
        "number": material.index.get(case, -1),
        "flag": NAMES[int(flag.value)],
        "predicted": told,
        "uncertainty": number(_value(material, case, UNCERTAINTY), 2),
        "dice": shown(dice, "dice"),
        "words": flag.words.partition(": ")[2],
    }


def _value(material: Material, case: str, name: str, otherwise: float = math.nan) -> float:
    value = _check(material, case, name).value
    return value if math.isfinite(value) else otherwise


def _check(material: Material, case: str, name: str) -> Check:
    return next((one for one in material.checks[case] if one.name == name), Check(name, math.nan))
