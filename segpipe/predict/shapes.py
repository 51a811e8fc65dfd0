"""Whether a prediction looks like the reference masks: a network that redraws plausible shapes, and what is usual."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError

from segpipe.core.atomic import write_json
from segpipe.core.errors import ArtifactError
from segpipe.core.fingerprint import file_sha256
from segpipe.imaging.volume import Volume
from segpipe.nets.checkpoint import load_tensors, save_tensors
from segpipe.nets.precision import Precision, laid_out
from segpipe.nets.shape import ShapeNetwork, ShapeSpec, redrawer
from segpipe.predict.seen import Segmented
from segpipe.predict.segmenter import Segmenter
from segpipe.quality.checks import Check
from segpipe.quality.known import KnownShapes, Parts, Redraw
from segpipe.quality.shape import Shapes, shapes_of

SHAPES = "shapes.json"
WEIGHTS = "shapes.safetensors"


@dataclass(frozen=True)
class ShapeChecker:
    """Compares predictions with the shapes of reference masks."""

    known: KnownShapes
    redraw: Redraw

    def __call__(self, seen: Segmented) -> list[Check]:
        """Return ``shape_plausibility``, the Dice to expect, with reasons where it is low, and what it is made of."""
        return self.known.checks(self._shapes(seen, seen.labels), self.parts(seen))

    def parts(self, seen: Segmented) -> dict[str, Parts]:
        """Return what each score says of each structure."""
        others = [self._shapes(seen, labels) for labels in seen.others]
        return self.known.parts(self._shapes(seen, seen.labels), self.redraw, others)

    def _shapes(self, seen: Segmented, labels: Volume) -> Shapes:
        frame = self.known.frame
        return shapes_of(labels, frame.labels, seen.image.geometry, frame.spacing)


def save_shapes(folder: Path, known: KnownShapes, network: ShapeNetwork) -> None:
    """Write ``shapes.safetensors`` and ``shapes.json``, which comes last and holds the hash of the other."""
    save_tensors(folder / WEIGHTS, network.state_dict(), {})
    write_json(
        folder / SHAPES,
        {
            "network": network.spec.model_dump(mode="json"),
            "weights_sha256": file_sha256(folder / WEIGHTS),
            "known": known.model_dump(mode="json"),
        },
    )


def load_shapes(folder: Path, device: str, precision: Precision = "auto") -> ShapeChecker | None:
    """Return the checker that a folder holds; None where there is none. No code in it is run.

    Raises:
        ArtifactError: A file is missing, damaged, or from a later version.
    """
    path, weights = folder / SHAPES, folder / WEIGHTS
    if not path.is_file():
        return None
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        known = KnownShapes.model_validate(described["known"])
        spec, sha256 = ShapeSpec.model_validate(described["network"]), str(described["weights_sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) if isinstance(error, ValidationError) else "JSON"
        raise ArtifactError(f"{path}: damaged ({where}). Run the stage qc again, or take the file out.") from error
    if not weights.is_file() or file_sha256(weights) != sha256:
        raise ArtifactError(f"{weights}: the weights are missing or not those of {SHAPES}. Run the stage qc again.")
    tensors, _ = load_tensors(weights)
    with torch.device("meta"):
        network = spec.build()
    try:
        network.load_state_dict(tensors, strict=True, assign=True)
    except RuntimeError as error:
        raise ArtifactError(
            f"{weights}: the weights do not fit the network of {SHAPES}. Run the stage qc again."
        ) from error
    ready = laid_out(network, spec.encoder.rank, device).eval()
    return ShapeChecker(known, redrawer(ready, precision, device))


def shape_checker(folder: Path, segmenter: Segmenter) -> ShapeChecker | None:
    """Return what compares a model's predictions with the shapes that its folder tells of; None where there are none.

    Raises:
        ArtifactError: They are damaged, or shapes of other structures than the model draws.
    """
    found = load_shapes(folder, next(segmenter.networks[0].parameters()).device.type)
    if found and found.known.frame.labels != segmenter.plan.labels:
        raise ArtifactError(
            f"{folder / SHAPES}: is about other structures than those of the model. Take it out, or copy its own."
        )
    return found
