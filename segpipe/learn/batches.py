"""Prepared cases -> patches -> batches; which ones depends on the seed and the step alone."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segpipe.core.errors import ConfigError
from segpipe.core.section import Section
from segpipe.dataset.prepare import Prepared
from segpipe.imaging.mirror import mirrored
from segpipe.learn.chance import Chance, Purpose, Share

FAR = 1.0
"""A signed distance far from its structure: the largest there is."""


class Batch(NamedTuple):
    """What one training step sees."""

    image: Tensor
    """(N, C, *P) float32."""
    target: Tensor
    """(N, K, *P); K is 0 where labels are not looked at."""
    weight: Tensor | None
    """(N, 1, *P) or None."""
    cases: tuple[str, ...]
    first: int = 0
    """Which patch of the step's whole batch is the first one here, where several processes divide it."""

    def to(self, device: str) -> "Batch":
        """Return the batch on a device."""
        weight = None if self.weight is None else self.weight.to(device)
        return self._replace(image=self.image.to(device), target=self.target.to(device), weight=weight)


def background(target: Tensor | NDArray[Any]) -> float:
    """Return what a target map holds where nothing is: class 0, or far off where it is made of distances."""
    made_of_distances = target.is_floating_point() if isinstance(target, Tensor) else target.dtype.kind == "f"
    return FAR if made_of_distances else 0.0


class SamplingConfig(Section):
    """Which patches are drawn."""

    foreground: Share = 0.34
    """Share of each batch whose patches hold a labelled voxel; at least one patch, unless it is 0."""
    balance: Share = 0.5
    """How these are drawn. 1: first a structure, each as often as any other, also if few cases have it, then a case
    that has it. 0: first a case, each as often as any other, then a structure in it. Between: how often the first."""
    rim: Literal["inside", "mirrored"] = "inside"
    """`inside`: patches lie inside the image, and one that is smaller than a patch in the middle of zeros. `mirrored`:
    what the network draws of a patch lies inside (all of it, or its middle with `valid` convolutions), and the rest
    is the image mirrored at its rim, as in prediction: so every voxel is trained on, with full context."""


@dataclass(frozen=True)
class PatchSampler:
    """Draws the patches of any step, the same ones whenever and by whomever it is asked.

    Raises:
        ConfigError: The batch cannot be divided over the processes.
    """

    cases: Sequence[Prepared]
    patch: tuple[int, ...]
    batch: int
    """Patches a step, in all processes together."""
    seed: int
    config: SamplingConfig | None
    """None: labels are not looked at, and cases need none; patches lie anywhere."""
    share: tuple[int, int] = (0, 1)
    """Which of how many processes this is; it draws its part of the batch only."""
    margin: tuple[int, ...] = ()
    """Voxels at each side of a patch that the network only looks at (`valid` convolutions); empty: none."""

    def __post_init__(self) -> None:
        _, world = self.share
        if self.batch % world:
            raise ConfigError(
                f"a batch of {self.batch} patches cannot be divided over {world} processes. "
                f"Set preprocess.plan.batch to a multiple of {world}."
            )

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step, or this process's part of it.

        Outside an image lie zeros, and background; or the image again, mirrored, and its target and weight with it.
        """
        rank, world = self.share
        mine = self.batch // world
        first = rank * mine
        images, targets, weights, cases = zip(
            *(self._draw(step, index) for index in range(first, first + mine)), strict=True
        )
        return Batch(
            torch.from_numpy(np.stack(images)),
            torch.from_numpy(np.stack(targets)),
            None if weights[0] is None else torch.from_numpy(np.stack(weights)),
            tuple(cases),
            first,
        )

    @cached_property
    def _held(self) -> dict[int, list[int]]:
        """The classes in each case (by number) that has any; read when the first labelled patch is drawn."""
        # copies of the cases, so that their points are let go again
        found = {number: np.unique(replace(case).points[:, 0]) for number, case in enumerate(self.cases)}
        return {number: [int(value) for value in values] for number, values in found.items() if len(values)}

    @cached_property
    def _holders(self) -> dict[int, list[int]]:
        """The cases (by number) that hold each class."""
        values = sorted({value for held in self._held.values() for value in held})
        return {value: [number for number, held in self._held.items() if value in held] for value in values}

    @property
    def _forced(self) -> int:
        """How many patches of the whole batch, the last ones, have to hold a labelled voxel."""
        share = 0.0 if self.config is None else self.config.foreground
        return max(round(share * self.batch), 1) if share > 0 else 0

    def _draw(self, step: int, index: int) -> tuple[Any, ...]:
        rng = Chance(self.seed, step, index).of(Purpose.CROP)
        if self.config is not None and index >= self.batch - self._forced and self._held:
            case, value = self._wanted(rng, self.config.balance)
            start = self._around(case, value, rng)
        else:
            case = self.cases[int(rng.integers(len(self.cases)))]
            start = self._anywhere(case, rng)
        image = self._cut(case.image, start).astype(np.float32)
        if self.config is None:
            return image, np.zeros((0, *self.patch), np.uint8), None, case.id
        weight = None if case.weight is None else self._cut(case.weight, start).astype(np.float32)
        return image, self._cut(case.target, start, background(case.target)), weight, case.id

    @property
    def _mirrors(self) -> bool:
        return self.config is not None and self.config.rim == "mirrored"

    @cached_property
    def _outside(self) -> NDArray[np.int64]:
        """How many voxels of a patch may lie outside of the image, at each side."""
        rank = len(self.patch)
        return np.asarray(self.margin if self._mirrors and self.margin else [0] * rank, np.int64)

    def _cut(self, array: NDArray[Any], start: Sequence[int], fill: float = 0) -> NDArray[Any]:
        if not self._mirrors:
            return cut(array, start, self.patch, fill)
        along = [mirrored(n, first, p) for n, first, p in zip(array.shape[1:], start, self.patch, strict=True)]
        return np.asarray(array[np.ix_(np.arange(len(array)), *along)])

    def _wanted(self, rng: np.random.Generator, balance: float) -> tuple[Prepared, int]:
        """Return a case and a class that it holds."""
        if rng.random() < balance:
            value = int(rng.choice(list(self._holders)))
            return self.cases[int(rng.choice(self._holders[value]))], value
        number = int(rng.choice(list(self._held)))
        return self.cases[number], int(rng.choice(self._held[number]))

    def _anywhere(self, case: Prepared, rng: np.random.Generator) -> list[int]:
        """Return the first voxel of a patch; an image smaller than what is drawn of it lies in its middle."""
        surplus = self._surplus(case)
        start = np.where(surplus > 0, rng.integers(0, np.maximum(surplus, 0) + 1), surplus // 2)
        return [int(first) for first in start - self._outside]

    def _around(self, case: Prepared, value: int, rng: np.random.Generator) -> list[int]:
        """Return the first voxel of a patch that holds a voxel of a class, anywhere in what is drawn of it."""
        surplus = self._surplus(case)
        of_one = case.points[case.points[:, 0] == value, 1:]
        centre = of_one[int(rng.integers(len(of_one)))]
        drawn = np.asarray(self.patch) - 2 * self._outside
        wanted = centre - np.asarray([int(rng.integers(n)) for n in drawn])
        start = np.where(surplus > 0, np.clip(wanted, 0, np.maximum(surplus, 0)), surplus // 2)
        return [int(first) for first in start - self._outside]

    def _surplus(self, case: Prepared) -> NDArray[np.int64]:
        """Return by how much the image is larger than what is drawn of a patch, along each axis."""
        return np.asarray(case.image.shape[1:], np.int64) - np.asarray(self.patch, np.int64) + 2 * self._outside


def cut(array: NDArray[Any], start: Sequence[int], size: Sequence[int], fill: float = 0) -> NDArray[Any]:
    """Return (C, *size) of an array (C, *S) from voxel ``start`` on; ``fill`` where that lies outside."""
    result = np.full((len(array), *size), fill, array.dtype)
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
