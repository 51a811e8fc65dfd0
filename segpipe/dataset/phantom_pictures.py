"""A made-up cohort of 2D pictures: cells parted by thin dark membranes, with dark grains in them that are none.

No threshold finds the membranes: the grains are as dark, and only the membranes close up.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segpipe.dataset.phantom import PhantomConfig
from segpipe.imaging.files import write_volume
from segpipe.imaging.geometry import Geometry
from segpipe.imaging.volume import Volume

Floats = NDArray[np.float64]

CELL = 255
"""Label value of the inside of cells; membranes are 0, as in many public sets of masks."""
SIDES = (96, 129)
"""Pixels along a side: from, and below."""
CELL_PX = 26.0
"""Mean distance between the middles of neighbouring cells."""
MEMBRANE = 3.0
"""How much nearer, in pixels, the middle of one cell is than that of the next where its membrane begins."""
GRAINS = 2
"""Grains for each cell, on average."""


def make_picture(index: int, seed: int) -> tuple[Volume, Volume]:
    """Return one case of the cohort of a seed: image and label (1, X, Y) uint8, on a grid of pixels.

    Args:
        index: The number in the case's name, from 1.
        seed: Of the cohort.
    """
    rng = np.random.default_rng([seed, index, 2])
    shape = tuple(int(n) for n in rng.integers(*SIDES, 2))
    points = np.indices(shape).reshape(2, -1).T.astype(np.float64)
    nearest, second = _two_nearest(points, _middles(rng, shape))
    inward = (second - nearest - MEMBRANE) / 2
    grains = rng.uniform((0.0, 0.0), shape, (round(GRAINS * np.prod(shape) / CELL_PX**2), 2))
    depth = np.minimum(inward, _two_nearest(points, grains)[0] - rng.uniform(1.5, 3))
    covered = np.clip(0.5 + depth, 0, 1).reshape(shape)
    tissue = rng.uniform(0.25, 0.35) + rng.uniform(0.3, 0.4) * covered
    shade = 1 + rng.uniform(0.05, 0.15) * np.sin(points @ rng.normal(0, 0.04, 2) + rng.uniform(0, 6)).reshape(shape)
    noisy = tissue * shade + rng.uniform(0.05, 0.08) * rng.standard_normal(shape)
    image = np.clip(np.rint(noisy * 255), 0, 255).astype(np.uint8)
    label = np.where(inward > 0, CELL, 0).astype(np.uint8).reshape(shape)
    grid = Geometry(shape, np.diag([1.0, -1.0, 1.0]))
    return Volume(image[None], grid), Volume(label[None], grid)


def write_pictures(folder: Path, config: PhantomConfig) -> None:
    """Write the cohort as PNG files in ``images`` and ``labels``."""
    for index in range(1, config.cases + 1):
        name = f"phantom_{index:03d}.png"
        for part, volume in zip(("images", "labels"), make_picture(index, config.seed), strict=True):
            write_volume(folder / part / name, volume, unit="px")


def _middles(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Return the middles of cells (N, 2): a shaken grid, beyond the rim too."""
    axes = [np.arange(-CELL_PX, n + 2 * CELL_PX, CELL_PX) for n in shape]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    return np.asarray(grid + rng.uniform(-0.45, 0.45, grid.shape) * CELL_PX, np.float64)


def _two_nearest(points: Floats, others: Floats) -> tuple[Floats, Floats]:
    """Return the distance (M,) of each point (M, 2) to the nearest and to the second nearest of others (N, 2)."""
    squared = ((points[:, None] - others[None]) ** 2).sum(axis=-1)
    two = np.sqrt(np.partition(squared, 1, axis=1)[:, :2])
    return two[:, 0], two[:, 1]
