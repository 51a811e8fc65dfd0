"""How bright augmentation makes it: bias field, noise, blur, brightness, contrast, resolution and gamma of a patch."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name everybody knows

from segpipe.core.section import Section
from segpipe.learn.chance import Chance, FactorRange, Purpose, Range, Share, SizeRange, ZoomRange, log_uniform
from segpipe.learn.fields import polynomial_basis, spread

ORDER = 3
"""Of the polynomial that a bias field is the exponential of (Sudre et al. 2017)."""
REACH = 3
"""Standard deviations at which a blur is cut off."""
TINY = 1e-6


class IntensityConfig(Section):
    """How the intensities of patches are varied; in units of the normalised image, each channel by a draw of its own.

    The list and its order are those of nnU-Net (Isensee et al. 2021), with a bias field before all else.
    """

    bias_field: Share = 0.1
    """Share whose brightness drifts over the patch as in an MR coil's field (Sudre et al. 2017): what lies above the
    darkest voxel is multiplied by a smooth factor; mean and standard deviation are kept."""
    bias_strength: SizeRange = (0.1, 0.5)
    """Range of the factor's largest logarithm: 0.5 means factors from 0.61 to 1.65."""
    noise: Share = 0.15
    """Share with Gaussian noise."""
    noise_sd: SizeRange = (0.0, 0.2)
    """Range of its standard deviation."""
    blur: Share = 0.1
    """Share that is blurred by a Gaussian."""
    blur_voxels: FactorRange = (0.5, 1.0)
    """Range of its standard deviation, in voxels."""
    brightness: Share = 0.2
    """Share to which a constant is added."""
    brightness_shift: Range = (-0.3, 0.3)
    """Range of the constant."""
    contrast: Share = 0.2
    """Share whose deviation from the mean is multiplied."""
    contrast_factor: FactorRange = (0.7, 1.4)
    """Range of the factor."""
    low_resolution: Share = 0.1
    """Share that is coarsened (nearest) and brought back (linear), as if it had been scanned with larger voxels."""
    low_resolution_zoom: ZoomRange = (0.5, 1.0)
    """Range of the voxel counts, as a share of the patch's."""
    gamma: Share = 0.3
    """Share whose intensities are bent by an exponent; mean and standard deviation are kept."""
    gamma_inverted: Share = 0.05
    """Share that is bent so upside down: the bright end where the other bends the dark one."""
    gamma_exponent: FactorRange = (0.7, 1.5)
    """Range of the exponent of both."""


def varied(image: Tensor, config: IntensityConfig, chance: Chance, axes: Sequence[int]) -> Tensor:
    """Return one patch (C, *P) with other intensities; it may be the same tensor, which is never written to.

    Args:
        image: Normalised intensities.
        config: How often and how much.
        chance: Random numbers of the patch.
        axes: Along which it may be blurred and coarsened.
    """
    count = len(image)
    if rng := chance.chosen(Purpose.BIAS, config.bias_field):
        image = _biased(image, rng, rng.uniform(*config.bias_strength, count))
    if rng := chance.chosen(Purpose.NOISE, config.noise):
        image = _noisy(image, rng, rng.uniform(*config.noise_sd))
    if rng := chance.chosen(Purpose.BLUR, config.blur):
        image = blurred(image, rng.uniform(*config.blur_voxels, count), config.blur_voxels[1], axes)
    if rng := chance.chosen(Purpose.BRIGHTNESS, config.brightness):
        image = image + _each(rng.uniform(*config.brightness_shift, count), image)
    if rng := chance.chosen(Purpose.CONTRAST, config.contrast):
        mean = image.mean(_voxels(image), keepdim=True)
        image = (image - mean) * _each(log_uniform(rng, *config.contrast_factor, count), image) + mean
    if rng := chance.chosen(Purpose.LOW_RESOLUTION, config.low_resolution):
        image = _coarsened(image, rng.uniform(*config.low_resolution_zoom), axes)
    if rng := chance.chosen(Purpose.GAMMA_INVERTED, config.gamma_inverted):
        image = -_bent(-image, log_uniform(rng, *config.gamma_exponent, count))
    if rng := chance.chosen(Purpose.GAMMA, config.gamma):
        image = _bent(image, log_uniform(rng, *config.gamma_exponent, count))
    return image


def _voxels(image: Tensor) -> tuple[int, ...]:
    return tuple(range(1, image.ndim))


def _each(values: NDArray[np.float64], image: Tensor) -> Tensor:
    """Return a value for each channel (C, 1, …), to go with the image."""
    return torch.from_numpy(values.astype(np.float32)).to(image.device).reshape(-1, *[1] * (image.ndim - 1))


def _restored(image: Tensor, like: Tensor) -> Tensor:
    """Return the image with the mean and standard deviation of another, channel by channel."""
    spread_now, mean_now = torch.std_mean(image, _voxels(image), correction=0, keepdim=True)
    spread_then, mean_then = torch.std_mean(like, _voxels(like), correction=0, keepdim=True)
    return (image - mean_now) * (spread_then / spread_now.clamp_min(TINY)) + mean_then


def _biased(image: Tensor, rng: np.random.Generator, strengths: NDArray[np.float64]) -> Tensor:
    # a normalised image lies about zero, where a factor would darken the dark: so its minimum is taken for black
    size = image.shape[1:]
    degrees = np.indices((ORDER + 1,) * len(size)).sum(axis=0)
    coefficients = rng.standard_normal((len(image), *degrees.shape)) * ((degrees > 0) & (degrees <= ORDER))
    field = spread(coefficients, [polynomial_basis(n, ORDER) for n in size], image.device)
    largest = field.abs().amax(_voxels(field), keepdim=True).clamp_min(TINY)
    factor = (field * (_each(strengths, image) / largest)).exp()
    return _restored((image - image.amin(_voxels(image), keepdim=True)) * factor, image)


def _noisy(image: Tensor, rng: np.random.Generator, sd: float) -> Tensor:
    source = torch.Generator(image.device).manual_seed(int(rng.integers(2**63)))
    return image + sd * torch.randn(image.shape, generator=source, device=image.device)


def blurred(image: Tensor, sigmas: NDArray[np.float64], largest: float, axes: Sequence[int]) -> Tensor:
    """Return a patch (C, *P) after a Gaussian along some axes; beyond the rim lies what is on it.

    Args:
        image: The patch.
        sigmas: (C,) standard deviations in voxels.
        largest: The largest that there may be; decides where the Gaussian is cut off.
        axes: Of the patch, from 0.
    """
    reach = max(int(np.ceil(REACH * largest)), 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigmas[:, None]) ** 2)
    kernel /= kernel.sum(axis=1, keepdims=True)
    rank = image.ndim - 1
    for axis in axes:
        sides = [reach if other == axis else 0 for other in reversed(range(rank)) for _ in range(2)]
        padded = F.pad(image[None], sides, mode="replicate")[0]
        # seven shifted sums take a fraction of the time of a grouped convolution
        image = sum(  # type: ignore[assignment]
            padded.narrow(axis + 1, tap, image.shape[axis + 1]) * _each(kernel[:, tap], image)
            for tap in range(2 * reach + 1)
        )
    return image


def _coarsened(image: Tensor, zoom: float, axes: Sequence[int]) -> Tensor:
    size = list(image.shape[1:])
    coarse = [max(round(n * zoom), 1) if axis in axes else n for axis, n in enumerate(size)]
    if coarse == size:
        return image
    small = F.interpolate(image[None], size=coarse, mode="nearest-exact")
    return F.interpolate(small, size=size, mode="trilinear" if len(size) == 3 else "bilinear", align_corners=False)[0]


def _bent(image: Tensor, exponents: NDArray[np.float64]) -> Tensor:
    low, high = image.amin(_voxels(image), keepdim=True), image.amax(_voxels(image), keepdim=True)
    span = (high - low).clamp_min(TINY)
    return _restored(((image - low) / span).pow(_each(exponents, image)) * span + low, image)
