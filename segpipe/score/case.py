"""All numbers of one case: every structure, every metric, and what each metric's name stands for."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat

from segpipe.core.errors import ConfigError, GeometryError
from segpipe.core.section import Section
from segpipe.score import overlap, surface
from segpipe.score.boxes import LabelMap, boxes_of
from segpipe.score.centreline import centreline_dice
from segpipe.score.instances import InstancesConfig, score_interiors
from segpipe.score.lesions import LesionsConfig, detect, overlaps

Status = Literal["scored", "missed", "hallucinated", "absent"]


class MetricsConfig(Section):
    """What is measured beside overlap and volumes."""

    nsd_tolerances_mm: tuple[PositiveFloat, ...] = (1.0, 2.0)
    """Distances in mm within which a surface counts as found; best taken from the spread between raters."""
    surface: bool = True
    """Whether distances between surfaces are measured (the slow part)."""
    centreline: tuple[str, ...] = ()
    """Structures that are tubes, such as vessels: their centreline Dice (clDice) is measured too."""
    lesions: LesionsConfig = LesionsConfig()
    """Structures of which each part is an object to be found."""
    instances: InstancesConfig = InstancesConfig()
    """Structures whose parts are objects side by side, such as cells."""


@dataclass(frozen=True)
class Meaning:
    """What a metric's name stands for, as a report has to print it."""

    definition: str
    """Quantity, and in brackets the variant: numbers of different variants must not be compared."""
    unit: str
    """``mm``, ``mm3``, ``%`` or nothing."""
    better: Literal["higher", "lower", "neither"]


_MEANINGS = {
    "dice": Meaning("dice[voxel]", "", "higher"),
    "iou": Meaning("iou[voxel]", "", "higher"),
    "sensitivity": Meaning("sensitivity[voxel]", "", "higher"),
    "precision": Meaning("precision[voxel]", "", "higher"),
    "hd95_mm": Meaning("hd95[voxel,max]", "mm", "lower"),
    "hd100_mm": Meaning("hd100[voxel,max]", "mm", "lower"),
    "assd_mm": Meaning("assd[voxel,pooled]", "mm", "lower"),
    "vol_ref_mm3": Meaning("volume[voxel,reference]", "mm3", "neither"),
    "vol_pred_mm3": Meaning("volume[voxel,prediction]", "mm3", "neither"),
    "vol_diff_mm3": Meaning("volume[voxel,prediction-reference]", "mm3", "neither"),
    "vol_diff_percent": Meaning("volume[voxel,(prediction-reference)/reference]", "%", "neither"),
    "cldice": Meaning("cldice[skeleton,voxel]", "", "higher"),
    "pixel_error": Meaning("pixel_error[image]", "", "lower"),
    "ece": Meaning("ece[15 bins,within 5 mm]", "", "lower"),
    "brier": Meaning("brier[voxel,within 5 mm]", "", "lower"),
}
_LESIONS: dict[str, Literal["higher", "lower", "neither"]] = {
    "tp": "neither",
    "fp": "lower",
    "fn": "lower",
    "f1": "higher",
    "sensitivity": "higher",
    "precision": "higher",
    "pq": "higher",
}


def meaning(metric: str) -> Meaning:
    """Return definition, unit and direction of a metric.

    Raises:
        KeyError: No metric has this name.
    """
    if tolerance := re.fullmatch(r"nsd_(\S+mm)", metric):
        return Meaning(f"nsd[surfel,{tolerance[1]}]", "", "higher")
    if (lesion := re.fullmatch(r"lesion_(\w+)_iou(\S+)", metric)) and lesion[1] in _LESIONS:
        return Meaning(f"lesion_{lesion[1]}[26-connected,iou>{lesion[2]}]", "", _LESIONS[lesion[1]])
    if re.fullmatch(r"v(rand|info)(_split|_merge)?", metric):
        return Meaning(f"{metric}[foreground,thinned]", "", "higher")
    return _MEANINGS[metric]


def is_metric(name: str) -> bool:
    """Tell whether a metric has this name."""
    try:
        meaning(name)
    except KeyError:
        return False
    return True


def definition(metric: str) -> str:
    """Return the definition to print beside a number: ``nsd_1mm`` is ``nsd[surfel,1mm]``."""
    return meaning(metric).definition


def check_structures(config: MetricsConfig, names: Sequence[str]) -> None:
    """Check that every structure for which something is measured is one of ``names``.

    Raises:
        ConfigError: One is not.
    """
    wanted = {
        "centreline": config.centreline,
        "lesions.structures": config.lesions.structures,
        "instances.inside": config.instances.inside,
        "instances.borders": config.instances.borders,
    }
    for key, structures in wanted.items():
        if unknown := [structure for structure in structures if structure not in names]:
            raise ConfigError(
                f"evaluate.metrics.{key}: no structure is named '{unknown[0]}'. There are: {', '.join(names)}."
            )


def nsd_name(tolerance_mm: float) -> str:
    """Return the metric name of the surface Dice at a tolerance: 1.0 is ``nsd_1mm``, 0.5 is ``nsd_0.5mm``."""
    return f"nsd_{tolerance_mm:g}mm"


def status(ref_volume: float, pred_volume: float) -> Status:
    """Tell whether a structure could be scored, from its volumes in mm3 (or voxels).

    Distances exist only where it is "scored"; "missed" and "hallucinated" must be counted beside every
    mean of a distance, "absent" (in both) is a correct answer that no metric rewards.
    """
    if ref_volume > 0:
        return "scored" if pred_volume > 0 else "missed"
    return "hallucinated" if pred_volume > 0 else "absent"


def score_case(
    prediction: LabelMap,
    truth: LabelMap,
    spacing: Sequence[float],
    structures: Mapping[str, tuple[int, ...]],
    config: MetricsConfig,
    ignore: int | None = None,
) -> dict[tuple[str, str], float]:
    """Score one case: the value of each (structure, metric), NaN where it is not defined.

    Args:
        prediction: (*S) label values.
        truth: (*S) label values on the same grid.
        spacing: Voxel sizes in mm, one for each axis.
        structures: Name -> the label values it is made of; structures may overlap.
        config: What is measured.
        ignore: Voxels where the truth has this value belong to no structure, on either side.

    Raises:
        GeometryError: The maps differ in shape, or the spacing has another rank.
    """
    if prediction.shape != truth.shape or len(spacing) != truth.ndim:
        raise GeometryError(
            f"The prediction has shape {prediction.shape}, the truth {truth.shape}, and there are "
            f"{len(spacing)} spacings: bring both onto one grid first."
        )
    scores = {}
    boxes = boxes_of((prediction, truth), structures)
    for name, labels in structures.items():
        box = boxes[name]
        found, wanted = _mask(prediction[box], labels), _mask(truth[box], labels)
        if ignore is not None:
            kept = truth[box] != ignore
            found, wanted = found & kept, wanted & kept
        measured = score_masks(found, wanted, spacing, config)
        if name in config.centreline:
            measured["cldice"] = centreline_dice(found, wanted)
        if name in config.lesions.structures:
            measured |= _lesion_scores(found, wanted, config.lesions.iou)
        if name in (*config.instances.inside, *config.instances.borders):
            # the objects fill the image: no box may be cut out of it
            between = name in config.instances.borders
            whole = [_mask(labelled, labels) ^ between for labelled in (truth, prediction)]
            measured |= score_interiors(whole[0], whole[1], None if ignore is None else truth != ignore)
        for metric, value in measured.items():
            scores[name, metric] = value
    return scores


def score_masks(
    prediction: NDArray[np.bool_], truth: NDArray[np.bool_], spacing: Sequence[float], config: MetricsConfig
) -> dict[str, float]:
    """Score one structure, given as two masks (*S) and the spacing in mm: metric name -> value."""
    counts = overlap.count(prediction, truth)
    reference = overlap.volume_mm3(counts.truth, spacing)
    predicted = overlap.volume_mm3(counts.prediction, spacing)
    return {
        "dice": overlap.dice(counts),
        "iou": overlap.iou(counts),
        "sensitivity": overlap.sensitivity(counts),
        "precision": overlap.precision(counts),
        **(_surface_scores(prediction, truth, spacing, config) if config.surface else {}),
        "vol_ref_mm3": reference,
        "vol_pred_mm3": predicted,
        "vol_diff_mm3": predicted - reference,
        "vol_diff_percent": 100 * (predicted - reference) / reference if reference else math.nan,
    }


def _mask(array: LabelMap, labels: tuple[int, ...]) -> NDArray[np.bool_]:
    # one comparison where one is enough: it takes a third of the time
    return np.asarray(array == labels[0]) if len(labels) == 1 else np.isin(array, labels)


def _lesion_scores(
    prediction: NDArray[np.bool_], truth: NDArray[np.bool_], thresholds: Sequence[float]
) -> dict[str, float]:
    overlapping = overlaps(prediction, truth)
    found = {threshold: detect(overlapping, threshold) for threshold in thresholds}
    return {f"lesion_{key}_iou{limit:g}": float(getattr(one, key)) for limit, one in found.items() for key in _LESIONS}


def _surface_scores(
    prediction: NDArray[np.bool_], truth: NDArray[np.bool_], spacing: Sequence[float], config: MetricsConfig
) -> dict[str, float]:
    tolerances = {nsd_name(tolerance): tolerance for tolerance in config.nsd_tolerances_mm}
    state = status(int(np.count_nonzero(truth)), int(np.count_nonzero(prediction)))
    if state != "scored":
        # No surface of either side was met by the other: that is a zero, while how far it is has no answer.
        share = math.nan if state == "absent" else 0.0
        return dict.fromkeys(("hd95_mm", "hd100_mm", "assd_mm"), math.nan) | dict.fromkeys(tolerances, share)
    if tolerances:
        voxels, surfels = surface.both_distances(prediction, truth, spacing)
    else:
        voxels = surfels = surface.voxel_distances(prediction, truth, spacing)
    return {
        "hd95_mm": surface.hausdorff(voxels, 95.0),
        "hd100_mm": surface.hausdorff(voxels),
        "assd_mm": surface.average_distance(voxels),
    } | {name: surface.surface_dice(surfels, tolerance) for name, tolerance in tolerances.items()}
