"""The U-Net: the published sizes, any size with padding, and nothing shifted."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn

from segpipe.config import load_config
from segpipe.core.errors import ConfigError
from segpipe.dataset.topology import topology_for
from segpipe.imaging.weights import BorderWeight
from segpipe.nets.cost import even_patch
from segpipe.nets.encoder import Encoder
from segpipe.nets.unet import UNet, UNetConfig, UNetSpec
from segpipe.shipped import shipped_folder

quick = settings(max_examples=25, deadline=None)
ORIGINAL = UNetConfig(
    features=64, max_features=1024, norm="none", activation="relu", padding="valid", deep_supervision=False
)


def original(rank: int = 2, depth: int = 4, **changes: object) -> UNetSpec:
    """Return the form of Ronneberger et al. 2015, or of Çiçek et al. 2016."""
    config = UNetConfig.model_validate(ORIGINAL.model_dump() | changes)
    return config.spec(1, 2, ((2,) * rank,) * depth, ((3,) * rank,) * (depth + 1))


def padded(strides: tuple[tuple[int, ...], ...], kernels: tuple[tuple[int, ...], ...] | None = None) -> UNetSpec:
    rank = len(strides[0])
    config = UNetConfig(features=2, norm="none", deep_supervision=False)
    return config.spec(1, 2, strides, kernels or ((3,) * rank,) * (len(strides) + 1))


def measured(network: UNet, size: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the sizes of the tensors that come out of each block, in order."""
    seen: list[tuple[int, ...]] = []
    blocks = [*network.encoder.blocks, *network.decoder.blocks]
    hooks = [
        block.register_forward_hook(lambda module, given, made: seen.append(tuple(made.shape[2:]))) for block in blocks
    ]
    with torch.inference_mode():
        out = network(torch.zeros(1, 1, *size))
    for hook in hooks:
        hook.remove()
    assert tuple(out.shape[2:]) == seen[-1]
    return seen


# ---- the published form


def test_the_2d_sizes_are_the_published_ones_at_every_level() -> None:
    published = [568, 280, 136, 64, 28, 52, 100, 196, 388]
    wanted = [(n, n) for n in published]
    assert original().sizes((572, 572)) == wanted
    assert original().output_size((572, 572)) == (388, 388)
    assert original().margin((572, 572)) == (92, 92)
    assert measured(original(features=1, max_features=2).build(), (572, 572)) == wanted


def test_the_3d_sizes_are_those_of_cicek_2016() -> None:
    spec = original(3, depth=3)
    assert spec.output_size((132, 132, 116)) == (44, 44, 28)
    assert spec.sizes((132, 132, 116))[:4] == [(128, 128, 112), (60, 60, 52), (26, 26, 22), (9, 9, 7)]


def test_the_3d_sizes_of_cicek_2016_are_those_of_real_tensors() -> None:
    spec = original(3, depth=3, features=1, max_features=1)
    assert measured(spec.build(), (132, 132, 116)) == spec.sizes((132, 132, 116))


def test_the_published_network_has_the_published_number_of_weights() -> None:
    def conv(before: int, after: int, k: int = 3) -> int:
        return k * k * before * after + after

    widths = (64, 128, 256, 512, 1024)
    down = conv(1, 64) + sum(conv(a, b) for a, b in itertools.pairwise(widths)) + sum(conv(w, w) for w in widths)
    up = sum(conv(2 * w, w, 2) + conv(2 * w, w) + conv(w, w) for w in widths[:-1])
    with torch.device("meta"):
        network = original().build()
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == down + up + conv(64, 2, 1) == 31_030_658
    assert sum(isinstance(m, nn.Conv2d | nn.ConvTranspose2d) for m in network.modules()) == 23  # "in total 23"


def test_the_config_of_isbi_2012_builds_the_published_network() -> None:
    config = load_config(shipped_folder("configs") / "isbi2012.yaml", ["ingest.source.root=data"])
    patch = config.preprocess.plan.patch
    assert patch == (572, 572)
    topology = topology_for(patch, (1.0, 1.0), config.preprocess.plan.depth)
    spec = config.model.spec(1, 2, topology.strides, topology.kernels)
    assert even_patch(spec, patch) == patch
    assert spec.encoder.widths == (64, 128, 256, 512, 1024)
    assert spec.sizes(patch) == original().sizes((572, 572))
    assert spec.output_size(patch) == (388, 388)
    with torch.device("meta"):
        network = spec.build()
    assert sum(parameter.numel() for parameter in network.parameters()) == 31_030_658
    kinds = {type(module) for module in network.modules() if not list(module.children())}
    assert kinds == {nn.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d, nn.ReLU, nn.Identity, nn.Dropout2d}
    assert all(parameter.ndim == 1 or name.endswith("weight") for name, parameter in network.named_parameters())
    assert network.encoder.dropout.p == config.model.dropout > 0
    assert config.model.first_weights == spec.encoder.first_weights == "he_2015"
    assert isinstance(config.preprocess.weight, BorderWeight)
    assert (config.preprocess.weight.w0, config.preprocess.weight.sigma_voxels) == (10, 5)
    assert config.preprocess.plan.batch == 1


def identity_of_the_finest_skip(network: UNet) -> None:
    """Let the network hand its image through the first skip and add nothing."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for layer in [*network.encoder.blocks[0], *network.decoder.blocks[-1], network.decoder.heads[0]]:
            if isinstance(layer, nn.Conv2d | nn.Conv3d):
                layer.weight[(0, 0, *[k // 2 for k in layer.kernel_size])] = 1


@pytest.mark.parametrize(("rank", "size"), [(2, (92, 124)), (3, (44, 52, 60))])
def test_a_valid_map_is_the_middle_of_its_image(rank: int, size: tuple[int, ...]) -> None:
    spec = original(rank, depth=2, features=2, max_features=4)
    network = spec.build()
    identity_of_the_finest_skip(network)
    image = torch.rand(1, 1, *size)
    rim = spec.margin(size)
    inside = tuple(slice(m, n - m) for m, n in zip(rim, size, strict=True))
    assert torch.equal(network(image)[:, :1], image[(slice(None), slice(None), *inside)])


def test_an_image_too_small_for_valid_convolutions_is_refused_in_one_line() -> None:
    spec = original()
    assert spec.output_size((188, 188)) == (4, 4)
    with pytest.raises(ConfigError, match=r"patch of 139x572 voxels is too small for 4 steps of 'valid'") as caught:
        spec.sizes((139, 572))
    assert "\n" not in str(caught.value)


# ---- padding: any size


@quick
@given(st.sampled_from([2, 3]), st.integers(1, 3), st.data())
def test_with_same_padding_any_size_comes_back_whole(rank: int, depth: int, data: st.DataObject) -> None:
    size = data.draw(st.tuples(*[st.integers(1, 37 if rank == 2 else 15)] * rank))
    strides = tuple(data.draw(st.tuples(*[st.integers(1, 2)] * rank)) for _ in range(depth))
    kernels = tuple(data.draw(st.tuples(*[st.sampled_from([1, 3])] * rank)) for _ in range(depth + 1))
    spec = padded(strides, kernels)
    assert spec.output_size(size) == size
    assert spec.margin(size) == (0,) * rank
    assert measured(spec.build(), size) == spec.sizes(size)


def test_with_same_padding_the_skip_hands_an_image_through_unmoved() -> None:
    for size in ((21, 34), (7, 7), (1, 5), (16, 16)):
        network = padded(((2, 2), (2, 2))).build()
        identity_of_the_finest_skip(network)
        image = torch.rand(1, 1, *size)
        assert torch.equal(network(image)[:, :1], image)


def seen_by(network: UNet, size: tuple[int, ...], voxel: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return the first and last input voxel along each axis that an output voxel depends on."""
    image = torch.ones(1, 1, *size, dtype=torch.float64, requires_grad=True)
    network(image)[(0, 0, *voxel)].backward()
    assert isinstance(image.grad, Tensor)
    hits = image.grad[0, 0].nonzero()
    return list(zip(hits.amin(dim=0).tolist(), hits.amax(dim=0).tolist(), strict=True))


def linear(spec: UNetSpec, *, skips: bool) -> UNet:
    """Return a network of ones that averages where it would take the largest; without skips, what is below counts."""
    network = spec.build()
    pool = {2: nn.AvgPool2d, 3: nn.AvgPool3d}[spec.encoder.rank]
    network.encoder.pools = nn.ModuleList(
        pool(stride, stride, ceil_mode=spec.encoder.padding == "same", count_include_pad=False)
        for stride in spec.encoder.strides
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.01 if parameter.ndim > 1 else 0)
        for block, width in zip(network.decoder.blocks, reversed(spec.encoder.widths[:-1]), strict=True):
            block[0].weight[:, : 0 if skips else width] = 0
    return network.double()


@pytest.mark.parametrize("skips", [True, False])
@pytest.mark.parametrize(
    ("spec", "size"),
    [
        (padded(((2, 2), (2, 2))), (61, 58)),
        (padded(((2, 2), (2, 2))), (59, 63)),
        (padded(((1, 2), (2, 2)), ((1, 3), (3, 3), (3, 3))), (45, 63)),
        (padded(((1, 2, 2), (2, 1, 2)), ((1, 3, 3), (3, 3, 3), (3, 1, 3))), (31, 39, 53)),
        (original(depth=2, features=2, max_features=2), (92, 92)),
        (original(3, depth=1, features=1, max_features=1), (28, 32, 28)),
    ],
    ids=["odd_even", "odd_odd", "anisotropic", "3d", "valid", "valid_3d"],
)
def test_an_output_voxel_sees_the_input_around_itself(spec: UNetSpec, size: tuple[int, ...], skips: bool) -> None:
    network = linear(spec, skips=skips)
    out = spec.output_size(size)
    rim = spec.margin(size)
    pools = [int(torch.tensor(step).prod()) for step in zip(*spec.encoder.strides, strict=True)]
    for axis, pool in enumerate(pools):
        # voxels of one pooling cell see the same surroundings: over the cell, they are centred
        cell = (rim[axis] + out[axis] // 2) // pool * pool - rim[axis]
        shifts = []
        for inside in range(pool):
            voxel = [n // 2 for n in out]
            voxel[axis] = cell + inside
            first, last = seen_by(network, size, tuple(voxel))[axis]
            assert last - first > 8
            assert first > 0
            assert last < size[axis] - 1
            shifts.append((first + last) / 2 - (voxel[axis] + rim[axis]))
        assert sum(shifts) == pytest.approx(0)
        assert max(map(abs, shifts)) <= (pool - 1) / 2


@pytest.mark.parametrize("norm", ["instance", "group", "none"])
@pytest.mark.parametrize("training", [True, False])
def test_a_bottleneck_of_one_voxel_works(norm: str, training: bool) -> None:
    config = UNetConfig.model_validate({"features": 8, "norm": norm})
    network = config.spec(1, 3, ((2, 2, 2),) * 3, ((3, 3, 3),) * 4).build().train(training)
    image = torch.randn(1, 1, 8, 8, 8)
    assert network.encoder(image)[-1].shape[2:] == (1, 1, 1)
    maps = network.maps(image)
    sum(found.square().mean() for found in maps).backward()
    assert all(torch.isfinite(found).all() for found in maps)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


# ---- heads and settings


def test_deep_supervision_gives_a_head_a_level_but_the_coarsest() -> None:
    spec = UNetConfig(features=2).spec(1, 3, ((1, 2, 2), (2, 2, 2), (2, 2, 2)), ((1, 3, 3), *((3, 3, 3),) * 3))
    network = spec.build()
    size = (12, 17, 16)
    maps = network.maps(torch.randn(1, 1, *size))
    assert [tuple(found.shape[1:]) for found in maps] == [(3, 12, 17, 16), (3, 12, 9, 8)]
    assert [tuple(found.shape[2:]) for found in maps] == spec.encoder.sizes(size)[:2]
    assert torch.equal(network(torch.ones(1, 1, *size)), network.maps(torch.ones(1, 1, *size))[0])


def test_widths_double_up_to_a_limit_unless_they_are_chosen() -> None:
    strides, kernels = ((2, 2),) * 4, ((3, 3),) * 5
    assert UNetConfig().spec(1, 2, strides, kernels).encoder.widths == (32, 64, 128, 256, 320)
    chosen = UNetConfig(widths=(3, 5, 7, 9, 11))
    assert chosen.spec(1, 2, strides, kernels).encoder.widths == (3, 5, 7, 9, 11)
    with pytest.raises(ConfigError, match=r"model\.widths has 5 values; 2 encoding steps and the middle need 3"):
        chosen.spec(1, 2, strides[:2], kernels[:3])


def test_deep_supervision_does_not_go_with_valid_convolutions() -> None:
    with pytest.raises(ValidationError, match=r"model\.deep_supervision=false"):
        UNetConfig(padding="valid", deep_supervision=True)


def test_one_convolution_a_step_and_three_work_too() -> None:
    for count in (1, 3):
        config = UNetConfig(features=2, convolutions=count, deep_supervision=False)
        network = config.spec(2, 2, ((2, 2),), ((3, 3),) * 2).build()
        assert network(torch.randn(1, 2, 9, 9)).shape == (1, 2, 9, 9)
        assert sum(isinstance(m, nn.Conv2d) for m in network.modules()) == 3 * count + 1


def test_the_same_random_state_gives_the_same_network() -> None:
    spec = padded(((2, 2),))
    networks = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        networks.append(spec.build())
    image = torch.randn(1, 1, 9, 9)
    assert torch.equal(networks[0](image), networks[1](image))
    assert not torch.allclose(networks[0](image), networks[2](image))


def test_a_spec_says_all_that_a_file_needs() -> None:
    spec = padded(((1, 2, 2), (2, 2, 2)))
    back = UNetSpec.model_validate_json(spec.model_dump_json())
    assert back == spec
    assert isinstance(back.build().encoder, Encoder)
