"""A comparison in words: the verdict, what it cannot tell, how it was made."""

import math
from collections.abc import Iterator

from segpipe.compare.figures import Compared, Key, Pair
from segpipe.report.wording import counted, listed, name_of, number, p_value, percent, shown, unit_of
from segpipe.score.case import meaning
from segpipe.score.difference import MOST_EXACT
from segpipe.score.paired import LEVEL
from segpipe.score.planning import POWER, subjects_for_difference
from segpipe.score.summary import OVERALL

WORTH_FINDING = 0.01
"""A difference of a share (Dice, NSD) for which the number of subjects is told."""
OUT_OF_FOLD = "out_of_fold"


def verdicts(found: Compared) -> list[dict[str, str]]:
    """Return what each primary comparison shows: a title, a text, and how it is coloured."""
    said = []
    for pair in found.primary:
        title, kind = _title(pair)
        parts = [*_evidence(found, pair), *_doubts(found, pair), *_margin(found, pair)]
        said.append({"title": title, "text": " ".join(parts), "kind": kind})
    return said


def score_name(key: Key, found: Compared) -> str:
    """Return ``Dice, mean of 3 structures`` or ``HD95 of anterior``."""
    label, metric = key
    if label != OVERALL:
        return f"{name_of(metric)} of {label}"
    if len(found.labels) == 1:
        return f"{name_of(metric)} of {found.labels[0]}"
    return f"{name_of(metric)}, mean of {counted(len(found.labels), 'structure')}"


def amount(value: float, key: Key, found: Compared) -> str:
    """Return a score without a sign, with its unit."""
    unit = unit_of(key[1], found.runs[0].rank)
    return shown(abs(value), key[1]) + (f" {unit}" if unit else "")


def signed_score(value: float, metric: str) -> str:
    """Return a difference of scores with its sign."""
    text = shown(value, metric)
    return f"+{text}" if math.isfinite(value) and value > 0 and not _is_zero(text) else text


def signed_span(pair: Pair) -> str:
    """Return the interval of a difference."""
    one, metric = pair.found.mean, pair.key[1]
    return f"{signed_score(one.low, metric)} to {signed_score(one.high, metric)}" if one.sure else "none"


def _is_zero(text: str) -> bool:
    return not set(text) - set("0.")


def _title(pair: Pair) -> tuple[str, str]:
    if not pair.shown:
        return f"{pair.model} and {pair.other}: no evidence of a difference.", "note"
    ahead, behind = (pair.model, pair.other) if pair.gain.value > 0 else (pair.other, pair.model)
    return f"{ahead} is ahead of {behind}.", "fine"


def _evidence(found: Compared, pair: Pair) -> Iterator[str]:
    one = pair.found
    family = len(found.primary)
    corrected = f", {p_value(pair.corrected)} after Holm's correction for {family} comparisons" if family > 1 else ""
    yield (
        f"{score_name(pair.key, found)}: {pair.model} \N{MINUS SIGN} {pair.other} is "
        f"{signed_score(one.mean.value, pair.key[1])} ({percent(found.plan.confidence)} CI {signed_span(pair)}; "
        f"permutation test over {counted(one.subjects, 'subject')}, {p_value(one.p)}{corrected})."
    )
    better, worse = (one.gains, one.losses) if meaning(pair.key[1]).better == "higher" else (one.losses, one.gains)
    even = one.subjects - better - worse
    yield (
        f"{pair.model} is better in {counted(better, 'subject')} and worse in {worse}"
        + (f", equal in {even}" if even else "")
        + f" (rank-biserial correlation {signed_effect(pair)})."
    )
    if not pair.shown:
        room = f"the interval leaves room for {signed_span(pair)}" if one.mean.sure else "there is not even an interval"
        yield f"This does not show that they are equal: {room}."
        yield from _needed(pair)


def signed_effect(pair: Pair) -> str:
    """Return the rank-biserial correlation, positive where the model is better."""
    turned = pair.found.effect if meaning(pair.key[1]).better == "higher" else -pair.found.effect
    text = number(turned, 2)
    return f"+{text}" if turned > 0 and not _is_zero(text) else text


def _needed(pair: Pair) -> Iterator[str]:
    if meaning(pair.key[1]).unit == "" and math.isfinite(pair.found.sd) and pair.found.sd > 0:
        count = subjects_for_difference(pair.found.sd, WORTH_FINDING)
        enough = "as many as are here, or fewer," if count <= pair.found.subjects else counted(count, "subject")
        yield (
            f"With differences that vary as these do, {enough} would find a mean difference of {WORTH_FINDING:g} in "
            f"{percent(POWER)} of studies."
        )


def _doubts(found: Compared, pair: Pair) -> Iterator[str]:
    one = pair.found
    if (least := 2.0 ** (1 - one.subjects)) > LEVEL:
        yield f"With {counted(one.subjects, 'subject')} no p below {least:.2g} is possible."
    if (one.p < LEVEL) != (one.p_ranks < LEVEL):
        yield (
            f"Wilcoxon's signed-rank test, which weighs ranks instead of sizes, says {p_value(one.p_ranks)}: the two "
            "do not agree, so look at the single cases."
        )
    if pair.corrected < LEVEL and not pair.shown:
        yield "The test sees a difference and the interval does not exclude zero: take it for undecided."
    if left_out := found.left_out.get(pair.key, 0):
        yield f"{counted(left_out, 'case')} left out: the score is defined for some models only."


def _margin(found: Compared, pair: Pair) -> Iterator[str]:
    margin = found.plan.margin
    if margin is None or pair.not_worse is None:
        return
    given = f"the margin of {amount(margin, pair.key, found)} that was given"
    if pair.not_worse:
        yield f"Non-inferiority: {pair.model} is not worse than {pair.other} by more than {given}."
    elif pair.gain.sure and pair.gain.high < -margin:
        yield f"Non-inferiority: {pair.model} is worse than {pair.other} by more than {given}."
    else:
        yield f"Non-inferiority is not shown: {pair.model} may be worse than {pair.other} by more than {given}."
    if len(found.primary) > 1:
        yield f"(Bounds widened for {len(found.primary)} comparisons.)"


def cautions(found: Compared) -> list[str]:
    """Return what the comparison cannot tell, as far as it is known."""
    return list(_cautions(found))


def _cautions(found: Compared) -> Iterator[str]:
    several = found.runs
    yield (
        "One split and one training of each: the tests are about other subjects like these, segmented with these very "
        "weights. Another seed can move a score as well; before a method is preferred, train each several times "
        "(segpipe study compares over seeds)."
    )
    yield "If these cases were used to choose any of the models, p is too small and the scores are too good."
    for name, cases in found.missing.items():
        if cases:
            yield (
                f"{name} has no scores of {counted(len(cases), 'case')} that others have ({listed(cases)}): left out "
                f"everywhere. If it failed there, it looks better here than it is."
            )
    if any(OUT_OF_FOLD in run.parts.values() for run in several):
        yield (
            "Some cases were segmented by networks of a cross-validation. These share training data, so their scores "
            "are not independent and p is an approximation."
        )
    if not found.subjects_known:
        yield (
            "Nobody says which cases are of one patient: each is taken for a subject of its own. If some are not, "
            "p is too small and intervals are too narrow (--subjects names a table)."
        )
    if not all(run.definitions for run in several):
        yield "Some folders do not say how their metrics are defined: that they are the same was taken on trust."
    if not all(run.references for run in several):
        yield "Not every folder names the hashes of its references: that they are the same was seen by volume only."
    if differing := _other_labels(found):
        yield f"Structures that only some runs have are left out: {listed(differing)}."


def _other_labels(found: Compared) -> list[str]:
    every = dict.fromkeys(label for run in found.runs for label, _ in run.scores)
    return [label for label in every if label not in found.labels]


def methods(found: Compared) -> list[str]:
    """Return how it was made, in sentences."""
    plan = found.plan
    owners = {found.subjects[case] for case in found.cases}
    names = listed([score_name(key, found) for key in plan.primary], len(plan.primary))
    told = [
        f"All models were compared on the same {counted(len(found.cases), 'case')} of "
        f"{counted(len(owners), 'subject')}; a score counts where all models have one.",
        f"Primary: {names}. p is of the permutation test (two-sided) that flips the signs of subjects' differences: "
        f"it asks about the mean difference, as the interval does. All flips up to {MOST_EXACT} subjects, 20 000 "
        f"random ones beyond (seed {plan.seed}).",
        f"p corrected after Holm within the primary comparisons ({len(found.primary)}) and, apart from these, within "
        f"all others ({len(found.pairs) - len(found.primary)}), which are exploratory. Evidence is a corrected p below "
        f"{LEVEL:g} and an interval without zero; the intervals themselves are not widened for their number.",
        "Means are over cases. Intervals of differences: Student's, with the jackknife over subjects; of single "
        "models: bootstrap-t over subjects. Effect size: matched-pairs rank-biserial correlation, positive where the "
        "first model is better. Beside it, Wilcoxon's signed-rank test on subjects' mean differences.",
    ]
    for key, p in found.omnibus.items():
        told.append(
            f"Friedman's test that the {len(found.runs)} models differ at all in {score_name(key, found)}: "
            f"{p_value(p) if math.isfinite(p) else 'not possible'}."
        )
    if plan.margin is not None:
        told.append(
            "Non-inferiority: the lower end of the two-sided interval of the gain (one-sided error "
            f"{percent((1 - plan.confidence) / 2)}) lies above minus the margin. A margin chosen after looking "
            "proves nothing."
        )
    return told
