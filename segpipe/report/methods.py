"""The methods in sentences, written from the settings and the plan that this run went by."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segpipe.report.material import Material, Receipt
from segpipe.report.plausible import judged_by
from segpipe.report.unusual import compared
from segpipe.report.wording import counted, grid, listed, percent
from segpipe.score.empties import rule

AUGMENTATIONS = {
    "spatial": "rotation and scaling",
    "elastic": "elastic deformation",
    "bias_field": "MR bias fields",
    "noise": "noise",
    "blur": "blur",
    "brightness": "brightness",
    "contrast": "contrast",
    "low_resolution": "low resolution",
    "gamma": "gamma",
    "gamma_inverted": "gamma of the inverted image",
}
LOSSES = {
    "dice_ce": "soft Dice plus cross-entropy",
    "dice_bce": "soft Dice plus binary cross-entropy of each structure",
    "smooth_l1": "smooth L1 on signed distances",
}
FOR_TARGET = {"classes": "dice_ce", "regions": "dice_bce", "signed_distance": "smooth_l1"}
"""The loss that training takes where none is set."""
TARGETS = {
    "classes": "one class a voxel",
    "regions": "one map for each structure, which may overlap",
    "signed_distance": "the signed distance to each structure's border",
}
WEIGHTS = {"border": "gaps between touching objects weighted up", "class_balance": "classes weighted alike"}
AXES = "RAS"


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
        ("Network", _network(material)),
        ("Training", _training(material)),
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
        f"normalise {channel.name}": _words(kind.kind)
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
    if fold is not None and material.divided:
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
    ways = list(dict.fromkeys(_words(kind.kind) for kind in plan.normalise))
    yield (
        f"Images were cropped to what they show, resampled to {grid(plan.spacing)} {material.unit} "
        f"(along {'x, y' if len(plan.spacing) == 2 else AXES}) and normalised channel by channel "
        f"({listed(ways)}); what was measured for this was measured on the "
        "cases to develop only."
    )
    yield f"The network learns {_target(material)}."
    weight = material.receipt("preprocess")("settings.preprocess.weight.kind")
    if weight:
        yield f"In the loss, {WEIGHTS.get(weight, _words(weight))}."


def _network(material: Material) -> Iterator[str]:
    spec = material.model.get("network") or {}
    encoder = spec.get("encoder") or {}
    if not encoder.get("widths"):
        return
    widths = [str(width) for width in encoder["widths"]]
    rank = len(encoder["kernels"][0]) if encoder.get("kernels") else material.rank
    parameters = material.receipt("train")("summary.parameters")
    size = f", {parameters / 1e6:.1f} million parameters" if isinstance(parameters, int) else ""
    yield (
        f"A {rank}D U-Net of {counted(len(widths) - 1, 'encoding step')} ({', '.join(widths)} channels{size}), with "
        f"{encoder.get('convolutions', 2)} convolutions a step ('{encoder.get('padding', 'same')}' padding), "
        f"{_words(encoder.get('norm', ''))} normalisation and {_words(encoder.get('activation', ''))} activation."
    )
    if spec.get("heads", 1) > 1:
        yield f"It was supervised at {spec['heads']} depths."
    if encoder.get("dropout"):
        yield f"Of the channels in the middle, {percent(encoder['dropout'])} were dropped in training."


def _training(material: Material) -> Iterator[str]:
    receipt = material.receipt("train")
    fit, optim = receipt("settings.train.fit"), receipt("settings.train.optim")
    if not (isinstance(fit, dict) and isinstance(optim, dict)):
        return
    target = material.plan.target.kind if material.plan else ""
    loss = receipt("settings.train.loss.kind") or FOR_TARGET.get(target, "")
    words = "cross-entropy" if receipt("settings.train.loss.dice") == 0 else LOSSES.get(loss, _words(loss))
    yield (
        f"Training took {fit.get('steps')} steps"
        + (f" of {material.plan.batch} patches of {grid(material.plan.patch)} {material.dot}s" if material.plan else "")
        + (f", on {words}" if loss else "")
        + f" (seed {fit.get('seed')}, precision {fit.get('precision')})."
    )
    yield (
        f"The optimiser was {_words(str(optim.get('kind')))} with a peak learning rate of "
        f"{optim.get('learning_rate'):g} after {optim.get('warmup_steps')} steps of warm-up, then half a cosine "
        f"to zero, a weight decay of {optim.get('weight_decay'):g} and gradients clipped at a norm of "
        f"{optim.get('clip'):g}."
    )
    pretrained = "pretrain" in material.receipts or receipt("settings.train.init_from") is not None
    but = ", but for those that were pretrained" if pretrained else ""
    yield f"Weights began at random (He et al. 2015), biases at zero{but}."
    foreground = receipt("settings.train.sampling.foreground")
    if foreground is not None:
        yield f"Of each batch, {percent(foreground)} of the patches were drawn around a labelled {material.dot}."
    yield from _augmentation(receipt, material.rank)
    kept = "the last one was kept" if fit.get("keep") == "last" else "the one with the highest mean Dice was kept"
    average = fit.get("average")
    weights = f"A running average of the weights (decay {average}) was" if average else "The weights were"
    yield f"{weights} validated on whole images every {fit.get('validate_every')} steps, and {kept}."
    if "pretrain" in material.receipts:
        kind = material.receipt("pretrain")("settings.pretrain.objective.kind")
        yield "The encoder was pretrained on the images alone" + (f" ({_words(kind)})." if kind else ".")


def _augmentation(receipt: Receipt, rank: int) -> Iterator[str]:
    augment = receipt("settings.train.augment")
    if not isinstance(augment, dict):
        return
    if entries := augment.get("albumentations"):
        named = [_transform(name, arguments) for entry in entries for name, arguments in entry.items()]
        yield f"Patches were varied by transforms of albumentations, in this order: {listed(named, len(named))}."
        return
    used = [f"{words} ({percent(augment[key])})" for key, words in AUGMENTATIONS.items() if augment.get(key)]
    if axes := augment.get("mirror_axes"):
        used.append(f"mirroring along {_along(axes, rank)}")
    yield f"Patches were varied by {listed(used, len(used))}." if used else "Patches were not varied."


def _transform(name: str, arguments: Mapping[str, Any]) -> str:
    """Return a transform with its arguments; those of the transforms inside of it stand in the settings."""
    told = [f"{key} {value}" for key, value in arguments.items() if key != "transforms"]
    return f"{name} ({', '.join(told)})" if told else name


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
    yield (
        f"Whole images were predicted in overlapping tiles ({percent(window.get('overlap', 0))} overlap) and written "
        "on the grid of their own input file."
    )
    if axes := window.get("mirror_axes"):
        yield f"Predictions of images mirrored along {_along(axes, material.rank)} were averaged."
    if names := receipt("settings.infer.clean.largest_only"):
        yield f"Of {listed(names)} only the largest connected part was kept."


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
    if material.subgroups:
        yield (
            "Subgroups were compared by Kruskal and Wallis' test on the mean Dice of subjects, p corrected after Holm "
            f"for {counted(len(material.subgroups), 'covariate')}."
        )


def _target(material: Material) -> str:
    kind = material.plan.target.kind if material.plan else ""
    return TARGETS.get(kind, kind).replace("voxel", material.dot)


def _along(axes: Sequence[int], rank: int) -> str:
    return listed([("xy" if rank == 2 else AXES)[axis] for axis in axes if axis < rank])


def _words(kind: Any) -> str:
    text = str(kind or "")
    return {"adamw": "AdamW", "sgd": "SGD", "z_score": "z-score", "relu": "ReLU", "leaky_relu": "leaky ReLU"}.get(
        text, text.replace("_", " ")
    )
