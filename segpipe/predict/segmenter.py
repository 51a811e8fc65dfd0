"""Trained models as one callable: a scan in, a label map on the same grid out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from segpipe.core.errors import ArtifactError, DataError
from segpipe.core.fingerprint import canonical
from segpipe.dataset.plan import Plan
from segpipe.dataset.prepare import prepare_image
from segpipe.imaging.masks import Box, CleanUp, box_of, clean_up, inside_of
from segpipe.imaging.resample import resample_scores
from segpipe.imaging.volume import Volume
from segpipe.nets.checkpoint import ModelFile, load_model, model_folders
from segpipe.nets.precision import best_device, laid_out
from segpipe.nets.unet import UNet
from segpipe.predict.ensemble import averaged
from segpipe.predict.window import WindowConfig, predict_scores

SHARED = ("spacing", "normalise", "channels", "labels", "reading", "target", "patch")
"""What the plans of models must agree on before their scores can be averaged."""
SHOWN = 80
"""Letters of a value that a message shows."""


@dataclass(frozen=True)
class Segmenter:
    """One network or several, the plan that prepares their input, and how their output is cleaned.

    The scores of several networks are averaged. All are on one device, in evaluation mode, and in the layout
    of ``laid_out``: in another one the last bits differ.
    """

    networks: tuple[UNet, ...]
    plan: Plan
    window: WindowConfig = field(default_factory=WindowConfig)
    clean: CleanUp = field(default_factory=CleanUp)
    notes: tuple[Mapping[str, Any], ...] = ()
    """What each model's file says of it, in the order of the networks; empty for networks that lie in no file."""

    def __post_init__(self) -> None:
        """Refuse what would draw sides wrong, or cannot be drawn.

        Raises:
            ConfigError: Images are to be mirrored left-right, and a structure is named for its side; or they are to be
                turned by quarters, and tiles are not square; or a structure that is to be cleaned is none of the
                model's.
        """
        for network in self.networks:
            encoder = network.spec.encoder
            self.window.refuse_unfit(self.plan.patch, encoder.strides, encoder.kernels)
        self.window.refuse_turned_sides(self.plan.labels)
        self.clean.refuse_unknown(self.plan.labels.names)

    @classmethod
    def load(
        cls,
        folder: Path,
        device: str = "auto",
        window: WindowConfig | None = None,
        clean: CleanUp | None = None,
    ) -> "Segmenter":
        """Return the model in a folder, or the mean of the models in its subfolders; nothing else is needed.

        Raises:
            ArtifactError: The folder holds no whole model, or models that do not go together.
        """
        return cls.of(model_folders(folder), device, window, clean)

    @classmethod
    def of(
        cls,
        folders: Sequence[Path],
        device: str = "auto",
        window: WindowConfig | None = None,
        clean: CleanUp | None = None,
    ) -> "Segmenter":
        """Return the models of one or several folders as one.

        Raises:
            ArtifactError: None is given, or a folder holds no whole model, or one planned otherwise than the first.
        """
        if not folders:
            raise ArtifactError("no model folder is given. Give at least one.")
        models = [load_model(folder) for folder in folders]
        read = [_read(folder, model) for folder, model in zip(folders, models, strict=True)]
        plan, stored = read[0]
        for folder, (other, its_window) in zip(folders[1:], read[1:], strict=True):
            mine, its = plan.model_dump(mode="json"), other.model_dump(mode="json")
            pairs = [(name, mine[name], its[name]) for name in SHARED]
            if window is None:
                pairs.append(("window", stored.model_dump(mode="json"), its_window.model_dump(mode="json")))
            for name, wanted, found in pairs:
                if wanted != found:
                    raise ArtifactError(
                        f"{folder}: its {name} is {_short(found)}, that of {folders[0]} is {_short(wanted)}. "
                        "Only models of one plan can be averaged: take it out, or predict with each apart."
                    )
        where = best_device(device)
        networks = tuple(laid_out(model.network, model.network.spec.encoder.rank, where) for model in models)
        return cls(networks, plan, window or stored, clean or CleanUp(), tuple(model.notes for model in models))

    def __call__(self, scan: Volume) -> Volume:
        """Return label values (1, *S) uint8 or uint16 on the grid of a scan (C, *S).

        Raises:
            DataError: The scan has another number of channels than the training images, or is not finite.
        """
        return self.labels(self.scores(scan), scan)

    def scores(self, scan: Volume) -> Volume:
        """Return scores (K, *S) float32 of a scan (C, *S), on the grid on which the network works.

        Probabilities for the target ``classes``, logits for ``regions``, distances for ``signed_distance``.

        Raises:
            DataError: The scan has another number of channels than the training images, or is not finite.
        """
        return self.drawn(self.prepared(scan))

    def prepared(self, scan: Volume) -> Volume:
        """Return a scan (C, *S) as the networks see it, (C, *T) float16.

        Raises:
            DataError: The scan has another number of channels than the training images, or is not finite.
        """
        wanted = [channel.name for channel in self.plan.channels]
        if len(scan.array) != len(wanted):
            raise DataError(f"has {len(scan.array)} channel(s); the model needs {len(wanted)}: {', '.join(wanted)}.")
        if scan.geometry.ndim != (rank := len(self.plan.spacing)):
            raise DataError(f"is {scan.geometry.ndim}D; the model was trained on {rank}D images. Give it such.")
        if np.issubdtype(scan.array.dtype, np.floating) and not np.isfinite(scan.array).all():
            raise DataError("holds voxels that are not numbers (NaN or infinite). Replace them.")
        return prepare_image(scan, self.plan)

    def drawn(self, image: Volume) -> Volume:
        """Return the scores (K, *S) float32 of a prepared scan (C, *S)."""
        members = (predict_scores(network, image.array, self.plan.patch, self.window) for network in self.networks)
        return Volume(averaged(members, self.plan.target.kind).cpu().numpy(), image.geometry)

    def labels(self, scores: Volume, scan: Volume) -> Volume:
        """Return label values (1, *S) uint8 or uint16 on the grid of a scan, from its scores."""
        return self.decoded(*self.native(scores, scan), scan)

    def native(self, scores: Volume, scan: Volume) -> tuple[Volume, Box]:
        """Return scores (K, *B) on the grid of a scan, in the box outside of which it is blank, and that box."""
        inside = inside_of(scan.array)
        box = box_of(inside) or Box((0,) * inside.ndim, inside.shape)
        return resample_scores(scores, scan.geometry.cropped(box.start, box.shape)), box

    def decoded(self, native: Volume, box: Box, scan: Volume) -> Volume:
        """Return label values (1, *S) uint8 or uint16 on the grid of a scan, from its scores in a box of that grid."""
        labels = np.zeros(scan.geometry.shape, np.uint16)
        labels[box.slices] = self.plan.target.decode(native.array, self.plan.labels)
        groups = self.plan.labels.groups()
        labels = clean_up(labels, [groups[name] for name in self.clean.largest_only])
        values = [value for structure in self.plan.labels.structures for value in (structure.paint, *structure.values)]
        narrow = np.uint8 if max(values) < 256 else np.uint16
        return Volume(labels.astype(narrow)[None], scan.geometry)


def _read(folder: Path, model: ModelFile) -> tuple[Plan, WindowConfig]:
    try:
        return Plan.model_validate(model.notes["plan"]), WindowConfig.model_validate(model.notes["window"])
    except (KeyError, ValueError) as error:
        raise ArtifactError(f"{folder}: the plan in it cannot be read. Export the model again.") from error


def _short(value: Any) -> str:
    text = canonical(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
