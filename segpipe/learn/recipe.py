"""The settings that one training goes by."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from segpipe.core.section import Section, Undeciding
from segpipe.learn.augment import AugmentConfig
from segpipe.learn.optim import OptimConfig
from segpipe.learn.sides import Swap
from segpipe.nets.precision import Precision


class FitConfig(Section):
    """How long, how exactly, and how often to look."""

    steps: PositiveInt = 1000
    """Training steps; an epoch is no thing here."""
    seed: NonNegativeInt = 0
    """Decides first weights, patches and augmentation."""
    precision: Precision = "auto"
    """`auto`: bfloat16 where the hardware computes faster in it, else float32."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.995
    """Decay of the running average of the weights, which is what is validated and kept."""
    keep: Literal["best", "last"] = "best"
    """Which averaged weights the run ends with: `best`: those with the best validation Dice; `last`: those after the
    last step, and validation is only watched."""
    validate_every: PositiveInt = 200
    """Steps between looks at whole validation images."""
    checkpoint_minutes: Annotated[PositiveFloat, Undeciding()] = 0.5
    """Minutes between checkpoints; a killed run goes on from the last."""
    checkpoints: Annotated[PositiveInt, Undeciding()] = 1
    """How many of the latest checkpoints are kept while training runs; where the newest is damaged, the next older
    one is taken."""
    compile: bool = False
    """Let torch.compile fuse the network's operations: a lever for GPUs. It needs a compiler at run time; where
    that fails, training goes on without."""


@dataclass(frozen=True)
class Recipe:
    """The settings that one training goes by."""

    fit: FitConfig
    optim: OptimConfig
    augment: AugmentConfig
    spacing: tuple[float, ...]
    channels: tuple[str, ...] = ()
    """Names of the image channels, for messages; may be left out."""
    swap: Swap | None = None
    """What trades left for right in a target that is mirrored; None where no structure has a side."""
