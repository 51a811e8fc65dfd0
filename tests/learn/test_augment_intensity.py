import numpy as np
import pytest
import torch
from scipy import ndimage

from segpipe.learn.augment_intensity import IntensityConfig, blurred, varied
from segpipe.learn.chance import Chance

SHARES = ("bias_field", "noise", "blur", "brightness", "contrast", "low_resolution", "gamma", "gamma_inverted")
SIZE = (20, 24, 28)
AXES = (0, 1, 2)


def patch(channels: int = 1, shape: tuple[int, ...] = SIZE) -> torch.Tensor:
    rng = np.random.default_rng(0)
    image = ndimage.gaussian_filter(rng.normal(size=(channels, *shape)), (0, *[1.5] * len(shape)))
    return torch.from_numpy((image / image.std()).astype(np.float32))


def vary(image: torch.Tensor, index: int = 0, axes: tuple[int, ...] = AXES, **how: object) -> torch.Tensor:
    config = IntensityConfig.model_validate(dict.fromkeys(SHARES, 0.0) | how)
    return varied(image, config, Chance(0, 0, index), axes)


@pytest.mark.parametrize("share", SHARES)
def test_each_variation_changes_the_image_and_leaves_the_old_one_alone(share: str) -> None:
    image = patch(2)
    copy = image.clone()
    after = vary(image, **{share: 1.0})
    assert torch.equal(image, copy)
    assert after.shape == image.shape
    assert after.isfinite().all()
    assert all(not torch.allclose(new, old, atol=1e-3) for new, old in zip(after, image, strict=True))


@pytest.mark.parametrize("share", ["bias_field", "gamma", "gamma_inverted"])
def test_mean_and_spread_of_each_channel_are_kept(share: str) -> None:
    image = patch(2) * 3 + 1
    after = vary(image, **{share: 1.0})
    over = (1, 2, 3)
    assert torch.allclose(after.mean(over), image.mean(over), atol=1e-3)
    assert torch.allclose(after.std(over), image.std(over), rtol=1e-3)


def test_a_bias_field_is_the_exponential_of_a_cubic_polynomial_times_what_lies_above_black() -> None:
    image = patch()
    above = (image - image.min())[0].double().numpy()
    after = vary(image, bias_field=1.0, bias_strength=(0.5, 0.5))[0].double().numpy()
    lifted = after - after[above == 0]
    seen = above > 0.5
    drift = np.log(lifted[seen] / above[seen])
    x, y, z = (grid[seen] for grid in np.meshgrid(*[np.linspace(-1, 1, n) for n in SIZE], indexing="ij"))
    powers = [(a, b, c) for a in range(4) for b in range(4) for c in range(4) if a + b + c <= 3]
    terms = np.stack([x**a * y**b * z**c for a, b, c in powers], axis=1)
    _, left, *_ = np.linalg.lstsq(terms, drift, rcond=None)
    assert np.sqrt(left[0] / len(drift)) < 1e-3
    assert 0.3 < np.ptp(drift) <= 1.0 + 1e-3  # both ways from one half


def test_noise_has_its_standard_deviation_and_is_new_in_every_patch() -> None:
    image = patch()
    first, other = (vary(image, index, noise=1.0, noise_sd=(0.3, 0.3)) - image for index in (0, 1))
    assert float(first.std()) == pytest.approx(0.3, rel=0.03)
    assert abs(float(first.mean())) < 0.02
    assert abs(float((first * other).mean())) < 0.01


@pytest.mark.parametrize("shape", [(17, 20), (12, 15, 18), (3, 9, 2)])
def test_a_blur_is_that_of_scipy_and_each_channel_has_its_own(shape: tuple[int, ...]) -> None:
    image = patch(2, shape)
    sigmas = np.array([0.6, 1.0])
    found = blurred(image, sigmas, 1.0, range(len(shape)))
    for channel, sigma in enumerate(sigmas):
        wanted = ndimage.gaussian_filter(image[channel].double().numpy(), sigma, mode="nearest", radius=3)
        assert np.allclose(found[channel].numpy(), wanted, atol=1e-5)


def test_brightness_adds_a_constant_and_contrast_keeps_the_mean() -> None:
    image = patch(2)
    shift = vary(image, brightness=1.0, brightness_shift=(0.2, 0.3)) - image
    assert shift.flatten(1).std(dim=1).max() < 1e-5
    assert ((shift.mean((1, 2, 3)) > 0.2 - 1e-5) & (shift.mean((1, 2, 3)) < 0.3 + 1e-5)).all()
    stretched = vary(image, contrast=1.0, contrast_factor=(1.2, 1.4))
    assert torch.allclose(stretched.mean((1, 2, 3)), image.mean((1, 2, 3)), atol=1e-5)
    factor = stretched.std((1, 2, 3)) / image.std((1, 2, 3))
    assert ((factor > 1.2 - 1e-4) & (factor < 1.4 + 1e-4)).all()
    assert float(factor[0]) != pytest.approx(float(factor[1]), abs=1e-4)


@pytest.mark.parametrize("share", ["gamma", "gamma_inverted"])
def test_gamma_keeps_the_order_of_intensities(share: str) -> None:
    image = patch()
    after = vary(image, **{share: 1.0})
    order = image.flatten().argsort()
    assert (after.flatten()[order].diff() > -1e-5).all()


def test_gamma_bends_the_dark_end_and_inverted_gamma_the_bright_one() -> None:
    image = torch.linspace(0, 1, 4096).reshape(1, 16, 16, 16)
    for share, bent, straight in (
        ("gamma", slice(0, 200), slice(-200, None)),
        ("gamma_inverted", slice(-200, None), slice(0, 200)),
    ):
        slope = vary(image, **{share: 1.0}, gamma_exponent=(0.7, 0.7)).flatten().diff()
        assert slope[bent].mean() > 1.8 * slope[straight].mean()


def test_low_resolution_loses_detail_and_keeps_what_is_smooth() -> None:
    rng = np.random.default_rng(0)
    rough = torch.from_numpy(rng.normal(size=(1, *SIZE)).astype(np.float32))
    how = {"low_resolution": 1.0, "low_resolution_zoom": (0.5, 0.5)}
    after = vary(rough, **how)
    assert after.diff(dim=1).std() < 0.6 * rough.diff(dim=1).std()
    ramp = torch.arange(28.0).expand(1, *SIZE).contiguous()
    assert (vary(ramp, **how) - ramp).abs()[..., 2:-2].max() <= 1.0  # within half of a coarse voxel


@pytest.mark.parametrize("share", ["blur", "low_resolution"])
def test_thick_slices_are_neither_blurred_nor_coarsened_into_each_other(share: str) -> None:
    levels = torch.tensor([0.0, 3.0] * 10).reshape(1, 20, 1, 1).expand(1, *SIZE).contiguous()
    kept = vary(levels, axes=(1, 2), **{share: 1.0}, low_resolution_zoom=(0.5, 0.6))
    assert torch.allclose(kept, levels, atol=1e-5)
    assert not torch.allclose(vary(levels, **{share: 1.0}, low_resolution_zoom=(0.5, 0.6)), levels, atol=0.5)
