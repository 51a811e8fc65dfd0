"""Tiles over an image: nothing is lost, nothing is seen twice, and the seams do not show."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from segpipe.core.errors import ConfigError
from segpipe.nets.unet import UNet, UNetConfig
from segpipe.predict.window import WindowConfig, predict_scores

quick = settings(max_examples=25, deadline=None)
EXACT = WindowConfig(precision="fp32")


def valid(rank: int, depth: int) -> UNet:
    torch.manual_seed(0)
    config = UNetConfig(features=3, norm="none", padding="valid", deep_supervision=False)
    return config.spec(2, 2, ((2,) * rank,) * depth, ((3,) * rank,) * (depth + 1)).build().eval()


def padded(rank: int, channels: int = 1) -> UNet:
    torch.manual_seed(0)
    config = UNetConfig(features=3, norm="none", deep_supervision=False)
    return config.spec(channels, 2, ((2,) * rank,), ((3,) * rank,) * 2).build().eval()


def pointwise(rank: int) -> UNet:
    """Return a network that looks at each voxel by itself: what it says cannot depend on the tiles."""
    torch.manual_seed(3)
    config = UNetConfig(features=4, norm="none", deep_supervision=False)
    return config.spec(1, 3, ((1,) * rank,), ((1,) * rank,) * 2).build().eval()


def whole(network: UNet, image: np.ndarray) -> torch.Tensor:
    with torch.inference_mode():
        return network(torch.from_numpy(image)[None])[0]


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


# ---- valid convolutions: overlap-tile


@pytest.mark.parametrize(
    ("depth", "patch", "size"),
    [
        (1, (20, 20), (31, 47)),  # no multiple of a tile of 4
        (2, (60, 44), (47, 70)),  # tiles of 20 and 4
        (2, (60, 60), (20, 20)),  # exactly one tile
        (2, (76, 60), (5, 3)),  # the image is smaller than a tile, and than the margin
        (1, (24, 20), (1, 33)),
        (1, (20, 20, 24), (9, 14, 11)),
    ],
)
def test_overlap_tile_is_one_large_pass_over_the_mirrored_image(
    depth: int, patch: tuple[int, ...], size: tuple[int, ...]
) -> None:
    network = valid(len(patch), depth)
    image = noise(2, *size)
    rim = network.spec.margin(patch)
    grid = 2**depth
    # a large image that fits the network's arithmetic as the tiles do
    fits = [-(-(n + 2 * m - p) // grid) * grid + p for n, m, p in zip(size, rim, patch, strict=True)]
    fits = [max(f, p) for f, p in zip(fits, patch, strict=True)]
    pads = [(m, f - n - m) for n, m, f in zip(size, rim, fits, strict=True)]
    mirrored = np.pad(image, [(0, 0), *pads], mode="reflect")
    large = whole(network, mirrored)[(slice(None), *[slice(0, n) for n in size])]
    found = predict_scores(network, image, patch, EXACT)
    assert found.shape == (2, *size)
    assert torch.allclose(found, large, atol=1e-5)
    assert large.std() > 1e-3


def test_the_published_depth_gives_in_tiles_what_one_pass_gives_that_never_leaves_the_image() -> None:
    network = valid(2, 4)
    patch, size = (252, 220), (377, 301)  # tiles of 68 and 36, begun every 64 and 32 pixels
    image = noise(2, *size)
    rim = network.spec.margin(patch)
    assert rim == (92, 92)
    # the first tile begins 92 pixels before the image: a pass pools the same pixels together from -92 + 6 * 16 on
    first = 4
    fits = [(n - first - p) // 16 * 16 + p for n, p in zip(size, patch, strict=True)]
    large = whole(network, image[(slice(None), *[slice(first, first + n) for n in fits])])
    assert min(large.shape[1:]) >= 100
    found = predict_scores(network, image, patch, EXACT)
    assert found.shape == (2, *size)
    there = tuple(slice(first + 92, first + 92 + n) for n in large.shape[1:])
    assert torch.allclose(found[(slice(None), *there)], large, atol=1e-5)
    assert large.std() > 0.1


def test_with_valid_convolutions_overlap_changes_nothing() -> None:
    network, image = valid(2, 1), noise(2, 30, 25)
    one = predict_scores(network, image, (20, 24), EXACT)
    other = predict_scores(network, image, (20, 24), WindowConfig(precision="fp32", overlap=0.9))
    assert torch.equal(one, other)


def test_each_voxel_of_a_valid_map_is_predicted_once() -> None:
    network = valid(2, 1)
    seen: list[torch.Size] = []
    network.register_forward_hook(lambda module, given, made: seen.append(given[0].shape))
    predict_scores(network, noise(2, 24, 16), (24, 24), WindowConfig(precision="fp32", batch=4))
    assert sum(shape[0] for shape in seen) == 6  # tiles of 8 x 8


def test_a_patch_too_small_for_valid_convolutions_is_refused() -> None:
    with pytest.raises(ConfigError, match="too small"):
        predict_scores(valid(2, 2), noise(2, 30, 30), (20, 20), EXACT)


# ---- padded convolutions: blended tiles


@quick
@given(
    st.sampled_from([2, 3]),
    st.data(),
    st.sampled_from([0.0, 0.25, 0.5, 0.75, 0.9]),
    st.integers(1, 5),
)
def test_a_network_that_sees_one_voxel_gives_the_same_in_tiles(
    rank: int, data: st.DataObject, overlap: float, batch: int
) -> None:
    sides = st.integers(1, 40 if rank == 2 else 13)
    size = data.draw(st.tuples(*[sides] * rank))
    patch = data.draw(st.tuples(*[st.integers(4, 12)] * rank))
    network, image = pointwise(rank), noise(1, *size)
    found = predict_scores(network, image, patch, WindowConfig(overlap=overlap, batch=batch, precision="fp32"))
    assert found.shape == (3, *size)
    assert found.dtype == torch.float32
    assert torch.allclose(found, whole(network, image), atol=1e-5)


def constant(network: UNet) -> UNet:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.decoder.heads[0].bias.copy_(torch.tensor([2.5, -1.0]))
    return network


@pytest.mark.parametrize("network", [constant(padded(2, 2)), constant(valid(2, 1))], ids=["same", "valid"])
@pytest.mark.parametrize("size", [(7, 9), (20, 20), (53, 38)])
def test_a_constant_network_gives_a_constant_map(network: UNet, size: tuple[int, int]) -> None:
    found = predict_scores(network, noise(2, *size), (20, 20), EXACT)
    assert torch.allclose(found[0], torch.tensor(2.5))
    assert torch.allclose(found[1], torch.tensor(-1.0))


@pytest.mark.parametrize("rank", [2, 3])
def test_an_image_of_one_tile_is_one_pass(rank: int) -> None:
    network, image = padded(rank), noise(1, *[16] * rank)
    assert torch.allclose(predict_scores(network, image, (16,) * rank, EXACT), whole(network, image), atol=1e-5)


@pytest.mark.parametrize(("size", "before"), [((9, 12), (3, 2)), ((16, 7), (0, 4)), ((1, 1), (7, 7))])
def test_an_image_smaller_than_a_tile_lies_in_the_middle_of_zeros(
    size: tuple[int, int], before: tuple[int, int]
) -> None:
    network, image = padded(2), noise(1, *size)
    framed = np.zeros((1, 16, 16), np.float32)
    place = tuple(slice(first, first + n) for first, n in zip(before, size, strict=True))
    framed[(slice(None), *place)] = image
    found = predict_scores(network, image, (16, 16), EXACT)
    assert torch.allclose(found, whole(network, framed)[(slice(None), *place)], atol=1e-5)


def test_tiles_are_blended_by_their_distance_from_the_middle() -> None:
    network, image = padded(2), noise(1, 16, 24)
    found = predict_scores(network, image, (16, 16), EXACT)
    tiles = [whole(network, image[:, :, first : first + 16]) for first in (0, 8)]
    along = np.arange(16) - 7.5
    weight = torch.from_numpy(np.exp(-0.5 * (along / 2) ** 2)).clamp_min(1e-5).float()
    for column in range(24):
        near = [
            (tile[:, :, column - first], weight[column - first])
            for tile, first in zip(tiles, (0, 8), strict=True)
            if 0 <= column - first < 16
        ]
        wanted = sum(scores * share for scores, share in near) / sum(share for _, share in near)
        # the other axis gives both tiles the same weight, but for what is cut off at 1e-5
        assert torch.allclose(found[:, 6:10, column], wanted[:, 6:10], atol=1e-3)


def test_blended_tiles_say_what_the_whole_image_says() -> None:
    network, image = padded(2), noise(1, 64, 48)  # tiles begin at multiples of 16, on the whole image's pooling grid
    found, wanted = predict_scores(network, image, (32, 32), EXACT), whole(network, image)
    # two convolutions, two at half the size and two again see 8 voxels far: a tile weighs little so near its rim
    assert (found - wanted).abs().mean() < 0.02 * wanted.std()


def test_how_many_tiles_are_computed_at_a_time_changes_nothing() -> None:
    network, image = padded(2), noise(1, 40, 50)
    maps = [predict_scores(network, image, (16, 16), WindowConfig(batch=n, precision="fp32")) for n in (1, 3, 64)]
    assert all(torch.allclose(maps[0], other, atol=1e-6) for other in maps[1:])


# ---- mirrors


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1), (0, 2), (0, 1, 2)])
def test_mirrored_predictions_are_turned_back_before_they_are_averaged(axes: tuple[int, ...]) -> None:
    rank = 3
    network, image = padded(rank), noise(1, 16, 16, 16)
    wanted = []
    for count in range(len(axes) + 1):
        for some in itertools.combinations(axes, count):
            sides = [axis + 1 for axis in some]
            wanted.append(whole(network, np.flip(image, sides).copy()).flip(sides))
    found = predict_scores(network, image, (16,) * rank, WindowConfig(mirror_axes=axes, precision="fp32"))
    assert len(wanted) == 2 ** len(axes)
    assert torch.allclose(found, torch.stack(wanted).mean(dim=0), atol=1e-5)
    assert not torch.allclose(found, wanted[0], atol=1e-3)


def test_mirroring_a_network_that_sees_one_voxel_changes_nothing() -> None:
    network, image = pointwise(2), noise(1, 23, 31)
    mirrored = predict_scores(network, image, (12, 12), WindowConfig(mirror_axes=(0, 1), precision="fp32"))
    assert torch.allclose(mirrored, whole(network, image), atol=1e-5)


@pytest.mark.parametrize("axes", [(), (0,), (1,), (0, 1)], ids=["turns alone", "one flip", "the other", "both"])
def test_quarter_turns_average_every_way_to_lay_down_a_square_once(axes: tuple[int, ...]) -> None:
    network, image = padded(2), noise(1, 16, 16)
    wanted = []
    for flipped in range(1 + bool(axes)):
        for turns in range(4):
            seen = np.rot90(np.flip(image, 1) if flipped else image, turns, (1, 2))
            back = whole(network, seen.copy()).rot90(-turns, (1, 2))
            wanted.append(back.flip(1) if flipped else back)
    found = predict_scores(
        network, image, (16, 16), WindowConfig(mirror_axes=axes, quarter_turns=True, precision="fp32")
    )
    assert torch.allclose(found, torch.stack(wanted).mean(dim=0), atol=1e-5)
    assert not torch.allclose(found, wanted[0], atol=1e-3)


def test_a_turned_image_is_predicted_turned() -> None:
    network, image = padded(2), noise(1, 40, 40)
    config = WindowConfig(mirror_axes=(0, 1), quarter_turns=True, precision="fp32")
    first = predict_scores(network, image, (16, 16), config)
    turned = predict_scores(network, np.rot90(image, 1, (1, 2)), (16, 16), config)
    assert torch.allclose(turned, first.rot90(1, (1, 2)), atol=1e-5)


def square(strides: tuple[int, int], kernel: tuple[int, int]) -> UNet:
    return UNetConfig(features=2).spec(1, 2, (strides,), (kernel, (3, 3))).build()


@pytest.mark.parametrize(
    ("network", "patch", "message"),
    [
        (padded(3), (16, 16, 16), "is for 2D images, and these have 3 axes"),
        (padded(2), (16, 24), "wants square tiles, and these are 16x24"),
        (square((2, 1), (3, 3)), (16, 16), "wants square strides, and these are 2x1"),
        (square((2, 2), (3, 1)), (16, 16), "wants square kernels, and these are 3x1"),
    ],
    ids=["volumes", "tiles", "strides", "kernels"],
)
def test_quarter_turns_are_refused_where_a_turned_tile_is_another(
    network: UNet, patch: tuple[int, ...], message: str
) -> None:
    WindowConfig().refuse_unfit(patch, network.spec.encoder.strides, network.spec.encoder.kernels)
    with pytest.raises(ConfigError, match=message):
        WindowConfig(quarter_turns=True).refuse_unfit(patch, network.spec.encoder.strides, network.spec.encoder.kernels)


def test_an_axis_that_the_image_has_not_is_no_mirror() -> None:
    network, image = padded(2), noise(1, 16, 16)
    found = predict_scores(network, image, (16, 16), WindowConfig(mirror_axes=(2,), precision="fp32"))
    assert torch.allclose(found, whole(network, image), atol=1e-5)


@pytest.mark.parametrize("bad", [{"mirror_axes": (-1,)}, {"overlap": 1.0}, {"overlap": -0.1}, {"batch": 0}])
def test_settings_that_make_no_sense_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(bad))):
        WindowConfig.model_validate(bad)


# ---- numbers


def test_scores_are_float32_without_a_gradient_whatever_was_computed_in() -> None:
    network, image = padded(2), noise(1, 20, 20)
    low = predict_scores(network, image, (16, 16), WindowConfig(precision="bf16"))
    high = predict_scores(network, image, (16, 16), EXACT)
    assert low.dtype == high.dtype == torch.float32
    assert not low.requires_grad
    assert 0 < (low - high).abs().max() < 0.1


def test_half_precision_images_and_turned_views_are_taken_as_they_are() -> None:
    network, image = padded(2), noise(1, 20, 24)
    half = image.astype(np.float16)
    wanted = predict_scores(network, half.astype(np.float32), (16, 16), EXACT)
    assert torch.equal(predict_scores(network, half, (16, 16), EXACT), wanted)
    view = np.asfortranarray(half)[:, ::-1][:, ::-1]
    assert torch.equal(predict_scores(network, view, (16, 16), EXACT), wanted)


def test_only_the_finest_head_draws() -> None:
    torch.manual_seed(0)
    config = UNetConfig(features=3, norm="none")
    network = config.spec(1, 2, ((2, 2),) * 3, ((3, 3),) * 4).build().eval()
    assert isinstance(network.decoder.heads, nn.ModuleList)
    assert len(network.decoder.heads) == 2
    image = noise(1, 16, 16)
    assert torch.allclose(predict_scores(network, image, (16, 16), EXACT), whole(network, image), atol=1e-5)
