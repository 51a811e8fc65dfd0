"""What pretrained autoencoders leave out of a prepared scan."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from segpipe.learn.batches import cut
from segpipe.learn.objectives.pretraining import Pretraining
from segpipe.learn.transfer import load_pretraining
from segpipe.nets.layers import Axes
from segpipe.nets.precision import laid_out
from segpipe.quality.residuals import residuals_of

MOST_ALONG = 2
"""Patches along an axis, at most: they lie from rim to rim, and one in the middle where it covers the axis."""


@dataclass(frozen=True, eq=False)
class Redrawing:
    """Autoencoders that draw scans again; the figures of several are averaged."""

    tasks: tuple[Pretraining, ...]
    channels: tuple[str, ...]

    @classmethod
    def load(cls, folders: Sequence[Path], channels: Sequence[str], device: str) -> "Redrawing":
        """Return the autoencoders that pretraining left in folders.

        Raises:
            ArtifactError: A file is missing or damaged.
        """
        tasks = [load_pretraining(folder) for folder in folders]
        return cls(tuple(laid_out(task, task.encoder.spec.rank, device) for task in tasks), tuple(channels))

    def __call__(self, image: NDArray[np.floating]) -> dict[str, float]:
        """Return the figures of ``residuals_of`` for a prepared scan (C, *S), the mean over patches and autoencoders.

        In float32 on every machine: what is usual on one is usual on another.
        """
        rows = [row for task in self.tasks for row in self._rows(task, image)]
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    @torch.inference_mode()
    def _rows(self, task: Pretraining, image: NDArray[np.floating]) -> list[dict[str, float]]:
        device = next(task.parameters()).device
        rows = []
        for start in _starts(image.shape[1:], task.patch):
            patch = np.asarray(cut(image, start, task.patch), np.float32)
            drawn = task.reconstruct(torch.from_numpy(patch)[None].to(device))[0].float().cpu().numpy()
            inside = _inside(image.shape[1:], start, task.patch)
            rows.append(residuals_of(patch[inside], drawn[inside], self.channels))
        return rows


def _starts(size: Sequence[int], patch: Axes) -> list[tuple[int, ...]]:
    along = []
    for n, p in zip(size, patch, strict=True):
        count = min(-(-n // p), MOST_ALONG)
        along.append([(n - p) // 2] if count == 1 else [round((n - p) * i / (count - 1)) for i in range(count)])
    return list(itertools.product(*along))


def _inside(size: Sequence[int], start: Sequence[int], patch: Axes) -> Any:
    """Return the index of that part of a patch (C, *P) which lies in the image: beyond it there is no error to see."""
    parts = zip(size, start, patch, strict=True)
    return (slice(None), *(slice(max(-first, 0), min(n - first, p)) for n, first, p in parts))
