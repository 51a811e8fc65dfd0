"""What a reader has to know first, in words, the worst first."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from segpipe.report import calibrated
from segpipe.report.agreement import Agreement
from segpipe.report.material import Material
from segpipe.report.plausible import implausible
from segpipe.report.unusual import sentence, unusual
from segpipe.report.verdicts import rejected, wrongly_accepted
from segpipe.report.wording import NARROW, counted, listed, number, p_value, percent, signed
from segpipe.score.planning import subjects_for_width
from segpipe.score.summary import Summary

FAR_BELOW_OTHERS = 0.10
"""By this much, in mean Dice, a structure lies below the median of the others to be called far worse."""
FAR_BELOW_MEDIAN = 0.05
"""A case is called far worse below the lower quartile by 1.5 interquartile ranges, and the median by this."""
SIGNIFICANT = 0.05
NOTABLE_SLOPE = 0.05
"""Change of the difference a unit of volume: less is found in large cohorts, and matters to nobody."""
NOTABLE_BIAS = 0.05
"""Share of the reference volume."""
FEW = 50
"""Test subjects below which intervals are too wide to tell good models apart."""

NARROW_INTERVAL = 0.01
"""Half the width of an interval of Dice that tells good models apart."""


@dataclass(frozen=True)
class Finding:
    """One finding."""

    weight: int
    """3: a result is missing or wrong; 2: a result is bad; 1: a result is uncertain."""
    title: str
    text: str

    @property
    def kind(self) -> str:
        """How it is coloured."""
        return {3: "bad", 2: "warn", 1: "note"}[self.weight]


def findings(material: Material, volumes: list[Agreement]) -> list[Finding]:
    """Return all findings, the worst first."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        lambda: _unscored(material),
        lambda: _not_found(material),
        lambda: _worse_structures(material),
        lambda: _worse_cases(material),
        lambda: _unusual_scans(material),
        lambda: _implausible(material),
        lambda: _verdicts(material),
        lambda: _uncalibrated(material),
        lambda: _growing_bias(volumes),
        lambda: _bias(material, volumes),
        lambda: _subgroup_gaps(material),
        lambda: _few_subjects(material),
        lambda: _set_aside(material),
    )
    return sorted((finding for check in checks for finding in check()), key=lambda finding: -finding.weight)


def _unscored(material: Material) -> Iterator[Finding]:
    test = material.held_out
    scores = material.scores
    if not test:
        yield Finding(
            3,
            "Nothing was tested.",
            "The data set has no test split, so nothing is known about new cases. Set ingest.split.test_fraction.",
        )
        return
    missing = [case for case in test if case in scores.errors or case not in scores.cases]
    if not missing:
        return
    all_of_them = len(missing) == len(test)
    outlook = "" if all_of_them else " Figures are of the others and may be too good."
    yield Finding(
        3,
        "No test case could be scored." if all_of_them else "Not every test case could be scored.",
        f"{len(missing)} of {counted(len(test), 'test case')} {'has' if len(missing) == 1 else 'have'} no scores "
        f"({listed(missing)}). The first: {material.reason(missing[0])}{outlook}",
    )


def _not_found(material: Material) -> Iterator[Finding]:
    for structure, states in material.scores.states().items():
        total = sum(len(cases) for cases in states.values())
        if missed := states.get("missed"):
            yield Finding(
                3 if len(missed) * 10 >= total else 2,
                f"{structure} was missed.",
                f"In {len(missed)} of {counted(total, 'case')} nothing of it was found ({listed(missed)}). "
                "Their Dice is 0 and counts; their distances are undefined and do not count: read mean distances "
                "with this in mind.",
            )
        if invented := states.get("hallucinated"):
            yield Finding(
                2,
                f"{structure} was drawn where there is none.",
                f"In {counted(len(invented), 'case')} the reference holds none of it ({listed(invented)}). "
                "Their Dice is 0 and counts; their distances are undefined.",
            )


def _worse_structures(material: Material) -> Iterator[Finding]:
    means = {
        structure: figure.mean
        for structure in material.scores.structures
        if (figure := material.figure("dice", structure)) and math.isfinite(figure.mean)
    }
    for structure, mean in means.items():
        others = [value for other, value in means.items() if other != structure]
        if others and (gap := float(np.median(others)) - mean) > FAR_BELOW_OTHERS:
            yield Finding(
                2,
                f"{structure} is far worse than the rest.",
                f"Its mean Dice is {number(mean, 3)}, {number(gap, 2)} below "
                f"{'that of the other structure' if len(others) == 1 else 'the median of the others'}.",
            )


def _worse_cases(material: Material) -> Iterator[Finding]:
    overall = material.scores.overall("dice")
    if len(overall) < 4:
        return
    lower, median, upper = np.quantile(list(overall.values()), (0.25, 0.5, 0.75))
    limit = min(lower - 1.5 * (upper - lower), median - FAR_BELOW_MEDIAN)
    far = [case for case in material.scores.ranked() if overall[case] < limit]
    if far:
        named = [f"{case} ({number(overall[case], 3)})" for case in far]
        yield Finding(
            2,
            "Some cases are far worse than the rest." if len(far) > 1 else "One case is far worse than the rest.",
            f"Against a median Dice of {number(float(median), 3)}: {listed(named)}. Look at them below: is it "
            "the image, the reference, or the model?",
        )


def _unusual_scans(material: Material) -> Iterator[Finding]:
    found = unusual(material)
    if found:
        yield Finding(
            2 if len(found) * 10 >= len(material.checks) else 1,
            f"{counted(len(found), 'scan')} unlike those trained on.",
            f"{sentence(found)}. A network draws in any case: look at what it drew there.",
        )


def _implausible(material: Material) -> Iterator[Finding]:
    found = implausible(material)
    if found:
        yield Finding(
            2 if len(found) * 10 >= len(material.checks) else 1,
            f"{counted(len(found), 'prediction')} not plausible, whatever the reference says.",
            f"{sentence(found)}. Look at them before anybody uses them.",
        )


def _verdicts(material: Material) -> Iterator[Finding]:
    if found := rejected(material):
        yield Finding(
            2,
            f"{counted(len(found), 'prediction')} to reject, by what is known without a reference.",
            f"{sentence(found)}.",
        )
    if wrong := wrongly_accepted(material):
        dice = material.scores.overall("dice")
        named = [f"{case} ({number(dice[case], 3)})" for case in wrong]
        yield Finding(
            2,
            f"{counted(len(wrong), 'prediction')} accepted that should not have been.",
            f"Their Dice is below the border of acceptance: {listed(named)}. Without a reference nobody would know.",
        )


def _uncalibrated(material: Material) -> Iterator[Finding]:
    far = {name: one for name, one in calibrated.bins_of(material).items() if one.ece >= calibrated.NOTABLE}
    if far:
        told = [f"{name} {number(one.ece, 2)}" for name, one in far.items()]
        yield Finding(
            1,
            "Probabilities do not mean what they say.",
            f"Expected calibration error: {listed(told)}. Do not read them as chances; the label maps are as good as "
            "their Dice.",
        )


def _growing_bias(volumes: list[Agreement]) -> Iterator[Finding]:
    tested = [a for a in volumes if math.isfinite(a.p)]
    for a in tested:
        # several structures are several chances to be fooled (Bonferroni)
        p = min(a.p * len(tested), 1.0)
        if p < SIGNIFICANT and abs(a.slope) > NOTABLE_SLOPE:
            corrected = f" after correction for {len(tested)} structures" if len(tested) > 1 else ""
            yield Finding(2, f"Proportional volume bias of {a.structure}.", _growth(a, p_value(p) + corrected))


def _growth(a: Agreement, how_sure: str) -> str:
    middle = a.volumes.middle
    low, high = (a.fitted(float(end)) for end in (middle.min(), middle.max()))
    if low > 0 > high:
        how = "Small ones are drawn too large and large ones too small"
    elif low < 0 < high:
        how = "Small ones are drawn too small and large ones too large"
    elif a.slope < 0:
        how = "The larger it is, the more is missing" if high < 0 else "The smaller it is, the more is added"
    else:
        how = "The larger it is, the more is added" if high > 0 else "The smaller it is, the more is missing"
    effect = "weakened" if a.slope < 0 else "exaggerated"
    return (
        f"{how} (slope {signed(a.slope, 2)}, {how_sure}). Differences of volume between groups of subjects will be "
        f"{effect}."
    )


def _bias(material: Material, volumes: list[Agreement]) -> Iterator[Finding]:
    for a in volumes:
        figure = material.figure("vol_diff_mm3", a.structure)
        if figure is None or not math.isfinite(figure.low) or not math.isfinite(a.relative):
            continue
        nothing_found = a.relative <= -1  # told elsewhere
        if figure.low * figure.high > 0 and abs(a.relative) > NOTABLE_BIAS and not nothing_found:
            yield Finding(
                2,
                f"{a.structure} is drawn too {'large' if a.relative > 0 else 'small'}.",
                f"On average by {number(abs(a.relative) * 100, 1)}{NARROW}% of its {material.extent}.",
            )


def _subgroup_gaps(material: Material) -> Iterator[Finding]:
    for one in material.subgroups:
        if (gap := one["gap"]) and gap["corrected"] < SIGNIFICANT:
            yield Finding(
                2,
                f"Subjects of {one['covariate']} {gap['lower']} fare worse.",
                f"Their mean Dice is {number(gap['difference']['value'], 3)} below that of {gap['higher']} "
                f"({p_value(gap['corrected'])} over all groups, corrected). It may be due to what else differs.",
            )


def _few_subjects(material: Material) -> Iterator[Finding]:
    subjects = {material.dataset.subjects.get(case, case) for case in material.scores.cases}
    subjects -= {material.dataset.subjects.get(case, case) for case in material.scores.errors}
    if not 0 < len(subjects) < FEW:
        return
    figure = material.figure("dice")
    if len(subjects) == 1 or figure is None or not figure.high > figure.low:
        text = "There is no interval: nothing can be said about other subjects."
    else:
        text = (
            f"Intervals are wide (here {number(figure.high - figure.low, 3)} for Dice): models whose "
            f"{percent(material.confidence)} intervals overlap cannot be told apart{_wanted(figure, material)}. Rare "
            "failures may not have shown: with them the true mean lies lower than its interval says."
        )
    yield Finding(1, f"Only {counted(len(subjects), 'test subject')}.", text)


def _wanted(figure: Summary, material: Material) -> str:
    """Return how many subjects a narrow interval would take, if others vary as these do."""
    if figure.subjects != figure.n or not figure.sd > 0:
        return ""
    count = subjects_for_width(figure.sd, NARROW_INTERVAL, material.confidence)
    return (
        f"; \N{PLUS-MINUS SIGN}{NARROW_INTERVAL:g} would take about {counted(count, 'subject')} that vary as these do"
    )


def _set_aside(material: Material) -> Iterator[Finding]:
    aside = len(material.dataset.quarantined)
    if aside:
        total = aside + len(material.dataset.cases)
        yield Finding(
            2 if aside * 5 >= total else 1,
            f"{counted(aside, 'case')} of {number(total, 0)} set aside.",
            "They were neither trained on nor tested; the reasons stand under Cohort. If faults go with disease, "
            "figures are too good.",
        )
