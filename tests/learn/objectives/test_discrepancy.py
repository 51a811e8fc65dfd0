"""Maximum mean discrepancy against two loops."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from segpipe.learn.objectives.discrepancy import SCALES, Kernel, mmd

KERNELS = ("rbf", "imq")


def normal(count: int, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def similar(a: Tensor, b: Tensor, kernel: str) -> float:
    squared = sum((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True))
    each = [math.exp(-squared / (6 * s)) if kernel == "rbf" else 6 * s / (6 * s + squared) for s in SCALES]
    return sum(each) / len(each)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("unbiased", [False, True])
def test_it_is_what_two_loops_find(kernel: Kernel, unbiased: bool) -> None:
    a, b = normal(5, 0), normal(4, 1, shift=0.5)

    def within(x: Tensor) -> float:
        pairs = [(i, j) for i, j in itertools.product(range(len(x)), repeat=2) if not (unbiased and i == j)]
        return sum(similar(x[i], x[j], kernel) for i, j in pairs) / len(pairs)

    between = sum(similar(x, y, kernel) for x in a for y in b) / 20
    expected = within(a) + within(b) - 2 * between
    assert float(mmd(a, b, kernel, unbiased=unbiased)) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("kernel", KERNELS)
def test_equal_samples_have_none_and_it_grows_with_what_divides_them(kernel: Kernel) -> None:
    a = normal(200, 0)
    assert float(mmd(a, a, kernel)) == 0
    found = [float(mmd(a, normal(200, 1, shift), kernel)) for shift in (0.0, 0.5, 1.0, 3.0)]
    assert found == sorted(found)
    assert found[1] > 3 * found[0] > 0


@pytest.mark.parametrize("kernel", KERNELS)
def test_without_bias_samples_of_one_distribution_have_none_in_the_mean(kernel: Kernel) -> None:
    found = torch.stack([mmd(normal(8, seed), normal(8, seed + 500), kernel, unbiased=True) for seed in range(400)])
    assert float(found.mean().abs()) < 3 * float(found.std()) / math.sqrt(400)


@pytest.mark.parametrize("kernel", KERNELS)
def test_its_gradient_moves_a_sample_to_the_other(kernel: Kernel) -> None:
    a, b = normal(64, 0, shift=2.0).requires_grad_(), normal(64, 1)
    mmd(a, b, kernel, unbiased=True).backward()
    assert a.grad is not None
    assert bool((a.grad.mean(0) > 0).all())


def test_a_sample_of_one_is_no_reason_to_fail() -> None:
    one = normal(1, 0).requires_grad_()
    value = mmd(one, normal(1, 1), unbiased=True)
    value.backward()
    assert value.isfinite()
    assert one.grad is not None
    assert bool(one.grad.isfinite().all())
