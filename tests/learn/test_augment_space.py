import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from segpipe.imaging.targets import IGNORED
from segpipe.learn.augment_space import SpaceConfig, moved, moving_axes
from segpipe.learn.batches import Batch
from segpipe.learn.chance import Chance
from segpipe.learn.sides import Swap

STILL = SpaceConfig(spatial=0, elastic=0, mirror_axes=())
SIZE = (20, 24, 28)
MM = tuple[float, ...]


def move(batch: Batch, spacing: MM = (1.0, 1.0, 1.0), step: int = 0, swap: Swap | None = None, **how: object) -> Batch:
    chances = [Chance(0, step, index) for index in range(len(batch.image))]
    return moved(batch, STILL.model_copy(update=how), spacing, chances, swap)


def blobs(shape: tuple[int, ...] = SIZE, count: int = 4) -> Batch:
    """Return smooth images whose target is where they are bright."""
    rng = np.random.default_rng(0)
    image = ndimage.gaussian_filter(rng.normal(size=(count, 1, *shape)), (0, 0, *[3] * len(shape)))
    image = (image / image.std()).astype(np.float32)
    return Batch(torch.from_numpy(image), torch.from_numpy((image > 0.5).astype(np.uint8)), None, tuple("abcd"[:count]))


def ramps(spacing: MM, size: tuple[int, ...]) -> Batch:
    """Return an image whose channels tell where in the patch each voxel lies, in mm from its middle; the last is 1."""
    at = [(torch.arange(n) - (n - 1) / 2) * mm for n, mm in zip(size, spacing, strict=True)]
    image = torch.stack([*torch.meshgrid(*at, indexing="ij"), torch.ones(size)])[None]
    return Batch(image, torch.ones(1, 1, *size, dtype=torch.uint8), None, ("a",))


def origins(spacing: MM, size: tuple[int, ...], **how: object) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where (n, *P, mm) each voxel of a moved patch comes from, and where that is known (not beyond the rim)."""
    image = move(ramps(spacing, size), spacing, **how).image[0]  # type: ignore[arg-type]
    return image[:-1], image[-1] > 0.9999


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.0, 1.0, 1.0), (0.5, 1.0, 3.0)])
@pytest.mark.parametrize("how", [{"spatial": 1.0, "mirror_axes": (0,)}, {"elastic": 1.0}], ids=["turned", "bent"])
def test_image_and_target_move_together(spacing: MM, how: dict[str, object]) -> None:
    after = move(blobs(SIZE[: len(spacing)]), spacing, **how)  # type: ignore[arg-type]
    inside = after.image != 0  # beyond the rim lie zeros
    agreement = ((after.image > 0.5) == (after.target == 1))[inside].float().mean()
    assert agreement > 0.93
    assert set(after.target.unique().tolist()) <= {0, 1}
    assert after.target.dtype == torch.uint8


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([(1.0, 1.0), (1.0, 1.0, 1.0), (0.7, 1.5, 1.0)]))
def test_turning_keeps_angles_and_scales_all_directions_alike(step: int, spacing: MM) -> None:
    size = (24, 20, 22)[: len(spacing)]
    image, inner = origins(spacing, size, step=step, spatial=1.0)
    here = ramps(spacing, size).image[0, :-1][:, inner].T.numpy()
    matrix, *_ = np.linalg.lstsq(here, image[:, inner].T.numpy(), rcond=None)
    grown = np.linalg.norm(matrix[0])
    assert np.allclose(matrix @ matrix.T, grown**2 * np.eye(len(spacing)), atol=1e-3)
    assert np.linalg.det(matrix) > 0
    assert 1 / 1.2 - 1e-3 <= grown <= 1 / 0.85 + 1e-3
    angle = np.arccos(np.clip(np.trace(matrix) / grown / 2, -1, 1)) if len(spacing) == 2 else 0
    assert angle <= np.radians(20) + 1e-3


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([(1.0, 1.0), (1.0, 1.0, 1.0), (0.8, 1.6, 1.2)]))
def test_bending_never_folds_and_stays_within_its_largest_shift(step: int, spacing: MM) -> None:
    size = (48, 40, 44)[: len(spacing)]
    image, inner = origins(spacing, size, step=step, elastic=1.0, elastic_mm=(8.0, 8.0))
    shift = image - ramps(spacing, size).image[0, :-1]
    assert float(shift[:, inner].abs().max()) <= 8.0
    steps = [np.stack(np.gradient(at.numpy(), *spacing)) for at in image]
    volume = np.linalg.det(np.moveaxis(np.stack(steps), (0, 1), (-2, -1)))
    deep = ndimage.binary_erosion(inner.numpy(), iterations=2)
    assert volume[deep].min() > 0
    assert volume[deep].std() > 0.02  # and it does bend


def test_bending_is_smooth() -> None:
    image, inner = origins((1.0, 1.0, 1.0), (48, 40, 44), elastic=1.0, elastic_mm=(8.0, 8.0))
    shift = (image - ramps((1.0, 1.0, 1.0), (48, 40, 44)).image[0, :-1]).numpy()
    bends = [np.diff(shift, 2, axis=axis) for axis in (1, 2, 3)]
    deep = ndimage.binary_erosion(inner.numpy(), iterations=2)
    largest = max(np.abs(bend[:, deep[tuple(slice(0, n) for n in bend.shape[1:])]]).max() for bend in bends)
    assert largest < 4 * 8.0 / 20.0**2  # the second derivative of a cubic spline: at most 4 shifts over a cell squared


@pytest.mark.parametrize("how", [{"spatial": 1.0}, {"elastic": 1.0}], ids=["turned", "bent"])
def test_thick_slices_stay_what_they_are(how: dict[str, object]) -> None:
    spacing, size = (0.8, 5.0, 0.7), (40, 8, 44)
    assert moving_axes(spacing) == (0, 2)
    image, inner = origins(spacing, size, **how)
    shift = (image - ramps(spacing, size).image[0, :-1]) * inner
    assert float(shift[1].abs().max()) < 1e-3  # nothing leaves its slice
    in_plane = image[[0, 2]]
    assert torch.allclose(in_plane[:, :, 3], in_plane[:, :, 4], atol=1e-3)  # and all slices move alike
    assert float(shift[0].abs().max()) > 0.5


def test_spacing_of_three_to_one_is_not_yet_anisotropic() -> None:
    assert moving_axes((1.0, 3.0, 1.0)) == (0, 1, 2)
    assert moving_axes((3.1, 1.0, 1.0)) == (1, 2)
    assert moving_axes((1.0, 9.0)) == (0, 1)


def test_a_patch_of_a_few_millimetres_is_bent_and_not_shifted_away() -> None:
    spacing, size = (0.001, 0.001), (48, 48)
    image, inner = origins(spacing, size, elastic=1.0)
    assert int(inner.sum()) > 1000
    assert 0.0001 < float((image - ramps(spacing, size).image[0, :-1])[:, inner].abs().max()) < 0.012


def test_mirroring_flips_whole_patches_along_its_axes_only() -> None:
    before = blobs()
    after = move(before, mirror_axes=(1,))
    flipped = before.image.flip(3)
    kept = [torch.equal(new, old) for new, old in zip(after.image, before.image, strict=True)]
    turned = [torch.equal(new, old) for new, old in zip(after.image, flipped, strict=True)]
    assert all(a or b for a, b in zip(kept, turned, strict=True))
    assert any(turned)
    for index, was_turned in enumerate(turned):
        assert torch.equal(after.target[index], before.target[index].flip(2) if was_turned else before.target[index])


def test_a_side_is_traded_where_left_and_right_are_mirrored_and_nowhere_else() -> None:
    before = blobs(count=4)
    before.target[0, 0, 0, 0, 0] = IGNORED
    swap = Swap((0, 2, 1), channels=False)
    for axis in (0, 1):
        seen = set()
        for step in range(8):
            plain = move(before, step=step, mirror_axes=(axis,))
            traded = move(before, step=step, swap=swap, mirror_axes=(axis,))
            assert torch.equal(plain.image, traded.image)
            for index in range(4):
                mirrored = not torch.equal(plain.image[index], before.image[index])
                wanted = swap(plain.target[index]) if mirrored and axis == 0 else plain.target[index]
                assert torch.equal(traded.target[index], wanted)
                seen.add(mirrored)
        assert seen == {True, False}


def test_a_rotation_turns_about_the_middle_by_world_angles() -> None:
    # a line along one axis of a grid with 1 x 2 mm voxels
    image = torch.zeros(1, 1, 41, 21)
    image[0, 0, 20, :] = 1
    line = Batch(image, image.to(torch.uint8), None, ("a",))
    after = move(line, (1.0, 2.0), 3, spatial=1.0, rotate_degrees=90.0, scale=(1.0, 1.0)).image[0, 0]
    points = np.argwhere(after.numpy() > 0.3) * (1.0, 2.0) - (20.0, 20.0)
    _, spread, axes = np.linalg.svd(points)
    along, across = points @ axes[0], points @ axes[1]
    assert np.ptp(across) < 4  # still a line in millimetres: a rotation in voxels would have bent angles
    assert np.ptp(along) > 30
    assert spread[0] > 5 * spread[1]


def test_distances_move_by_the_nearest_and_what_nobody_annotated_stays_so() -> None:
    before = blobs()
    target = (before.image * 0.1).clamp(-1, 1)
    target[:, :, 8:12] = torch.nan
    after = move(before._replace(target=target), spatial=1.0, elastic=1.0)
    assert after.target.isnan().flatten(1).any(dim=1).all()
    assert after.target.isnan().float().mean() == pytest.approx(4 / 20, abs=0.06)
    values = after.target[~after.target.isnan()]
    old = torch.cat([target[~target.isnan()], torch.ones(1)])
    nearest = old.sort().values
    place = torch.searchsorted(nearest, values).clamp(1, len(nearest) - 1)
    gap = torch.minimum((values - nearest[place]).abs(), (values - nearest[place - 1]).abs())
    assert float(gap.max()) < 1e-6  # no value between two others


def test_beyond_the_rim_lies_background_whatever_the_target_is_made_of() -> None:
    shape = (4, 1, *SIZE)
    inside = Batch(torch.ones(shape), torch.full(shape, IGNORED, dtype=torch.uint8), None, tuple("abcd"))
    how = {"spatial": 1.0, "scale": (0.5, 0.5)}
    after = move(inside, **how)  # type: ignore[arg-type]
    assert set(after.target.unique().tolist()) == {0, IGNORED}
    assert (after.target[after.image == 0] == 0).all()
    far = move(inside._replace(target=torch.full(shape, -0.5)), **how)  # type: ignore[arg-type]
    assert sorted(far.target.unique().tolist()) == [-0.5, 1.0]
    assert (far.target[far.image == 0] == 1.0).all()


def test_weights_move_with_the_image() -> None:
    before = blobs()
    weighted = before._replace(weight=before.target.float() + 1)
    after = move(weighted, spatial=1.0, mirror_axes=(0,))
    assert after.weight is not None
    heavier = after.weight[after.target == 1].mean() - after.weight[(after.target == 0) & (after.weight > 0.5)].mean()
    assert heavier > 0.5
