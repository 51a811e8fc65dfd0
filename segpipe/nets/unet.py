"""The U-Net and its arithmetic: which sizes fit, what comes out."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from segpipe.core.errors import ConfigError
from segpipe.core.section import Section
from segpipe.nets.decoder import Decoder
from segpipe.nets.encoder import Encoder, EncoderSpec
from segpipe.nets.layers import Activation, Axes, FirstWeights, Norm, Padding


class UNetSpec(Section):
    """Everything that decides a U-Net; a model file holds it beside the weights."""

    kind: Literal["unet"] = "unet"
    encoder: EncoderSpec
    out_channels: PositiveInt
    heads: PositiveInt = 1
    """Levels with an output of their own: 1, or more under deep supervision."""

    def build(self) -> "UNet":
        """Return the network with fresh weights, drawn from torch's current random state."""
        return UNet(self)

    def output_size(self, size: Axes) -> Axes:
        """Return the size of the finest map for an image of ``size``.

        Raises:
            ConfigError: The image is too small: some convolution would see nothing.
        """
        return self.sizes(size)[-1]

    def sizes(self, size: Axes) -> list[Axes]:
        """Return the sizes along the way: each skip, the code, then each decoding step's result.

        Raises:
            ConfigError: The image is too small.
        """
        spec = self.encoder
        down = spec.sizes(size)
        way = list(down)
        x = down[-1]
        for level in range(spec.depth - 1, -1, -1):
            up = tuple(n * s for n, s in zip(x, spec.strides[level], strict=True))
            x = tuple(min(a, b) for a, b in zip(up, down[level], strict=True))
            if spec.padding == "valid":
                x = tuple(n - spec.convolutions * (k - 1) for n, k in zip(x, spec.kernels[level], strict=True))
            way.append(x)
        if min(min(step) for step in way) < 1:
            raise ConfigError(
                f"a patch of {'x'.join(map(str, size))} voxels is too small for {spec.depth} steps of "
                f"'{spec.padding}' convolutions. Use larger patches, or a smaller preprocess.plan.depth."
            )
        return way

    def margin(self, size: Axes) -> Axes:
        """Return how many voxels of an image of ``size`` are missing from its map on each side (rounded down)."""
        return tuple((n - m) // 2 for n, m in zip(size, self.output_size(size), strict=True))


class UNetConfig(Section):
    """The form of the U-Net; its depth and pooling come from the plan."""

    kind: Literal["unet"] = "unet"
    features: PositiveInt = 32
    """Channels of the first step; each further one has twice as many."""
    max_features: PositiveInt = 320
    """At most this many."""
    widths: tuple[PositiveInt, ...] | None = None
    """Channels of each step and of the middle, if you want to choose them one by one."""
    convolutions: PositiveInt = 2
    """Convolutions of each step."""
    norm: Norm = "instance"
    """Normalisation after each convolution."""
    activation: Activation = "leaky_relu"
    """Activation after each normalisation."""
    padding: Padding = "same"
    """`same` keeps sizes; `valid` is the original form: maps shrink, and skips are cropped."""
    deep_supervision: bool = True
    """Whether coarser decoding steps are trained on the target too."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of channels dropped in the middle."""
    first_weights: FirstWeights = "he"
    """Of what the first weights are drawn: a Gaussian of variance 2 / N, N the incoming nodes of a neuron (He et al.
    2015). `he`: less for up-convolutions, which no activation follows, and for a leaky activation; `he_2015`: for
    every layer, as in the U-Net's paper."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.padding == "valid" and self.deep_supervision:
            raise ValueError("deep_supervision needs padding: same. Set model.deep_supervision=false.")
        return self

    def spec(
        self, in_channels: int, out_channels: int, strides: tuple[Axes, ...], kernels: tuple[Axes, ...]
    ) -> UNetSpec:
        """Return the U-Net for these channels and this pooling.

        Raises:
            ConfigError: ``widths`` does not fit the depth.
        """
        depth = len(strides)
        widths = self.widths or tuple(min(self.features * 2**level, self.max_features) for level in range(depth + 1))
        if len(widths) != depth + 1:
            raise ConfigError(
                f"model.widths has {len(widths)} values; {depth} encoding steps and the middle need {depth + 1}."
            )
        encoder = EncoderSpec(
            in_channels=in_channels,
            widths=widths,
            strides=strides,
            kernels=kernels,
            convolutions=self.convolutions,
            norm=self.norm,
            activation=self.activation,
            padding=self.padding,
            dropout=self.dropout,
            first_weights=self.first_weights,
        )
        heads = max(depth - 1, 1) if self.deep_supervision else 1
        return UNetSpec(encoder=encoder, out_channels=out_channels, heads=heads)


class UNet(nn.Module):
    """An Encoder, and a Decoder that sees its features (Ronneberger, Fischer, Brox 2015; 3D: Çiçek et al. 2016)."""

    def __init__(self, spec: UNetSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = Encoder(spec.encoder)
        self.decoder = Decoder(spec.encoder, spec.out_channels, heads=spec.heads)

    def forward(self, image: Tensor) -> Tensor:
        """Return the finest map (N, K, *S') of an image (N, C, *S); S' = S with ``same`` padding."""
        return self.maps(image)[0]

    def maps(self, image: Tensor) -> list[Tensor]:
        """Return the maps of all heads, the finest first."""
        *skips, code = self.encoder(image)
        found: list[Tensor] = self.decoder(code, skips)
        return found
