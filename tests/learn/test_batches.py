import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.learn.batches import Batch, PatchSampler, SamplingConfig, ahead, cut
from tests.learn.conftest import MakeCase


def sampler(make_case: MakeCase, patch: tuple[int, ...] = (8, 8, 8), **changes: object) -> PatchSampler:
    cases = [make_case(name, (12, 7, 20)[: len(patch)]) for name in ("a", "b", "c")]
    options = {"batch": 3, "seed": 0, "config": SamplingConfig()} | changes
    return PatchSampler(cases, patch, **options)  # type: ignore[arg-type]


def same(one: Batch, other: Batch) -> bool:
    return one.cases == other.cases and torch.equal(one.image, other.image) and torch.equal(one.target, other.target)


def test_the_batch_of_a_step_is_the_same_whenever_it_is_asked_for(make_case: MakeCase) -> None:
    draw = sampler(make_case)
    later = [draw(step) for step in (7, 3, 7)]
    assert same(later[0], later[2])
    assert not same(later[0], later[1])


def test_another_seed_draws_other_patches(make_case: MakeCase) -> None:
    assert not same(sampler(make_case)(0), sampler(make_case, seed=1)(0))


def test_reading_ahead_changes_nothing(make_case: MakeCase) -> None:
    draw = sampler(make_case)
    assert all(same(batch, draw(step)) for step, batch in enumerate(ahead(draw, 2, 6), start=2))


@pytest.mark.parametrize("patch", [(8, 8), (8, 8, 8)])
def test_shapes_hold_in_2d_and_3d(make_case: MakeCase, patch: tuple[int, ...]) -> None:
    batch = sampler(make_case, patch)(0)
    assert batch.image.shape == batch.target.shape == (3, 1, *patch)
    assert batch.image.dtype == torch.float32
    assert batch.weight is None


def test_with_full_foreground_share_every_patch_holds_a_labelled_voxel(make_case: MakeCase) -> None:
    draw = sampler(make_case, (4, 4, 4), config=SamplingConfig(foreground=1.0))
    assert all((draw(step).target == 1).flatten(1).any(dim=1).all() for step in range(20))


def test_without_it_some_patches_hold_none(make_case: MakeCase) -> None:
    draw = sampler(make_case, (4, 4, 4), config=SamplingConfig(foreground=0.0))
    assert not all((draw(step).target == 1).flatten(1).any(dim=1).all() for step in range(20))


def test_an_image_smaller_than_the_patch_lies_in_the_middle_of_zeros(make_case: MakeCase) -> None:
    case = make_case("small", (4, 4, 4))
    batch = PatchSampler([case], (8, 8, 8), 1, 0, SamplingConfig())(0)
    assert np.array_equal(batch.image[0, :, 2:6, 2:6, 2:6], case.image.astype(np.float32))
    assert batch.image.abs().sum() == batch.image[0, :, 2:6, 2:6, 2:6].abs().sum()


@settings(deadline=None, max_examples=60)
@given(st.integers(-9, 9), st.integers(1, 9), st.integers(1, 6))
def test_cutting_beyond_the_rim_gives_zeros_there(start: int, size: int, count: int) -> None:
    array = np.arange(1, count + 1)[None]
    part = cut(array, [start], [size])
    wanted = [start + k + 1 if 0 <= start + k < count else 0 for k in range(size)]
    assert part.tolist() == [wanted]
