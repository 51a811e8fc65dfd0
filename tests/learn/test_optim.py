import pytest
import torch
from torch import nn

from segpipe.learn.optim import OptimConfig, make_optimizer, rate_at


def test_the_rate_rises_linearly_peaks_and_falls_to_zero() -> None:
    config = OptimConfig(learning_rate=0.1, warmup_steps=10)
    rates = [rate_at(step, 100, config) for step in range(101)]
    assert rates[4] == pytest.approx(0.05)
    assert max(rates) == pytest.approx(0.1)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[55] == pytest.approx(0.05, rel=1e-2)
    assert rates[100] == pytest.approx(0, abs=1e-12)


def test_a_run_shorter_than_its_warm_up_is_allowed() -> None:
    assert rate_at(3, 5, OptimConfig(warmup_steps=50)) > 0


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_norms_and_biases_are_spared_the_decay(kind: str) -> None:
    network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.InstanceNorm3d(2, affine=True))
    optimizer = make_optimizer(network, OptimConfig(kind=kind, weight_decay=0.1))  # type: ignore[arg-type]
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {name: decay[id(p)] for name, p in network.named_parameters()} == {
        "0.weight": 0.1,
        "0.bias": 0.0,
        "1.weight": 0.0,
        "1.bias": 0.0,
    }


def test_frozen_parameters_are_left_out() -> None:
    network = nn.Linear(2, 2)
    network.weight.requires_grad_(requires_grad=False)
    optimizer = make_optimizer(network, OptimConfig())
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 1
    assert isinstance(optimizer, torch.optim.AdamW)
