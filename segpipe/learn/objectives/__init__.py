"""The menu of pretraining objectives."""

from typing import Annotated

from pydantic import Field

from segpipe.learn.objectives.autoencoder import Autoencoder
from segpipe.learn.objectives.denoising import Denoising
from segpipe.learn.objectives.layerwise import Layerwise
from segpipe.learn.objectives.masked import Masked
from segpipe.learn.objectives.pretraining import Phase, Pretraining
from segpipe.learn.objectives.sparse import Sparse
from segpipe.learn.objectives.vae import Vae

__all__ = ["Objective", "Phase", "Pretraining"]

Objective = Annotated[
    Autoencoder | Sparse | Denoising | Masked | Layerwise | Vae,
    Field(discriminator="kind"),
]
"""What an encoder learns from images without labels."""
