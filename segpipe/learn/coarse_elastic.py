"""The original U-Net's deformation, as a transform of albumentations."""

from typing import Annotated, Any

import torch
from pydantic import Field
from torch.nn import functional as F  # noqa: N812 - the name everybody knows

NAME = "CoarseElastic"
LINEAR, NEAREST, REFLECT_101 = 1, 0, 4
"""What OpenCV calls them."""


def coarse_elastic(library: Any) -> Any:
    """Return the class of the transform; ``library`` is albumentations, which is loaded late.

    "We generate smooth deformations using random displacement vectors on a coarse 3 by 3 grid. The displacements are
    sampled from a Gaussian distribution with 10 pixels standard deviation. Per-pixel displacements are then computed
    using bicubic interpolation." (Ronneberger, Fischer, Brox 2015, arXiv 1505.04597, 3.1.) The outer points of the
    grid lie in the corners. Beyond the rim of a patch lies its mirror image.
    """
    base = library.augmentations.geometric.distortion.BaseDistortion

    class CoarseElastic(base):  # type: ignore[misc, valid-type]
        """Displacements of a coarse grid, bicubic between its points."""

        class InitSchema(base.InitSchema):  # type: ignore[misc, name-defined]
            """What the arguments have to be."""

            sd_pixels: Annotated[float, Field(ge=0)]
            grid: Annotated[int, Field(ge=2)]

        def __init__(  # noqa: PLR0913, PLR0917 - the library's own arguments
            self,
            sd_pixels: float = 10.0,
            grid: int = 3,
            interpolation: int = LINEAR,
            mask_interpolation: int = NEAREST,
            keypoint_remapping_method: str = "mask",
            border_mode: int = REFLECT_101,
            fill: float = 0,
            fill_mask: float = 0,
            p: float = 1.0,
        ) -> None:
            super().__init__(
                interpolation=interpolation,
                mask_interpolation=mask_interpolation,
                keypoint_remapping_method=keypoint_remapping_method,
                border_mode=border_mode,
                fill=fill,
                fill_mask=fill_mask,
                p=p,
            )
            self.sd_pixels = sd_pixels
            self.grid = grid

        def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
            """Return from where each pixel is taken: ``map_x`` and ``map_y`` (H, W), in pixels."""
            height, width = params["shape"][:2]
            coarse = self.random_generator.normal(0, self.sd_pixels, (1, 2, self.grid, self.grid))
            fine = F.interpolate(torch.from_numpy(coarse), (height, width), mode="bicubic", align_corners=True)[0]
            down, right = fine.float()
            return {
                "map_x": (torch.arange(width) + right).numpy(),
                "map_y": (torch.arange(height)[:, None] + down).numpy(),
            }

    return CoarseElastic
