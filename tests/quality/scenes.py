"""Images with a shape of their own: a bright ball off the middle, a brighter corner, and fine texture."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SHAPE = (24, 28, 20)
SPACING = (1.0, 1.0, 1.5)
TEXTURE = 0.05


def scene(seed: int, shape: tuple[int, ...] = SHAPE, texture: float = TEXTURE) -> NDArray[np.float32]:
    """Return an image (*S) of mean 0 and SD 1; another seed moves things a little."""
    random = np.random.default_rng(seed)
    places = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    centres = (0.3, -0.4, 0.2)[: len(shape)] + random.normal(0, 0.04, len(shape))
    ball = sum(np.square((x - c) / 0.5) for x, c in zip(places, centres, strict=True)) < 1 + random.normal(0, 0.05)
    slope = sum(weight * x for weight, x in zip((0.3, 0.5, -0.4), places, strict=False))
    image = 2.0 * ndimage.gaussian_filter(ball.astype(float), 1.0) + 0.5 * slope
    image = (image - image.mean()) / image.std()
    return (image + random.normal(0, texture, shape)).astype(np.float32)


def scenes(count: int, first: int = 0) -> list[NDArray[np.float32]]:
    """Return images (1, *S)."""
    return [scene(first + number)[None] for number in range(count)]
