"""Principal components of codes, of which there are fewer than a code has values."""

from dataclasses import dataclass

import torch
from torch import Tensor

VANISHING = 1e-10
"""Share of the largest variance below which a direction is none."""


@dataclass(frozen=True)
class Principal:
    """Principal components of codes."""

    mean: Tensor
    """(D,)."""
    directions: Tensor
    """(k, D), of length one."""
    deviations: Tensor
    """(k,) standard deviations along them, the largest first."""

    @property
    def shares(self) -> Tensor:
        """Share of the codes' variance along each direction, (k,)."""
        return self.deviations.square() / self.deviations.square().sum()

    def places(self, codes: Tensor) -> Tensor:
        """Return the coordinates (N, k) of codes (N, D)."""
        return (codes - self.mean) @ self.directions.T

    def samples(self, count: int, chance: torch.Generator) -> Tensor:
        """Return codes (count, D) of the Gaussian with the codes' own mean and covariance."""
        drawn = torch.randn(count, len(self.deviations), generator=chance)
        return self.mean + (drawn * self.deviations) @ self.directions


def principal(codes: Tensor) -> Principal:
    """Return the principal components of codes (N, D), at most N - 1 of them; N > 1."""
    mean = codes.double().mean(0)
    centred = codes.double() - mean
    values, vectors = torch.linalg.eigh(centred @ centred.T)  # N x N: a code may have far more values than there are
    kept = values > VANISHING * values[-1].clamp_min(VANISHING)
    values, vectors = values[kept].flip(0), vectors[:, kept].flip(1)
    directions = vectors.T @ centred / values.sqrt()[:, None]
    return Principal(mean.float(), directions.float(), (values / (len(codes) - 1)).sqrt().float())
