import pytest
import torch
from torch import nn

from segpipe.learn.optim import OptimConfig, Pace, keep_pace, make_optimizer, rate_at


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


@pytest.mark.parametrize("kind", ["adamw", "sgd", "muon"])
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


class TestAPartThatGoesMoreSlowly:
    def network(self) -> nn.Sequential:
        return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2), nn.Linear(2, 1))

    def rates(self, step: int, pace: Pace, network: nn.Sequential) -> dict[str, float]:
        optimizer = make_optimizer(network, OptimConfig(), pace)
        for group in optimizer.param_groups:
            group["lr"] = 0.5
        keep_pace(optimizer, step)
        rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        return {name: rates[id(p)] for name, p in network.named_parameters()}

    def test_has_its_own_rate_and_none_while_it_is_frozen(self) -> None:
        network = self.network()
        pace = Pace(network[1], factor=0.1, frozen_steps=3)
        others = dict.fromkeys(("0.weight", "0.bias", "2.weight", "2.bias"), 0.5)
        assert self.rates(2, pace, network) == others | {"1.weight": 0.0, "1.bias": 0.0}
        assert self.rates(3, pace, network) == others | {"1.weight": 0.05, "1.bias": 0.05}

    def test_takes_the_last_groups_and_every_parameter_stands_once(self) -> None:
        network = self.network()
        optimizer = make_optimizer(network, OptimConfig(weight_decay=0.1), Pace(network[1]))
        groups = [[id(p) for p in group["params"]] for group in optimizer.param_groups]
        own = [id(network[1].weight), id(network[1].bias)]
        assert [number for group in groups[2:] for number in group] == own
        assert sorted(number for group in groups for number in group) == sorted(map(id, network.parameters()))
        assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0, 0.1, 0.0]

    def test_is_none_unless_it_is_asked_for(self) -> None:
        optimizer = make_optimizer(self.network(), OptimConfig())
        assert len(optimizer.param_groups) == 2
        keep_pace(optimizer, 0)
        assert {group["lr"] for group in optimizer.param_groups} == {OptimConfig().learning_rate}


def test_momentum_is_nesterovs_unless_it_is_not_wanted() -> None:
    """Plain momentum as a loop: velocity = momentum * velocity + gradient, weight -= rate * velocity."""
    ends = []
    for nesterov in (True, False):
        layer = nn.Linear(1, 1, bias=False)
        nn.init.ones_(layer.weight)
        config = OptimConfig(kind="sgd", learning_rate=0.1, momentum=0.9, nesterov=nesterov, weight_decay=0)
        optimizer = make_optimizer(layer, config)
        for gradient in (1.0, 0.5, -2.0):
            layer.weight.grad = torch.full((1, 1), gradient)
            optimizer.step()
        ends.append(float(layer.weight.detach()))
    weight, velocity = 1.0, 0.0
    for gradient in (1.0, 0.5, -2.0):
        velocity = 0.9 * velocity + gradient
        weight -= 0.1 * velocity
    assert ends[1] == pytest.approx(weight)
    assert ends[0] != pytest.approx(weight)


def test_without_momentum_there_is_none_of_nesterovs() -> None:
    make_optimizer(nn.Linear(1, 1), OptimConfig(kind="sgd", momentum=0))
