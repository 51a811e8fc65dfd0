"""Features -> map: where a skip lands, and which sizes the heads have."""

import pytest
import torch
from torch import nn

from segpipe.nets.decoder import Decoder
from segpipe.nets.encoder import Encoder, EncoderSpec


def spec(rank: int = 2, depth: int = 1, padding: str = "valid", **changes: object) -> EncoderSpec:
    settings = {
        "in_channels": 1,
        "widths": (1,) * (depth + 1),
        "strides": ((2,) * rank,) * depth,
        "kernels": ((3,) * rank,) * (depth + 1),
        "norm": "none",
        "activation": "relu",
        "padding": padding,
    }
    return EncoderSpec.model_validate(settings | changes)


def pass_on(decoder: Decoder, channel: int) -> None:
    """Let each block hand on one of its two channels (0: the skip, 1: from below) and change nothing."""
    with torch.no_grad():
        for layer in decoder.modules():
            if isinstance(layer, nn.Conv2d | nn.Conv3d):
                layer.weight.zero_()
                middle = tuple(k // 2 for k in layer.kernel_size)
                layer.weight[(0, min(channel, layer.in_channels - 1), *middle)] = 1
        for up in decoder.ups:
            up.weight.fill_(1)


@pytest.mark.parametrize(
    ("skip", "code", "start"),
    [
        ((64, 64), (28, 28), 4),  # the deepest skip of the published network: 64 is cropped to 56
        ((568, 568), (196, 196), 88),  # and the first one
        ((17, 16), (4, 4), 4),  # an odd surplus: the larger part goes at the end
    ],
)
def test_a_skip_is_cropped_about_its_centre(skip: tuple[int, int], code: tuple[int, int], start: int) -> None:
    decoder = Decoder(spec(), 1)
    pass_on(decoder, 0)
    seen = torch.zeros(1, 1, *skip)
    at = (skip[0] // 2, skip[1] // 2 - 1)
    seen[0, 0, at[0], at[1]] = 1
    (found,) = decoder(torch.zeros(1, 1, *code), [seen])
    assert tuple(found.shape[2:]) == tuple(2 * n - 4 for n in code)
    # two valid convolutions trim one voxel each
    assert found[0, 0].nonzero().tolist() == [[at[0] - start - 2, at[1] - start - 2]]


def test_what_comes_from_below_lands_on_the_cell_it_was_pooled_from() -> None:
    decoder = Decoder(spec(padding="same"), 1)
    pass_on(decoder, 1)
    code = torch.zeros(1, 1, 5, 4)
    code[0, 0, 3, 1] = 1
    (found,) = decoder(code, [torch.zeros(1, 1, 9, 7)])  # 9 and 7 were pooled to 5 and 4, rounded up
    assert tuple(found.shape[2:]) == (9, 7)
    assert found[0, 0].nonzero().tolist() == [[6, 2], [6, 3], [7, 2], [7, 3]]


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("heads", [1, 2, 3])
def test_each_head_draws_at_the_size_of_its_level_the_finest_first(rank: int, heads: int) -> None:
    made = spec(rank, depth=3, padding="same", widths=(2, 3, 4, 5))
    size = (19, 16, 11)[:rank]
    *skips, code = Encoder(made)(torch.randn(2, 1, *size))
    maps = Decoder(made, 7, heads=heads)(code, skips)
    assert [tuple(found.shape) for found in maps] == [(2, 7, *size) for size in made.sizes(size)[:heads]]


def test_heads_are_independent_of_how_many_there_are() -> None:
    made = spec(depth=3, padding="same", widths=(2, 3, 4, 5))
    one, three = Decoder(made, 2, heads=1), Decoder(made, 2, heads=3)
    one.load_state_dict({key: value for key, value in three.state_dict().items() if key in one.state_dict()})
    *skips, code = Encoder(made)(torch.randn(1, 1, 16, 16))
    assert torch.equal(one(code, skips)[0], three(code, skips)[0])


def test_a_decoder_without_skips_draws_from_the_code_alone() -> None:
    made = spec(depth=2, padding="same", widths=(2, 3, 4))
    decoder = Decoder(made, 1, skips=False)
    code = torch.randn(1, 4, 3, 5)
    (found,) = decoder(code)
    assert found.shape == (1, 1, 12, 20)
    assert torch.equal(found, decoder(code, [torch.randn(1, 2, 12, 20), torch.randn(1, 3, 6, 10)])[0])


def test_the_stack_handed_in_is_left_as_it_was() -> None:
    made = spec(depth=2, padding="same")
    *skips, code = Encoder(made)(torch.randn(1, 1, 8, 8))
    Decoder(made, 1)(code, skips)
    assert len(skips) == 2
