"""Muon: updates of kernels whose singular values are all alike; AdamW for every other parameter."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from segpipe.nets.precision import fast_bf16, has_amx

ORTHOGONAL = "orthogonal"
"""What a group of parameters is told: whether its updates are made orthogonal."""
MOMENTUM = 0.95
ROUNDS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic: chosen to lift small singular values fast, not to end at one exactly."""
RMS = 0.2
"""Root mean square of an update at a rate of one: about that of AdamW."""
TINY = 1e-7
WIDE = 4
"""How many times as long as it is high a matrix must be for a CPU to iterate on its Gram matrix instead."""
MATRIX = 2
"""Axes of a weight that is no kernel."""
MANY = 8
"""Channels from which on they are features, not those of an image or a map."""


class Muon(torch.optim.AdamW):
    """AdamW, except for groups with ``orthogonal`` set: theirs is the momentum made orthogonal (Jordan et al. 2024).

    https://kellerjordan.github.io/posts/muon: Nesterov momentum, then five rounds of a Newton-Schulz iteration. A
    kernel (out, in, *K) is taken as a matrix of ``out`` rows. Updates are scaled to the size of AdamW's, so that one
    learning rate and one decay serve both (Liu et al. 2025, arXiv 2502.16982, 2.2). PyTorch's own Muon is the same
    for matrices, and takes no kernels.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, betas: tuple[float, float]) -> None:
        super().__init__(groups, lr=lr, betas=betas, fused=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update all parameters; the gradients of the orthogonal groups are used up."""
        for group in self.param_groups:
            if group.get(ORTHOGONAL):
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self._update(parameter, parameter.grad, group["lr"], group["weight_decay"])
                        parameter.grad = None  # AdamW passes over it
        return super().step(closure)  # type: ignore[no-any-return]

    def _update(self, kernel: Tensor, gradient: Tensor, rate: float, decay: float) -> None:
        state = self.state[kernel]
        if not state:
            state["step"] = torch.zeros(())  # AdamW asks for it when a state is loaded
            state["momentum"] = torch.zeros_like(kernel)
        state["step"] += 1
        state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        ahead = gradient.lerp(state["momentum"], MOMENTUM)
        rows = ahead.movedim(1, -1).flatten(1)  # channels last, as in memory; the order of columns changes nothing
        update = orthogonal(rows).reshape(-1, *kernel.shape[2:], kernel.shape[1]).movedim(-1, 1)
        update = update * (state["momentum"] != 0)  # a connection that was cut never has a gradient: it stays cut
        kernel.mul_(1 - rate * decay)
        kernel.add_(update.to(kernel.dtype), alpha=-rate * RMS * max(rows.shape) ** 0.5)


def between_features(shape: Sequence[int]) -> bool:
    """Tell whether a parameter of a shape is a kernel between feature maps, whose updates are to be orthogonal.

    The kernels next to image and map have few channels on one side: AdamW's suits them better (Jordan et al. 2024).
    """
    return len(shape) > MATRIX and min(shape[:MATRIX]) >= MANY


def flops(shape: Sequence[int], device: str) -> int:
    """Return the operations (a multiplication and an addition are two) of making the update of a kernel orthogonal."""
    short, long = sorted((shape[0], math.prod(shape[1:])))
    if _on_gram(short, long, device):
        return 2 * 2 * short**2 * long + (4 * ROUNDS - 3) * 2 * short**3
    return ROUNDS * 2 * short**2 * (2 * long + short)


def orthogonal(matrix: Tensor) -> Tensor:
    """Return about U V^T of a matrix U S V^T (M, N): singular values come to lie in 0.7 to 1.2.

    In bfloat16 where that is fast; by the small Gram matrix in float32 where that is faster.
    """
    device = matrix.device.type
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else matrix.T
    x = x / x.norm().clamp(min=TINY)
    if _on_gram(x.shape[0], x.shape[1], device):
        found = by_gram(x)
    else:
        found = iterated(x.bfloat16() if fast_bf16(device) else x)
    return found if wide else found.T


def _on_gram(short: int, long: int, device: str) -> bool:
    """Tell whether the products of small matrices in float32 take less time than those of long ones in bfloat16."""
    return device == "cpu" and not has_amx() and long >= WIDE * short


def iterated(x: Tensor) -> Tensor:
    """Return a matrix (M, N) of norm one, M <= N, after all rounds of the iteration, in its number format."""
    first, third, fifth = COEFFICIENTS
    for _ in range(ROUNDS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=third, alpha=fifth), x, beta=first)
    return x


def by_gram(x: Tensor) -> Tensor:
    """Return what the iteration gives, whose every round multiplies X from the left by a polynomial of X X^T.

    The polynomials of all rounds are made from X X^T alone, which needs float32: a small eigenvalue that rounding
    makes negative would grow.
    """
    gram = x @ x.T
    whole = factor = _polynomial(gram)
    for _ in range(1, ROUNDS):
        gram = factor @ (gram @ factor)
        factor = _polynomial(gram)
        whole = factor @ whole
    return whole @ x


def _polynomial(gram: Tensor) -> Tensor:
    first, third, fifth = COEFFICIENTS
    found = torch.addmm(gram, gram, gram, beta=third, alpha=fifth)
    found.diagonal().add_(first)
    return found
