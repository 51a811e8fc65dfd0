"""What the images are like, part by part: voxels, field of view, brightness, volumes, and who the subjects are."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from segpipe.dataset.manifest import Case
from segpipe.report.material import Material
from segpipe.report.wording import UNDEFINED, number, volume_digits

PARTS = {"develop": "To develop", "test": "Test", "unlabelled": "Without reference"}
AXES = ("right\N{EN DASH}left", "front\N{EN DASH}back", "up\N{EN DASH}down")
ACROSS = ("x", "y")
FEW = 5
"""Subjects below which a group is not counted out: they might be recognised."""
MOST_VALUES = 8
"""Words that a covariate may have to be listed; of more only their number is told."""
OLD = 89
"""Years above which an age is not told."""

Numbers = Sequence[float]


def data_table(material: Material) -> dict[str, Any]:
    """Return the parts of the data and a row for each property: name, unit, a text for each part."""
    parts = {title: cases for part, title in PARTS.items() if (cases := material.dataset.part(part))}
    rows = [
        {"name": name, "unit": unit, "values": [told(cases) for cases in parts.values()]}
        for name, unit, told in _properties(material)
    ]
    return {"parts": list(parts), "rows": [row for row in rows if set(row["values"]) != {UNDEFINED}]}


def _properties(material: Material) -> Iterator[tuple[str, str, Callable[[Sequence[Case]], str]]]:
    rank, header = material.rank, material.dataset.header
    axes, dots = AXES if rank == 3 else ACROSS, f"{material.dot}s"
    yield "Cases", "", lambda cases: number(len(cases), 0)
    yield "Subjects", "", lambda cases: number(len({case.subject for case in cases}), 0)
    for axis in range(rank):
        yield f"Spacing, {axes[axis]}", material.unit, _over(lambda case, axis=axis: _grid(case).spacing[axis], 2)  # type: ignore[misc]
    for axis in range(rank):
        yield f"Size, {axes[axis]}", dots, _over(lambda case, axis=axis: float(_grid(case).shape[axis]), 0)  # type: ignore[misc]
    if rank == 3:
        yield (
            "Coarsest over finest spacing",
            "",
            _over(lambda case: max(case.native.spacing) / min(case.native.spacing), 2),
        )
    for index, channel in enumerate(header.channels):
        unit = "HU" if channel.is_ct else "file units"
        yield f"Intensity, {channel.name}", unit, lambda cases, index=index: _intensity(cases, index)  # type: ignore[misc]
    unit = material.unit_of("vol_ref_mm3")
    for name in header.labels.names:
        yield f"{'Area' if rank == 2 else 'Volume'} of {name}", unit, lambda cases, name=name: _volumes(cases, name)  # type: ignore[misc]
    for name in dict.fromkeys(name for case in material.dataset.cases for name in case.covariates):
        yield name, "", lambda cases, name=name: _covariate(cases, name)  # type: ignore[misc]


def _grid(case: Case) -> Any:
    return case.native.canonical()


def _over(value: Callable[[Case], float], digits: int) -> Callable[[Sequence[Case]], str]:
    return lambda cases: spread([value(case) for case in cases], digits)


def spread(values: Numbers, digits: int) -> str:
    """Return ``1.00 (0.50 to 5.00)``: median and range; one number where all are alike."""
    low, middle, high = (number(float(v), digits) for v in np.quantile(values, (0, 0.5, 1)))
    return middle if low == high else f"{middle} ({low} to {high})"


def _intensity(cases: Sequence[Case], channel: int) -> str:
    """Return the median over cases of their medians, and of their 5th and 95th percentiles."""
    known = [case.intensities[channel] for case in cases if len(case.intensities) > channel]
    if not known:
        return UNDEFINED
    low, middle, high = np.median(np.asarray(known), axis=0).tolist()
    digits = 0 if abs(high - low) >= 20 else 2
    return f"{number(middle, digits)} ({number(low, digits)} to {number(high, digits)})"


def _volumes(cases: Sequence[Case], name: str) -> str:
    values = [case.volumes_mm3[name] for case in cases if case.volumes_mm3.get(name, 0) > 0]
    if not values:
        return UNDEFINED
    without = sum(name in case.volumes_mm3 for case in cases) - len(values)
    said = spread(values, volume_digits(float(np.median(values))))
    return said + (f"; none in {without}" if without else "")


def _covariate(cases: Sequence[Case], name: str) -> str:
    """Return median and range of a number, or how many subjects have each word; small groups are not counted out."""
    by_subject: Mapping[str, str] = {case.subject: case.covariates.get(name, "").strip() for case in cases}
    values = [value for value in by_subject.values() if value]
    if not values:
        return UNDEFINED
    missing = f"; not known of {len(by_subject) - len(values)}" if len(values) < len(by_subject) else ""
    numbers = [float(value) for value in values if re.fullmatch(r"[+-]?\d+(\.\d+)?", value)]
    if len(numbers) == len(values) and len(set(numbers)) > 2:
        if "age" in name.lower().split("_"):
            numbers = [min(value, OLD + 1) for value in numbers]
        whole = all(value == int(value) for value in numbers)
        said = spread(numbers, 0 if whole else 1)
        return (said.replace(str(OLD + 1), f"{OLD + 1}+") if "age" in name.lower().split("_") else said) + missing
    counts = Counter(values)
    if len(counts) > MOST_VALUES:
        return f"{len(counts)} different values{missing}"
    told = [f"{value} {count}" for value, count in counts.most_common() if count >= FEW]
    if small := len(counts) - len(told):  # what few share, and its very name, might tell who they are
        told.append(f"{small} {'value' if small == 1 else 'values'} of under {FEW} each")
    return ", ".join(told) + missing


def sites_of(cases: Sequence[Case]) -> int | None:
    """Return how many sites the covariates name; None where no column is about sites."""
    wanted = {"site", "centre", "center", "hospital", "institution"}
    found = {
        value for case in cases for name, value in case.covariates.items() if value and name.strip().lower() in wanted
    }
    return len(found) or None
