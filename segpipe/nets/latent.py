"""Latent distributions of a variational autoencoder: the heads that give them, samples, divergence from the prior.

The prior is N(0, I) everywhere. Everything here is computed in float32 or finer, also under autocast: a
divergence is a difference of large numbers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody knows

from segpipe.nets.layers import CONV, Axes

LIMIT = 10.0
"""Bound of a log variance: it is approached, never cut, so that a gradient leads back."""
LOG_TAU = math.log(2 * math.pi)
MEAN_POOL: dict[int, Any] = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
SMOOTH = {2: "bilinear", 3: "trilinear"}


def kl_diagonal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL[N(μ, diag σ²) ‖ N(0, I)] of each unit, ½ (σ² + μ² - 1 - log σ²), in nats.

    Kingma and Welling 2014, appendix B. Shapes are kept; a sum over units is the divergence of all.
    """
    return 0.5 * (log_variance.exp() + mean.square() - 1 - log_variance)


def kl_full(mean: Tensor, lower: Tensor) -> Tensor:
    """Return KL[N(μ, Σ) ‖ N(0, I)] = ½ (tr Σ + μᵀμ - d - log det Σ), in nats (N,), with Σ = LLᵀ.

    Args:
        mean: (N, D).
        lower: (N, D, D), L: lower triangular with a positive diagonal.
    """
    trace = lower.square().sum((1, 2))
    log_det = 2 * lower.diagonal(dim1=1, dim2=2).log().sum(1)
    return 0.5 * (trace + mean.square().sum(1) - mean.shape[1] - log_det)


def prior_log_density(y: Tensor) -> Tensor:
    """Return log N(y; 0, I) in nats (N,) of codes (N, D, *S)."""
    return -0.5 * (y.square() + LOG_TAU).flatten(1).sum(1)


@dataclass(frozen=True)
class Diagonal:
    """N(μ, diag σ²): units that know nothing of each other."""

    mean: Tensor
    """(N, D, *S)."""
    log_variance: Tensor
    """(N, D, *S)."""

    def sample(self, noise: Tensor) -> Tensor:
        """Return y = μ + σζ of noise ζ ~ N(0, I), (N, D, *S): the gradient reaches mean and deviation."""
        return self.mean + (0.5 * self.log_variance).exp() * noise

    def kl(self) -> Tensor:
        """Return the divergence from the prior of each unit (N, D), in nats; a spatial one over all positions."""
        return kl_diagonal(self.mean, self.log_variance).reshape(*self.mean.shape[:2], -1).sum(2)

    def log_density(self, y: Tensor) -> Tensor:
        """Return log q(y) in nats (N,) of codes (N, D, *S)."""
        squared = (y - self.mean).square() * (-self.log_variance).exp()
        return -0.5 * (squared + self.log_variance + LOG_TAU).flatten(1).sum(1)


@dataclass(frozen=True)
class Full:
    """N(μ, LLᵀ): units that may go together."""

    mean: Tensor
    """(N, D)."""
    lower: Tensor
    """(N, D, D), L: lower triangular with a positive diagonal."""

    def sample(self, noise: Tensor) -> Tensor:
        """Return y = μ + Lζ of noise ζ ~ N(0, I), (N, D): the gradient reaches μ and L."""
        return self.mean + (self.lower @ noise[..., None])[..., 0]

    def kl(self) -> Tensor:
        """Return the divergence from the prior (N, 1), in nats: it has no part that is one unit's."""
        return kl_full(self.mean, self.lower)[:, None]

    def log_density(self, y: Tensor) -> Tensor:
        """Return log q(y) in nats (N,) of codes (N, D)."""
        white = torch.linalg.solve_triangular(self.lower, (y - self.mean)[..., None], upper=False)[..., 0]
        return prior_log_density(white) - self.lower.diagonal(dim1=1, dim2=2).log().sum(1)


Gaussian = Diagonal | Full


def bounded(log_variance: Tensor) -> Tensor:
    """Return log variances within ±``LIMIT``, nearly the same where they are small."""
    return LIMIT * torch.tanh(log_variance / LIMIT)


def cholesky_factor(raw: Tensor, units: int) -> Tensor:
    """Return L (N, D, D) with a positive diagonal, of raw values (N, D + D(D-1)/2): log variances, then what is below.

    Zeros give the identity.
    """
    rows, columns = torch.tril_indices(units, units, offset=-1, device=raw.device)
    lower = torch.diag_embed((0.5 * bounded(raw[:, :units])).exp())
    return lower.index_put((torch.arange(len(raw), device=raw.device)[:, None], rows, columns), raw[:, units:])


class SpatialHead(nn.Module):
    """A distribution at every position of the encoder's code, by convolutions of one voxel."""

    def __init__(self, channels: int, units: int, rank: int) -> None:
        super().__init__()
        self.mean = CONV[rank](channels, units, 1)
        self.spread = _from_zero(CONV[rank](channels, units, 1))
        self.out = CONV[rank](units, channels, 1)

    def forward(self, code: Tensor) -> Gaussian:
        """Return q(y|x), of units (N, D, *S), of the encoder's code (N, W, *S)."""
        with torch.autocast(code.device.type, enabled=False):
            code = code.float()
            return Diagonal(self.mean(code), bounded(self.spread(code)))

    def back(self, y: Tensor, size: Sequence[int]) -> Tensor:
        """Return what the decoder starts from (N, W, *S) of units (N, D, *S)."""
        result: Tensor = self.out(y)
        return result

    def shape(self, size: Axes) -> Axes:
        """Return the shape (D, *S) of the units of one image whose code has ``size`` voxels."""
        return (self.mean.out_channels, *size)


class GlobalHead(nn.Module):
    """One distribution for the whole patch: the code is averaged over few cells, then a linear layer; and back.

    More than one cell, since an instance-normalised channel has the same mean in every image, and since a
    map that is constant in space vanishes in the decoder's first normalisation.
    """

    def __init__(self, channels: int, units: int, grid: Axes, *, full: bool) -> None:
        super().__init__()
        self.grid = grid
        self.full = full
        self.pool = MEAN_POOL[len(grid)](grid)
        inputs = channels * math.prod(grid)
        self.mean = nn.Linear(inputs, units)
        self.spread = _from_zero(nn.Linear(inputs, units * (units + 1) // 2 if full else units))
        self.out = nn.Linear(units, inputs)

    def forward(self, code: Tensor) -> Gaussian:
        """Return q(y|x), of units (N, D), of the encoder's code (N, W, *S)."""
        with torch.autocast(code.device.type, enabled=False):
            cells = self.pool(code.float()).flatten(1)
            mean, raw = self.mean(cells), self.spread(cells)
            if self.full:
                return Full(mean, cholesky_factor(raw, mean.shape[1]))
            return Diagonal(mean, bounded(raw))

    def back(self, y: Tensor, size: Sequence[int]) -> Tensor:
        """Return what the decoder starts from (N, W, *S), S = ``size``, of units (N, D)."""
        cells: Tensor = self.out(y).unflatten(1, (-1, *self.grid))
        if tuple(size) == self.grid:
            return cells
        return F.interpolate(cells, size=list(size), mode=SMOOTH[len(self.grid)], align_corners=False)

    def shape(self, size: Axes) -> Axes:
        """Return the shape (D,) of the units of one image."""
        return (self.mean.out_features,)


def _from_zero(layer: nn.Module) -> nn.Module:
    """Return a layer that gives zeros at first: a standard deviation of one, as the prior's."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
