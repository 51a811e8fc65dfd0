"""The figures of a comparison: every model on the same cases, and each pair of models tested."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from segpipe.compare.runs import Run
from segpipe.core.errors import ConfigError, DataError
from segpipe.score.case import meaning
from segpipe.score.difference import Difference, difference, non_inferior, omnibus
from segpipe.score.interval import Estimate
from segpipe.score.paired import LEVEL, holm
from segpipe.score.summary import OVERALL, Scores, Summary, over_structures, summarise
from segpipe.score.table import Row

Key = tuple[str, str]
"""Label and metric."""


@dataclass(frozen=True)
class Plan:
    """What is asked, given before anything is looked at."""

    primary: tuple[Key, ...] = ((OVERALL, "dice"),)
    """The comparisons that decide; all others are exploratory."""
    baseline: str | None = None
    """The only model that others are compared with; None: all pairs."""
    margin: float | None = None
    """The largest loss of the primary score that would be accepted."""
    confidence: float = 0.95
    resamples: int = 2000
    seed: int = 0


@dataclass(frozen=True)
class Pair:
    """One model against another in one label and metric."""

    model: str
    other: str
    key: Key
    found: Difference
    """Model minus other."""
    corrected: float
    """p of the permutation test after Holm's correction within its family."""
    primary: bool
    not_worse: bool | None
    """Whether the model is shown to be worse by less than the margin; None where there is none."""

    @property
    def gain(self) -> Estimate:
        """The difference turned so that more is better."""
        one = self.found.mean
        return one if meaning(self.key[1]).better == "higher" else Estimate(-one.value, -one.high, -one.low)

    @property
    def shown(self) -> bool:
        """Whether there is evidence of a difference: a corrected p below 5 %, and an interval without zero."""
        one = self.found.mean
        return self.corrected < LEVEL and one.sure and one.low * one.high > 0


@dataclass(frozen=True)
class Compared:
    """Everything that was found."""

    plan: Plan
    runs: tuple[Run, ...]
    cases: tuple[str, ...]
    """Scored in every run."""
    missing: Mapping[str, tuple[str, ...]]
    """Run -> cases that others have scores of and it has not."""
    subjects: Mapping[str, str]
    labels: tuple[str, ...]
    """Structures that all runs have."""
    values: Mapping[str, Scores]
    """Run -> its scores, also over structures, where all runs have one."""
    summaries: Mapping[str, Mapping[Key, Summary]]
    left_out: Mapping[Key, int]
    """Common cases in which a score is defined in some runs only."""
    pairs: tuple[Pair, ...]
    omnibus: Mapping[Key, float]
    """p of Friedman's test of each primary score; empty for two runs."""

    @property
    def names(self) -> list[str]:
        """Of the runs."""
        return [run.name for run in self.runs]

    @property
    def primary(self) -> list[Pair]:
        """The comparisons that decide."""
        return [pair for pair in self.pairs if pair.primary]

    @property
    def subjects_known(self) -> bool:
        """Whether somebody says which cases are of one subject."""
        return any(run.subjects for run in self.runs)


def parse_primary(texts: Sequence[str]) -> tuple[Key, ...]:
    """Return what ``dice`` or ``anterior:hd95_mm`` mean: a metric, of the mean over structures or of one."""
    keys = []
    for text in texts:
        label, colon, metric = text.rpartition(":")
        keys.append((label if colon and label else OVERALL, metric))
    return tuple(dict.fromkeys(keys))


def compare_runs(runs: Sequence[Run], plan: Plan) -> Compared:
    """Compare runs that may be compared.

    Raises:
        ConfigError: The plan names a run, label or metric that is not there, or a margin goes with several scores.
        DataError: No case has the primary score in all runs.
    """
    names = [run.name for run in runs]
    if plan.baseline is not None and plan.baseline not in names:
        raise ConfigError(f"--baseline {plan.baseline}: there is no such run. There are: {', '.join(names)}.")
    if plan.margin is not None and len(plan.primary) > 1:
        raise ConfigError("--margin goes with a single primary score: their units differ.")
    if plan.margin is not None and plan.baseline is None:
        plan = replace(plan, baseline=names[0])
    cases = tuple(sorted(set.intersection(*(run.cases for run in runs))))
    everywhere = set().union(*(run.cases for run in runs))
    values, left_out = _aligned(runs, cases)
    _refuse_unknown(plan, values[names[0]])
    owners: dict[str, str] = {}
    for run in reversed(runs):
        owners |= run.subjects
    subjects = {case: owners.get(case, case) for case in everywhere}
    order = dict.fromkeys(label for label, _ in runs[0].scores)
    found = {label for label, _ in values[names[0]]}
    return Compared(
        plan,
        tuple(runs),
        cases,
        {run.name: tuple(sorted(everywhere - run.cases)) for run in runs},
        subjects,
        tuple(label for label in order if label in found),
        values,
        {name: _summaries(own, subjects, plan) for name, own in values.items()},
        left_out,
        tuple(_pairs(names, values, subjects, plan)),
        _omnibus(values, subjects, plan) if len(runs) > 2 else {},
    )


def _aligned(runs: Sequence[Run], cases: Sequence[str]) -> tuple[dict[str, Scores], dict[Key, int]]:
    """Return each run's scores where all have one, and how many others there are."""
    keys = [key for key in runs[0].scores if all(key in run.scores for run in runs) and _is_known(key[1])]
    values: dict[str, Scores] = {run.name: {} for run in runs}
    left_out = {}
    for key in keys:
        known = [{case for case in cases if math.isfinite(run.scores[key].get(case, math.nan))} for run in runs]
        shared = set.intersection(*known)
        if some := len(set.union(*known)) - len(shared):
            left_out[key] = some
        if shared:
            for run in runs:
                values[run.name][key] = {case: run.scores[key][case] for case in cases if case in shared}
    return {name: own | over_structures(own) for name, own in values.items()}, left_out


def _is_known(metric: str) -> bool:
    try:
        meaning(metric)
    except KeyError:
        return False
    return True


def _refuse_unknown(plan: Plan, values: Scores) -> None:
    for label, metric in plan.primary:
        if (label, metric) in values and meaning(metric).better != "neither":
            continue
        labels = list(dict.fromkeys(label for label, _ in values))
        metrics = list(dict.fromkeys(metric for _, metric in values if meaning(metric).better != "neither"))
        if label in labels and metric in metrics:
            raise DataError(f"{label}:{metric}: no case has this score in all runs.")
        raise ConfigError(
            f"--primary {label}:{metric}: there is no such score in all runs. Labels: {', '.join(labels)}; "
            f"metrics: {', '.join(metrics)}."
        )


def _summaries(values: Scores, subjects: Mapping[str, str], plan: Plan) -> dict[Key, Summary]:
    rows = [
        Row(case, label, metric, value)
        for (label, metric), column in values.items()
        if label != OVERALL
        for case, value in column.items()
    ]
    found = summarise(rows, subjects, plan.seed, plan.resamples, plan.confidence)
    return {(one.label, one.metric): one for one in found}


def _pairs(
    names: Sequence[str], values: Mapping[str, Scores], subjects: Mapping[str, str], plan: Plan
) -> Iterator[Pair]:
    """Yield all comparisons, p corrected within the primary and within the other ones."""
    if plan.baseline is None:
        couples = [(later, earlier) for earlier, later in itertools.combinations(names, 2)]
    else:
        couples = [(name, plan.baseline) for name in names if name != plan.baseline]
    keys = [key for key in values[names[0]] if meaning(key[1]).better != "neither"]
    if len({label for label, _ in keys}) == 2:  # a single structure is its own mean
        keys = [key for key in keys if key[0] == OVERALL or key in plan.primary]
    pairs = []
    for key, (model, other) in itertools.product(keys, couples):
        scores, others = values[model][key], values[other][key]
        found = difference(scores, others, subjects, plan.confidence, plan.seed)
        pairs.append(Pair(model, other, key, found, math.nan, key in plan.primary, None))
    for primary in (True, False):
        family = [pair for pair in pairs if pair.primary == primary]
        for pair, corrected in zip(family, holm([pair.found.p for pair in family]), strict=True):
            yield replace(pair, corrected=corrected, not_worse=_not_worse(pair, family, values, subjects, plan))


def _not_worse(
    pair: Pair, family: Sequence[Pair], values: Mapping[str, Scores], subjects: Mapping[str, str], plan: Plan
) -> bool | None:
    """Tell whether the bound lies above the margin; of several comparisons each gets its share of the error."""
    if plan.margin is None or not pair.primary:
        return None
    wide = 1 - (1 - plan.confidence) / len(family)
    scores, others = values[pair.model][pair.key], values[pair.other][pair.key]
    found = difference(scores, others, subjects, wide, plan.seed)
    return non_inferior(replace(pair, found=found).gain, plan.margin)


def _omnibus(values: Mapping[str, Scores], subjects: Mapping[str, str], plan: Plan) -> dict[Key, float]:
    return {key: omnibus([own[key] for own in values.values()], subjects) for key in plan.primary}
