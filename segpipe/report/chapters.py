"""What stands in each chapter of the report, ready to be set."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from markupsafe import Markup

from segpipe.report import (
    calibrated,
    claim,
    cohort,
    curves,
    headline,
    latent,
    methods,
    panels,
    plausible,
    provenance,
    repeats,
    subgroups,
    tables,
    unusual,
    verdicts,
)
from segpipe.report.agreement import Agreement, agreements, bland_altman, reliability_table
from segpipe.report.bysize import dice_by_size
from segpipe.report.data_table import data_table
from segpipe.report.evidence import Evidence
from segpipe.report.failures import failure
from segpipe.report.findings import findings
from segpipe.report.gallery import Shown
from segpipe.report.limitations import limitations
from segpipe.report.material import Material
from segpipe.report.montage import common_width, picture
from segpipe.report.raincloud import Cloud, beyond, crowded, raincloud
from segpipe.report.settings import ReportConfig
from segpipe.report.study import asked
from segpipe.report.svg import element
from segpipe.report.viewer import structures_of
from segpipe.report.wording import (
    counted,
    listed,
    p_value,
    percent,
    shown,
    signed,
    volume_digits,
)

MOST_PANELS = 6
"""Bland-Altman charts; with more structures, those with the largest bias are shown."""
COLOURS = 8
BY_SIZE_HEIGHT = 170


def chapters(material: Material, config: ReportConfig, cases: Sequence[Shown]) -> dict[str, Any]:
    """Return everything that the page's template names, the checklist last: it looks at what the others hold."""
    told = _told(material, config, cases)
    pictures = sum(1 for one in told["montage"] if one["svg"] or one["panels"])
    known = Evidence(material, config.study, pictures, _anchors(told))
    filled = claim.checklist(known)
    return told | {"checklist": filled, "checklist_told": claim.told(filled)}


def _anchors(told: Mapping[str, Any]) -> set[str]:
    """Return the anchors of the chapters that the page will have."""
    optional = {"volumes": "agreement", "pretraining": "pretraining", "training": "curves", "viewer": "viewer"}
    optional |= {"subgroups": "subgroups", "calibration": "calibration", "scans": "unusual", "shapes": "plausible"}
    optional |= {"quality": "verdicts"}
    always = {"study", "findings", "cohort", "data", "accuracy", "pictures", "cases", "limitations", "methods"}
    return always | {"provenance", "checklist"} | {anchor for anchor, key in optional.items() if told[key]}


def _told(material: Material, config: ReportConfig, cases: Sequence[Shown]) -> dict[str, Any]:
    first, further = asked(config.study)
    volumes = agreements(material.scores, material.dataset.subjects, material.confidence)
    main = material.scores.main if len(material.scores.structures) <= COLOURS else _few(material)
    rest = [metric for metric in material.scores.metrics if metric not in main]
    return {
        "title": config.title or f"{material.dataset.header.name}: segmentation report",
        "subtitle": _subtitle(material),
        "asked": first,
        "asked_too": further,
        "question": _question(material),
        "tiles": headline.tiles(material, volumes),
        "findings": findings(material, volumes),
        "diagram": cohort.diagram(material),
        "reasons": cohort.reasons(material),
        "data": data_table(material),
        "accuracy": tables.accuracy(material, main),
        "more_accuracy": tables.accuracy(material, rest),
        "by_part": repeats.by_part(material),
        "over_seeds": repeats.over_seeds(material),
        "trainings": repeats.trainings(material),
        "confidence": percent(material.confidence),
        "clouds": _clouds(material),
        "agreement": _agreement(material, volumes),
        "reliability": reliability_table(volumes, material.unit_of("vol_diff_mm3")),
        "subgroups": subgroups.chapter(material),
        "extent": material.extent,
        "dot": material.dot,
        "left_out": max(len(volumes) - MOST_PANELS, 0),
        "curves": [
            *curves.charts(material.training, _first_training(material), last=_kept_last(material)),
            *curves.charts(material.pretraining, "pretraining"),
        ],
        "pretraining": latent.chapter(material.latent, material.dataset),
        "unusual": unusual.chapter(material),
        "plausible": plausible.chapter(material),
        "verdicts": verdicts.chapter(material),
        "calibration": calibrated.chapter(material),
        "resumed": material.receipt("train")("summary.resumed_at"),
        "montage": _montage(material, cases),
        "legend": [(name, number % COLOURS) for number, name in enumerate(material.dataset.header.labels.names)],
        "flat": all(len(list(shown.cut.planes())) == 1 for shown in cases if shown.cut),
        "pictures": material.rank == 2,
        "error_keys": list(panels.keys(len(material.dataset.header.labels.names))),
        "oriented": any(shown.cut.oriented for shown in cases if shown.cut),
        "viewer": _viewer(material, cases),
        "columns": tables.columns(material),
        "cases": tables.cases(material),
        "limitations": limitations(material, config.study),
        "methods": methods.methods(material),
        "planned": methods.planned(material),
        "artifacts": provenance.artifacts(material),
        "facts": [*provenance.facts(material), *provenance.machines(material)],
        "files": provenance.files(material),
    }


def _subtitle(material: Material) -> str:
    held_out, subjects = material.held_out, material.dataset.subjects
    kind = "held-out case" if material.parts else "test case"
    parts = [
        f"Data set {material.dataset.header.name}",
        f"{counted(len(held_out), kind)} of {counted(len({subjects.get(case, case) for case in held_out}), 'subject')}",
        f"structures: {', '.join(material.dataset.header.labels.names)}",
        f"evaluated {day}" if (day := provenance.date(material)) else "",
        f"evaluation {material.receipt('evaluate').fingerprint}",
    ]
    return " · ".join(part for part in parts if part)


def _question(material: Material) -> str:
    """Return what this run asks, where its authors state no question."""
    names = listed(material.dataset.header.labels.names, 12)
    return (
        f"How well are {names} segmented by a network that never saw the case? Its authors have not stated more "
        "(report.study in the settings)."
    )


def _first_training(material: Material) -> str:
    name = next(iter(material.trainings), "")
    return f"training ({name})" if name else "training"


def _kept_last(material: Material) -> bool:
    return bool(material.receipt("train")("settings.train.fit.keep") == "last")


def _few(material: Material) -> tuple[str, ...]:
    """Return the three metrics that are drawn, as far as they were measured."""
    wanted = ("dice", material.scores.nsd, "hd95_mm")
    return tuple(metric for metric in wanted if metric and metric in material.scores.metrics)


def _clouds(material: Material) -> list[dict[str, Any]]:
    scores = material.scores
    charts = []
    for metric in _few(material):
        clouds = [
            Cloud(name, number % COLOURS, scores.defined(name, metric), material.figure(metric, name))
            for number, name in enumerate(scores.structures)
        ]
        if not any(cloud.values for cloud in clouds):
            continue
        notes = ["hollow: beyond the end of the axis"] if beyond(clouds, metric) else []
        if crowded(clouds):
            notes.append("only outlying cases have a dot")
        chart = raincloud(clouds, metric, material.index, material.rank, material.dataset.header.reading.unit)
        charts.append({"title": material.name_of(metric), "note": "; ".join(notes), "legend": "", "svg": chart})
    unit = material.unit_of("vol_ref_mm3")
    if svg := dice_by_size(scores, material.index, unit, BY_SIZE_HEIGHT):
        note = "do small ones fare worse?"
        charts.append({"title": "Dice by size", "note": note, "legend": _legend(scores.structures), "svg": svg})
    return charts


def _legend(names: Sequence[str]) -> Markup:
    keys = [
        element("span", element("i", class_=f"s{number % COLOURS}"), name, class_="key")
        for number, name in enumerate(names)
    ]
    return element("span", *keys, class_="legend") if 1 < len(names) <= COLOURS else Markup()


def _agreement(material: Material, volumes: Sequence[Agreement]) -> list[dict[str, Any]]:
    unit = material.unit_of("vol_diff_mm3")
    largest = sorted(volumes, key=lambda a: -abs(a.relative) if math.isfinite(a.relative) else 0.0)[:MOST_PANELS]
    return [
        {
            "title": a.structure,
            "note": _said(a, unit),
            "legend": "",
            "svg": bland_altman(_coloured(a), material.index, unit),
        }
        for a in volumes
        if any(a is one for one in largest)
    ]


def _said(a: Agreement, unit: str) -> str:
    bias = f"bias {signed(a.bias, volume_digits(a.bias))} {unit}"
    if math.isfinite(a.relative):
        bias += f" ({signed(a.relative * 100, 1)} %)"
    return bias + (f"; slope {signed(a.slope, 2)}, {p_value(a.p)}" if math.isfinite(a.slope) else "")


def _coloured(a: Agreement) -> Agreement:
    return replace(a, colour=a.colour % COLOURS)


def _montage(material: Material, cases: Sequence[Shown]) -> list[dict[str, Any]]:
    cases = [one for one in cases if one.role]
    cuts = [shown.cut for shown in cases if shown.cut]
    widths = dict(zip(map(id, cuts), common_width(cuts), strict=True))
    groups = material.dataset.header.labels.groups()
    dice, distance = material.scores.overall("dice"), material.scores.overall("hd95_mm")
    found = []
    for one in cases:
        figures = f"Dice {shown(dice[one.case], 'dice')}"
        if one.case in distance:
            figures += f" · HD95 {shown(distance[one.case], 'hd95_mm')} {material.unit}"
        svg = Markup()
        if one.cut and material.rank > 2:
            svg = picture(one.cut, groups, widths[id(one.cut)], f"{one.role}: {one.case}, {figures}")
        found.append(
            {
                "role": one.role,
                "case": one.case,
                "number": material.index[one.case],
                "figures": figures,
                "error": failure(material.scores, one.case),
                "svg": svg,
                "panels": panels.panels(one.cut, groups) if one.cut and material.rank == 2 else [],
                "reason": one.reason,
            }
        )
    return found


def _viewer(material: Material, cases: Sequence[Shown]) -> dict[str, Any] | None:
    structures = structures_of(material.dataset.header.labels)
    ranked = {case: place for place, case in enumerate(material.scores.ranked())}
    volumes = [
        one.volume
        | {"name": f"{one.case} ({one.role.lower()})" if one.role else one.case, "c": material.index[one.case]}
        for one in sorted(cases, key=lambda one: ranked[one.case])
        if one.volume
    ]
    return {"structures": structures, "cases": volumes} if structures and volumes else None
