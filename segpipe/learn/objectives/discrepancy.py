"""Maximum mean discrepancy: how far two samples are from having one distribution."""

from typing import Literal

import torch
from torch import Tensor

Kernel = Literal["rbf", "imq"]
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Of the kernels, whose mean is taken, about the squared distance that is usual under N(0, I)."""


def mmd(a: Tensor, b: Tensor, kernel: Kernel = "imq", *, unbiased: bool = False) -> Tensor:
    """Return the squared discrepancy of two samples: mean k(a, a') + mean k(b, b') - 2 mean k(a, b).

    Gretton et al. 2012, equations 3 (unbiased) and 5; with the kernels of Tolstikhin et al. 2018:
    ``rbf`` exp(-d²/C) and ``imq`` C/(C + d²), C = 2D · scale.

    Args:
        a: (N, D).
        b: (M, D).
        kernel: Its form.
        unbiased: Leave out pairs of a point with itself: right in the mean, but it may be negative. A sample of one
            has no pairs then, and adds nothing.
    """
    return _within(a, kernel, unbiased) + _within(b, kernel, unbiased) - 2 * _similar(a, b, kernel).mean()


def _within(a: Tensor, kernel: Kernel, unbiased: bool) -> Tensor:  # noqa: FBT001
    similar = _similar(a, a, kernel)
    if not unbiased:
        return similar.mean()
    count = len(a)
    return (similar.sum() - similar.diagonal().sum()) / max(count * (count - 1), 1)


def _similar(a: Tensor, b: Tensor, kernel: Kernel) -> Tensor:
    """Return k (N, M), the mean over the scales, of every pair."""
    squared = (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp_min(0)
    constants = [2 * a.shape[1] * scale for scale in SCALES]
    each = [torch.exp(-squared / c) if kernel == "rbf" else c / (c + squared) for c in constants]
    return torch.stack(each).mean(0)
