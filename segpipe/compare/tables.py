"""The tables of a comparison, for the page, for compare.csv and for compare.json."""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from segpipe.compare.figures import Compared, Key, Pair
from segpipe.compare.wording import cautions, signed_effect, signed_score, verdicts
from segpipe.report.wording import UNDEFINED, listed, name_of, number, shown, span, unit_of
from segpipe.score.case import meaning
from segpipe.score.summary import OVERALL

ALL = "Mean of structures"
MAIN = ("dice", "hd95_mm", "assd_mm")
LONGEST_VALUE = 60
MOST_SETTINGS = 40
COLUMNS = (
    "label", "metric", "family", "model", "other", "mean_model", "mean_other", "difference", "low", "high",
    "p_permutation", "p_corrected", "p_wilcoxon", "rank_biserial", "gains", "losses", "subjects", "cases", "left_out",
)  # fmt: skip


def is_main(key: Key, found: Compared) -> bool:
    """Tell whether a score is one of those that are read first."""
    return key in found.plan.primary or key[1] in MAIN or key[1].startswith("nsd_")


def models(found: Compared, *, main: bool) -> Iterator[dict[str, Any]]:
    """Yield a row for each structure, metric and model, of the main scores or of the others."""
    seen = ""
    for key in _keys(found):
        if is_main(key, found) != main:
            continue
        for number_of_run, name in enumerate(found.names):
            f = found.summaries[name][key]
            metric = key[1]
            first = key[0] != seen
            seen = key[0]
            yield {
                "structure": _structure(key, found) if first else "",
                "metric": name_of(metric) if number_of_run == 0 else "",
                "unit": unit_of(metric, found.runs[0].rank) if number_of_run == 0 else "",
                "model": name,
                "mean": shown(f.mean, metric),
                "interval": span(f.low, f.high, metric),
                "median": shown(f.median, metric),
                "median_interval": span(f.median_low, f.median_high, metric),
                "iqr": f"{shown(f.q1, metric)}\N{EN DASH}{shown(f.q3, metric)}",
                "worst": shown(f.worst, metric),
                "n": f.n,
            }


def pairs(found: Compared, *, main: bool) -> Iterator[dict[str, Any]]:
    """Yield a row for each comparison of the main scores or of the others, pair by pair, the primary ones first."""
    couples = dict.fromkeys((pair.model, pair.other) for pair in found.pairs)
    for couple in couples:
        wanted = [pair for pair in found.pairs if is_main(pair.key, found) == main]
        own = [pair for pair in wanted if (pair.model, pair.other) == couple]
        for number_of_row, pair in enumerate(sorted(own, key=lambda pair: (not pair.primary, pair.key[0] != OVERALL))):
            metric, one = pair.key[1], pair.found
            better, worse = one.gains, one.losses
            if meaning(metric).better == "lower":
                better, worse = worse, better
            yield {
                "pair": f"{pair.model} \N{MINUS SIGN} {pair.other}" if number_of_row == 0 else "",
                "structure": _structure(pair.key, found),
                "metric": name_of(metric),
                "unit": unit_of(metric, found.runs[0].rank),
                "primary": pair.primary,
                "difference": signed_score(one.mean.value, metric),
                "interval": f"[{signed_score(one.mean.low, metric)}, {signed_score(one.mean.high, metric)}]"
                if one.mean.sure
                else UNDEFINED,
                "p": _p(one.p),
                "corrected": _p(pair.corrected),
                "ranks": _p(one.p_ranks),
                "effect": signed_effect(pair),
                "better": f"{better} / {worse}",
                "subjects": one.subjects,
                "left_out": found.left_out.get(pair.key, 0),
            }


def cases(found: Compared, index: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return a row for each case that any run has, in the first primary score, the largest loss first."""
    key = found.plan.primary[0]
    metric = key[1]
    first, last = found.names[0], found.names[-1]
    turn = 1 if meaning(metric).better == "higher" else -1
    rows = []
    for case, place in index.items():
        values = [found.values[name][key].get(case, math.nan) for name in found.names]
        apart = found.values[last][key].get(case, math.nan) - found.values[first][key].get(case, math.nan)
        rows.append(
            {
                "case": case,
                "number": place,
                "subject": found.subjects[case],
                "shown": [shown(value, metric) for value in values],
                "difference": signed_score(apart, metric),
                "remark": _remark(found, case, values),
                "order": turn * apart if math.isfinite(apart) else math.inf,
            }
        )
    return sorted(rows, key=lambda row: (row["order"], row["case"]))


def _remark(found: Compared, case: str, values: Sequence[float]) -> str:
    missing = [name for name, gone in found.missing.items() if case in gone]
    if missing:
        return f"no scores in {listed(missing)}: left out"
    return "" if all(map(math.isfinite, values)) else "undefined in some model: left out"


def differing_settings(found: Compared) -> list[dict[str, Any]]:
    """Return the settings that are not the same in all runs that tell theirs."""
    known = [run.settings for run in found.runs]
    if not all(known):
        return []
    keys = dict.fromkeys(key for own in known for key in own)
    rows = [{"key": key, "shown": [_value(own.get(key, UNDEFINED)) for own in known]} for key in keys]
    differing = [row for row in rows if len(set(row["shown"])) > 1]
    seconds = [run.training_seconds for run in found.runs]
    if all(one is not None for one in seconds):
        texts = [f"{number(one or 0.0, 0)} s" for one in seconds]
        differing.append({"key": "processor time of training", "shown": texts})
    return differing[:MOST_SETTINGS]


def _value(value: Any) -> str:
    text = UNDEFINED if value is None else str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"


def as_csv(found: Compared) -> str:
    """Return a row for each comparison, numbers in full."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for pair in found.pairs:
        told = {**pair_values(found, pair), **_ends(pair)}
        writer.writerow(["" if told[name] is None else told[name] for name in COLUMNS])
    return text.getvalue()


def as_json(found: Compared) -> dict[str, Any]:
    """Return everything that was found."""
    return {
        "primary": [f"{label}:{metric}" for label, metric in found.plan.primary],
        "baseline": found.plan.baseline,
        "margin": found.plan.margin,
        "confidence": found.plan.confidence,
        "seed": found.plan.seed,
        "runs": found.names,
        "cases": list(found.cases),
        "subjects": len({found.subjects[case] for case in found.cases}),
        "subjects_known": found.subjects_known,
        "missing": {name: list(cases) for name, cases in found.missing.items()},
        "verdicts": [f"{one['title']} {one['text']}" for one in verdicts(found)],
        "cautions": cautions(found),
        "friedman_p": {f"{label}:{metric}": _known(p) for (label, metric), p in found.omnibus.items()},
        "models": [
            {"model": name} | {field: _known(value) for field, value in vars(summary).items()}
            for name, own in found.summaries.items()
            for summary in own.values()
        ],
        "pairs": [
            pair_values(found, pair) | _ends(pair) | {"evidence": pair.shown, "non_inferior": pair.not_worse}
            for pair in found.pairs
        ],
    }


def pair_values(found: Compared, pair: Pair) -> dict[str, Any]:
    """Return the figures of one comparison."""
    one, (label, metric) = pair.found, pair.key
    mean_model, mean_other = (found.summaries[name][pair.key].mean for name in (pair.model, pair.other))
    return {
        "label": label,
        "metric": metric,
        "family": "primary" if pair.primary else "exploratory",
        "model": pair.model,
        "other": pair.other,
        "mean_model": mean_model,
        "mean_other": mean_other,
        "p_permutation": one.p,
        "p_corrected": pair.corrected,
        "p_wilcoxon": one.p_ranks,
        "rank_biserial": one.effect,
        "gains": one.gains,
        "losses": one.losses,
        "subjects": one.subjects,
        "cases": one.cases,
        "left_out": found.left_out.get(pair.key, 0),
    }


def _ends(pair: Pair) -> dict[str, float | None]:
    one = pair.found.mean
    return {"difference": one.value, "low": _known(one.low), "high": _known(one.high)}


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _p(p: float) -> str:
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def _keys(found: Compared) -> list[Key]:
    """Return the scores in the order of the table: the mean over structures first, the volumes last."""
    every = list(found.summaries[found.names[0]])
    if len(found.labels) == 1:
        every = [key for key in every if key[0] == OVERALL or meaning(key[1]).better == "neither"]
    return sorted(every, key=lambda key: (key[0] != OVERALL, found.labels.index(key[0]) if key[0] != OVERALL else 0))


def _structure(key: Key, found: Compared) -> str:
    if key[0] == OVERALL:
        return ALL if len(found.labels) > 1 else found.labels[0]
    return key[0]
