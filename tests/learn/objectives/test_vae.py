"""Variational autoencoder: bounds against a model whose evidence is known, warm-up, free bits, collapse."""

import itertools
import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from segpipe.learn.objectives.vae import Vae, VaeTask, active_units, importance_bound
from segpipe.nets.latent import Diagonal, Full
from tests.learn.objectives.small import PATCH, batch, few_steps, phantoms, spec, tensors

IMAGE = phantoms((16, 16))
FORMS = [
    {},
    {"covariance": "full"},
    {"latent": "spatial", "units": 3},
    {"regulariser": "mmd", "beta": 10.0},
    {"latent": "spatial", "units": 3, "regulariser": "mmd", "kernel": "rbf"},
]


def built(rank: int = 2, **settings: object) -> VaeTask:
    torch.manual_seed(0)
    return Vae.model_validate({"units": 6, "warmup_steps": 0} | settings).build(spec(rank), PATCH[rank])


class Linear(VaeTask):
    """x = W y + noise, with a posterior that is nearly right: what log p(x) is, is known."""

    weights: Tensor
    precision: Tensor
    slack: float

    @classmethod
    def of(cls, c: float = 0.3, slack: float = 1.4) -> "Linear":
        torch.manual_seed(0)
        task = cls(spec(depth=1), (4, 4), Vae(units=2, variance=c))
        task.weights = 0.5 * torch.randn(16, 2)
        task.precision = torch.eye(2) + task.weights.T @ task.weights / c
        task.slack = slack
        return task

    def posterior(self, image: Tensor) -> MultivariateNormal:
        covariance = self.precision.inverse()
        return MultivariateNormal(image.flatten(1) @ self.weights @ covariance.T / self.variance, covariance)

    def encode(self, image: Tensor) -> Diagonal:
        exact = self.posterior(image)
        return Diagonal(exact.mean, (self.slack * exact.variance).log().expand_as(exact.mean))

    def decode(self, y: Tensor, size: tuple[int, ...] | None = None) -> Tensor:
        return (y @ self.weights.T).reshape(-1, 1, 4, 4)

    def evidence(self, image: Tensor) -> Tensor:
        covariance = self.weights @ self.weights.T + self.variance * torch.eye(16)
        return MultivariateNormal(torch.zeros(16), covariance).log_prob(image.flatten(1))


@pytest.fixture(scope="module")
def linear() -> tuple[Linear, Tensor, Tensor]:
    """Return the model, images that it made, and 4096 log weights of each."""
    task = Linear.of()
    image = task.decode(torch.randn(5, 2)) + math.sqrt(0.3) * torch.randn(5, 1, 4, 4)
    return task, image, task.log_weights(image, 4096)


def test_many_draws_estimate_the_evidence(linear: tuple[Linear, Tensor, Tensor]) -> None:
    task, image, weights = linear
    torch.testing.assert_close(importance_bound(weights).float(), task.evidence(image), atol=0.05, rtol=0)


def test_the_elbo_is_below_the_evidence_by_the_divergence_from_the_posterior(
    linear: tuple[Linear, Tensor, Tensor],
) -> None:
    task, image, weights = linear
    q, exact = task.encode(image), task.posterior(image)
    scale = torch.diag_embed((0.5 * q.log_variance).exp())
    gap = kl_divergence(MultivariateNormal(q.mean, scale_tril=scale), exact)
    torch.testing.assert_close(weights.mean(0).float(), task.evidence(image) - gap, atol=0.06, rtol=0)
    assert bool((gap > 0.05).all())


def test_the_importance_weighted_bound_rises_with_its_draws_from_the_elbo_to_the_evidence(
    linear: tuple[Linear, Tensor, Tensor],
) -> None:
    task, image, weights = linear
    means = []
    for k in (1, 2, 8, 64, 4096):
        groups = weights.unflatten(0, (4096 // k, k)).transpose(0, 1)
        means.append(importance_bound(groups).mean(0))
    torch.testing.assert_close(means[0], weights.mean(0))
    assert all(bool((above >= below).all()) for below, above in itertools.pairwise(means))
    assert bool((means[3] > means[0] + 0.05).all())
    assert bool((means[-1].float() < task.evidence(image) + 0.05).all())


@pytest.mark.parametrize("form", FORMS[:3], ids=str)
def test_the_bounds_of_a_network_are_in_order(form: dict[str, object]) -> None:
    task = built(**form, variance=0.2).eval()
    weights = task.log_weights(IMAGE, 64)
    assert weights.shape == (64, len(IMAGE))
    torch.manual_seed(1)
    elbo = task.elbo(IMAGE, 16)
    torch.manual_seed(1)
    iwae = task.iwae(IMAGE, 16)
    assert bool((iwae >= elbo).all())
    assert iwae.shape == (len(IMAGE),)


@pytest.mark.parametrize("form", FORMS[:3], ids=str)
def test_the_loss_is_minus_the_elbo_by_voxel_but_for_a_constant(form: dict[str, object]) -> None:
    c = 0.2
    task = built(**form, variance=c).train()
    torch.manual_seed(2)
    losses = {name: float(loss.detach()) for name, loss in task(batch(IMAGE)).items()}
    torch.manual_seed(2)
    q = task.encode(IMAGE)
    y = q.sample(torch.randn_like(q.mean))
    likelihood = Normal(task.decode(y), math.sqrt(c)).log_prob(IMAGE).mean()
    expected = -float(likelihood.detach()) - 0.5 * math.log(2 * math.pi)
    assert losses["reconstruction"] == pytest.approx(expected, rel=1e-4)
    if isinstance(q, Full):
        law = MultivariateNormal(q.mean, scale_tril=q.lower)
        kl = kl_divergence(law, MultivariateNormal(torch.zeros(6), torch.eye(6))).mean()
    else:
        kl = kl_divergence(Normal(q.mean, (q.log_variance / 2).exp()), Normal(0.0, 1.0)).flatten(1).sum(1).mean()
    assert losses["kl"] == pytest.approx(float(kl.detach()) / 256, rel=1e-4)


def test_the_optimal_variance_is_the_error_of_the_batch_and_no_other_is_more_likely() -> None:
    torch.manual_seed(2)
    best = float(built().train()(batch(IMAGE))["reconstruction"].detach())
    for c in (0.3, 0.7, 1.0, 2.0, 4.0):
        task = built(variance=c).train()
        torch.manual_seed(2)
        assert float(task(batch(IMAGE))["reconstruction"].detach()) >= best
        assert float(task.variance) == pytest.approx(c)


def test_the_kept_variance_comes_near_the_error() -> None:
    task = built()
    few_steps(task, IMAGE, steps=80)
    error = task.eval().figures(IMAGE)["mse"]
    assert error * 0.5 < float(task.variance) < 0.5


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_form_learns(form: dict[str, object], rank: int) -> None:
    task = built(rank, **form)
    image = phantoms(PATCH[rank])
    before = task.eval().figures(image)["mse"]
    _, losses = few_steps(task, image)
    assert sum(losses[-3:]) < sum(losses[:3])
    assert task.eval().figures(image)["mse"] < before


@pytest.mark.parametrize("form", FORMS[:3], ids=str)
def test_codes_of_the_prior_are_drawn_as_images(form: dict[str, object]) -> None:
    task = built(3, **form).eval()
    y = task.sample(5)
    assert y.shape == (5, *task.latent_shape) == (5, *task.code(phantoms(PATCH[3])).shape[1:])
    assert task.decode(y).shape == (5, 1, *PATCH[3])
    many = task.sample(4000)
    assert float(many.mean()) == pytest.approx(0, abs=0.05)
    assert float(many.std()) == pytest.approx(1, abs=0.05)


def test_the_weight_of_the_regulariser_rises_with_training_steps_alone() -> None:
    task = built(warmup_steps=4, beta=0.5)
    found = []
    for _ in range(6):
        task.train()(batch(IMAGE))
        found.append(float(task.beta()))
        task.eval()(batch(IMAGE))
        task.figures(IMAGE)
    assert found == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.5, 0.5])


def test_a_resumed_training_goes_on_with_the_same_weight_and_variance() -> None:
    task = built(warmup_steps=10)
    state, _ = few_steps(task, IMAGE, steps=3)
    other = built(warmup_steps=10)
    other.load_state_dict(tensors(task))
    assert float(other.beta()) == float(task.beta()) == pytest.approx(0.3)
    assert float(other.variance) == float(task.variance) != 1
    assert int(state.average.steps) == 3


def test_free_bits_take_the_pressure_from_units_that_use_less() -> None:
    task = built(free_bits=0.5)
    mean = torch.tensor([[2.0, 0.1], [-2.0, -0.1]], requires_grad=True)
    q = Diagonal(mean, torch.zeros(2, 2))
    value = task.divergence(q)
    assert float(value.detach()) == pytest.approx(2.0 + 0.5)  # ½ μ² = 2, and 0.005, for which 0.5 counts
    value.backward()
    assert mean.grad is not None
    assert bool((mean.grad[:, 1] == 0).all())
    assert bool((mean.grad[:, 0] != 0).all())


def test_free_bits_of_a_full_covariance_are_those_of_all_units_together() -> None:
    task = built(free_bits=0.5, covariance="full")
    near = Full(torch.zeros(2, 6), torch.eye(6).expand(2, -1, -1))
    assert float(task.divergence(near)) == pytest.approx(3.0)
    far = Full(torch.full((2, 6), 2.0), torch.eye(6).expand(2, -1, -1))
    assert float(task.divergence(far)) == pytest.approx(12.0)


def test_units_are_active_where_their_mean_varies_with_the_image() -> None:
    means = torch.tensor([[0.0, 1.0, 0.05], [0.0, -1.0, -0.05], [0.0, 0.5, 0.0]])
    assert active_units(means).tolist() == [False, True, False]
    spatial = torch.zeros(2, 2, 3)
    spatial[:, 0] = torch.tensor([5.0, 7.0, 9.0])  # differs from place to place, not from image to image
    spatial[0, 1] = 1
    assert active_units(spatial).tolist() == [False, True]


def test_a_collapsed_posterior_is_told() -> None:
    kept, collapsed = built(beta=0.01), built(beta=1000.0)
    for task in (kept, collapsed):
        few_steps(task, IMAGE, steps=40)
        task.eval()
    assert kept.figures(IMAGE)["active_share"] == 1
    assert collapsed.figures(IMAGE)["active_units"] == 0
    assert collapsed.figures(IMAGE)["kl"] < 0.1 < kept.figures(IMAGE)["kl"]


def test_of_one_image_nobody_can_say_whether_units_are_active() -> None:
    assert "active_units" not in built().figures(IMAGE[:1])


def test_the_discrepancy_pushes_codes_together_to_the_prior() -> None:
    torch.manual_seed(0)
    task = built(regulariser="mmd")
    assert float(task.discrepancy(torch.randn(200, 6) + 2)) > 0.1 > float(task.discrepancy(torch.randn(200, 6)).abs())
    assert task.discrepancy(torch.randn(2, 3, 20, 20)).ndim == 0


def test_a_large_patch_is_averaged_over_few_cells() -> None:
    small = Vae(units=6, cells=2).build(spec(), (16, 16))
    assert small.head.mean.in_features == 16 * 2 * 2  # type: ignore[union-attr]
    assert small.reconstruct(phantoms((21, 30))).shape == (4, 1, 21, 30)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"latent": "spatial", "covariance": "full"}, "full needs latent: global"),
        ({"regulariser": "mmd", "free_bits": 0.1}, "free_bits"),
        ({"beta": 0}, "beta"),
        ({"variance": 0}, "variance"),
    ],
)
def test_what_does_not_go_together_is_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Vae.model_validate(settings)
