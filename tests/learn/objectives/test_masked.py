"""Masks: how much they take out, in blocks; what is compared."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from segpipe.core.errors import ConfigError
from segpipe.learn.objectives.masked import Masked, MaskedTask, block_counts, block_mask
from tests.learn.objectives.small import batch, few_steps, phantoms, spec

IMAGE = phantoms((16, 16))


def built(**settings: object) -> MaskedTask:
    torch.manual_seed(0)
    return Masked.model_validate({"block": 4} | settings).build(spec(), (16, 16))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([2, 3]), st.floats(0.05, 0.95), st.integers(0, 99), st.data())
def test_a_mask_takes_out_whole_blocks_as_many_in_each_patch(
    rank: int, share: float, seed: int, data: st.DataObject
) -> None:
    size = data.draw(st.tuples(*[st.integers(1, 12)] * rank))
    block = data.draw(st.tuples(*[st.integers(1, 5)] * rank))
    mask = block_mask(3, size, block, share, torch.Generator().manual_seed(seed))
    assert mask.shape == (3, 1, *size)
    first = mask[(..., *[slice(None, None, edge) for edge in block])]
    assert tuple(first.shape[2:]) == block_counts(size, block)
    assert first.flatten(1).sum(1).tolist() == [round(share * math.prod(block_counts(size, block)))] * 3
    for axis, edge in enumerate(block):
        first = first.repeat_interleave(edge, axis + 2).narrow(axis + 2, 0, size[axis])
    assert torch.equal(first, mask)


def test_every_block_is_taken_out_as_often_and_patches_differ() -> None:
    mask = block_mask(2000, (8, 8), (4, 4), 0.25, torch.Generator().manual_seed(0))
    often = mask.float().mean(0)[0, ::4, ::4]
    assert bool((often - 0.25).abs().max() < 0.04)


def test_where_blocks_divide_the_patch_the_share_is_that_of_voxels() -> None:
    assert float(built(share=0.75).mask(IMAGE).float().mean()) == 0.75


@pytest.mark.parametrize("fill", ["mean", "zero"])
def test_nothing_of_what_is_taken_out_is_left(fill: str) -> None:
    task = built(fill=fill)
    mask = task.mask(IMAGE)
    other = torch.where(mask, torch.randn(IMAGE.shape), IMAGE)
    assert torch.equal(task.masked(IMAGE, mask), task.masked(other, mask))
    left = task.masked(IMAGE, mask)
    assert torch.equal(left[~mask], IMAGE[~mask])
    for image, where, result in zip(IMAGE, mask, left, strict=True):
        expected = image[~where].mean() if fill == "mean" else torch.tensor(0.0)
        torch.testing.assert_close(result[where], expected.expand(int(where.sum())))


def test_the_network_sees_what_is_left_only() -> None:
    task = built()
    seen: list[Tensor] = []

    def draw(image: Tensor) -> Tensor:
        seen.append(image)
        return image

    task.reconstruct = draw  # type: ignore[method-assign]
    torch.manual_seed(5)
    task(batch(IMAGE))
    torch.manual_seed(5)
    assert torch.equal(seen[0], task.masked(IMAGE, task.mask(IMAGE)))
    assert not torch.equal(seen[0], IMAGE)


def gradient_of_the_drawing(loss_on: str) -> tuple[Tensor, Tensor, float]:
    task = built(loss_on=loss_on)
    drawn = torch.zeros_like(IMAGE, requires_grad=True)
    mask = block_mask(len(IMAGE), (16, 16), (4, 4), 0.6, torch.Generator().manual_seed(0))
    task.mask = lambda image, seed=None: mask  # type: ignore[method-assign]
    task.reconstruct = lambda image: drawn  # type: ignore[method-assign]
    loss = task(batch(IMAGE))["reconstruction"]
    loss.backward()
    assert drawn.grad is not None
    return drawn.grad, mask, float(loss.detach())


def test_voxels_that_were_seen_do_not_enter_the_loss() -> None:
    gradient, mask, loss = gradient_of_the_drawing("masked")
    assert bool((gradient[~mask] == 0).all())
    assert bool((gradient[mask] != 0).all())
    assert loss == pytest.approx(float(IMAGE[mask].square().mean()), rel=1e-5)


def test_all_voxels_enter_it_where_asked_for() -> None:
    gradient, _, loss = gradient_of_the_drawing("all")
    assert bool((gradient != 0).all())
    assert loss == pytest.approx(float(IMAGE.square().mean()), rel=1e-5)


@pytest.mark.parametrize("skips", [False, True])
def test_the_blocks_that_were_taken_out_are_drawn(skips: bool) -> None:
    task = built(skips=skips, share=0.5)
    few_steps(task, IMAGE, steps=60)
    assert task.eval().figures(IMAGE)["masked_mse"] < 0.6
    assert task.decoder.skips is skips


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"block": 16}, "1 block"),
        ({"block": 8, "share": 0.1}, "none or all"),
        ({"block": 8, "share": 0.9}, "none or all"),
        ({"block": (4, 4, 4)}, "3 values for 2 axes"),
    ],
)
def test_masks_that_take_out_nothing_or_all_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        built(**settings)


def test_blocks_may_be_flat() -> None:
    assert built(block=(2, 8)).block == (2, 8)
