"""Whole validation images through a network: the Dice of each, and how sure the network was."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from torch import Tensor, nn

from segpipe.dataset.manifest import Case
from segpipe.dataset.plan import Plan
from segpipe.dataset.prepare import Prepared, PreparedSet
from segpipe.predict.confidence import confidence_in
from segpipe.predict.ensemble import averaged
from segpipe.predict.window import WindowConfig, predict_scores
from segpipe.quality.predicted import HeldOut, measured
from segpipe.score.overlap import count, dice


def whole_image_dice(
    task: nn.Module, cases: Sequence[Prepared], plan: Plan, window: WindowConfig
) -> Mapping[str, float]:
    """Return the mean Dice over whole validation images, of each structure and of all (``dice``).

    On the prepared grid, which is what the network sees; the evaluation is on the native one.
    """
    return means([each for each, _ in _drawn(task, cases, plan, window)], plan)


def validated(
    task: nn.Module, cases: Sequence[Case], prepared: PreparedSet, plan: Plan, window: WindowConfig
) -> tuple[Mapping[str, float], HeldOut]:
    """Return what ``whole_image_dice`` does, and of each case its Dice and how sure the network was of it.

    Of cases that the network did not train on, for ``DicePredictor``.
    """
    pairs = [(case, prepared[case.id]) for case in cases]
    scored, kept = [], []
    drawn = _drawn(task, [one for _, one in pairs], plan, window)
    for (case, one), (each, scores) in zip(pairs, drawn, strict=True):
        truth = one.labels[0]
        shown = [name for name, values in plan.labels.groups().items() if np.isin(truth, values).any()]
        confidence = confidence_in(averaged([scores], plan.target.kind).cpu().numpy(), plan)
        kept.append(measured(case.id, case.subject, confidence, each, shown))
        scored.append(each)
    nothing = np.zeros((plan.out_channels, *(1,) * len(plan.spacing)), np.float32)
    promises = plan.target.probabilities(nothing, plan.labels) is not None
    return means(scored, plan), HeldOut(structures=plan.labels.names, probabilities=promises, cases=tuple(kept))


def means(scored: Sequence[Mapping[str, float]], plan: Plan) -> dict[str, float]:
    """Return the mean over cases of each structure (``dice_<name>``), and the mean of these (``dice``)."""
    each = {name: [one[name] for one in scored] for name in plan.labels.names}
    found = {name: float(np.nanmean(values)) for name, values in each.items() if not np.isnan(values).all()}
    overall = float(np.mean(list(found.values()))) if found else float("nan")
    return {"dice": overall} | {f"dice_{name}": value for name, value in found.items()}


def _drawn(
    task: nn.Module, cases: Sequence[Prepared], plan: Plan, window: WindowConfig
) -> Iterator[tuple[dict[str, float], Tensor]]:
    """Yield the Dice of each structure in a case, NaN where neither side shows it, and the scores (K, *S)."""
    network = task.network
    for case in cases:
        scores = predict_scores(network, case.image, plan.patch, window)  # type: ignore[arg-type]
        predicted = plan.target.decode(scores.cpu().numpy(), plan.labels)
        truth = case.labels[0]
        counted = np.True_ if plan.labels.ignore is None else truth != plan.labels.ignore
        found = {}
        for structure in plan.labels.structures:
            masks = [np.isin(labels, structure.values) & counted for labels in (predicted, truth)]
            found[structure.name] = dice(count(*masks))
        yield found, scores
