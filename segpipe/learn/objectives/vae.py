"""Variational autoencoder: a code that is a distribution, near N(0, I)."""

import math
from typing import Literal, Self

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from segpipe.core.section import Section
from segpipe.learn.batches import Batch
from segpipe.learn.objectives.discrepancy import Kernel, mmd
from segpipe.learn.objectives.pretraining import Pretraining, apart
from segpipe.nets.encoder import EncoderSpec
from segpipe.nets.latent import LOG_TAU, Gaussian, GlobalHead, SpatialHead, prior_log_density
from segpipe.nets.layers import Axes

ACTIVE = 0.01
"""Variance of a unit's mean over the data, above which the unit is active (Burda et al. 2016)."""
POINTS = 256
"""Codes a step that enter the discrepancy; a spatial latent has more."""
FOLLOW = 0.05
"""How fast the likelihood's variance follows that of the batches."""
SMALLEST = 1e-6


class Vae(Section):
    """Variational autoencoder: min -E log N(x; f(y), cI) + β · KL[q(y|x) ‖ N(0, I)], y ~ q(y|x) = N(μ(x), Σ(x)).

    Kingma and Welling 2014; β: Higgins et al. 2017. The loss is that of a patch, in nats, divided by its voxels.
    """

    kind: Literal["vae"] = "vae"
    latent: Literal["global", "spatial"] = "global"
    """`global`: one code for the whole patch; `spatial`: one for each position of the encoder's last step."""
    units: PositiveInt = 64
    """Units of a global code, or channels of a spatial one."""
    cells: PositiveInt = 4
    """A global code is computed from the encoder's last step averaged over at most so many cells along each axis."""
    covariance: Literal["diagonal", "full"] = "diagonal"
    """Form of Σ; `full`, by its Cholesky factor, needs a global latent."""
    beta: PositiveFloat = 1.0
    """Weight of the regulariser. That of `mmd` is about 1 at most; there, 10 is usual."""
    warmup_steps: NonNegativeInt = 200
    """Steps in which β rises from zero: early pressure makes units collapse (Bowman et al. 2016)."""
    free_bits: NonNegativeFloat = 0.0
    """Nats that each unit has for nothing: a lower divergence, in the mean over the batch, is no gain (Kingma et al.
    2016)."""
    regulariser: Literal["kl", "mmd"] = "kl"
    """What keeps codes near the prior: `kl` each of them; `mmd` all of them together, by the maximum mean discrepancy
    (Tolstikhin et al. 2018)."""
    kernel: Kernel = "imq"
    """Kernel of mmd: inverse multiquadratic, or `rbf`, Gaussian."""
    variance: PositiveFloat | Literal["optimal"] = "optimal"
    """c of the likelihood, in units of the squared normalised image; `optimal`: the mean squared error of each batch,
    the value that makes it most likely (Rybkin et al. 2021)."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.covariance == "full" and self.latent != "global":
            raise ValueError("covariance: full needs latent: global; a spatial one has too many units")
        if self.free_bits and self.regulariser != "kl":
            raise ValueError("free_bits are a part of the divergence: they need regulariser: kl")
        return self

    def build(self, spec: EncoderSpec, patch: Axes) -> "VaeTask":
        """Return the task with fresh weights.

        Raises:
            ConfigError: The patch does not fit.
        """
        return VaeTask(spec, patch, self)


class VaeTask(Pretraining):
    """Draws the image again from a sample of its code's distribution."""

    steps: Tensor
    """Forward passes in training, of which the warm-up depends; in the state, so that a resumed run goes on."""
    variance: Tensor
    """c of the likelihood; it follows the batches where it is ``optimal``."""

    def __init__(self, spec: EncoderSpec, patch: Axes, config: Vae) -> None:
        super().__init__(spec, patch)
        self.config = config
        self.head = self._head(spec)
        self.latent_shape = self.head.shape(self.code_size)
        self.ratio = math.prod(self.latent_shape) / (spec.in_channels * math.prod(patch))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        start = 1.0 if config.variance == "optimal" else config.variance
        self.register_buffer("variance", torch.tensor(start))

    def _head(self, spec: EncoderSpec) -> SpatialHead | GlobalHead:
        config, width = self.config, spec.widths[-1]
        if config.latent == "spatial":
            return SpatialHead(width, config.units, spec.rank)
        grid = tuple(min(n, config.cells) for n in self.code_size)
        return GlobalHead(width, config.units, grid, full=config.covariance == "full")

    def encode(self, image: Tensor) -> Gaussian:
        """Return q(y|x) of images (N, C, *P)."""
        found: Gaussian = self.head(self.encoder(image)[-1])
        return found

    def decode(self, y: Tensor, size: Axes | None = None) -> Tensor:
        """Return the means f(y), images (N, C, *size), of codes (N, *latent_shape); ``size``: the patch's."""
        size = size or self.patch
        return self.draw(self.head.back(y, self.encoder.spec.sizes(size)[-1]), size)

    def sample(self, count: int) -> Tensor:
        """Return codes (count, *latent_shape) of the prior; ``decode`` draws them."""
        return torch.randn(count, *self.latent_shape, device=self.variance.device)

    def code(self, image: Tensor) -> Tensor:
        """Return the mean code, (N, D) or (N, D, *S), of images (N, C, *P)."""
        return self.encode(image).mean

    def reconstruct(self, image: Tensor) -> Tensor:
        """Return images (N, C, *P) drawn from their mean codes."""
        return self.decode(self.code(image), tuple(image.shape[2:]))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the reconstruction's -log likelihood (without its constant) and the regulariser, by voxel."""
        image = batch.image
        posterior = self.encode(image)
        y = posterior.sample(torch.randn_like(posterior.mean))
        mse = apart("mse", self.decode(y, tuple(image.shape[2:])), image).mean()
        if self.training:
            self.steps += 1
            if self.config.variance == "optimal":
                self.variance.lerp_(mse.detach().clamp_min(SMALLEST), FOLLOW)
        c = mse.detach().clamp_min(SMALLEST) if self.config.variance == "optimal" else self.variance
        likelihood = 0.5 * (mse / c + c.log())
        if self.config.regulariser == "mmd":
            return {"reconstruction": likelihood, "mmd": self.beta() * self.discrepancy(y)}
        return {"reconstruction": likelihood, "kl": self.beta() * self.divergence(posterior) / image[0].numel()}

    def beta(self) -> Tensor:
        """Return the weight of the regulariser at this step."""
        risen = self.steps / self.config.warmup_steps if self.config.warmup_steps else torch.ones_like(self.variance)
        return self.config.beta * risen.clamp(max=1.0)

    def divergence(self, posterior: Gaussian) -> Tensor:
        """Return the divergence of a patch from the prior, in nats, in the mean; free bits are not counted less."""
        each = posterior.kl().mean(0)
        free = self.config.free_bits * posterior.mean.shape[1] / len(each)
        return each.clamp_min(free).sum()

    def discrepancy(self, y: Tensor) -> Tensor:
        """Return the discrepancy of codes (N, D, *S), each position one of its own, from as many of the prior."""
        points = y.movedim(1, -1).flatten(0, -2)
        chosen = points[torch.randperm(len(points))[:POINTS].to(y.device)]
        return mmd(chosen, torch.randn_like(chosen), self.config.kernel, unbiased=True)

    @torch.no_grad()
    def log_weights(self, image: Tensor, draws: int) -> Tensor:
        """Return log p(x, y) - log q(y|x), (draws, N) float64 in nats, of as many y ~ q(y|x) for each image."""
        posterior = self.encode(image)
        found = []
        for _ in range(draws):
            y = posterior.sample(torch.randn_like(posterior.mean))
            found.append(self._log_likelihood(image, y) + prior_log_density(y) - posterior.log_density(y))
        return torch.stack(found)

    def elbo(self, image: Tensor, draws: int) -> Tensor:
        """Return the evidence lower bound (N,) in nats, an estimate from so many draws: the mean log weight."""
        return self.log_weights(image, draws).mean(0)

    def iwae(self, image: Tensor, draws: int) -> Tensor:
        """Return the importance-weighted bound of log p(x), (N,) in nats (Burda et al. 2016)."""
        return importance_bound(self.log_weights(image, draws))

    @torch.no_grad()
    def figures(self, image: Tensor) -> dict[str, float]:
        """Return ``mse``, ``kl`` (nats a patch), ``variance`` of the likelihood, and how many units are active.

        Two patches or more: ``active_units``, and ``active_share`` of all; a posterior that has collapsed has none.
        """
        posterior = self.encode(image)
        drawn = self.decode(posterior.mean, tuple(image.shape[2:]))
        found = {
            "mse": float(apart("mse", drawn, image).mean()),
            "kl": float(posterior.kl().sum(1).mean()),
            "variance": float(self.variance),
        }
        if len(image) > 1:
            active = active_units(posterior.mean)
            found |= {"active_units": float(active.sum()), "active_share": float(active.float().mean())}
        return found

    def _log_likelihood(self, image: Tensor, y: Tensor) -> Tensor:
        squared = apart("mse", self.decode(y, tuple(image.shape[2:])), image).double() / self.variance
        return -0.5 * (squared + self.variance.double().log() + LOG_TAU).flatten(1).sum(1)


def importance_bound(log_weights: Tensor) -> Tensor:
    """Return log (1/k Σ w) (N,) of log weights (k, N): the ELBO for k = 1; it rises to log p(x) with k, in the mean."""
    return log_weights.logsumexp(0) - math.log(len(log_weights))


def active_units(means: Tensor) -> Tensor:
    """Return (D,): whether the mean of a unit varies with the image, Var E[y|x] > 0.01 (Burda et al. 2016).

    Args:
        means: (N, D, *S) of two images or more; the variance of a spatial unit is the mean over its positions.
    """
    return means.float().var(0).reshape(means.shape[1], -1).mean(1) > ACTIVE
