import numpy as np
import pytest
import torch
from scipy import ndimage

from segpipe.learn.augment import AugmentConfig, augmented
from segpipe.learn.batches import Batch

NOTHING = AugmentConfig(spatial=0, mirror_axes=(), contrast=0, brightness=0, gamma=0, noise=0)


def batch(shape: tuple[int, ...] = (20, 24, 28), count: int = 4) -> Batch:
    """Return smooth images whose target is where they are bright."""
    rng = np.random.default_rng(0)
    image = ndimage.gaussian_filter(rng.normal(size=(count, 1, *shape)), (0, 0, *[3] * len(shape)))
    image = (image / image.std()).astype(np.float32)
    return Batch(torch.from_numpy(image), torch.from_numpy((image > 0.5).astype(np.uint8)), None, tuple("abcd"[:count]))


def changed(config: AugmentConfig, step: int = 0, spacing: tuple[float, ...] = (1.0, 1.0, 1.0)) -> tuple[Batch, Batch]:
    before = batch((20, 24, 28)[: len(spacing)])
    return before, augmented(before, config, spacing, 0, step)


def test_with_every_share_at_zero_nothing_changes() -> None:
    before, after = changed(NOTHING)
    assert torch.allclose(before.image, after.image, atol=1e-6)
    assert torch.equal(before.target, after.target)


def test_the_same_step_is_varied_in_the_same_way() -> None:
    first, again, other = (changed(AugmentConfig(), step)[1] for step in (5, 5, 6))
    assert torch.equal(first.image, again.image)
    assert not torch.equal(first.image, other.image)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.0, 1.0, 1.0), (0.5, 1.0, 3.0)])
def test_image_and_target_move_together(spacing: tuple[float, ...]) -> None:
    _, after = changed(NOTHING.model_copy(update={"spatial": 1.0, "mirror_axes": (0,)}), spacing=spacing)
    inside = after.image != 0  # beyond the rim lie zeros
    agreement = ((after.image > 0.5) == (after.target == 1))[inside].float().mean()
    assert agreement > 0.93


def test_targets_keep_their_values() -> None:
    _, after = changed(AugmentConfig(spatial=1.0))
    assert set(after.target.unique().tolist()) <= {0, 1}
    assert after.target.dtype == torch.uint8


def test_mirroring_flips_whole_images_along_its_axes_only() -> None:
    before, after = changed(NOTHING.model_copy(update={"mirror_axes": (1,)}))
    flipped = before.image.flip(3)
    each = [
        torch.allclose(new, old, atol=1e-5) or torch.allclose(new, turned, atol=1e-5)
        for new, old, turned in zip(after.image, before.image, flipped, strict=True)
    ]
    assert all(each)
    assert any(torch.allclose(new, turned, atol=1e-5) for new, turned in zip(after.image, flipped, strict=True))


def test_a_rotation_turns_about_the_middle_by_world_angles() -> None:
    # a line along one axis of a grid with 1 x 2 mm voxels, rotated by 90 degrees at least in part of the draws
    image = torch.zeros(1, 1, 41, 21)
    image[0, 0, 20, :] = 1
    config = NOTHING.model_copy(update={"spatial": 1.0, "rotate_degrees": 90.0, "scale": (1.0, 1.0)})
    after = augmented(Batch(image, image.to(torch.uint8), None, ("a",)), config, (1.0, 2.0), 0, 3).image[0, 0]
    points = np.argwhere(after.numpy() > 0.3) * (1.0, 2.0) - (20.0, 20.0)
    _, spread, axes = np.linalg.svd(points)
    along, across = points @ axes[0], points @ axes[1]
    assert np.ptp(across) < 4  # still a line in millimetres: a rotation in voxels would have bent angles
    assert np.ptp(along) > 30
    assert spread[0] > 5 * spread[1]


def test_intensities_change_and_geometry_does_not() -> None:
    before, after = changed(NOTHING.model_copy(update={"contrast": 1.0, "brightness": 1.0, "gamma": 1.0, "noise": 1.0}))
    assert not torch.allclose(before.image, after.image)
    assert torch.equal(before.target, after.target)
    assert after.image.isfinite().all()


def test_a_constant_patch_stays_finite() -> None:
    flat = Batch(torch.zeros(2, 1, 8, 8, 8), torch.zeros(2, 1, 8, 8, 8, dtype=torch.uint8), None, ("a", "b"))
    after = augmented(flat, AugmentConfig(gamma=1.0, contrast=1.0), (1.0, 1.0, 1.0), 0, 0)
    assert after.image.isfinite().all()


def test_weights_move_with_the_image() -> None:
    before = batch()
    weighted = before._replace(weight=before.target.float() + 1)
    after = augmented(weighted, NOTHING.model_copy(update={"spatial": 1.0}), (1.0, 1.0, 1.0), 0, 0)
    assert after.weight is not None
    heavier = after.weight[after.target == 1].mean() - after.weight[(after.target == 0) & (after.weight > 0.5)].mean()
    assert heavier > 0.5
