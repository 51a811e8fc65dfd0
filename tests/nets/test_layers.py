"""Blocks, centre cropping, and an instance norm that keeps the memory layout."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812

from segpipe.core.errors import GeometryError
from segpipe.nets.layers import (
    CHANNELS_LAST,
    CONV,
    EPS,
    UP,
    ConvBlock,
    InstanceNorm,
    activation_layer,
    center_crop,
    crop_to_smaller,
    norm_layer,
    start_weights,
)

quick = settings(max_examples=50, deadline=None)


def numbered(*size: int) -> torch.Tensor:
    return torch.arange(float(np.prod(size))).reshape(1, 1, *size)


# ---- centre crop


@pytest.mark.parametrize(
    ("have", "want", "kept"),
    [(6, 4, [1, 2, 3, 4]), (7, 3, [2, 3, 4]), (5, 4, [0, 1, 2, 3]), (6, 3, [1, 2, 3]), (4, 1, [1]), (3, 3, [0, 1, 2])],
)
def test_a_crop_keeps_the_middle_and_of_an_odd_surplus_the_first_part(have: int, want: int, kept: list[int]) -> None:
    for axis in range(3):
        size = [3, 3, 3]
        size[axis] = have
        wanted = numbered(*size).index_select(axis + 2, torch.tensor(kept))
        size[axis] = want
        assert torch.equal(center_crop(numbered(*[have if i == axis else 3 for i in range(3)]), size), wanted)


@quick
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=2, max_size=3))
def test_a_crop_has_the_size_asked_for_and_its_middle_is_the_old_middle(pairs: list[tuple[int, int]]) -> None:
    have, want = [max(pair) for pair in pairs], [min(pair) for pair in pairs]
    for axis, (before, after) in enumerate(zip(have, want, strict=True)):
        shape = [1] * len(pairs)
        shape[axis] = before
        index = torch.arange(float(before)).reshape(shape).expand(have)[None, None]
        found = center_crop(index, want)
        assert tuple(found.shape[2:]) == tuple(want)
        shift = found.mean().item() - (before - 1) / 2
        assert shift == pytest.approx(0 if (before - after) % 2 == 0 else -0.5)


@pytest.mark.parametrize("size", [(5, 4), (4, 5), (9, 9)])
def test_a_crop_to_something_larger_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(GeometryError, match=r"cannot crop \(4, 4\)"):
        center_crop(torch.zeros(1, 1, 4, 4), size)


@quick
@given(st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8)), min_size=2, max_size=3))
def test_two_maps_are_cropped_to_the_smaller_side_along_each_axis(pairs: list[tuple[int, int]]) -> None:
    a, b = numbered(*[x for x, _ in pairs]), numbered(*[y for _, y in pairs])
    size = [min(pair) for pair in pairs]
    one, other = crop_to_smaller(a, b)
    assert torch.equal(one, center_crop(a, size))
    assert torch.equal(other, center_crop(b, size))


# ---- instance norm


def by_the_book(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Return the textbook's instance norm; torch's own has wrong gradients for one channels-last image on a CPU."""
    axes, shape = tuple(range(2, x.ndim)), (1, -1, *[1] * (x.ndim - 2))
    mean, variance = x.mean(axes, keepdim=True), x.var(axes, unbiased=False, keepdim=True)
    return (x - mean) / torch.sqrt(variance + EPS) * weight.reshape(shape) + bias.reshape(shape)


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("last", [False, True])
def test_instance_norm_is_torchs_and_its_gradients_are_right(rank: int, batch: int, last: bool) -> None:
    torch.manual_seed(0)
    layer = InstanceNorm(5)
    with torch.no_grad():
        layer.weight.uniform_(-2, 2)
        layer.bias.uniform_(-1, 1)
    x = 100 + 30 * torch.randn(batch, 5, *(6, 7, 4)[:rank])
    if last:
        x = x.to(memory_format=CHANNELS_LAST[rank])
    mine, theirs = x.clone().requires_grad_(), x.double().requires_grad_()
    weight, bias = (p.detach().double().requires_grad_() for p in (layer.weight, layer.bias))
    out = layer(mine)
    wanted = by_the_book(theirs, weight, bias)
    assert torch.allclose(out, F.instance_norm(x, weight=layer.weight, bias=layer.bias, eps=EPS), atol=1e-5)
    assert torch.allclose(out.double(), wanted, atol=1e-5)
    assert out.is_contiguous(memory_format=CHANNELS_LAST[rank]) or not last
    pull = torch.randn_like(out)
    out.backward(pull)
    wanted.backward(pull.double())
    for found, expected in ((mine, theirs), (layer.weight, weight), (layer.bias, bias)):
        assert found.grad is not None
        assert expected.grad is not None
        assert torch.allclose(found.grad.double(), expected.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("rank", [2, 3])
def test_one_voxel_is_normalised_to_the_bias(rank: int) -> None:
    layer = InstanceNorm(3)
    torch.nn.init.constant_(layer.bias, 0.25)
    assert torch.allclose(layer(torch.randn(2, 3, *[1] * rank)), torch.tensor(0.25), atol=1e-3)


@pytest.mark.parametrize("rank", [2, 3])
def test_one_voxel_is_no_error_on_other_devices_either(rank: int) -> None:
    x = torch.empty(2, 3, *[1] * rank, device="meta")
    assert InstanceNorm(3).to("meta")(x).shape == x.shape


def test_each_image_of_a_batch_is_normalised_by_itself() -> None:
    layer = InstanceNorm(2)
    x = torch.randn(3, 2, 5, 5) * torch.tensor([1.0, 10, 100]).reshape(3, 1, 1, 1)
    together = layer(x)
    assert all(torch.equal(together[i : i + 1], layer(x[i : i + 1])) for i in range(3))


def test_instance_norm_is_the_same_in_training_and_in_use() -> None:
    layer, x = InstanceNorm(2), torch.randn(2, 2, 4, 4)
    assert torch.equal(layer.train()(x), layer.eval()(x))


# ---- blocks


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("norm", ["instance", "batch", "group", "none"])
@pytest.mark.parametrize("activation", ["leaky_relu", "relu", "gelu"])
def test_a_block_keeps_sizes_with_same_and_trims_with_valid(rank: int, norm: str, activation: str) -> None:
    x = torch.randn(2, 3, *(8, 9, 7)[:rank])
    for kernel in itertools.product((1, 3), repeat=rank):
        for padding in ("same", "valid"):
            block = ConvBlock([3, 4, 16], kernel, norm=norm, activation=activation, padding=padding)
            lost = [0 if padding == "same" else 2 * (k - 1) for k in kernel]
            found = block(x)
            assert found.shape == (2, 16, *[n - less for n, less in zip(x.shape[2:], lost, strict=True)])
            assert torch.isfinite(found).all()


def test_a_convolution_has_a_bias_only_where_no_normalisation_cancels_it() -> None:
    for norm, wanted in (("none", True), ("instance", False), ("batch", False), ("group", False)):
        block = ConvBlock([1, 2], (3, 3), norm=norm)
        assert (block[0].bias is not None) is wanted


def test_group_norm_takes_fewer_groups_where_there_are_few_channels() -> None:
    assert norm_layer("group", 2, 4).num_groups == 4
    assert norm_layer("group", 2, 32).num_groups == 8


def test_an_activation_is_the_one_named() -> None:
    x = torch.tensor([-1.0, 2.0])
    assert activation_layer("relu")(x.clone()).tolist() == [0, 2]
    assert activation_layer("leaky_relu")(x.clone()).tolist() == pytest.approx([-0.01, 2])
    assert torch.allclose(activation_layer("gelu")(x), F.gelu(x))


def test_fresh_weights_keep_the_variance_of_the_signal() -> None:
    torch.manual_seed(0)
    block = ConvBlock([64] * 6, (3, 3), norm="none", activation="relu", padding="same")
    for layer in block:
        if isinstance(layer, CONV[2]):
            torch.nn.init.constant_(layer.weight, 9)
            torch.nn.init.constant_(layer.bias, 9)
    start_weights(block, "relu")
    assert all((layer.bias == 0).all() for layer in block if isinstance(layer, CONV[2]))
    out = block(torch.randn(1, 64, 32, 32))
    assert 0.2 < out.pow(2).mean() < 5  # He et al. 2015: neither dies nor explodes


# ---- first weights


@pytest.mark.parametrize("rank", [2, 3])
def test_the_published_first_weights_are_gaussian_of_variance_2_over_n(rank: int) -> None:
    torch.manual_seed(0)
    conv, up = CONV[rank](64, 48, (3,) * rank), UP[rank](96, 48, (2,) * rank, (2,) * rank)
    start_weights(nn.ModuleList([conv, up]), "relu", "he_2015")
    for layer, incoming in ((conv, 64 * 3**rank), (up, 96)):  # nodes that one neuron adds up
        values = layer.weight.detach().flatten() / (2 / incoming) ** 0.5
        assert values.mean().abs() < 0.02
        assert values.var() == pytest.approx(1, rel=0.03)
        assert (values**4).mean() == pytest.approx(3, rel=0.06)  # of a uniform draw it would be 1.8
        assert not layer.bias.any()


def test_the_published_first_weights_keep_the_scale_of_what_runs_through_rectified_layers() -> None:
    torch.manual_seed(0)
    block = ConvBlock([32, *[32] * 12], (3, 3), norm="none", activation="relu", padding="valid")
    start_weights(block, "relu", "he_2015")
    signal = torch.randn(4, 32, 48, 48)
    with torch.inference_mode():
        ratio = block(signal).square().mean() / signal.square().mean()
    assert 0.2 < ratio < 5  # of variance 1 / N it would be 2^-12


def test_other_first_weights_leave_those_of_convolutions_as_they_were() -> None:
    found = []
    for kind in ("he", "he_2015"):
        torch.manual_seed(3)
        conv = CONV[2](4, 5, 3)
        start_weights(conv, "relu", kind)
        found.append(conv.weight.detach())
    assert torch.equal(*found)
