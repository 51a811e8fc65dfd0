"""A model folder that predicts by itself, says what it is, and is proved to do what training saw."""

import hashlib
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segpipe import __version__
from segpipe.core.atomic import write_json, write_text
from segpipe.core.errors import ArtifactError
from segpipe.dataset.plan import Plan
from segpipe.imaging.volume import Volume
from segpipe.nets.checkpoint import WEIGHTS, save_description, save_weights
from segpipe.nets.precision import uses_bf16
from segpipe.nets.unet import UNet
from segpipe.predict.card import Facts, model_card
from segpipe.predict.origin import Origin
from segpipe.predict.segmenter import Segmenter
from segpipe.predict.window import WindowConfig

SETTINGS = "settings.json"
CARD = "README.md"
SELF_TEST = "selftest.json"
TOLERANCE = 1e-3
"""By how much scores may differ between two runs: a GPU may add in another order."""


def export_model(folder: Path, network: UNet, plan: Plan, window: WindowConfig, origin: Origin) -> None:
    """Write weights, settings, model card, and at last the description that makes the folder a whole model.

    Nothing in it tells a case's name, a path, a machine, a person or a time, beyond what ``origin.export`` says;
    the same network and origin give the same bytes.
    """
    sha256 = save_weights(folder, network)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    size = (folder / WEIGHTS).stat().st_size
    facts = Facts(plan, network.spec, origin, parameters, size, sha256, _versions())
    write_json(folder / SETTINGS, origin.settings)
    write_text(folder / CARD, model_card(facts))
    notes = {
        "parameters": parameters,
        "plan": plan.model_dump(mode="json"),
        "window": window.model_dump(mode="json"),
        "made_by": f"segpipe {__version__}",
        "versions": facts.versions,
        "trained_on": origin.trained_on(plan.dataset, plan.reading.unit),
        "validated_on": origin.validated_on(),
        **origin.export.model_dump(mode="json"),
    }
    save_description(folder, network, sha256, notes)


def self_test(folder: Path, segmenter: Segmenter, scan: Volume) -> None:
    """Prove that a model folder predicts what the networks in memory do; write ``selftest.json`` into it.

    The file holds the hash of the prediction and the number of voxels of each structure, so that whoever
    gets the folder and the same scan can compare; nothing of the scan itself.

    Args:
        folder: What ``export_model`` wrote.
        segmenter: The networks as they were trained, in evaluation mode.
        scan: (C, *S), as read from its file; best one that shows the structures.

    Raises:
        ArtifactError: The folder is not whole, or a voxel is predicted otherwise.
    """
    device = next(segmenter.networks[0].parameters()).device
    loaded = Segmenter.load(folder, str(device), clean=segmenter.clean)
    if (loaded.plan, loaded.window) != (segmenter.plan, segmenter.window):
        raise ArtifactError(f"{folder}: its plan or its window is not that of the training. Export the model again.")
    expected, found = segmenter.scores(scan), loaded.scores(scan)
    wanted, drawn = segmenter.labels(expected, scan), loaded.labels(found, scan)
    differing = int((wanted.array != drawn.array).sum())
    furthest = float(np.abs(expected.array - found.array).max())
    if differing or not furthest <= TOLERANCE:
        raise ArtifactError(
            f"{folder}: the model read from it draws {differing} of {drawn.array.size} voxels otherwise than the "
            f"network in memory (its scores differ by up to {furthest:.2g}). Do not use it; export the model again."
        )
    write_json(folder / SELF_TEST, _receipt(drawn, loaded, device.type))


def _receipt(drawn: Volume, segmenter: Segmenter, device: str) -> dict[str, Any]:
    groups = segmenter.plan.labels.groups()
    return {
        "prediction_sha256": hashlib.sha256(drawn.array.tobytes()).hexdigest(),
        "voxels": {name: int(np.isin(drawn.array, values).sum()) for name, values in groups.items()},
        "device": device,
        "computed_in": "bf16" if uses_bf16(segmenter.window.precision, device) else "fp32",
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    return {"segpipe": __version__, "python": platform.python_version(), "torch": str(torch.__version__)}
