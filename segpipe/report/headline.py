"""The four numbers that stand above everything else."""

import math
from dataclasses import dataclass

from segpipe.report.agreement import Agreement
from segpipe.report.material import Material
from segpipe.report.repeats import spread_of_dice
from segpipe.report.wording import NARROW, UNDEFINED, percent, shown, signed, span, volume_digits
from segpipe.score.summary import Summary

MILLILITRE = 1000
LARGE = 20_000
"""Cubic millimetres from which a structure is measured in millilitres."""


@dataclass(frozen=True)
class Tile:
    """One number and what goes with it."""

    label: str
    value: str
    note: str


def tiles(material: Material, volumes: list[Agreement]) -> list[Tile]:
    """Return the four tiles; a number that does not exist is a dash, and the note says so."""
    nsd = material.scores.nsd
    several = len(material.scores.structures) > 1
    return [
        _mean(f"Mean Dice{f', {len(material.scores.structures)} structures' if several else ''}", material, "dice"),
        _mean(material.name_of(nsd), material, nsd) if nsd else Tile("NSD", UNDEFINED, _no_surface(material)),
        _distance(material),
        _bias(material, volumes),
    ]


def _mean(label: str, material: Material, metric: str) -> Tile:
    f = material.figure(metric)
    if f is None or not math.isfinite(f.mean):
        return Tile(label, UNDEFINED, "no case has one")
    interval = span(f.low, f.high, metric)
    spread = spread_of_dice(material) if metric == "dice" else ""
    between = f"{percent(material.confidence)} CI {interval.strip('[]').replace(', ', ' to ')}"
    note = between if interval != UNDEFINED else "one subject: no interval"
    return Tile(label, shown(f.mean, metric), note + (f" · {spread}" if spread else "") + _undefined(f))


def _distance(material: Material) -> Tile:
    f = material.figure("hd95_mm")
    if f is None:
        return Tile("HD95, median", UNDEFINED, _no_surface(material))
    if not math.isfinite(f.median):
        return Tile("HD95, median", UNDEFINED, "no case has one")
    worst = f"worst {shown(f.worst, 'hd95_mm')}{NARROW}{material.unit}"
    return Tile("HD95, median", f"{shown(f.median, 'hd95_mm')}{NARROW}{material.unit}", worst + _undefined(f))


def _no_surface(material: Material) -> str:
    return "surfaces were not measured" if material.scores.metrics else "no case has one"


def _undefined(f: Summary) -> str:
    return f" · undefined in {f.undefined}" if f.undefined else ""


def _bias(material: Material, volumes: list[Agreement]) -> Tile:
    known = [a for a in volumes if math.isfinite(a.relative)]
    if not known:
        return Tile(f"{material.extent.capitalize()} bias", UNDEFINED, "no case has one")
    a = max(known, key=lambda a: abs(a.relative))
    several = len(volumes) > 1
    unit, divisor = material.unit_of("vol_diff_mm3"), 1
    if unit == "mm³" and float(a.volumes.middle.mean()) > LARGE:
        unit, divisor = "mL", MILLILITRE
    bias, (low, high) = a.bias / divisor, (limit / divisor for limit in a.limits)
    notes = [f"{a.structure}: " if several else "", f"{signed(a.relative * 100, 1)}{NARROW}% of its {material.extent}"]
    if math.isfinite(low):
        digits = volume_digits(max(abs(low), abs(high)))
        notes.append(f"; limits of agreement {signed(low, digits)} to {signed(high, digits)}")
    label = f"{material.extent.capitalize()} bias" + (", the largest" if several else "")
    return Tile(label, f"{signed(bias, volume_digits(bias))}{NARROW}{unit}", "".join(notes))
