"""Denoising: how images are spoilt, and that the clean one is what is wanted."""

import pytest
import torch
from pydantic import ValidationError
from scipy import ndimage

from segpipe.learn.objectives.denoising import Denoising, DenoisingTask
from tests.learn.objectives.small import batch, few_steps, phantoms, spec


def built(**settings: object) -> DenoisingTask:
    torch.manual_seed(0)
    return Denoising.model_validate(settings).build(spec(), (16, 16))


def test_each_patch_has_noise_of_its_own_deviation_from_zero_to_the_largest() -> None:
    image = torch.zeros(300, 1, 24, 24)
    deviations = built(noise=0.4).spoilt(image).flatten(1).std(1)
    assert 0 <= float(deviations.min()) < 0.02
    assert 0.38 < float(deviations.max()) < 0.45
    assert float(deviations.mean()) == pytest.approx(0.2, abs=0.02)


def test_a_patch_is_blurred_by_a_gaussian_of_any_width_up_to_the_largest() -> None:
    image = phantoms((24, 24), count=20)
    soft = built(noise=0, blur=1.5).spoilt(image)
    left = (soft - image).square().mean((1, 2, 3)) / image.var((1, 2, 3))
    widest = [ndimage.gaussian_filter(one[0].numpy(), 1.5, mode="nearest") for one in image]
    most = torch.stack([torch.from_numpy(one) for one in widest])[:, None] - image
    assert bool((left <= most.square().mean((1, 2, 3)) / image.var((1, 2, 3)) * 1.02).all())
    assert float(left.max()) > 5 * float(left.min())


def test_the_image_itself_is_not_written_to_and_a_seed_gives_the_same_again() -> None:
    image = phantoms((16, 16))
    before = image.clone()
    task = built(blur=1.0)
    assert torch.equal(task.spoilt(image, seed=3), task.spoilt(image, seed=3))
    assert not torch.equal(task.spoilt(image), task.spoilt(image))
    assert torch.equal(image, before)


def test_the_clean_image_is_what_is_wanted() -> None:
    task = built()
    image = phantoms((16, 16))
    seen: list[torch.Tensor] = []

    def clean(given: torch.Tensor) -> torch.Tensor:
        seen.append(given)
        return image

    task.reconstruct = clean  # type: ignore[method-assign]
    assert float(task(batch(image))["reconstruction"]) == 0
    assert not torch.equal(seen[0], image)


def test_noise_is_taken_out() -> None:
    image = phantoms((16, 16), count=4)
    task = built(noise=1.0)
    few_steps(task, image, steps=60)
    noise = float((task.spoilt(image, seed=0) - image).square().mean())
    assert task.eval().figures(image)["restored_mse"] < 0.7 * noise


def test_neither_noise_nor_blur_is_refused() -> None:
    with pytest.raises(ValidationError, match="needs noise or blur"):
        Denoising(noise=0)
