"""Greedy layerwise training: one level at a time on the frozen code of those below, at last all of them."""

from typing import Annotated, Literal, Self

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from segpipe.core.errors import ConfigError
from segpipe.learn.batches import Batch
from segpipe.learn.objectives.autoencoder import AutoencoderTask
from segpipe.learn.objectives.pretraining import Distance, Phase, Reconstruction, apart, started
from segpipe.nets.encoder import EncoderSpec
from segpipe.nets.layers import Axes


class Layerwise(Reconstruction):
    """Greedy layerwise training: level k learns gₖ(pool, fₖ(x̃ₖ)) ≈ xₖ, where xₖ is the code of the frozen levels below.

    Hinton, Osindero, Teh 2006; Bengio et al. 2007. The first step has more channels than the image, so each level
    is a denoising one (Vincent et al. 2010). At last the decoders, in reverse order, are the decoder of the whole
    (Hinton and Salakhutdinov 2006), which is trained as one autoencoder, together with the levels that were not
    trained by themselves.
    """

    kind: Literal["layerwise"] = "layerwise"
    levels: PositiveInt = 3
    """How many steps of the encoder are trained one at a time, from the finest on; all, where it has fewer."""
    noise: NonNegativeFloat = 0.3
    """Standard deviation of the noise on what each level, and at last the whole, gets, as a share of its input's."""
    last: Annotated[float, Field(gt=0, lt=1)] = 0.4
    """Share of the steps in which the whole is trained; the levels divide the rest."""

    def build(self, spec: EncoderSpec, patch: Axes) -> "LayerwiseTask":
        """Return the task with fresh weights.

        Raises:
            ConfigError: A level could copy its input; or the patch does not fit.
        """
        if self.noise == 0 and spec.widths[0] >= spec.in_channels:
            raise ConfigError(
                f"pretrain.objective.noise is 0: the first level, {spec.widths[0]} channels for {spec.in_channels} of "
                "the image, may learn to copy. Set it above 0."
            )
        return LayerwiseTask(spec, patch, self)


class LayerwiseTask(AutoencoderTask):
    """The whole stack as one denoising autoencoder: the last phase. Those before it train its parts."""

    def __init__(self, spec: EncoderSpec, patch: Axes, config: Layerwise) -> None:
        super().__init__(spec, patch, config.distance)
        self.config = config

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean distance of a voxel, the image drawn from a noisy one."""
        drawn = self.reconstruct(noisy(batch.image, self.config.noise))
        return {"reconstruction": apart(self.distance, drawn, batch.image).mean()}

    def phases(self) -> list[Phase]:
        """Return the levels, from the finest on, and the whole.

        Each level's module has the weights that it trains and no others, so its state says nothing of the levels
        before it: save that of the whole after each phase.
        """
        count = min(self.config.levels, len(self.encoder.blocks))
        share = (1 - self.config.last) / count
        levels = [Phase(f"level{level + 1}", LevelTask(self, level), share) for level in range(count)]
        return [*levels, Phase("whole", self, self.config.last)]


class LevelTask(nn.Module):
    """One step of the encoder as an autoencoder, on the features of the steps below it.

    The first step draws the image. Any other gets the pooled features of the one below and draws them at full
    size: pooling makes the code smaller, and what it learns to undo is the decoder's step.
    """

    def __init__(self, whole: LayerwiseTask, level: int) -> None:
        super().__init__()
        encoder, decoder = whole.encoder, whole.decoder
        self.distance: Distance = whole.distance
        self.noise = whole.config.noise
        # in a tuple, so that they are no part of this module: nothing here may train, save or count them
        self._below = tuple(zip(encoder.blocks[:level], [nn.Identity(), *encoder.pools][:level], strict=True))
        self.pool = encoder.pools[level - 1] if level else nn.Identity()
        self.block = encoder.blocks[level]
        place = len(decoder.ups) - level
        self.back = nn.Sequential(decoder.ups[place], decoder.blocks[place]) if level else decoder.heads[0]

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 - torch's signature
        """Switch between training and evaluation; what is frozen always evaluates, its running statistics too."""
        super().train(mode)
        for block, _ in self._below:
            block.eval()
        return self

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean distance of a feature below, drawn from a noisy one."""
        below = self.below(batch.image)
        drawn = self.redrawn(noisy(below, self.noise))
        return {"reconstruction": apart(self.distance, drawn, below).mean()}

    @torch.no_grad()
    def figures(self, image: Tensor) -> dict[str, float]:
        """Return the mean squared error ``mse`` of what this level draws, in units of what it draws."""
        below = self.below(image)
        return {"mse": float(apart("mse", self.redrawn(below), below).mean())}

    @torch.no_grad()
    def below(self, image: Tensor) -> Tensor:
        """Return what this level draws: the features (N, width, *S) of the frozen step below, or the image."""
        x = image
        for block, pool in self._below:
            x = block(pool(x))
        return x

    def redrawn(self, below: Tensor) -> Tensor:
        """Return the features of the step below as they come back."""
        result: Tensor = self.back(self.block(self.pool(below)))
        return started(result, below.shape[2:])


def noisy(x: Tensor, noise: float) -> Tensor:
    """Return maps (N, C, *S) with Gaussian noise, whose deviation is a share of each patch's own."""
    deviation = x.float().flatten(1).std(1).reshape(-1, *[1] * (x.ndim - 1))
    return x + (noise * deviation * torch.randn(x.shape, device=x.device)).to(x.dtype)
