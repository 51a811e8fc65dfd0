"""Latent distributions: closed forms against torch.distributions and Monte Carlo, gradients against differences."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from segpipe.nets.latent import (
    LIMIT,
    Diagonal,
    Full,
    Gaussian,
    GlobalHead,
    SpatialHead,
    bounded,
    cholesky_factor,
    kl_diagonal,
    kl_full,
    prior_log_density,
)

DRAWS = 1_000_000


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def diagonal(count: int, units: int, seed: int = 0) -> Diagonal:
    return Diagonal(random(count, units, seed=seed), random(count, units, seed=seed + 1))


def full(count: int, units: int, seed: int = 0) -> Full:
    raw = random(count, units * (units + 1) // 2, seed=seed + 1)
    return Full(random(count, units, seed=seed), cholesky_factor(raw, units))


def as_torch(q: Gaussian) -> MultivariateNormal:
    lower = q.lower if isinstance(q, Full) else torch.diag_embed((0.5 * q.log_variance).exp())
    return MultivariateNormal(q.mean, scale_tril=lower)


def prior(units: int) -> MultivariateNormal:
    return MultivariateNormal(torch.zeros(units, dtype=torch.float64), torch.eye(units, dtype=torch.float64))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 7), st.integers(0, 1000), st.booleans())
def test_the_divergence_is_that_of_torch_distributions(units: int, seed: int, whole: bool) -> None:
    q = full(3, units, seed) if whole else diagonal(3, units, seed)
    torch.testing.assert_close(q.kl().sum(1), kl_divergence(as_torch(q), prior(units)), rtol=1e-5, atol=1e-8)


def test_the_divergence_of_each_unit_is_that_of_its_own_normal() -> None:
    q = diagonal(4, 5)
    each = kl_divergence(Normal(q.mean, (0.5 * q.log_variance).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(kl_diagonal(q.mean, q.log_variance), each, rtol=1e-5, atol=1e-8)


def test_in_float32_the_divergence_is_as_good() -> None:
    q = full(4, 6)
    exact = kl_divergence(as_torch(q), prior(6))
    torch.testing.assert_close(kl_full(q.mean.float(), q.lower.float()).double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("q", [diagonal(1, 3), full(1, 3)], ids=["diagonal", "full"])
def test_the_divergence_is_what_samples_estimate(q: Gaussian) -> None:
    """KL = E log q(y) − log p(y), to one per cent."""  # noqa: RUF002
    noise = random(DRAWS, 3, seed=7)
    scale = q.lower[0] if isinstance(q, Full) else torch.diag((0.5 * q.log_variance[0]).exp())
    y = q.mean + noise @ scale.T
    law = as_torch(q)
    estimate = (law.log_prob(y) - prior(3).log_prob(y)).mean()
    assert float(q.kl().sum()) == pytest.approx(float(estimate), rel=0.01)


def test_a_full_covariance_without_covariances_is_a_diagonal_one() -> None:
    q = diagonal(3, 4)
    lower = torch.diag_embed((0.5 * q.log_variance).exp())
    torch.testing.assert_close(Full(q.mean, lower).kl()[:, 0], q.kl().sum(1))


def test_the_divergence_is_zero_at_the_prior_and_nowhere_else() -> None:
    zeros, eye = torch.zeros(1, 3), torch.eye(3)[None]
    assert float(kl_diagonal(zeros, zeros).sum()) == 0
    assert float(kl_full(zeros, eye)) == 0
    assert float(kl_full(zeros, 2 * eye)) > 0
    assert float(kl_full(zeros + 0.1, eye)) == pytest.approx(0.5 * 3 * 0.01, rel=1e-5)


def test_a_spatial_unit_counts_all_of_its_positions() -> None:
    q = Diagonal(random(2, 3, 4, 5), random(2, 3, 4, 5, seed=1))
    assert q.kl().shape == (2, 3)
    torch.testing.assert_close(q.kl()[1, 2], kl_diagonal(q.mean[1, 2], q.log_variance[1, 2]).sum())


def test_the_gradient_through_a_diagonal_sample_agrees_with_finite_differences() -> None:
    inputs = [random(2, 3, seed=seed).requires_grad_() for seed in (0, 1)]
    noise = random(2, 3, seed=2)
    assert gradcheck(lambda mean, spread: Diagonal(mean, spread).sample(noise), inputs)


def test_the_gradient_through_a_full_sample_agrees_with_finite_differences() -> None:
    inputs = [random(2, 3).requires_grad_(), random(2, 6, seed=1).requires_grad_()]
    noise = random(2, 3, seed=2)
    assert gradcheck(lambda mean, raw: Full(mean, cholesky_factor(raw, 3)).sample(noise), inputs)


def test_the_gradients_of_both_divergences_agree_with_finite_differences() -> None:
    mean = random(2, 3).requires_grad_()
    assert gradcheck(kl_diagonal, [mean, random(2, 3, seed=1).requires_grad_()])
    raw = random(2, 6, seed=1).requires_grad_()
    assert gradcheck(lambda mean, raw: kl_full(mean, cholesky_factor(raw, 3)), [mean, raw])


@pytest.mark.parametrize("whole", [False, True])
def test_samples_have_the_mean_and_covariance_they_are_said_to_have(whole: bool) -> None:
    one = full(1, 3) if whole else diagonal(1, 3)
    if isinstance(one, Full):
        many: Gaussian = Full(one.mean.expand(DRAWS // 5, -1), one.lower.expand(DRAWS // 5, -1, -1))
    else:
        many = Diagonal(one.mean.expand(DRAWS // 5, -1), one.log_variance.expand(DRAWS // 5, -1))
    y = many.sample(random(DRAWS // 5, 3, seed=5))
    torch.testing.assert_close(y.mean(0), one.mean[0], atol=0.02, rtol=0.02)
    torch.testing.assert_close(y.T.cov(), as_torch(one).covariance_matrix[0], atol=0.03, rtol=0.03)


@pytest.mark.parametrize("q", [diagonal(4, 3), full(4, 3)], ids=["diagonal", "full"])
def test_log_densities_are_those_of_torch_distributions(q: Gaussian) -> None:
    y = random(4, 3, seed=9)
    torch.testing.assert_close(q.log_density(y), as_torch(q).log_prob(y))
    torch.testing.assert_close(prior_log_density(y), prior(3).log_prob(y))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.floats(0.1, 1e4), st.integers(0, 100))
def test_any_raw_values_give_a_covariance(units: int, size: float, seed: int) -> None:
    lower = cholesky_factor(size * random(2, units * (units + 1) // 2, seed=seed), units)
    assert torch.equal(lower, lower.tril())
    assert bool((lower.diagonal(dim1=1, dim2=2) > 0).all())
    assert bool(lower.isfinite().all())


def test_every_raw_value_has_its_place_in_the_factor() -> None:
    raw = torch.arange(1.0, 7.0)[None]
    (lower,) = cholesky_factor(raw, 3)
    assert torch.equal(torch.stack([lower[1, 0], lower[2, 0], lower[2, 1]]), torch.tensor([4.0, 5.0, 6.0]))
    torch.testing.assert_close(2 * lower.diagonal().log(), bounded(torch.tensor([1.0, 2.0, 3.0])))
    assert torch.equal(cholesky_factor(torch.zeros(1, 6), 3)[0], torch.eye(3))


def test_log_variances_are_bounded_and_a_gradient_leads_back() -> None:
    raw = torch.tensor([-30.0, 0.0, 0.5, 30.0], requires_grad=True)
    kept = bounded(raw)
    assert kept.detach().abs().max() <= LIMIT
    assert kept[2].item() == pytest.approx(0.5, rel=1e-2)
    kept.sum().backward()
    assert raw.grad is not None
    assert bool((raw.grad > 0).all())


@pytest.mark.parametrize("size", [(3, 5), (3, 5, 4)])
@pytest.mark.parametrize("whole", [False, True])
def test_a_global_head_gives_one_distribution_and_the_decoder_a_map(size: tuple[int, ...], whole: bool) -> None:
    torch.manual_seed(0)
    grid = tuple(min(n, 4) for n in size)
    head = GlobalHead(6, 5, grid, full=whole)
    q = head(torch.randn(2, 6, *size))
    assert q.mean.shape == (2, *head.shape(size)) == (2, 5)
    assert isinstance(q, Full if whole else Diagonal)
    start = q.lower - torch.eye(5) if isinstance(q, Full) else q.log_variance
    assert float(start.detach().abs().max()) == 0  # a deviation of one, as the prior
    back = head.back(q.mean, size)
    assert back.shape == (2, 6, *size)
    assert float(back.detach().flatten(2).std(2).min()) > 1e-3  # a constant map would vanish when it is normalised


@pytest.mark.parametrize("size", [(3, 5), (3, 5, 4)])
def test_a_spatial_head_gives_a_distribution_at_every_position(size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    head = SpatialHead(6, 2, len(size))
    q = head(torch.randn(2, 6, *size))
    assert q.mean.shape == (2, *head.shape(size)) == (2, 2, *size)
    assert head.back(q.mean, size).shape == (2, 6, *size)


@pytest.mark.parametrize("head", [SpatialHead(4, 3, 2), GlobalHead(4, 3, (2, 2), full=True)], ids=["spatial", "full"])
def test_distributions_are_float32_under_autocast(head: SpatialHead | GlobalHead) -> None:
    code = torch.randn(2, 4, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        q = head(code.bfloat16())
    assert q.mean.dtype == q.kl().dtype == torch.float32
    assert math.isfinite(float(q.kl().detach().sum()))
