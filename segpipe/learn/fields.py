"""Smooth random fields over a patch: a few coefficients, spread by one matrix an axis."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.polynomial import legendre
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]


def spread(coefficients: Floats, bases: Sequence[Floats], device: torch.device) -> Tensor:
    """Return fields (K, *P): the tensor product of one basis an axis.

    Args:
        coefficients: (K, *G), one block for each field.
        bases: For each axis (P, G): what each coefficient gives to each voxel.
        device: Where the fields are wanted.
    """
    field = torch.from_numpy(coefficients.astype(np.float32)).to(device)
    for basis in bases:
        # takes the first axis that is still coarse, and puts the fine one behind all others
        field = torch.tensordot(field, torch.from_numpy(basis.astype(np.float32)).to(device), dims=([1], [1]))
    return field


def spline_basis(size: int, spacing: float, cell: float) -> Floats:
    """Return (size, G): uniform cubic B-splines, a knot every ``cell`` mm, over voxels of ``spacing`` mm."""
    extent = size * spacing
    at = (np.arange(size) + 0.5) * spacing / cell
    knots = np.arange(int(np.ceil(extent / cell)) + 3) - 1
    away = np.abs(at[:, None] - knots)
    inner, outer = 2 / 3 - away**2 + away**3 / 2, np.clip(2 - away, 0, None) ** 3 / 6
    return np.asarray(np.where(away < 1, inner, outer), np.float64)


def polynomial_basis(size: int, order: int) -> Floats:
    """Return (size, order + 1): the Legendre polynomials over an axis from -1 to 1."""
    return np.asarray(legendre.legvander((np.arange(size) + 0.5) / size * 2 - 1, order), np.float64)
