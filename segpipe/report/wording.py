"""Numbers, names and lists as people read them."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

from segpipe.imaging.reading import SIGNS
from segpipe.score.case import meaning

UNDEFINED = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
NARROW = "\N{NARROW NO-BREAK SPACE}"
DIGITS = {"": 3, "mm": 2}
SMALL_P = 1e-4
AXES = "RAS"
"""Of a prepared image, in order."""
ABSOLUTE_PATH = re.compile(r"(?<![\w./])(?:[A-Za-z]:)?[\\/](?:[^\\/\s:,;'\"()]+[\\/])+([^\\/\s:,;'\"()]*)")

NAMES = {
    "dice": "Dice",
    "iou": "IoU",
    "sensitivity": "Sensitivity",
    "precision": "Precision",
    "hd95_mm": "HD95",
    "hd100_mm": "Hausdorff distance",
    "assd_mm": "ASSD",
    "vol_ref_mm3": "Reference volume",
    "vol_pred_mm3": "Predicted volume",
    "vol_diff_mm3": "Volume difference",
    "vol_diff_percent": "Relative volume difference",
    "cldice": "Centreline Dice",
    "vrand": "V-Rand",
    "vrand_split": "V-Rand, splits",
    "vrand_merge": "V-Rand, mergers",
    "vinfo": "V-Info",
    "vinfo_split": "V-Info, splits",
    "vinfo_merge": "V-Info, mergers",
    "pixel_error": "Pixel error",
    "ece": "Calibration error (ECE)",
    "brier": "Brier score",
}
LESIONS = {
    "tp": "Objects found",
    "fp": "Objects made up",
    "fn": "Objects missed",
    "f1": "Detection F1",
    "sensitivity": "Detection sensitivity",
    "precision": "Detection precision",
    "pq": "Panoptic quality",
}


def name_of(metric: str, rank: int = 3, unit: str = "mm") -> str:
    """Return a metric's name for people: ``nsd_1mm`` is ``NSD at 1 mm``; the "volumes" of 2D images are areas."""
    if tolerance := re.fullmatch(r"nsd_([\d.e-]+)mm", metric):
        return f"NSD at {tolerance[1]} {SIGNS[unit]}"
    if (lesion := re.fullmatch(r"lesion_(\w+)_iou(\S+)", metric)) and lesion[1] in LESIONS:
        return f"{LESIONS[lesion[1]]} at IoU {lesion[2]}"
    name = NAMES.get(metric, metric)
    return name.replace("volume", "area").replace("Volume", "Area") if rank == 2 else name


def unit_of(metric: str, rank: int, unit: str = "mm") -> str:
    """Return the unit to print, where ``unit`` is that of the data set's lengths."""
    kind = meaning(metric).unit
    return {"mm": SIGNS[unit], "mm3": SIGNS[unit] + ("²" if rank == 2 else "³")}.get(kind, kind)


def number(value: float, digits: int) -> str:
    """Return a number with a true minus sign and groups of three; a dash where it is undefined."""
    if not math.isfinite(value):
        return UNDEFINED
    text = f"{abs(value):,.{digits}f}".replace(",", NARROW)
    negative = value < 0 and float(f"{value:.{digits}f}") != 0
    return (MINUS if negative else "") + text


def shown(value: float, metric: str) -> str:
    """Return a value with the digits that go with its metric: shares 3, mm 2, volumes by their size."""
    unit = meaning(metric).unit
    return number(value, DIGITS.get(unit, volume_digits(value)))


def volume_digits(value: float) -> int:
    """Return how many digits after the point a volume deserves."""
    if not math.isfinite(value) or abs(value) >= 100:
        return 0
    return 1 if abs(value) >= 10 else 2


def signed(value: float, digits: int) -> str:
    """Return a number with its sign, plus too."""
    text = number(value, digits)
    return text if text in (UNDEFINED,) or text.startswith(MINUS) else f"+{text}"


def span(low: float, high: float, metric: str) -> str:
    """Return an interval in brackets, or a dash where there is none."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return UNDEFINED
    return f"[{shown(low, metric)}, {shown(high, metric)}]"


def p_value(p: float) -> str:
    """Return ``p = 0.012``, or ``p < 0.0001``."""
    return f"p < {SMALL_P:.4f}" if p < SMALL_P else f"p = {p:.2g}"


def percent(share: float) -> str:
    """Return a share of 1 as a percentage: 0.95 is ``95 %``."""
    return f"{share * 100:g}{NARROW}%"


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return ``1 case`` or ``3 cases``."""
    return f"{number(count, 0)} {one if count == 1 else many or one + 's'}"


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return ``a, b and c``, or the first ``most`` and how many more."""
    shown_names = list(names[:most])
    if len(names) > most:
        return f"{', '.join(shown_names)} and {len(names) - most} more"
    if len(shown_names) < 2:
        return "".join(shown_names)
    return f"{', '.join(shown_names[:-1])} and {shown_names[-1]}"


def grid(values: Sequence[float]) -> str:
    """Return voxel counts or millimetres with a cross between them."""
    return " \N{MULTIPLICATION SIGN} ".join(f"{value:g}" for value in values)


def along(axes: Sequence[int], rank: int) -> str:
    """Return the names of axes of prepared images: ``R and S``."""
    return listed([("xy" if rank == 2 else AXES)[axis] for axis in axes if axis < rank])


def kind_words(kind: object) -> str:
    """Return what people call a choice in the settings: ``leaky ReLU``."""
    text = str(kind or "")
    return {"adamw": "AdamW", "sgd": "SGD", "z_score": "z-score", "relu": "ReLU", "leaky_relu": "leaky ReLU"}.get(
        text, text.replace("_", " ")
    )


def without_paths(text: str, root: Path) -> str:
    """Return a message in which no folder of this machine is named: paths are cut to what lies in the data set.

    Args:
        text: Written for the person who runs the pipeline.
        root: Folder of the data set; it may hold spaces, which a pattern could not follow.
    """
    for folder in {str(root), str(root.resolve())}:
        if folder not in (".", "/"):
            text = text.replace(f"{folder}/", "").replace(folder, root.name)
    return ABSOLUTE_PATH.sub(r"\1", text)
