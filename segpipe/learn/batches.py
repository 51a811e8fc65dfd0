"""Prepared cases -> patches -> batches; which ones depends on the seed and the step alone."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from segpipe.core.section import Section
from segpipe.dataset.prepare import Prepared

CROP = 0
"""Random numbers of step s come from default_rng([seed, s, purpose]); this is the purpose 'which patches'."""


class Batch(NamedTuple):
    """What one training step sees."""

    image: Tensor
    """(N, C, *P) float32."""
    target: Tensor
    """(N, K, *P)."""
    weight: Tensor | None
    """(N, 1, *P) or None."""
    cases: tuple[str, ...]

    def to(self, device: str) -> "Batch":
        """Return the batch on a device."""
        weight = None if self.weight is None else self.weight.to(device)
        return Batch(self.image.to(device), self.target.to(device), weight, self.cases)


class SamplingConfig(Section):
    """Which patches are drawn."""

    foreground: Annotated[float, Field(ge=0, le=1)] = 0.34
    """Share of each batch whose patches hold a labelled voxel, each structure equally often."""


@dataclass(frozen=True)
class PatchSampler:
    """Draws the patches of any step, the same ones whenever it is asked."""

    cases: Sequence[Prepared]
    patch: tuple[int, ...]
    batch: int
    seed: int
    config: SamplingConfig

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step; outside an image lie zeros."""
        rng = np.random.default_rng([self.seed, step, CROP])
        forced = round(self.config.foreground * self.batch)
        drawn = [self._draw(rng, labelled=index >= self.batch - forced) for index in range(self.batch)]
        images, targets, weights, cases = zip(*drawn, strict=True)
        return Batch(
            torch.from_numpy(np.stack(images)),
            torch.from_numpy(np.stack(targets)),
            None if weights[0] is None else torch.from_numpy(np.stack(weights)),
            tuple(cases),
        )

    def _draw(self, rng: np.random.Generator, *, labelled: bool) -> tuple[Any, ...]:
        case = self.cases[int(rng.integers(len(self.cases)))]
        start = self._start(case, rng, labelled=labelled)
        weight = None if case.weight is None else cut(case.weight, start, self.patch).astype(np.float32)
        image = cut(case.image, start, self.patch).astype(np.float32)
        return image, cut(case.target, start, self.patch), weight, case.id

    def _start(self, case: Prepared, rng: np.random.Generator, *, labelled: bool) -> list[int]:
        """Return the first voxel of a patch; an image smaller than the patch lies in its middle."""
        size = case.image.shape[1:]
        surplus = np.asarray(size) - np.asarray(self.patch)
        start = np.where(surplus > 0, rng.integers(0, np.maximum(surplus, 0) + 1), surplus // 2)
        if labelled and len(case.points):
            values = np.unique(case.points[:, 0])
            of_one = case.points[case.points[:, 0] == rng.choice(values), 1:]
            centre = of_one[int(rng.integers(len(of_one)))]
            wanted = centre - np.asarray([int(rng.integers(p)) for p in self.patch])
            start = np.where(surplus > 0, np.clip(wanted, 0, np.maximum(surplus, 0)), start)
        return [int(first) for first in start]


def cut(array: NDArray[Any], start: Sequence[int], size: Sequence[int]) -> NDArray[Any]:
    """Return (C, *size) of an array (C, *S) from voxel ``start`` on; zeros where that lies outside."""
    result = np.zeros((len(array), *size), array.dtype)
    inside, there = [], []
    for first, count, n in zip(start, size, array.shape[1:], strict=True):
        low, high = max(first, 0), min(first + count, n)
        inside.append(slice(low, max(high, low)))
        there.append(slice(low - first, max(high, low) - first))
    result[(slice(None), *there)] = array[(slice(None), *inside)]
    return result


def ahead(sampler: PatchSampler, first: int, last: int) -> Iterator[Batch]:
    """Yield the batches of steps ``first`` to ``last - 1``, each read while the one before it is trained on."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(sampler, first)
        for step in range(first, last):
            batch = coming.result()
            if step + 1 < last:
                coming = reader.submit(sampler, step + 1)
            yield batch
