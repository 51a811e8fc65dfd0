"""Learning plausible shapes from reference label maps: what is usual, the network that redraws it, what scores mean."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from segpipe.core.atomic import write_array
from segpipe.core.section import Section
from segpipe.core.stage import Workspace
from segpipe.dataset.prepare import Prepared
from segpipe.learn.augment import AugmentConfig
from segpipe.learn.augment_space import SpaceConfig
from segpipe.learn.batches import Batch, PatchSampler
from segpipe.learn.chance import FactorRange, Share, SizeRange
from segpipe.learn.fit import FitConfig, Recipe, fit
from segpipe.learn.losses import DiceCE
from segpipe.learn.optim import Kind, OptimConfig
from segpipe.nets.encoder import EncoderSpec
from segpipe.nets.precision import laid_out
from segpipe.nets.shape import ShapeNetwork, ShapeSpec, one_hot, redrawer
from segpipe.quality.damage import damaged, moved
from segpipe.quality.frame import Frame
from segpipe.quality.known import KnownShapes, Parts, Redraw, calibrated, dice_of, redrawn_dice
from segpipe.quality.shape import Shapes

RIM = 2
"""Voxels by which a map is wider than the window on each side: it is shown shifted by so many at most."""
TOGETHER = 16
"""Windows that are drawn again at a time."""
MAPS = "maps"
NAME = "redrawing"


class ShapeFit(FitConfig):
    """How long, how exactly, and how often to look."""

    steps: PositiveInt = 600
    """Training steps."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.98
    """Decay of the running average of the weights, which is what is kept."""
    keep: Literal["best", "last"] = "last"
    """Which averaged weights are kept: `last`: those after the last step; `best`: those that redraw the held-out label
    maps best."""


class ShapeSpace(SpaceConfig):
    """How label maps are varied: by as much as patients differ, and not by what makes a shape implausible."""

    spatial: Share = 0.8
    """Share that is rotated and scaled."""
    rotate_degrees: NonNegativeFloat = 10.0
    """Largest angle about each axis."""
    scale: FactorRange = (0.9, 1.1)
    """Range of sizes."""
    elastic: Share = 0.2
    """Share that is bent by a smooth random field (cubic B-splines)."""
    elastic_mm: SizeRange = (1.0, 4.0)
    """Range of the largest shift (mm) of a control point."""
    mirror_axes: tuple[NonNegativeInt, ...] = ()
    """Axes along which half of the maps are flipped. Structures do not change sides in it: leave axis 0 (left-right)
    out where they are named for theirs."""


class ShapeOptim(OptimConfig):
    """The optimiser of the autoencoder of label maps, and its schedule."""

    kind: Kind = "adamw"
    """As in `train.optim.kind`; the figures in docs/ were made with AdamW."""
    learning_rate: PositiveFloat = 2e-3
    """Peak learning rate, reached after warm-up."""


class ShapesConfig(Section):
    """How the shapes of the reference label maps are learned, by which those of a prediction are judged."""

    use: bool = False
    """Whether they are learned: it takes minutes on a processor. For structures of a form of their own, such as organs;
    lesions have none, and need `infer.agreement`."""
    voxels: PositiveInt = 24_000
    """Voxels of a label map that the network sees, at most: larger shapes are compared at a coarser spacing."""
    features: PositiveInt = 8
    """Channels of the network's first step; each further one has twice as many."""
    depth: PositiveInt = 3
    """Encoding steps, at most."""
    units: PositiveInt = 32
    """Units of the code. With too many, the network learns to copy, and an odd shape passes."""
    beta: NonNegativeFloat = 1e-4
    """Weight of the code's divergence (nats) from the prior, beside cross-entropy and soft Dice."""
    batch: PositiveInt = 4
    """Label maps a step."""
    damaged: PositiveInt = 12
    """How often each held-out label map is damaged, to learn what Dice goes with which score."""
    fit: ShapeFit = ShapeFit()
    """How long and how exactly."""
    optim: ShapeOptim = ShapeOptim()
    """Optimiser and schedule."""
    augment: ShapeSpace = ShapeSpace()
    """How label maps are varied."""


class ShapeTask(nn.Module):
    """Draws label maps again from a sample of their code: cross-entropy + soft Dice + β · KL[q(y|x) ‖ N(0, I)]."""

    def __init__(self, network: ShapeNetwork, beta: float) -> None:
        super().__init__()
        self.network = network
        self.beta = beta
        self.loss = DiceCE()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of maps (N, K - 1, *S): one channel a structure, between 0 and 1 where they were moved."""
        classes = classes_of(batch.image)
        posterior = self.network.encode(one_hot(classes, self.network.spec.encoder.in_channels))
        drawn = self.network.decode(posterior.sample(torch.randn_like(posterior.mean)))
        return {
            "reconstruction": self.loss(drawn, classes[:, None].to(torch.uint8)),
            "kl": self.beta * posterior.kl().sum(1).mean(),
        }


def classes_of(shares: Tensor) -> Tensor:
    """Return class numbers (N, *S) of shares (N, K - 1, *S) of the structures; what they leave is background."""
    return torch.cat([1 - shares.sum(1, keepdim=True), shares], dim=1).argmax(1)


def shape_spec(frame: Frame, config: ShapesConfig) -> ShapeSpec:
    """Return the network for a window; each step has twice the channels of the one before."""
    kernels = frame.topology.kernels
    encoder = EncoderSpec(
        in_channels=frame.classes,
        widths=tuple(config.features * 2**level for level in range(len(kernels))),
        strides=frame.topology.strides,
        kernels=kernels,
        convolutions=1,
    )
    return ShapeSpec(encoder=encoder, size=frame.size, units=config.units)


def learn_redrawing(
    known: KnownShapes,
    training: Mapping[str, Shapes],
    held_out: Sequence[Shapes],
    config: ShapesConfig,
    work: Workspace,
) -> ShapeNetwork:
    """Return the network that draws plausible label maps again.

    Args:
        known: The window.
        training: References that it learns from, by case.
        held_out: Others, on which it is watched.
        config: How.
        work: Where checkpoints and maps lie meanwhile.
    """
    torch.manual_seed(config.fit.seed)
    spec = shape_spec(known.frame, config)
    task = ShapeTask(laid_out(spec.build(), spec.encoder.rank, work.device), config.beta)
    maps = _write_maps(work.path / MAPS, known.frame, training)
    sampler = PatchSampler(maps, known.frame.size, config.batch, config.fit.seed, None)
    recipe = Recipe(config.fit, config.optim, _space_alone(config.augment), known.frame.spacing)

    def look(average: nn.Module) -> dict[str, float]:
        assert isinstance(average, ShapeTask)
        redraw = redrawer(average.network, config.fit.precision, work.device)
        found = redrawn_dices(known, held_out, redraw)
        return {"dice": float(np.mean([value for values in found.values() for value in values]))}

    fit(task, sampler, recipe, work, validate=look if held_out else None, name=NAME)
    for path in work.path.glob(f"{NAME}.best.safetensors"):
        path.unlink()
    shutil.rmtree(work.path / MAPS)
    return task.network.eval()


def redrawn_dices(known: KnownShapes, references: Sequence[Shapes], redraw: Redraw) -> dict[str, list[float]]:
    """Return the Dice of each structure with its reconstruction, of each reference that shows it."""
    found: dict[str, list[float]] = {name: [] for name in known.structures}
    for first in range(0, len(references), TOGETHER):
        some = references[first : first + TOGETHER]
        for one, drawn in zip(some, redraw(np.stack([known.frame.cut(each) for each in some])), strict=True):
            for name, values in found.items():
                if one.mask(name).any():
                    values.append(redrawn_dice(known.frame, one, drawn, name))
    return found


def learn_scores(
    known: KnownShapes, references: Sequence[Shapes], redraw: Redraw, config: ShapesConfig, work: Workspace
) -> KnownShapes:
    """Return what is known, with what its scores mean: found from references that were damaged by known amounts.

    Args:
        known: What is usual.
        references: Of cases that the network has not seen.
        redraw: The network.
        config: How often each is damaged, and the seed.
        work: Shows how far it has come.
    """
    usual = redrawn_dices(known, references, redraw)
    structures = {
        name: one.model_copy(update={"redrawn": tuple(sorted(usual[name]))}) for name, one in known.structures.items()
    }
    known = known.model_copy(update={"structures": structures})
    worse: list[tuple[Parts, float]] = []
    elsewhere: list[tuple[Parts, float]] = []
    with work.progress("damaging", len(references)) as advance:
        for index, reference in enumerate(references):
            rng = np.random.default_rng([config.fit.seed, index])
            for _ in range(config.damaged):
                worse += _scored(known, damaged(reference, rng), reference, redraw)
                elsewhere += _scored(known, moved(reference, rng), reference, redraw)
            worse += _scored(known, reference, reference, redraw)
            advance(1)
    return calibrated(known, worse, elsewhere)


def _scored(known: KnownShapes, now: Shapes, before: Shapes, redraw: Redraw) -> list[tuple[Parts, float]]:
    return [
        (parts, dice_of(now.mask(name), before.mask(name)))
        for name, parts in known.parts(now, redraw).items()
        if before.mask(name).any()
    ]


def _write_maps(folder: Path, frame: Frame, references: Mapping[str, Shapes]) -> list[Prepared]:
    """Write the window of each case as a sampler of patches reads it, (K - 1, *S) uint8, one channel a structure."""
    found = []
    for case, one in references.items():
        window = frame.cut(one, RIM)
        write_array(folder / case / "image.npy", np.stack([window == number for number in range(1, frame.classes)]))
        found.append(Prepared(case, folder / case))
    return found


def _space_alone(space: SpaceConfig) -> AugmentConfig:
    """Return the settings of an augmentation that moves things, and leaves values as they are."""
    unused = dict.fromkeys(
        ("bias_field", "noise", "blur", "brightness", "contrast", "low_resolution", "gamma", "gamma_inverted"), 0.0
    )
    return AugmentConfig(**space.model_dump(), **unused)
