"""Image -> features: sizes, and one class for pretraining and for the U-Net."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from segpipe.nets.encoder import Encoder, EncoderSpec
from segpipe.nets.unet import UNetSpec


def spec(rank: int = 2, depth: int = 2, **changes: object) -> EncoderSpec:
    settings = {
        "in_channels": 1,
        "widths": tuple(2 * 2**level for level in range(depth + 1)),
        "strides": ((2,) * rank,) * depth,
        "kernels": ((3,) * rank,) * (depth + 1),
    }
    return EncoderSpec.model_validate(settings | changes)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([2, 3]), st.integers(1, 3), st.sampled_from(["same", "valid"]), st.data())
def test_features_have_the_sizes_that_the_arithmetic_says(
    rank: int, depth: int, padding: str, data: st.DataObject
) -> None:
    depth = min(depth, 2) if rank == 3 else depth
    axes = st.tuples(*[st.integers(1, 2)] * rank)
    kernels = st.tuples(*[st.sampled_from([1, 3])] * rank)
    made = spec(
        rank,
        depth,
        strides=tuple(data.draw(axes) for _ in range(depth)),
        kernels=tuple(data.draw(kernels) for _ in range(depth + 1)),
        padding=padding,
        convolutions=data.draw(st.integers(1, 2)),
        norm="none",
    )
    # the smallest image that valid convolutions leave a voxel of
    low = 1 if padding == "same" else {1: 14, 2: 32, 3: 68}[depth]
    size = data.draw(st.tuples(*[st.integers(low, low + 5)] * rank))
    features = Encoder(made)(torch.zeros(1, 1, *size))
    assert [tuple(x.shape[2:]) for x in features] == made.sizes(size)
    assert [x.shape[1] for x in features] == list(made.widths)


def test_pooling_takes_the_largest_of_each_cell_and_skips_are_taken_before_it() -> None:
    encoder = Encoder(spec(depth=1, widths=(1, 1), convolutions=1, norm="none", activation="relu"))
    with torch.no_grad():
        for block in encoder.blocks:
            block[0].weight.zero_()
            block[0].weight[0, 0, 1, 1] = 1
    image = torch.rand(1, 1, 4, 6)
    skip, code = encoder(image)
    assert torch.equal(skip, image)
    assert torch.equal(code, image.reshape(1, 1, 2, 2, 3, 2).amax(dim=(3, 5)))


def test_the_u_net_holds_this_very_class_and_its_weights_move_between_networks() -> None:
    torch.manual_seed(0)
    made = spec(3)
    alone = Encoder(made)
    small = UNetSpec(encoder=made, out_channels=2).build()
    large = UNetSpec(encoder=made, out_channels=5, heads=2).build()
    assert type(small.encoder) is Encoder
    prefix = "encoder."
    inside = {key.removeprefix(prefix) for key in small.state_dict() if key.startswith(prefix)}
    assert inside == set(alone.state_dict())
    image = torch.randn(1, 1, 8, 8, 8)
    before = large.encoder(image)[-1]
    for source in (alone, small.encoder):
        large.encoder.load_state_dict(source.state_dict(), strict=True)
        after = large.encoder(image)
        assert not torch.allclose(after[-1], before)
        assert all(torch.equal(a, b) for a, b in zip(after, source(image), strict=True))


def test_dropout_drops_channels_of_the_code_in_training_only() -> None:
    torch.manual_seed(0)
    encoder = Encoder(spec(depth=1, widths=(4, 64), dropout=0.5))
    image = torch.randn(1, 1, 8, 8)
    *skips, code = encoder.train()(image)
    gone = (code == 0).flatten(2).all(dim=2).sum().item()
    assert 15 < gone < 50
    assert not any((skip == 0).flatten(2).all(dim=2).any() for skip in skips)
    assert torch.equal(encoder.eval()(image)[-1], encoder(image)[-1])
    assert not (encoder(image)[-1] == 0).flatten(2).all(dim=2).any()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"widths": (2, 4)}, "n \\+ 1 widths"),
        ({"kernels": ((3, 3),) * 2}, "n \\+ 1 kernels"),
        ({"strides": ((2, 2), (2, 2, 2))}, "same number of axes"),
        ({"dropout": 1.0}, "dropout"),
        ({"in_channels": 0}, "in_channels"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_spec_that_fits_no_network_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        spec(**changes)
