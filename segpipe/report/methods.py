"""The methods in sentences, written from the settings and the plan that this run went by."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from segpipe.dataset.manifest import EVERY
from segpipe.report import verdicts
from segpipe.report.calibrated import counted_how
from segpipe.report.material import Material, Receipt
from segpipe.report.methods_training import network, training
from segpipe.report.plausible import judged_by
from segpipe.report.unusual import compared
from segpipe.report.wording import AXES, along, counted, grid, kind_words, listed, percent
from segpipe.score.empties import rule

TARGETS = {
    "classes": "one class a voxel",
    "regions": "one map for each structure, which may overlap",
    "signed_distance": "the signed distance to each structure's border",
}
WEIGHTS = {"border": "gaps between touching objects weighted up", "class_balance": "classes weighted alike"}


@dataclass(frozen=True)
class Section:
    """One heading of the methods and its sentences."""

    title: str
    sentences: tuple[str, ...]

    @property
    def text(self) -> str:
        """All sentences in a row."""
        return " ".join(self.sentences)


def methods(material: Material) -> list[Section]:
    """Return the sections about what this run really did; those of stages that did not run are left out."""
    written = (
        ("Data", _data(material)),
        ("Division", _division(material)),
        ("Preprocessing", _preprocessing(material)),
        ("Network", network(material)),
        ("Training", training(material)),
        ("Prediction", _prediction(material)),
        ("Evaluation", _evaluation(material)),
    )
    found = [Section(title, tuple(sentences)) for title, sentences in written]
    return [section for section in found if section.sentences]


def planned(material: Material) -> list[tuple[str, str, str]]:
    """Return what the data decided: name, value and reason, as the plan holds them."""
    plan = material.plan
    if plan is None:
        return []
    values = {
        "spacing": f"{grid(plan.spacing)} {material.unit}",
        "patch": f"{grid(plan.patch)} {material.dot}s",
        "depth": counted(plan.topology.depth, "step"),
        "batch": counted(plan.batch, "patch", "patches"),
        "target": _target(material),
    }
    values |= {
        f"normalise {channel.name}": kind_words(kind.kind)
        for channel, kind in zip(plan.channels, plan.normalise, strict=True)
    }
    return [(name.capitalize(), values.get(name, "\N{EN DASH}"), reason) for name, reason in plan.reasons.items()]


def _data(material: Material) -> Iterator[str]:
    data, receipt = material.dataset, material.receipt("ingest")
    header = data.header
    subjects = len(set(data.subjects.values()))
    channels = listed([channel.name for channel in header.channels])
    yield (
        f"The data set {header.name} ({header.layout} layout) holds {counted(len(data.cases), 'usable case')} of "
        f"{counted(subjects, 'subject')}, with {counted(len(header.channels), 'channel')} ({channels})."
    )
    names = [f"{s.name} ({', '.join(map(str, s.values))})" for s in header.labels.structures]
    yield f"Structures and their label values: {listed(names, len(names))}."
    if header.labels.ignore is not None:
        dots = f"{material.dot.capitalize()}s"
        yield f"{dots} of value {header.labels.ignore} are unannotated: they neither train nor count."
    if header.reading.unit == "px":
        yield "The size of a pixel is not known: all lengths and areas are in pixels."
    if header.labels.overlapping:
        yield "Some structures are made of several label values and overlap."
    check = "settings.ingest.check"
    tolerance, degrees = receipt(f"{check}.tolerance_mm"), receipt(f"{check}.tolerance_degrees")
    if tolerance is not None and degrees is not None:
        yield (
            "Of every case it was checked that its files can be read to the end, that spacing and values are "
            "plausible, that label values are declared, and that images and reference share a grid (within "
            f"{tolerance:g} {material.unit} and {degrees:g}°); {counted(len(data.quarantined), 'case')} failed and "
            f"{'was' if len(data.quarantined) == 1 else 'were'} set aside."
        )


def _division(material: Material) -> Iterator[str]:
    data, receipt = material.dataset, material.receipt("ingest")
    test = data.part("test")
    seed = receipt("settings.ingest.split.seed")
    by_file = receipt("settings.ingest.split.file") is not None
    how = "as a split file says" if by_file else "by subject" + ("" if seed is None else f" (seed {seed})")
    yield (
        f"Before anything was measured, {counted(len(test), 'case')} of "
        f"{counted(len({case.subject for case in test}), 'subject')} were put apart {how} and used for nothing but "
        f"this evaluation; the other {counted(len(data.part('develop')), 'labelled case')} were divided into "
        f"{counted(len(data.folds), 'fold')}, no subject being in two parts{_alike(receipt)}."
    )
    fold = material.receipt("train")("settings.train.fold")
    if len(material.trainings) > 1:
        seeds = {one("settings.train.fit.seed") for one in material.trainings.values()}
        folds = {one("settings.train.fold") for one in material.trainings.values()}
        if len(folds) > 1:
            yield (
                f"{counted(len(folds), 'network')} were trained, each without one fold, by which it was only watched "
                "(cross-validation)."
            )
        if len(seeds) > 1:
            yield (
                f"Everything was trained {len(seeds)} times, with seeds {listed(sorted(map(str, seeds)))}; figures "
                "without a spread are those of the first."
            )
        if len(folds) > 1:
            return
    if fold == EVERY:
        yield "All of these were for training: none was left to watch it by, and the weights of its last step are kept."
    elif fold is not None and material.divided:
        training, validation = (len(material.divided.get(part, ())) for part in ("training", "validation"))
        yield f"Fold {fold} ({counted(validation, 'case')}) was for validation, the rest ({training}) for training."


def _alike(receipt: Receipt) -> str:
    names = receipt("settings.ingest.split.stratify") or []
    words = {"structures": "the structures they show", "volume": "their volume"}
    by_hand = receipt("settings.ingest.split.file") is not None
    return "" if by_hand or not names else f" and the folds alike in {listed([words.get(n, n) for n in names])}"


def _preprocessing(material: Material) -> Iterator[str]:
    plan = material.plan
    if plan is None:
        return
    ways = list(dict.fromkeys(kind_words(kind.kind) for kind in plan.normalise))
    yield (
        f"Images were cropped to what they show, resampled to {grid(plan.spacing)} {material.unit} "
        f"(along {'x, y' if len(plan.spacing) == 2 else AXES}) and normalised channel by channel "
        f"({listed(ways)}); what was measured for this was measured on the "
        "cases to develop only."
    )
    yield f"The network learns {_target(material)}."
    weight = material.receipt("preprocess")("settings.preprocess.weight.kind")
    if weight:
        yield f"In the loss, {WEIGHTS.get(weight, kind_words(weight))}."


def _prediction(material: Material) -> Iterator[str]:
    receipt = material.receipt("infer")
    window = receipt("settings.infer.window")
    if not isinstance(window, dict):
        return
    if "out_of_fold" in material.parts:
        yield (
            "Each case to develop was predicted by the one network that was not trained on it; each test case by the "
            "mean of the probabilities of all networks."
        )
    yield from compared(material)
    yield from judged_by(material)
    yield from verdicts.judged_by(material)
    yield (
        f"Whole images were predicted in overlapping tiles ({percent(window.get('overlap', 0))} overlap) and written "
        "on the grid of their own input file."
    )
    yield from views(window, material.rank)
    if names := receipt("settings.infer.clean.largest_only"):
        yield f"Of {listed(names)} only the largest connected part was kept."


def views(window: Mapping[str, Any], rank: int) -> Iterator[str]:
    """Yield from which sides each image was predicted, where it was more than one."""
    axes = window.get("mirror_axes")
    ways = [f"mirrored along {along(axes, rank)}"] if axes else []
    ways += ["turned by quarters"] if window.get("quarter_turns") else []
    if ways:
        yield f"Predictions of images {listed(ways)} were averaged."


def _evaluation(material: Material) -> Iterator[str]:
    receipt = material.receipt("evaluate")
    known = [metric for metric in material.scores.main if metric in material.definitions]
    ids = [f"{material.name_of(metric)} is {material.definitions[metric]}" for metric in known]
    yield f"Predictions were compared with the reference on the grid of the input file, in {material.unit}."
    if ids:
        yield (
            f"Definitions: {'; '.join(ids)}. A voxel surface is what an erosion takes away; a surfel surface is "
            "weighted by its area; figures of different definitions must not be compared."
        )
    yield rule()
    resamples, seed = receipt("settings.evaluate.resamples"), receipt("settings.evaluate.seed")
    drawn = f", {resamples} resamples, seed {seed}" if resamples is not None else ""
    yield (
        f"Intervals of means over cases are {percent(material.confidence)} intervals by {material.interval}: subjects "
        f"are the unit that is drawn{drawn}. Those of medians are Woodruff's. Mean of structures: each case counts "
        "with the mean over its structures."
    )
    yield (
        "Agreement of volumes: limits of agreement are bias ± 1.96 SD, their intervals those of "
        "Bland and Altman (1999), the regression of the difference on the mean is over subjects; ICC(A,1) and "
        "ICC(C,1) after McGraw and Wong (1996), CCC after Lin (1989)."
    )
    yield from counted_how(material)
    if material.subgroups:
        yield (
            "Subgroups were compared by Kruskal and Wallis' test on the mean Dice of subjects, p corrected after Holm "
            f"for {counted(len(material.subgroups), 'covariate')}."
        )


def _target(material: Material) -> str:
    kind = material.plan.target.kind if material.plan else ""
    return TARGETS.get(kind, kind).replace("voxel", material.dot)
