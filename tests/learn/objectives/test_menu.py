"""What holds for every objective: it learns, it gives an ordinary encoder, and it answers without chance."""

import math

import pytest
import torch
from pydantic import TypeAdapter

from segpipe.core.errors import ConfigError
from segpipe.learn.objectives import Objective, Pretraining
from segpipe.nets.encoder import Encoder
from segpipe.nets.unet import UNetSpec
from tests.learn.objectives.small import KINDS, PATCH, batch, every, few_steps, objective, phantoms, spec, tensors


def built(kind: str, rank: int = 2, **form: object) -> Pretraining:
    torch.manual_seed(0)
    task = objective(kind).build(spec(rank, **form), PATCH[rank])  # type: ignore[attr-defined]
    assert isinstance(task, Pretraining)
    return task


def test_the_menu_is_what_it_is_said_to_be() -> None:
    assert set(KINDS) == {"autoencoder", "sparse", "denoising", "masked", "layerwise", "vae"}
    for kind in KINDS:
        chosen = TypeAdapter(Objective).validate_python({"kind": kind})
        assert type(chosen) is KINDS[kind]


@pytest.mark.parametrize(("kind", "rank"), every())
def test_every_phase_of_every_objective_lowers_its_loss(kind: str, rank: int) -> None:
    task = built(kind, rank)
    image = phantoms(PATCH[rank])
    phases = task.phases()
    assert sum(phase.share for phase in phases) == pytest.approx(1)
    assert phases[-1].task is task
    for phase in phases:
        before = phase.task.eval().figures(image)["mse"]
        _, losses = few_steps(phase.task, image)
        if phase is phases[0] or phase.task is not task:  # a whole made of trained parts has little left to lose
            assert sum(losses[-3:]) < sum(losses[:3])
        assert phase.task.eval().figures(image)["mse"] < before
    assert task.figures(image)["mse"] < 0.8  # of normalised images: drawing nothing at all gives 1


@pytest.mark.parametrize(("kind", "rank"), every())
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_the_encoder_is_the_one_of_the_u_net(kind: str, rank: int, padding: str) -> None:
    form = spec(rank, padding=padding)
    task = objective(kind).build(form, PATCH[rank])  # type: ignore[attr-defined]
    network = UNetSpec(encoder=form, out_channels=3).build()
    assert type(task.encoder) is type(network.encoder) is Encoder
    assert list(task.encoder.state_dict()) == list(network.encoder.state_dict())
    network.encoder.load_state_dict(task.encoder.state_dict(), strict=True)
    found, given = network.encoder.state_dict(), task.encoder.state_dict()
    assert all(torch.equal(found[name], given[name]) for name in given)


@pytest.mark.parametrize("kind", KINDS)
def test_the_transferred_encoder_computes_what_the_pretrained_one_did(kind: str) -> None:
    task = built(kind)
    image = phantoms(PATCH[2])
    for phase in task.phases():
        few_steps(phase.task, image, steps=2)
    network = UNetSpec(encoder=spec(), out_channels=3).build().eval()
    network.encoder.load_state_dict(task.encoder.state_dict(), strict=True)
    pairs = zip(network.encoder(image), task.eval().encoder(image), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize(("kind", "rank"), every())
def test_reconstructions_have_the_shape_of_images_of_any_size(kind: str, rank: int) -> None:
    task = built(kind, rank, in_channels=2).eval()
    for size in (PATCH[rank], tuple(n - 3 for n in PATCH[rank]), tuple(n + 5 for n in PATCH[rank])):
        image = phantoms(size, count=2, channels=2)
        assert task.reconstruct(image).shape == image.shape
        assert len(task.code(image)) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_figures_codes_and_reconstructions_are_without_chance(kind: str) -> None:
    task = built(kind).eval()
    image = phantoms(PATCH[2])
    first = task.figures(image), task.code(image), task.reconstruct(image)
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    again = task.figures(image), task.code(image), task.reconstruct(image)
    assert first[0] == again[0]
    assert torch.equal(first[1], again[1])
    assert torch.equal(first[2], again[2])
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(math.isfinite(value) for value in first[0].values())
    expected = float((first[2] - image).detach().square().mean())
    assert first[0]["mse"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_depends_on_the_seed_alone_and_a_gradient_reaches_every_weight(kind: str) -> None:
    task = built(kind).train()
    image = phantoms(PATCH[2])
    found = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        found.append({name: float(loss.detach()) for name, loss in task(batch(image)).items()})
        if kind == "vae":
            task.load_state_dict(tensors(task) | {"steps": torch.tensor(5), "variance": torch.tensor(1.0)})
            torch.manual_seed(seed)
            found[-1] = {name: float(loss.detach()) for name, loss in task(batch(image)).items()}
    assert found[0] == found[1]
    assert (found[0] != found[2]) == (kind in {"denoising", "masked", "layerwise", "vae"})
    sum(task(batch(image)).values()).backward()  # type: ignore[union-attr]
    assert not [name for name, weight in task.named_parameters() if weight.grad is None]


@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_float32_under_autocast(kind: str) -> None:
    task = built(kind).train()
    with torch.autocast("cpu", torch.bfloat16):
        losses = task(batch(phantoms(PATCH[2])))
    assert all(loss.dtype == torch.float32 and bool(loss.isfinite()) for loss in losses.values())
    assert all(loss.ndim == 0 for loss in losses.values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("patch", "said"), [((16, 16, 16), "3 axes does not go with an encoder of 2"), ((4, 3), "code of one voxel")]
)
def test_a_patch_that_does_not_fit_is_refused(kind: str, patch: tuple[int, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        objective(kind).build(spec(), patch)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", KINDS)
def test_the_objective_knows_the_size_of_its_code(kind: str) -> None:
    task = built(kind)
    image = phantoms(PATCH[2], count=1)
    assert task.ratio == pytest.approx(task.code(image).numel() / image.numel())
