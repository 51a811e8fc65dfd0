from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from segpipe.learn import muon
from segpipe.learn.batches import PatchSampler
from segpipe.learn.fit import fit
from segpipe.learn.muon import ORTHOGONAL, Muon, orthogonal
from segpipe.learn.optim import OptimConfig, Pace, make_optimizer, update_flops
from tests.learn import tiny
from tests.learn.conftest import MakeCase
from tests.learn.tiny import Journal, StoppedError, recipe, task, weights, work

STEPS = 5
MUON = OptimConfig(kind="muon", learning_rate=1e-2, warmup_steps=2)


@pytest.fixture(params=["fast bf16", "slow bf16", "matrix unit"])
def processor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decide as on each kind of processor, whatever this one is."""
    monkeypatch.setattr(muon, "fast_bf16", lambda _device: request.param != "slow bf16")
    monkeypatch.setattr(muon, "has_amx", lambda: request.param == "matrix unit")


@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize("shape", [(8, 8), (16, 40), (40, 16), (8, 80)])
def test_an_update_is_the_nearest_orthogonal_matrix_but_for_the_size_of_its_singular_values(
    shape: tuple[int, int],
) -> None:
    torch.manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(shape[0], 8))
    right, _ = torch.linalg.qr(torch.randn(shape[1], 8))
    found = orthogonal(left @ torch.diag(torch.linspace(0.2, 3, 8)) @ right.T).float()
    assert found.shape == shape
    inside = left.T @ found @ right
    assert inside.diagonal().min() > 0.6
    assert inside.diagonal().max() < 1.3
    assert (inside - inside.diagonal().diag()).abs().max() < 0.1


@pytest.mark.parametrize("rank", [1, 8, 32])
def test_by_the_gram_matrix_a_gradient_of_hardly_any_directions_comes_out_as_in_float64(
    monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(32, rank) @ torch.randn(rank, 320) + 1e-3 * torch.randn(32, 320)
    monkeypatch.setattr(muon, "has_amx", lambda: False)
    short_way = orthogonal(matrix)
    monkeypatch.setattr(muon, "has_amx", lambda: True)
    monkeypatch.setattr(muon, "fast_bf16", lambda _device: False)
    exact = orthogonal(matrix.double())
    assert (short_way - exact).norm() < 1e-3 * exact.norm()


def both(kernel: tuple[int, ...], layout: torch.memory_format) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a kernel after some steps, as a matrix: with ours, and with PyTorch's Muon for matrices."""
    torch.manual_seed(0)
    start = torch.randn(24, 16, *kernel)
    ours = nn.Parameter(start.clone().to(memory_format=layout))
    theirs = nn.Parameter(start.clone().flatten(1))
    mine = Muon([{"params": [ours], ORTHOGONAL: True, "weight_decay": 0.1}], lr=0.01, betas=(0.9, 0.99))
    other = torch.optim.Muon([theirs], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(STEPS):
        gradient = torch.randn_like(start)
        ours.grad, theirs.grad = gradient.to(memory_format=layout), gradient.flatten(1)
        mine.step()
        other.step()
    return ours.detach().flatten(1), theirs.detach()


@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize(
    ("kernel", "layout"),
    [
        ((1, 1), torch.contiguous_format),
        ((3, 3), torch.channels_last),
        ((3, 3, 3), torch.channels_last_3d),
        ((2, 2, 2), torch.contiguous_format),
    ],
)
def test_kernels_move_as_pytorch_moves_their_matrix(kernel: tuple[int, ...], layout: torch.memory_format) -> None:
    ours, theirs = both(kernel, layout)
    # sums in another order, and theirs in bfloat16: a hundredth of an update
    assert (ours - theirs).square().mean().sqrt() < 0.01 * STEPS * 0.01 * 0.2


def test_only_kernels_between_feature_maps_are_orthogonal() -> None:
    network = task(widths=(8, 16)).network
    optimizer = make_optimizer(network, OptimConfig(kind="muon", weight_decay=0.1))
    kind = {id(p): group[ORTHOGONAL] for group in optimizer.param_groups for p in group["params"]}
    inner = {name for name, parameter in network.named_parameters() if kind[id(parameter)]}
    assert len(kind) == len(list(network.parameters()))
    assert inner == {
        "encoder.blocks.0.3.weight",
        "encoder.blocks.1.0.weight",
        "encoder.blocks.1.3.weight",
        "decoder.ups.0.weight",
        "decoder.blocks.0.0.weight",
        "decoder.blocks.0.3.weight",
    }


def test_every_other_parameter_moves_as_with_adamw() -> None:
    ends = []
    for kind in ("muon", "adamw"):
        network = task(widths=(8, 16)).network
        optimizer = make_optimizer(network, OptimConfig.model_validate({"kind": kind, "learning_rate": 0.01}))
        torch.manual_seed(1)
        for parameter in network.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
        ends.append(dict(network.named_parameters()))
    same = {name for name, parameter in ends[0].items() if torch.equal(parameter, ends[1][name])}
    assert "encoder.blocks.0.0.weight" in same
    assert "decoder.heads.0.weight" in same
    assert {name for name in ends[0] if name.endswith("bias")} <= same
    assert "encoder.blocks.1.0.weight" not in same


def test_a_connection_that_never_had_a_gradient_does_not_move() -> None:
    torch.manual_seed(0)
    kernel = nn.Parameter(torch.randn(16, 8, 3, 3))
    before, kept = kernel.detach().clone(), torch.rand(kernel.shape) < 0.5
    optimizer = Muon([{"params": [kernel], ORTHOGONAL: True, "weight_decay": 0.0}], lr=0.01, betas=(0.9, 0.99))
    for _ in range(STEPS):
        kernel.grad = torch.randn_like(kernel) * kept
        optimizer.step()
    assert torch.equal(kernel == before, ~kept)


@pytest.mark.usefixtures("processor")
def test_its_operations_are_those_that_torch_counts() -> None:
    network = task(widths=(8, 16)).network
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    counter = FlopCounterMode(display=False)
    with counter:
        make_optimizer(network, MUON).step()
    assert update_flops(network, MUON, "cpu") == counter.get_total_flops()
    assert update_flops(network, OptimConfig(kind="adamw"), "cpu") == 0


@pytest.fixture
def draw(make_case: MakeCase) -> PatchSampler:
    return tiny.sampler(make_case("a", (10, 10, 10)).folder.parent)


def test_training_with_it_makes_the_loss_smaller(draw: PatchSampler, tmp_path: Path) -> None:
    journal, longer = Journal(), replace(recipe(steps=60), optim=MUON)
    fit(task(widths=(8, 16)), draw, longer, work(tmp_path, journal), validate=None, name="unet")
    losses = [row["loss"] for _, row in journal.rows]
    assert losses[-1] < 0.8 * losses[0]


def test_a_stopped_run_goes_on_to_the_very_same_weights(draw: PatchSampler, tmp_path: Path) -> None:
    with_muon = replace(recipe(), optim=MUON)
    whole, halved, anew = (task(widths=(8, 16)) for _ in range(3))
    fit(whole, draw, with_muon, work(tmp_path / "1"), validate=None, name="unet")
    with pytest.raises(StoppedError):
        fit(halved, draw, with_muon, work(tmp_path / "2", Journal(stop_at=10)), validate=None, name="unet")
    assert fit(anew, draw, with_muon, work(tmp_path / "2"), validate=None, name="unet")["resumed_at"] == 9
    assert torch.equal(weights(whole), weights(anew))


def test_a_frozen_part_does_not_move_by_a_bit(draw: PatchSampler, tmp_path: Path) -> None:
    trained, before = task(widths=(8, 16)), task(widths=(8, 16))
    encoder, decoder = trained.network.encoder, trained.network.decoder
    frozen = Pace(encoder, frozen_steps=99)
    with_muon = replace(recipe(), optim=MUON)
    fit(trained, draw, with_muon, work(tmp_path), validate=None, name="unet", pace=frozen)
    assert torch.equal(weights(encoder), weights(before.network.encoder))
    assert not torch.equal(weights(decoder), weights(before.network.decoder))
