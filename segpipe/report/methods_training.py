"""The methods in sentences: the network and its training."""

from collections.abc import Iterator, Mapping
from typing import Any

from segpipe.report.material import Material, Receipt
from segpipe.report.wording import along, counted, grid, kind_words, listed, percent

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


def network(material: Material) -> Iterator[str]:
    """Yield what is said of the network; nothing where none is known."""
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
        f"{kind_words(encoder.get('norm', ''))} normalisation and {kind_words(encoder.get('activation', ''))} "
        "activation."
    )
    if spec.get("heads", 1) > 1:
        yield f"It was supervised at {spec['heads']} depths."
    if encoder.get("dropout"):
        yield f"Of the channels in the middle, {percent(encoder['dropout'])} were dropped in training."


def optimiser(optim: Mapping[str, Any]) -> str:
    """Return the optimiser in words: ``SGD with a momentum of 0.9,``."""
    match optim.get("kind"):
        case "muon":
            return "Muon for the convolutions between feature maps and AdamW for all else,"
        case "sgd":
            return f"SGD with a{' Nesterov' if optim.get('nesterov') else ''} momentum of {optim.get('momentum', 0):g},"
        case kind:
            return kind_words(kind)


def training(material: Material) -> Iterator[str]:
    """Yield what is said of how it was trained; nothing where it was not."""
    receipt = material.receipt("train")
    fit, optim = receipt("settings.train.fit"), receipt("settings.train.optim")
    if not (isinstance(fit, dict) and isinstance(optim, dict)):
        return
    target = material.plan.target.kind if material.plan else ""
    loss = receipt("settings.train.loss.kind") or FOR_TARGET.get(target, "")
    words = "cross-entropy" if receipt("settings.train.loss.dice") == 0 else LOSSES.get(loss, kind_words(loss))
    yield (
        f"Training took {fit.get('steps')} steps"
        + (f" of {material.plan.batch} patches of {grid(material.plan.patch)} {material.dot}s" if material.plan else "")
        + (f", on {words}" if loss else "")
        + f" (seed {fit.get('seed')}, precision {fit.get('precision')})."
    )
    yield (
        f"The optimiser was {optimiser(optim)} with a peak learning rate of "
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
    yield from augmentation(receipt, material.rank)
    kept = "the last one was kept" if fit.get("keep") == "last" else "the one with the highest mean Dice was kept"
    average = fit.get("average")
    weights = f"A running average of the weights (decay {average}) was" if average else "The weights were"
    yield f"{weights} validated on whole images every {fit.get('validate_every')} steps, and {kept}."
    if "pretrain" in material.receipts:
        kind = material.receipt("pretrain")("settings.pretrain.objective.kind")
        yield "The encoder was pretrained on the images alone" + (f" ({kind_words(kind)})." if kind else ".")


def augmentation(receipt: Receipt, rank: int) -> Iterator[str]:
    """Yield how patches were varied."""
    augment = receipt("settings.train.augment")
    if not isinstance(augment, dict):
        return
    if entries := augment.get("albumentations"):
        named = [_transform(name, arguments) for entry in entries for name, arguments in entry.items()]
        yield f"Patches were varied by transforms of albumentations, in this order: {listed(named, len(named))}."
        return
    used = [f"{words} ({percent(augment[key])})" for key, words in AUGMENTATIONS.items() if augment.get(key)]
    if axes := augment.get("mirror_axes"):
        used.append(f"mirroring along {along(axes, rank)}")
    yield f"Patches were varied by {listed(used, len(used))}." if used else "Patches were not varied."


def _transform(name: str, arguments: Mapping[str, Any]) -> str:
    """Return a transform with its arguments; those of the transforms inside of it stand in the settings."""
    told = [f"{key} {value}" for key, value in arguments.items() if key != "transforms"]
    return f"{name} ({', '.join(told)})" if told else name
