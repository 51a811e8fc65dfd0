"""Undercomplete autoencoder: a code that could hold the identity is refused."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.core.errors import ConfigError
from segpipe.learn.objectives.autoencoder import Autoencoder
from tests.learn.objectives.small import batch, few_steps, phantoms, spec


def test_a_code_that_could_hold_the_identity_is_refused_and_the_message_says_what_fits() -> None:
    with pytest.raises(ConfigError, match=r"16 channels has 1 times .* patch of 16x16 .* copy") as caught:
        Autoencoder().build(spec(), (16, 16))
    assert "\n" not in str(caught.value)
    (largest,) = re.findall(r"code_channels to (\d+) or less", str(caught.value))
    assert Autoencoder(code_channels=int(largest)).build(spec(), (16, 16)).ratio < 1
    with pytest.raises(ConfigError):
        Autoencoder(code_channels=int(largest) + 1).build(spec(), (16, 16))


def test_where_no_channel_would_fit_no_number_is_proposed() -> None:
    flat = spec(strides=((1, 1), (1, 1)))
    with pytest.raises(ConfigError, match=r"copy\. Use sparse"):
        Autoencoder(code_channels=1).build(flat, (16, 16))


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([2, 3]), st.integers(1, 3), st.integers(1, 40), st.data())
def test_what_is_built_has_fewer_values_in_its_code_than_in_its_patch(
    rank: int, channels: int, code: int, data: st.DataObject
) -> None:
    patch = data.draw(st.tuples(*[st.integers(5, 12)] * rank))
    try:
        task = Autoencoder(code_channels=code).build(spec(rank, in_channels=channels), patch)
    except ConfigError:
        sizes = spec(rank).sizes(patch)[-1]
        assert code * torch.Size(sizes).numel() >= channels * torch.Size(patch).numel()
        return
    image = torch.zeros(1, channels, *patch)
    assert task.code(image).numel() < image.numel()
    assert task.code(image).shape[1] == code


def test_in_3d_the_encoders_own_code_is_small_enough() -> None:
    assert Autoencoder().build(spec(3), (8, 8, 8)).ratio == 16 / 64


def test_the_loss_is_the_mean_distance_of_a_voxel() -> None:
    torch.manual_seed(0)
    image = phantoms((16, 16))
    for distance, expected in (("mse", lambda x: (x**2).mean()), ("l1", lambda x: abs(x).mean())):
        task = Autoencoder(code_channels=4, distance=distance).build(spec(), (16, 16))
        difference = (task.reconstruct(image) - image).detach().numpy()
        losses = task(batch(image))
        assert float(losses["reconstruction"].detach()) == pytest.approx(float(expected(difference)), rel=1e-5)


def test_one_channel_tells_less_than_eight() -> None:
    image = phantoms((16, 16), count=4)
    found = []
    for channels in (1, 8):
        torch.manual_seed(0)
        task = Autoencoder(code_channels=channels).build(spec(), (16, 16))
        few_steps(task, image, steps=40)
        found.append(task.eval().figures(image)["mse"])
    assert found[1] < found[0]
