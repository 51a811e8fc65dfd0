"""Weights in files that explain themselves and run no code: safetensors beside JSON."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from segpipe.core.atomic import replacing, write_json
from segpipe.core.errors import ArtifactError
from segpipe.core.fingerprint import file_sha256
from segpipe.nets.encoder import Encoder, EncoderSpec
from segpipe.nets.unet import UNet, UNetSpec

WEIGHTS = "weights.safetensors"
MODEL = "model.json"
ENCODER_WEIGHTS = "encoder.safetensors"
DECODER_WEIGHTS = "decoder.safetensors"
ENCODER = "encoder.json"
FORMAT = 1
META = "segpipe"


@dataclass(frozen=True)
class ModelFile:
    """A trained network and what was said about it when it was saved."""

    network: UNet
    notes: Mapping[str, Any]


def save_tensors(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Write named tensors and a JSON value to one file, whole or not at all."""
    # detached copies: two names of one memory are refused by the format
    flat = {name: tensor.detach().to("cpu").contiguous().clone() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        try:
            save_file(flat, temporary, metadata={META: json.dumps(meta, allow_nan=False)})
        except SafetensorError as error:
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            # as the system said it: a full disk is told as such
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the JSON value of a file.

    Raises:
        ArtifactError: It is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as stream:
            meta = json.loads((stream.metadata() or {}).get(META, "{}"))
            return {name: stream.get_tensor(name) for name in stream.keys()}, meta  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError, ValueError) as error:
        raise ArtifactError(f"{path}: no readable weights ({error}). Export the model again.") from error


def save_model(folder: Path, network: UNet, notes: Mapping[str, Any]) -> None:
    """Write a model folder: ``weights.safetensors`` and ``model.json``, which comes last and holds their hash."""
    save_description(folder, network, save_weights(folder, network), notes)


def save_weights(folder: Path, network: UNet) -> str:
    """Write the weights of a model folder; return their SHA-256. Not whole before ``save_description``."""
    save_tensors(folder / WEIGHTS, network.state_dict(), {})
    return file_sha256(folder / WEIGHTS)


def save_description(folder: Path, network: UNet, weights_sha256: str, notes: Mapping[str, Any]) -> None:
    """Write ``model.json``, which makes the folder a whole model."""
    spec = network.spec.model_dump(mode="json")
    write_json(folder / MODEL, {"format": FORMAT, "network": spec, "weights_sha256": weights_sha256, **notes})


def model_folders(folder: Path) -> list[Path]:
    """Return the model folders of a folder: itself, or of several models each of its subfolders, by name.

    Every subfolder of several models has to be one; the reader refuses those that are not, so that no
    model is left out unnoticed. Hidden ones and files do not count; a link that leads nowhere does.
    """
    if not folder.is_dir() or (folder / MODEL).is_file() or (folder / WEIGHTS).is_file():
        return [folder]
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    members = [path for path in inside if path.is_dir() or (path.is_symlink() and not path.is_file())]
    return members if any((path / MODEL).is_file() for path in members) else [folder]


def load_model(folder: Path) -> ModelFile:
    """Return the model of a folder that ``save_model`` wrote.

    Raises:
        ArtifactError: A file is missing, damaged, or from a later version.
    """
    try:
        described = json.loads((folder / MODEL).read_text())
        if described["format"] != FORMAT:
            raise ArtifactError(
                f"{folder}: model format {described['format']}; this segpipe reads {FORMAT}. Update it."
            )
        spec, sha256 = UNetSpec.model_validate(described["network"]), described["weights_sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{folder}: not a model folder ({MODEL} is missing or damaged). Give the folder that training "
            "wrote: OUT/latest/model."
        ) from error
    weights = folder / WEIGHTS
    if not weights.is_file() or file_sha256(weights) != sha256:
        raise ArtifactError(f"{weights}: the weights are missing or not those of {MODEL}. Copy the whole folder again.")
    tensors, _ = load_tensors(weights)
    with torch.device("meta"):  # no time spent on weights that are replaced at once
        network = spec.build()
    try:
        network.load_state_dict(tensors, strict=True, assign=True)
    except RuntimeError as error:
        raise ArtifactError(
            f"{weights}: the weights do not fit the network of {MODEL}. Export the model again."
        ) from error
    return ModelFile(network.eval(), described)


@dataclass(frozen=True)
class EncoderFile:
    """What pretraining leaves to a network: weights, the contract they were trained under, and where they come from."""

    spec: EncoderSpec
    encoder: Mapping[str, Tensor]
    decoder: Mapping[str, Tensor]
    """Empty where there is none."""
    notes: Mapping[str, Any]


def save_encoder(folder: Path, encoder: Encoder, decoder: nn.Module | None, notes: Mapping[str, Any]) -> None:
    """Write ``encoder.safetensors``, perhaps ``decoder.safetensors``, and last ``encoder.json`` with their hashes.

    Args:
        folder: Where to.
        encoder: Its spec is the contract that a network is compared with before it takes the weights.
        decoder: Whatever decodes; None where nothing does.
        notes: Where the weights come from, as JSON values.
    """
    parts: dict[str, nn.Module] = {ENCODER_WEIGHTS: encoder}
    (folder / DECODER_WEIGHTS).unlink(missing_ok=True)  # of an earlier trial
    if decoder is not None:
        parts[DECODER_WEIGHTS] = decoder
    for name, part in parts.items():
        save_tensors(folder / name, part.state_dict(), {})
    hashes = {name: file_sha256(folder / name) for name in parts}
    write_json(
        folder / ENCODER, {"format": FORMAT, "encoder": encoder.spec.model_dump(mode="json"), "sha256": hashes, **notes}
    )


def load_encoder(folder: Path) -> EncoderFile:
    """Return what ``save_encoder`` wrote.

    Raises:
        ArtifactError: A file is missing, damaged, or from a later version.
    """
    try:
        described = json.loads((folder / ENCODER).read_text())
        if described["format"] != FORMAT:
            raise ArtifactError(
                f"{folder}: encoder format {described['format']}; this segpipe reads {FORMAT}. Update it."
            )
        spec, hashes = EncoderSpec.model_validate(described["encoder"]), dict(described["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{folder}: no pretrained encoder ({ENCODER} is missing or damaged). Give the folder that pretraining "
            "wrote: OUT/latest/encoder."
        ) from error
    found: dict[str, dict[str, Tensor]] = {}
    for name in (ENCODER_WEIGHTS, *(other for other in hashes if other == DECODER_WEIGHTS)):
        path = folder / name
        if not path.is_file() or file_sha256(path) != hashes.get(name):
            raise ArtifactError(
                f"{path}: the weights are missing or not those of {ENCODER}. Copy the whole folder again."
            )
        found[name], _ = load_tensors(path)
    return EncoderFile(spec, found[ENCODER_WEIGHTS], found.get(DECODER_WEIGHTS, {}), described)
