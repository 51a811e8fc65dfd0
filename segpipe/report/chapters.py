"""What stands in each chapter of the report, ready to be set."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from segpipe.core.errors import SegpipeError
from segpipe.report import cohort, curves, headline, latent, methods, plausible, provenance, repeats, tables, unusual
from segpipe.report.agreement import Agreement, agreements, bland_altman
from segpipe.report.bysize import dice_by_size
from segpipe.report.cuts import Cut, CutJob, cut_case
from segpipe.report.findings import findings
from segpipe.report.material import Material
from segpipe.report.montage import Pick, common_width, picks, picture
from segpipe.report.raincloud import Cloud, beyond, crowded, raincloud
from segpipe.report.settings import ReportConfig
from segpipe.report.svg import element
from segpipe.report.viewer import pack, structures_of, too_large
from segpipe.report.wording import (
    counted,
    name_of,
    p_value,
    percent,
    shown,
    signed,
    unit_of,
    volume_digits,
    without_paths,
)

MOST_PANELS = 6
"""Bland-Altman charts; with more structures, those with the largest bias are shown."""
COLOURS = 8
BY_SIZE_HEIGHT = 170
MEGABYTE = 1_000_000


@dataclass(frozen=True, eq=False)
class Shown:
    """A case in pictures, or why there are none of it."""

    pick: Pick
    cut: Cut | None
    reason: str = ""


def chosen(material: Material, config: ReportConfig) -> list[Pick]:
    """Return the cases to be shown; none where there are no predictions at hand."""
    return picks(material.scores.ranked(), config.montage_cases) if material.predictions else []


def show(material: Material, pick: Pick, config: ReportConfig) -> Shown:
    """Read a case and cut out what is shown; one that cannot be read is told of, and does no further harm."""
    case = next(case for case in material.dataset.cases if case.id == pick.case)
    assert material.predictions is not None, "cases are only picked where there are predictions"
    groups = material.dataset.header.labels.groups()
    prediction = material.predictions / f"{case.id}.nii.gz"
    job = CutJob(material.dataset.files(case), prediction, groups, config.channel, config.margin_mm)
    try:
        return Shown(pick, cut_case(job))
    except SegpipeError as error:
        return Shown(pick, None, without_paths(str(error), material.dataset.root))


def chapters(material: Material, config: ReportConfig, cases: Sequence[Shown]) -> dict[str, Any]:
    """Return everything that the page's template names."""
    volumes = agreements(material.scores, material.dataset.subjects)
    main = material.scores.main if len(material.scores.structures) <= COLOURS else _few(material)
    rest = [metric for metric in material.scores.metrics if metric not in main]
    return {
        "title": config.title or f"{material.dataset.header.name}: segmentation report",
        "subtitle": _subtitle(material),
        "tiles": headline.tiles(material, volumes),
        "findings": findings(material, volumes),
        "diagram": cohort.diagram(material),
        "reasons": cohort.reasons(material),
        "accuracy": tables.accuracy(material, main),
        "more_accuracy": tables.accuracy(material, rest),
        "by_part": repeats.by_part(material),
        "over_seeds": repeats.over_seeds(material),
        "trainings": repeats.trainings(material),
        "confidence": percent(material.confidence),
        "clouds": _clouds(material),
        "agreement": _agreement(material, volumes),
        "left_out": max(len(volumes) - MOST_PANELS, 0),
        "curves": [
            *curves.charts(material.training, _first_training(material), last=_kept_last(material)),
            *curves.charts(material.pretraining, "pretraining"),
        ],
        "pretraining": latent.chapter(material.latent, material.dataset),
        "unusual": unusual.chapter(material),
        "plausible": plausible.chapter(material),
        "resumed": material.receipt("train")("summary.resumed_at"),
        "montage": _montage(material, cases),
        "legend": [(name, number % COLOURS) for number, name in enumerate(material.dataset.header.labels.names)],
        "flat": all(len(list(shown.cut.planes())) == 1 for shown in cases if shown.cut),
        "oriented": any(shown.cut.oriented for shown in cases if shown.cut),
        "viewer": _viewer(material, config, cases),
        "columns": tables.columns(material),
        "cases": tables.cases(material),
        "methods": methods.methods(material),
        "planned": methods.planned(material),
        "artifacts": provenance.artifacts(material),
        "facts": provenance.facts(material),
    }


def _subtitle(material: Material) -> str:
    held_out, subjects = material.held_out, material.dataset.subjects
    kind = "held-out case" if material.parts else "test case"
    parts = [
        f"Data set {material.dataset.header.name}",
        f"{counted(len(held_out), kind)} of {counted(len({subjects[case] for case in held_out}), 'subject')}",
        f"structures: {', '.join(material.dataset.header.labels.names)}",
        f"evaluated {day}" if (day := provenance.date(material)) else "",
        f"evaluation {material.receipt('evaluate').fingerprint}",
    ]
    return " · ".join(part for part in parts if part)


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
        chart = raincloud(clouds, metric, material.index, material.rank)
        charts.append({"title": name_of(metric), "note": "; ".join(notes), "legend": "", "svg": chart})
    unit = unit_of("vol_ref_mm3", material.rank)
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
    unit = unit_of("vol_diff_mm3", material.rank)
    largest = sorted(volumes, key=lambda a: -abs(a.relative) if math.isfinite(a.relative) else 0.0)[:MOST_PANELS]
    return [
        {
            "title": a.structure,
            "note": _said(a, unit),
            "legend": "",
            "svg": bland_altman(_coloured(a), material.index, unit, material.confidence),
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
    return Agreement(**(vars(a) | {"colour": a.colour % COLOURS}))


def _montage(material: Material, cases: Sequence[Shown]) -> list[dict[str, Any]]:
    cuts = [shown.cut for shown in cases if shown.cut]
    widths = dict(zip(map(id, cuts), common_width(cuts), strict=True))
    groups = material.dataset.header.labels.groups()
    dice, distance = material.scores.overall("dice"), material.scores.overall("hd95_mm")
    found = []
    for one in cases:
        case = one.pick.case
        figures = f"Dice {shown(dice[case], 'dice')}"
        if case in distance:
            figures += f" · HD95 {shown(distance[case], 'hd95_mm')} mm"
        svg = Markup()
        if one.cut:
            svg = picture(one.cut, groups, widths[id(one.cut)], f"{one.pick.role}: {case}, {figures}")
        found.append(
            {
                "role": one.pick.role,
                "case": case,
                "number": material.index[case],
                "figures": figures,
                "svg": svg,
                "reason": one.reason,
            }
        )
    return found


def _viewer(material: Material, config: ReportConfig, cases: Sequence[Shown]) -> dict[str, Any] | None:
    labels = material.dataset.header.labels
    structures = structures_of(labels)
    fit = [one for one in cases if one.cut and not too_large(one.cut, config.viewer_limit_mm)]
    if not (config.viewer and structures and fit):
        return None
    room = config.viewer_megabytes * MEGABYTE / len(fit)
    volumes = [
        pack(one.cut, labels.values, room) | {"name": f"{one.pick.case} ({one.pick.role.lower()})"}
        for one in fit
        if one.cut
    ]
    return {"structures": structures, "cases": volumes}
