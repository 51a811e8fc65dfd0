"""A trained model as one callable: a scan in, a label map on the same grid out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import ArtifactError, ConfigError, DataError
from segpipe.dataset.plan import Plan
from segpipe.dataset.prepare import prepare_image
from segpipe.imaging.geometry import Geometry
from segpipe.imaging.masks import Box, CleanUp, box_of, clean_up, inside_of
from segpipe.imaging.resample import resample_scores
from segpipe.imaging.volume import Volume
from segpipe.nets.checkpoint import load_model
from segpipe.nets.precision import best_device, laid_out
from segpipe.nets.unet import UNet
from segpipe.predict.window import WindowConfig, predict_scores


@dataclass(frozen=True)
class Segmenter:
    """A network, the plan that prepares its input, and how its output is cleaned."""

    network: UNet
    plan: Plan
    window: WindowConfig
    clean: CleanUp
    notes: Mapping[str, Any]

    @classmethod
    def load(
        cls,
        folder: Path,
        device: str = "auto",
        window: WindowConfig | None = None,
        clean: CleanUp | None = None,
    ) -> "Segmenter":
        """Return the model in a folder; nothing else is needed.

        Raises:
            ArtifactError: The folder holds no whole model.
        """
        model = load_model(folder)
        try:
            plan = Plan.model_validate(model.notes["plan"])
            stored = WindowConfig.model_validate(model.notes["window"])
        except (KeyError, ValueError) as error:
            raise ArtifactError(f"{folder}: the plan in it cannot be read. Export the model again.") from error
        network = laid_out(model.network, model.network.spec.encoder.rank, best_device(device))
        return cls(network, plan, window or stored, clean or CleanUp(), model.notes)

    def __call__(self, scan: Volume) -> Volume:
        """Return label values (1, *S) uint8 or uint16 on the grid of a scan (C, *S).

        Raises:
            DataError: The scan has another number of channels than the training images, or is not finite.
            ConfigError: A structure that is to be cleaned is none of the model's.
        """
        groups = self.plan.labels.groups()
        if unknown := [name for name in self.clean.largest_only if name not in groups]:
            raise ConfigError(f"clean.largest_only: no structure is named '{unknown[0]}'. Take it out.")
        wanted = [channel.name for channel in self.plan.channels]
        if len(scan.array) != len(wanted):
            raise DataError(f"has {len(scan.array)} channel(s); the model needs {len(wanted)}: {', '.join(wanted)}.")
        if np.issubdtype(scan.array.dtype, np.floating) and not np.isfinite(scan.array).all():
            raise DataError("holds voxels that are not numbers (NaN or infinite). Replace them.")
        inside = inside_of(scan.array)
        box = box_of(inside) or Box((0,) * inside.ndim, inside.shape)
        image = prepare_image(scan, self.plan)
        labels = np.zeros(scan.geometry.shape, np.uint16)
        part = scan.geometry.cropped(box.start, box.shape)
        labels[box.slices] = self._labels(image, part)
        labels = clean_up(labels, [groups[name] for name in self.clean.largest_only])
        values = [value for structure in self.plan.labels.structures for value in (structure.paint, *structure.values)]
        narrow = np.uint8 if max(values) < 256 else np.uint16
        return Volume(labels.astype(narrow)[None], scan.geometry)

    def _labels(self, image: Volume, onto: Geometry) -> NDArray[np.uint16]:
        scores = predict_scores(self.network, image.array, self.plan.patch, self.window)
        if self.plan.target.kind == "classes":  # probabilities interpolate better than unbounded scores
            scores = scores.softmax(dim=0)
        native = resample_scores(Volume(scores.cpu().numpy(), image.geometry), onto)
        return self.plan.target.decode(native.array, self.plan.labels)
