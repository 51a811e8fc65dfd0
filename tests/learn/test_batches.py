import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.core.errors import ConfigError
from segpipe.dataset.prepare import Prepared
from segpipe.learn.batches import Batch, PatchSampler, SamplingConfig, ahead, background, cut
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


@pytest.mark.parametrize(
    ("share", "batch", "forced"), [(0.34, 2, 1), (0.34, 6, 2), (0.01, 4, 1), (0.5, 4, 2), (0, 4, 0)]
)
def test_the_last_patches_hold_a_labelled_voxel_and_one_at_least(
    make_case: MakeCase, share: float, batch: int, forced: int
) -> None:
    cases = [make_case(name, (30, 30, 30)) for name in ("a", "b")]
    draw = PatchSampler(cases, (4, 4, 4), batch, 0, SamplingConfig(foreground=share))
    labelled = torch.stack([(draw(step).target == 1).flatten(1).any(dim=1) for step in range(25)])
    assert labelled[:, batch - forced :].all()
    assert labelled[:, : batch - forced].float().mean() < 0.3


def rare(make_case: MakeCase, balance: float) -> tuple[float, float]:
    """Return how many of the labelled patches show class 2, and how many come from the only case of 4 that has it."""
    shape = (30, 30, 30)
    cases = [make_case("rare", shape, (1, 2)), make_case("empty", shape, ()), *(make_case(n, shape) for n in "abc")]
    draw = PatchSampler(cases, (3, 3, 3), 4, 0, SamplingConfig(foreground=1.0, balance=balance))
    batches = [draw(step) for step in range(200)]
    assert not any("empty" in batch.cases for batch in batches)
    shown = torch.cat([(batch.target == 2).flatten(1).any(dim=1) for batch in batches])
    return float(shown.float().mean()), float(np.mean([case == "rare" for batch in batches for case in batch.cases]))


def test_with_full_balance_a_rare_structure_is_drawn_as_often_as_any(make_case: MakeCase) -> None:
    shown, its_case = rare(make_case, 1.0)
    assert shown == pytest.approx(1 / 2, abs=0.06)
    assert its_case == pytest.approx(1 / 2 + 1 / 2 / 4, abs=0.06)


def test_without_balance_every_case_is_drawn_as_often_as_any(make_case: MakeCase) -> None:
    shown, its_case = rare(make_case, 0.0)
    assert its_case == pytest.approx(1 / 4, abs=0.06)
    assert shown == pytest.approx(1 / 8, abs=0.04)


def test_between_them_both_are_mixed(make_case: MakeCase) -> None:
    shown, _ = rare(make_case, 0.5)
    assert shown == pytest.approx((1 / 2 + 1 / 8) / 2, abs=0.05)


def test_where_nothing_is_labelled_patches_are_drawn_anywhere(make_case: MakeCase) -> None:
    draw = PatchSampler([make_case("empty", (9, 9, 9), ())], (4, 4, 4), 2, 0, SamplingConfig(foreground=1.0))
    assert draw(0).image.shape == (2, 1, 4, 4, 4)


@pytest.mark.parametrize("world", [2, 3, 6])
def test_processes_divide_the_very_batch_that_one_alone_would_draw(make_case: MakeCase, world: int) -> None:
    whole = sampler(make_case, batch=6)
    for step in (0, 9):
        parts = [sampler(make_case, batch=6, share=(rank, world))(step) for rank in range(world)]
        assert [part.first for part in parts] == [rank * 6 // world for rank in range(world)]
        together = Batch(
            torch.cat([part.image for part in parts]),
            torch.cat([part.target for part in parts]),
            None,
            tuple(case for part in parts for case in part.cases),
        )
        assert same(together, whole(step))


def test_a_patch_does_not_depend_on_how_many_others_there_are(make_case: MakeCase) -> None:
    few, many = (sampler(make_case, batch=size, config=SamplingConfig(foreground=0))(4) for size in (2, 5))
    assert torch.equal(few.image, many.image[:2])


def test_a_batch_that_cannot_be_divided_is_refused(make_case: MakeCase) -> None:
    with pytest.raises(ConfigError, match=r"3 patches cannot be divided over 2 processes.*preprocess\.plan\.batch"):
        sampler(make_case, share=(0, 2))


def test_a_batch_on_a_device_still_knows_its_place(make_case: MakeCase) -> None:
    batch = sampler(make_case, batch=4, share=(1, 2))(0)
    assert batch.to("cpu").first == 2
    assert same(batch.to("cpu"), batch)


def test_a_patch_larger_than_its_image_has_distances_that_are_far_around_it(make_case: MakeCase) -> None:
    case = make_case("small", (4, 4, 4))
    np.save(case.folder / "target.npy", np.full((2, 4, 4, 4), -0.5, np.float32))
    target = PatchSampler([case], (8, 8, 8), 1, 0, SamplingConfig())(0).target
    assert (target[:, :, 2:6, 2:6, 2:6] == -0.5).all()
    assert int((target == 1).sum()) == 2 * (8**3 - 4**3)


def test_beyond_an_image_distances_are_far_and_classes_are_background() -> None:
    distances, classes = np.full((2, 3), -0.5, np.float32), np.ones((1, 3), np.uint8)
    assert cut(distances, [-1], [5], background(distances))[0].tolist() == [1, -0.5, -0.5, -0.5, 1]
    assert cut(classes, [-1], [5], background(classes))[0].tolist() == [0, 1, 1, 1, 0]
    assert background(torch.from_numpy(distances)) == 1
    assert background(torch.from_numpy(classes)) == 0


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


# ---- mirrored rims


MIRRORED = SamplingConfig(rim="mirrored", foreground=0.5)


def numbered(make_case: MakeCase, shape: tuple[int, ...], name: str = "n") -> Prepared:
    """Return a case whose image, target and weight all tell the number of a voxel."""
    case = make_case(name, shape)
    numbers = np.arange(1, np.prod(shape) + 1).reshape(1, *shape)
    for array, kind in (("image", np.float16), ("target", np.uint8), ("weight", np.float16)):
        np.save(case.folder / f"{array}.npy", numbers.astype(kind))
    return case


@pytest.mark.parametrize(
    ("shape", "patch", "margin"),
    [
        ((15, 13), (12, 10), (4, 3)),  # 4x4 are drawn, and looked at from beyond the rim
        ((5, 7), (21, 23), (2, 3)),  # more is drawn than there is
        ((9, 9), (6, 6), (0, 0)),
        ((6, 5, 7), (6, 6, 6), (2, 2, 2)),
    ],
)
def test_a_mirrored_patch_is_cut_from_the_mirrored_image_target_and_weight_alike(
    make_case: MakeCase, shape: tuple[int, ...], patch: tuple[int, ...], margin: tuple[int, ...]
) -> None:
    case = numbered(make_case, shape)
    draw = PatchSampler([case], patch, 2, 0, MIRRORED, margin=margin)
    around = max(patch)
    large = np.pad(case.target[0], around, mode="reflect")
    starts = set()
    for step in range(30):
        batch = draw(step)
        assert batch.weight is not None
        for image, target, weight in zip(batch.image, batch.target, batch.weight, strict=True):
            assert torch.equal(image, target.float())
            assert torch.equal(weight, target.float())
            at = [
                index - around
                for index in np.argwhere(large == int(target[(0, *[0] * len(patch))]))
                if np.array_equal(large[tuple(slice(i, i + p) for i, p in zip(index, patch, strict=True))], target[0])
            ]
            assert at
            first = min(at, key=lambda one: sum(abs(one)))
            starts.add(tuple(first.tolist()))
            for place, n, p, rim in zip(first, shape, patch, margin, strict=True):
                if n >= p - 2 * rim:  # what is drawn lies inside
                    assert -rim <= place <= n - p + rim
    assert len(starts) > 1 or min(n - p for n, p in zip(shape, patch, strict=True)) < -5


def test_every_voxel_is_drawn_when_rims_are_mirrored(make_case: MakeCase) -> None:
    case = numbered(make_case, (11, 9))
    draw = PatchSampler([case], (10, 10), 2, 0, SamplingConfig(rim="mirrored", foreground=0), margin=(4, 4))
    seen = torch.cat([draw(step).target[:, 0, 4:6, 4:6].flatten() for step in range(400)])
    assert set(seen.tolist()) == set(range(1, 100))


def test_a_labelled_voxel_lies_in_what_is_drawn_of_a_patch(make_case: MakeCase) -> None:
    case = make_case("a", (31, 29))
    config = SamplingConfig(rim="mirrored", foreground=1)
    draw = PatchSampler([case], (14, 14), 2, 0, config, margin=(5, 5))
    assert all((draw(step).target[:, 0, 5:9, 5:9] == 1).flatten(1).any(dim=1).all() for step in range(40))


def test_a_margin_changes_nothing_where_patches_lie_inside(make_case: MakeCase) -> None:
    one, other = (sampler(make_case, margin=margin) for margin in ((), (2, 2, 2)))
    assert all(same(one(step), other(step)) for step in range(5))
