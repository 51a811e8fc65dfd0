"""What pretraining learned, put into a network: what was loaded, what was adapted, what did not fit."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, TypeAdapter
from torch import Tensor

from segpipe.core.errors import SHOWN, ArtifactError, ConfigError
from segpipe.core.fingerprint import file_sha256, fingerprint
from segpipe.core.section import Section
from segpipe.dataset.manifest import Case
from segpipe.learn.fitting import LoadReport, take
from segpipe.learn.objectives import Objective, Pretraining
from segpipe.nets.checkpoint import (
    DECODER_WEIGHTS,
    ENCODER,
    ENCODER_WEIGHTS,
    EncoderFile,
    load_encoder,
    load_tensors,
)
from segpipe.nets.encoder import EncoderSpec
from segpipe.nets.unet import UNet

WHOLE = "pretraining.safetensors"
"""The state of the whole task after the phases that are over: heads and all that a network has no place for."""
CASES = "cases.json"
"""What pretraining was done on, beside the weights."""
SEEDS = 2**63


class TransferConfig(Section):
    """How pretrained weights enter the network, and how they are treated there."""

    decoder: bool = False
    """Whether the decoder is taken over too, as far as it fits."""
    freeze_steps: NonNegativeInt = 0
    """First steps at which the encoder does not move, until the decoder has learned something."""
    encoder_rate: PositiveFloat = 1.0
    """Learning rate of the encoder, as a share of that of the rest."""
    least: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Share of the encoder's numbers that have to be loaded or adapted; with less, training is refused."""
    shuffle: bool = False
    """The control of every study: the numbers of each tensor change places at random, so that their statistics stay
    and what they have learned goes."""


def encoder_folder(place: Path) -> Path:
    """Return the folder of a pretrained encoder: the place itself, or the only one in it.

    Raises:
        ConfigError: There is none, or there are several.
    """
    if (place / ENCODER).is_file():
        return place
    inside = [path.parent for path in sorted(place.glob(f"*/{ENCODER}")) if path.parent.suffix != ".partial"]
    if len(inside) == 1:
        return inside[0]
    found = f"holds {len(inside)} of them" if inside else "holds none"
    raise ConfigError(
        f"train.init_from={place}: {found}. Give the folder of one pretrained encoder, such as OUT/latest/encoder."
    )


def content_of(place: Path, *, decoder: bool = False) -> dict[str, str]:
    """Return the SHA-256 of the weights at a place, by file: what they are, wherever they lie.

    Args:
        place: Of the pretrained encoder.
        decoder: Whether its decoder counts too.

    Raises:
        ConfigError: There is no pretrained encoder.
    """
    folder = encoder_folder(place)
    names = (ENCODER_WEIGHTS, DECODER_WEIGHTS) if decoder else (ENCODER_WEIGHTS,)
    return {name: file_sha256(folder / name) for name in names if (folder / name).is_file()}


def load_pretraining(folder: Path) -> Pretraining:
    """Return the whole task as pretraining left it, on the CPU: it codes, draws again and, where it can, samples.

    Raises:
        ArtifactError: A file is missing or damaged.
    """
    file = load_encoder(folder)
    tensors, _ = load_tensors(folder / WHOLE)
    objective: Any = TypeAdapter(Objective).validate_python(file.notes["objective"])
    task: Pretraining = objective.build(file.spec, tuple(file.notes["patch"]))
    task.load_state_dict(tensors)
    return task.eval()


def begin_with(
    place: Path,
    network: UNet,
    config: TransferConfig,
    seed: int,
    held_out: tuple[Iterable[Case], Iterable[Case]],
) -> LoadReport:
    """Put the pretrained weights at a place into a network, unless they have seen what they must not.

    Args:
        place: See ``encoder_folder``.
        network: Fresh.
        config: Settings.
        seed: Decides how ``config.shuffle`` shuffles.
        held_out: The cases of the test split, and those of the validation.

    Raises:
        ArtifactError: The folder is damaged.
        ConfigError: They do not fit, or were pretrained on cases of the test split; the text names them.
    """
    folder, (test, validation) = encoder_folder(place), held_out
    if seen := seen_of(folder, test):
        more = f" and {len(seen) - SHOWN} more" if len(seen) > SHOWN else ""
        raise ConfigError(
            f"{folder}: this encoder was pretrained on cases of the test split: {', '.join(seen[:SHOWN])}{more}. "
            "Pretrain without them."
        )
    report = load_encoder_into(network, folder, config, seed)
    report.validation_seen = seen_of(folder, validation)
    return report


def load_encoder_into(network: UNet, folder: Path, config: TransferConfig, seed: int = 0) -> LoadReport:
    """Put pretrained weights into a network, in place, and return what became of each tensor.

    Another number of image channels is adapted: the first convolution's mean over its channels, repeated,
    and scaled so that the sum over the channels stays. A decoder that was trained without skips fills the
    half of each convolution that sees the up-sampled features. All else that has another shape is skipped.

    Args:
        network: Fresh.
        folder: What ``save_encoder`` wrote.
        config: Settings.
        seed: Decides how ``config.shuffle`` shuffles.

    Raises:
        ArtifactError: The folder is damaged.
        ConfigError: The encoder is of another kind, or too little of it fits; the text names what.
    """
    file = load_encoder(folder)
    wanted = network.spec.encoder
    if differing := _other_function(file.spec, wanted):
        raise ConfigError(
            f"{folder}: this encoder is not that of the network: {'; '.join(differing)}. "
            "Set model and preprocess.plan as then, or pretrain again."
        )
    origin = {key: value for key, value in file.notes.items() if key not in ("format", "encoder")}
    report = LoadReport(origin=origin, shuffled=config.shuffle)
    taken = take("encoder.", network.encoder.state_dict(), _entries(file.encoder, "encoder.", config, seed), report)
    report.share = taken / sum(value.numel() for value in network.encoder.state_dict().values())
    if report.share < config.least:
        reasons = [*_other_size(file.spec, wanted), *(f"{name}: {why}" for name, why in report.skipped.items())]
        more = f"; and {len(reasons) - SHOWN} more" if len(reasons) > SHOWN else ""
        raise ConfigError(
            f"{folder}: {report.share:.0%} of the encoder's numbers fit, and train.transfer.least={config.least:g}: "
            f"{'; '.join(reasons[:SHOWN])}{more}. Set model and preprocess.plan as then, or pretrain again."
        )
    if config.decoder:
        _refuse_no_decoder(file, folder)
        entries = _entries(file.decoder, "decoder.", config, seed)
        take("decoder.", network.decoder.state_dict(), entries, report)
    return report


def _entries(tensors: Mapping[str, Tensor], prefix: str, config: TransferConfig, seed: int) -> dict[str, Tensor]:
    if not config.shuffle:
        return dict(tensors)
    return {name: _shuffled(value, f"{prefix}{name}", seed) for name, value in tensors.items()}


def _shuffled(value: Tensor, name: str, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(int(fingerprint([seed, name]), 16) % SEEDS)
    order = torch.randperm(value.numel(), generator=generator)
    return value.flatten()[order].reshape(value.shape)


def _other_function(found: EncoderSpec, wanted: EncoderSpec) -> list[str]:
    """Return what makes the same weights another function, a phrase each; levels that only one has do not count."""
    pairs: dict[str, tuple[Any, Any]] = {
        name: (getattr(found, name), getattr(wanted, name)) for name in ("convolutions", "norm", "activation")
    }
    for name in ("strides", "kernels"):
        ours, theirs = getattr(found, name), getattr(wanted, name)
        both = min(len(ours), len(theirs))
        pairs[name] = (ours[:both], theirs[:both])
    return [_phrase(name, *pair) for name, pair in pairs.items() if pair[0] != pair[1]]


def _other_size(found: EncoderSpec, wanted: EncoderSpec) -> list[str]:
    pairs = {name: (getattr(found, name), getattr(wanted, name)) for name in ("widths", "in_channels")}
    return [_phrase(name, *pair) for name, pair in pairs.items() if pair[0] != pair[1]]


def _phrase(name: str, found: object, wanted: object) -> str:
    return f"{name} {_words(found)} (the network: {_words(wanted)})"


def _words(value: Any) -> str:
    if not isinstance(value, tuple):
        return str(value)
    if value and isinstance(value[0], tuple):
        return " ".join("x".join(map(str, axes)) for axes in value)
    return " ".join(map(str, value))


def _refuse_no_decoder(file: EncoderFile, folder: Path) -> None:
    if not file.decoder:
        raise ConfigError(f"train.transfer.decoder=true: {folder} holds no decoder. Set it to false.")


def seen_in_pretraining(cases: Iterable[Case]) -> dict[str, Any]:
    """Return what pretraining notes of its cases: their ids, and the SHA-256 of every image."""
    known = list(cases)
    return {
        "pretraining": [case.id for case in known],
        "images": sorted({image.sha256 for case in known for image in case.images}),
    }


def seen_of(folder: Path, cases: Iterable[Case]) -> list[str]:
    """Return the ids of those cases of which an image was among those that an encoder was pretrained on.

    Images are known by their content, so that this holds across data sets and names.

    Raises:
        ArtifactError: The folder does not tell what it was pretrained on.
    """
    try:
        images = set(json.loads((folder / CASES).read_text())["images"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{folder / CASES}: does not tell what was pretrained on. Give the whole folder that pretraining wrote."
        ) from error
    return [case.id for case in cases if any(image.sha256 in images for image in case.images)]
