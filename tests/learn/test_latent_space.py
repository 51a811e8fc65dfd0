"""What is seen of a latent space, and the figures about it."""

import math
from functools import cache, partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from segpipe.dataset.prepare import Prepared
from segpipe.learn.latent_figures import (
    BINS,
    completeness,
    continuity,
    covered,
    path_lengths,
    power_spectrum,
    spectrum_distance,
    within,
)
from segpipe.learn.latent_space import (
    DEVIATIONS,
    DIRECTIONS,
    STEPS,
    LatentLook,
    Seen,
    decoder_of,
    look_into,
    middle_patch,
    plane_of,
)
from segpipe.learn.objectives import Pretraining
from segpipe.learn.objectives.masked import MaskedTask
from segpipe.learn.objectives.vae import VaeTask
from segpipe.learn.principal import principal
from tests.learn.conftest import MakeCase
from tests.learn.objectives.small import KINDS, PATCH, few_steps, objective, phantoms, spec


@cache
def built(kind: str, rank: int = 2, **settings: object) -> Pretraining:
    torch.manual_seed(0)
    task: Pretraining = objective(kind, **settings).build(spec(rank), PATCH[rank])  # type: ignore[attr-defined]
    return task.eval()


def seen(images: Tensor, first: int = 0) -> list[Seen]:
    return [Seen(first + number, partial(images.__getitem__, number)) for number in range(len(images))]


def looked(task: Pretraining, training: int = 6, held_out: int = 3) -> LatentLook:
    images = phantoms(task.patch, training + held_out)
    spacing = (1.0,) * len(task.patch)
    return look_into(task, seen(images[:training]), seen(images[training:], training), spacing, "fp32")


class TestPrincipalComponents:
    codes = torch.randn(7, 40, generator=torch.Generator().manual_seed(3)) * torch.linspace(0.1, 2, 40) + 1

    def test_they_are_those_of_a_singular_value_decomposition(self) -> None:
        basis = principal(self.codes)
        centred = self.codes.double().numpy() - self.codes.double().numpy().mean(0)
        _, values, directions = np.linalg.svd(centred, full_matrices=False)
        np.testing.assert_allclose(basis.deviations.numpy(), values[:6] / math.sqrt(6), rtol=1e-5)
        np.testing.assert_allclose(np.abs((basis.directions.numpy() * directions[:6]).sum(1)), 1, atol=1e-5)

    def test_the_directions_carry_the_codes(self) -> None:
        basis = principal(self.codes)
        assert basis.shares.sum() == pytest.approx(1)
        torch.testing.assert_close(basis.mean + basis.places(self.codes) @ basis.directions, self.codes)

    def test_samples_have_the_mean_and_the_covariance_of_the_codes(self) -> None:
        drawn = principal(self.codes).samples(200_000, torch.Generator().manual_seed(0))
        torch.testing.assert_close(drawn.mean(0), self.codes.mean(0), atol=0.02, rtol=0)
        torch.testing.assert_close(drawn.T.cov(), self.codes.T.cov(), atol=0.05, rtol=0)

    def test_codes_that_are_all_alike_have_no_direction(self) -> None:
        basis = principal(torch.ones(5, 8))
        assert len(basis.deviations) == 0
        assert torch.equal(basis.samples(2, torch.Generator()), torch.ones(2, 8))


class TestContinuity:
    def test_an_even_straight_path_has_the_smallest_figures(self) -> None:
        ends = torch.randn(2, 1, 6, 6)
        path = torch.lerp(ends[0], ends[1], torch.linspace(0, 1, 9)[:, None, None, None])
        steps, straight = path_lengths(path)
        found = continuity(steps[None], straight[None], float(straight))
        assert found["continuity_step"] == pytest.approx(1 / 8, rel=1e-4)
        assert found["continuity_path"] == pytest.approx(1, rel=1e-4)
        assert found["continuity_jump"] == pytest.approx(1, rel=1e-4)

    def test_a_jump_and_a_detour_are_seen(self) -> None:
        jump = torch.zeros(9, 1, 4)
        jump[5:] = 1
        detour = torch.zeros(3, 1, 2)
        detour[1], detour[2] = torch.tensor([3.0, 4.0]), torch.tensor([6.0, 0.0])
        lengths, straight = path_lengths(jump)
        assert continuity(lengths[None], straight[None], 1.0)["continuity_jump"] == pytest.approx(8)
        lengths, straight = path_lengths(detour)
        assert continuity(lengths[None], straight[None], 1.0)["continuity_path"] == pytest.approx(10 / 6)

    @given(st.integers(0, 1000))
    def test_no_path_is_shorter_than_the_straight_line(self, seed: int) -> None:
        path = torch.randn(2, 5, 1, 3, 3, generator=torch.Generator().manual_seed(seed))
        steps, straight = zip(*map(path_lengths, path), strict=True)
        found = continuity(torch.stack(steps), torch.stack(straight), 1.0)
        assert found["continuity_path"] >= 1 - 1e-5
        assert 1 - 1e-5 <= found["continuity_jump"] <= 4

    def test_what_does_not_change_has_no_ratio(self) -> None:
        assert continuity(torch.zeros(2, 8), torch.zeros(2), 1.0) == {"continuity_step": 0.0}


class TestCompleteness:
    data = torch.randn(90, 5, generator=torch.Generator().manual_seed(1))

    def test_samples_of_the_data_are_as_plausible_as_held_out_cases(self) -> None:
        found = completeness(self.data[:30], self.data[30:60], self.data[60:])
        assert found["distance"] == pytest.approx(1, abs=0.25)
        assert found["precision"] == pytest.approx(within(self.data[30:60], self.data[60:]), abs=0.3)
        assert found["coverage"] > 0.6

    def test_samples_off_the_data_are_far(self) -> None:
        found = completeness(self.data[:30] + 20, self.data[30:60], self.data[60:])
        assert found["distance"] > 10
        assert found["precision"] == found["coverage"] == 0

    def test_samples_that_are_all_alike_cover_nothing(self) -> None:
        alike = 2 + 1e-4 * self.data[:30]
        found = completeness(alike, self.data[30:60], self.data[60:])
        assert found["coverage"] < 0.1

    def test_stray_samples_cover_nothing(self) -> None:
        stray = 100 * self.data[:30]
        assert covered(self.data[30:60], stray[stray.norm(dim=1) > 50], self.data[60:]) == 0

    def test_a_case_is_covered_by_a_sample_nearer_than_its_third_neighbour(self) -> None:
        training = torch.tensor([[1.0], [2.0], [3.0], [9.0]])
        points = torch.tensor([[0.0]])
        assert covered(points, torch.tensor([[-2.9]]), training) == 1
        assert covered(points, torch.tensor([[-3.1]]), training) == 0

    def test_a_ball_reaches_to_the_third_neighbour(self) -> None:
        line = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
        assert within(torch.tensor([[5.9], [6.1], [-2.9], [-3.1]]), line) == 0.5


class TestSpectrum:
    @pytest.mark.parametrize("size", [(16, 16), (8, 12, 8)])
    def test_white_noise_has_the_same_power_in_every_band(self, size: tuple[int, ...]) -> None:
        noise = torch.randn(400, 1, *size, generator=torch.Generator().manual_seed(0))
        power = power_spectrum(noise).mean(0)
        assert len(power) == BINS
        assert torch.allclose(power[~power.isnan()], torch.ones(()), atol=0.15)

    def test_a_wave_lies_in_its_band(self) -> None:
        wave = torch.sin(2 * math.pi * 4 * torch.arange(32) / 32).expand(1, 1, 32, 32)
        assert int(power_spectrum(wave)[0].nan_to_num().argmax()) == math.ceil(4 / 32 * 2 * BINS) - 1

    def test_the_brightness_of_an_image_does_not_count(self) -> None:
        images = phantoms((16, 16))
        torch.testing.assert_close(
            power_spectrum(images + 3), power_spectrum(images), equal_nan=True, atol=1e-4, rtol=1e-3
        )

    def test_twice_the_power_is_a_distance_of_log_two(self) -> None:
        power = power_spectrum(phantoms((16, 16)))
        assert spectrum_distance(power, 2 * power) == pytest.approx(math.log10(2), rel=1e-4)
        assert spectrum_distance(power, power) == 0


class TestLookInto:
    @pytest.mark.parametrize("rank", [2, 3])
    @pytest.mark.parametrize("kind", KINDS)
    def test_every_objective_is_seen_in_2d_and_3d(self, kind: str, rank: int) -> None:
        look = looked(built(kind, rank))
        flat = PATCH[rank][:2]
        assert look.pictures["cases"].shape == (2, 3, *flat)
        assert look.pictures["interpolation"].shape == (2, STEPS + 1, *flat)
        assert look.pictures["traversal"].shape == (DIRECTIONS, len(DEVIATIONS), *flat)
        assert look.pictures["samples_prior"].shape == look.pictures["samples_fitted"].shape == (8, *flat)
        assert {picture.dtype for picture in look.pictures.values()} == {np.dtype(np.float16)}
        assert look.facts["through"] == (None if rank == 2 else 2)
        assert len(look.facts["spacing_mm"]) == 2
        wanted = {"continuity_step", "continuity_path", "completeness_prior_distance", "completeness_fitted_spectrum"}
        assert wanted <= set(look.figures)
        assert all(map(math.isfinite, look.figures.values()))

    def test_a_way_begins_and_ends_with_the_reconstructions_of_its_cases(self) -> None:
        look = looked(built("vae"))
        again, ways = look.pictures["cases"][1], look.pictures["interpolation"]
        np.testing.assert_allclose(ways[:, 0], again[:2], atol=0.01)
        np.testing.assert_allclose(ways[:, -1], again[1:], atol=0.01)

    def test_all_traversals_pass_through_the_mean_code(self) -> None:
        traversal = looked(built("autoencoder")).pictures["traversal"]
        middle = traversal[:, DEVIATIONS.index(0)]
        np.testing.assert_array_equal(middle, np.broadcast_to(middle[0], middle.shape))
        assert np.abs(traversal[:, 0] - traversal[:, -1]).max() > 0

    def test_samples_of_the_prior_are_what_a_vae_draws_of_normal_noise(self) -> None:
        task = built("vae")
        assert isinstance(task, VaeTask)
        noise = torch.randn(32, 8, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            wanted = task.decode(noise)[:8, 0].numpy()
        np.testing.assert_allclose(looked(task).pictures["samples_prior"], wanted, atol=0.01)

    def test_the_map_names_cases_by_number_only(self) -> None:
        points = looked(built("vae"), training=6, held_out=3).facts["map"]
        assert [point["case"] for point in points] == list(range(9))
        assert [point["part"] for point in points] == ["training"] * 6 + ["validation"] * 3
        assert {key for point in points for key in point} == {"case", "part", "place"}
        places = np.array([point["place"] for point in points[:6]])
        np.testing.assert_allclose(places.mean(0), 0, atol=1e-5)

    def test_a_masked_case_lies_between_what_was_left_and_the_whole(self) -> None:
        task = built("masked")
        assert isinstance(task, MaskedTask)
        left, drawn, whole = looked(task).pictures["masked"]
        assert left.shape == drawn.shape == whole.shape == (3, 16, 16)
        same = (left == whole).mean()
        assert same == pytest.approx(1 - task.config.share, abs=0.05)

    def test_an_objective_whose_decoder_needs_skips_has_a_map_but_no_samples(self) -> None:
        task = built("masked", skips=True)
        assert decoder_of(task, task.patch) is None
        look = looked(task)
        assert set(look.pictures) == {"cases", "masked"}
        assert look.figures == {}
        assert len(look.facts["map"]) == 9

    @pytest.mark.parametrize(("training", "held_out"), [(2, 3), (6, 1)])
    def test_too_few_cases_are_shown_without_figures(self, training: int, held_out: int) -> None:
        look = looked(built("vae"), training, held_out)
        assert look.figures == {}
        assert set(look.pictures) == {"cases"}

    def test_twice_is_the_same(self) -> None:
        one, other = looked(built("vae")), looked(built("vae"))
        assert one.figures == other.figures
        assert one.facts == other.facts

    def test_codes_that_collapsed_do_not_break_it(self) -> None:
        torch.manual_seed(0)
        task: Pretraining = objective("vae").build(spec(), PATCH[2])  # type: ignore[attr-defined]
        assert isinstance(task, VaeTask)
        for parameter in task.head.mean.parameters():
            torch.nn.init.zeros_(parameter)
        look = looked(task.eval())
        assert look.figures["continuity_step"] < 1e-6
        assert "traversal" not in look.pictures

    def test_a_network_that_draws_no_numbers_is_shown_without_figures(self) -> None:
        torch.manual_seed(0)
        task: Pretraining = objective("autoencoder").build(spec(), PATCH[2])  # type: ignore[attr-defined]
        torch.nn.init.constant_(next(task.encoder.parameters()), math.nan)
        look = looked(task.eval())
        assert look.figures == {}
        assert set(look.pictures) == {"cases"}

    def test_training_makes_samples_of_the_fitted_gaussian_more_plausible(self) -> None:
        torch.manual_seed(0)
        task: Pretraining = objective("autoencoder").build(spec(), PATCH[2])  # type: ignore[attr-defined]
        few_steps(task, phantoms(PATCH[2], 9), 40)
        figures = looked(task.eval()).figures
        assert figures["completeness_fitted_distance"] < figures["completeness_prior_distance"]


def test_slices_go_through_the_thickest_voxels() -> None:
    assert plane_of((1.0, 3.0, 1.0)) == 1
    assert plane_of((1.0, 1.0, 1.0)) == 2
    assert plane_of((1.0, 1.0)) is None


def test_what_is_looked_at_is_the_middle_of_a_case(make_case: MakeCase) -> None:
    case: Prepared = make_case("a", (20, 20))
    wanted = np.asarray(case.image, np.float32)[:, 2:18, 2:18]
    np.testing.assert_array_equal(middle_patch(case, (16, 16)).numpy(), wanted)
