import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import ndimage

from segpipe.learn.augment import AugmentConfig, augmented
from segpipe.learn.batches import Batch
from segpipe.learn.sides import Swap

SHARES = (
    *("spatial", "elastic", "bias_field", "noise", "blur", "brightness", "contrast", "low_resolution"),
    *("gamma", "gamma_inverted"),
)
NOTHING = AugmentConfig(mirror_axes=(), **dict.fromkeys(SHARES, 0.0))  # type: ignore[arg-type]
EVERYTHING = AugmentConfig(mirror_axes=(0, 1), **dict.fromkeys(SHARES, 1.0))  # type: ignore[arg-type]
SIZE = (20, 24, 28)


def batch(shape: tuple[int, ...] = SIZE, count: int = 4) -> Batch:
    """Return smooth images whose target is where they are bright."""
    rng = np.random.default_rng(0)
    image = ndimage.gaussian_filter(rng.normal(size=(count, 1, *shape)), (0, 0, *[3] * len(shape)))
    image = (image / image.std()).astype(np.float32)
    return Batch(torch.from_numpy(image), torch.from_numpy((image > 0.5).astype(np.uint8)), None, tuple("abcd"[:count]))


def changed(config: AugmentConfig, step: int = 0, spacing: tuple[float, ...] = (1.0, 1.0, 1.0)) -> tuple[Batch, Batch]:
    before = batch(SIZE[: len(spacing)])
    return before, augmented(before, config, spacing, 0, step)


def part(whole: Batch, first: int, last: int) -> Batch:
    """Return what one of several processes holds of a batch."""
    weight = None if whole.weight is None else whole.weight[first:last]
    return Batch(whole.image[first:last], whole.target[first:last], weight, whole.cases[first:last], first)


def test_with_every_share_at_zero_nothing_changes() -> None:
    before, after = changed(NOTHING)
    assert torch.equal(before.image, after.image)
    assert torch.equal(before.target, after.target)


def test_the_same_step_is_varied_in_the_same_way() -> None:
    first, again, other = (changed(EVERYTHING, step)[1] for step in (5, 5, 6))
    assert torch.equal(first.image, again.image)
    assert not torch.equal(first.image, other.image)


@pytest.mark.parametrize("config", [AugmentConfig(), EVERYTHING], ids=["default", "everything"])
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.0, 1.0, 1.0), (0.5, 1.0, 4.0)])
def test_a_part_of_a_batch_is_varied_as_within_the_whole(config: AugmentConfig, spacing: tuple[float, ...]) -> None:
    whole = batch(SIZE[: len(spacing)])
    whole = whole._replace(weight=whole.target.float() + 1)
    swap = Swap((1, 0), channels=False)
    for step in range(3):
        wanted = augmented(whole, config, spacing, 7, step, swap)
        for first, last in ((0, 1), (1, 2), (0, 2), (2, 4), (1, 4)):
            found = augmented(part(whole, first, last), config, spacing, 7, step, swap)
            assert torch.equal(found.image, wanted.image[first:last])
            assert torch.equal(found.target, wanted.target[first:last])
            assert found.weight is not None
            assert wanted.weight is not None
            assert torch.equal(found.weight, wanted.weight[first:last])
            assert found.first == first


def test_patches_that_are_alike_are_varied_each_in_its_own_way() -> None:
    one = batch(count=1)
    twice = one._replace(image=one.image.repeat(2, 1, 1, 1, 1), target=one.target.repeat(2, 1, 1, 1, 1))
    for share in ("spatial", "elastic", "bias_field", "noise", "gamma"):
        after = augmented(twice, NOTHING.model_copy(update={share: 1.0}), (1.0, 1.0, 1.0), 0, 0)
        assert not torch.allclose(after.image[0], after.image[1], atol=1e-3), share


def test_one_setting_does_not_disturb_another() -> None:
    _, moved = changed(NOTHING.model_copy(update={"spatial": 0.5, "elastic": 0.5}))
    _, both = changed(NOTHING.model_copy(update={"spatial": 0.5, "elastic": 0.5, "brightness": 1.0, "blur": 0.0}))
    over = (1, 2, 3, 4)
    assert torch.equal(moved.target, both.target)
    assert torch.allclose(
        moved.image - moved.image.mean(over, True), both.image - both.image.mean(over, True), atol=1e-5
    )


def test_the_batch_that_came_in_is_not_written_to() -> None:
    before = batch()
    copy = before._replace(image=before.image.clone(), target=before.target.clone())
    for step in range(4):
        augmented(before, EVERYTHING, (1.0, 1.0, 1.0), 0, step)
        augmented(before, AugmentConfig(), (1.0, 1.0, 1.0), 0, step)
    assert torch.equal(before.image, copy.image)
    assert torch.equal(before.target, copy.target)


@pytest.mark.parametrize("share", SHARES)
def test_a_share_is_how_many_patches_are_changed(share: str) -> None:
    config = NOTHING.model_copy(update={share: 0.3})
    many = batch((6, 6), 4)
    many = many._replace(image=many.image.repeat(50, 1, 1, 1), target=many.target.repeat(50, 1, 1, 1))
    after = augmented(many, config, (1.0, 1.0), 0, 0)
    # about 60 of 200; of those that are coarsened to all their 6 voxels nothing is seen
    assert 35 <= int((after.image != many.image).flatten(1).any(dim=1).sum()) <= 85


def test_all_channels_are_finite_and_keep_their_shape_with_everything_on() -> None:
    for spacing in ((1.0, 1.0), (1.0, 1.0, 1.0), (1.0, 1.0, 6.0)):
        before = batch(SIZE[: len(spacing)], 2)
        before = before._replace(image=torch.cat([before.image, 2 - before.image], dim=1))
        after = augmented(before, EVERYTHING, spacing, 0, 1)
        assert after.image.shape == before.image.shape
        assert after.image.dtype == torch.float32
        assert after.image.isfinite().all()


def test_a_constant_patch_stays_finite() -> None:
    flat = Batch(torch.zeros(2, 1, 8, 8, 8), torch.zeros(2, 1, 8, 8, 8, dtype=torch.uint8), None, ("a", "b"))
    after = augmented(flat, EVERYTHING, (1.0, 1.0, 1.0), 0, 0)
    assert after.image.isfinite().all()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"contrast_factor": (1.4, 0.7)}, "from small to large"),
        ({"low_resolution_zoom": (0.5, 1.5)}, "less than or equal to 1"),
        ({"elastic_mm": (2.0, 9.0)}, "could fold"),
        ({"noise": 1.2}, "less than or equal to 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        AugmentConfig.model_validate(wrong)


def test_every_setting_has_a_meaning() -> None:
    assert all(field.description for field in AugmentConfig.model_fields.values())
