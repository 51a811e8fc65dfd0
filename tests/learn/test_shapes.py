"""Learning shapes: the network redraws what it has not seen, by the seed alone, in 2D and in 3D; scores mean a Dice."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from phantoms import workspace

from segpipe.learn.batches import Batch
from segpipe.learn.shapes import (
    ShapeFit,
    ShapeOptim,
    ShapesConfig,
    ShapeTask,
    classes_of,
    learn_redrawing,
    learn_scores,
    redrawn_dices,
    shape_spec,
)
from segpipe.nets.shape import ShapeNetwork, one_hot, redrawer
from segpipe.quality.frame import plan_frame, reach_of
from segpipe.quality.known import PLAUSIBLE, KnownShapes, known_shapes
from tests.bodies import LABELS, bodies, half_lost, shifted

TRAINING, HELD = 12, 6
SMALL = ShapesConfig(
    use=True,
    features=4,
    depth=2,
    units=8,
    damaged=4,
    fit=ShapeFit(steps=150, validate_every=150, precision="fp32", average=0.9),
    optim=ShapeOptim(learning_rate=1e-2, warmup_steps=5),
)


@dataclass(frozen=True)
class Learnt:
    known: KnownShapes
    network: ShapeNetwork
    rank: int


def learn(rank: int, folder: Path, config: ShapesConfig = SMALL) -> Learnt:
    every = bodies(TRAINING + HELD, rank)
    frame = plan_frame(LABELS, [reach_of(one) for one in every], (2.0,) * rank, config.depth)
    known = known_shapes(frame, every, [str(number) for number in range(len(every))])
    training = {str(number): one for number, one in enumerate(every[:TRAINING])}
    network = learn_redrawing(known, training, every[TRAINING:], config, workspace(folder))
    redraw = redrawer(network, "fp32", "cpu")
    return Learnt(learn_scores(known, every[TRAINING:], redraw, config, workspace(folder)), network, rank)


@pytest.fixture(scope="module", params=[2, 3])
def learnt(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Learnt:
    return learn(request.param, tmp_path_factory.mktemp("learnt"))


def test_the_network_redraws_shapes_that_it_has_not_seen(learnt: Learnt) -> None:
    redraw = redrawer(learnt.network, "fp32", "cpu")
    found = redrawn_dices(learnt.known, bodies(40, learnt.rank)[30:], redraw)
    assert np.mean(found["front"]) > 0.75
    assert np.mean(found["back"]) > 0.75


def test_what_is_worse_is_less_plausible(learnt: Learnt) -> None:
    redraw = redrawer(learnt.network, "fp32", "cpu")

    def plausible(one: object) -> float:
        checks = learnt.known.checks(one, learnt.known.parts(one, redraw))  # type: ignore[arg-type]
        return {check.name: check.value for check in checks}[PLAUSIBLE]

    for one in bodies(36, learnt.rank)[33:]:
        assert plausible(one) > plausible(half_lost(one)) + 0.1
        assert plausible(one) > plausible(shifted(one, 6)) + 0.1


def test_the_same_seed_gives_the_same_network_and_leaves_nothing_behind(tmp_path: Path) -> None:
    short = SMALL.model_copy(update={"fit": SMALL.fit.model_copy(update={"steps": 3})})
    one, other = (learn(2, tmp_path / name, short) for name in ("a", "b"))
    for name, value in one.network.state_dict().items():
        torch.testing.assert_close(value, other.network.state_dict()[name], rtol=0, atol=0)
    assert one.known == other.known
    assert not list((tmp_path / "a").iterdir())


def test_the_loss_is_cross_entropy_and_dice_and_a_little_divergence() -> None:
    frame = plan_frame(LABELS, [reach_of(one) for one in bodies(2, 2)], (2.0, 2.0), 2)
    torch.manual_seed(0)
    task = ShapeTask(shape_spec(frame, SMALL).build(), beta=0.5)
    shares = torch.zeros(2, 2, *frame.size)
    shares[:, 0, :4], shares[:, 1, 6:9] = 1, 1
    losses = task(Batch(shares, torch.zeros(2, 0), None, ("a", "b")))
    with torch.no_grad():
        posterior = task.network.encode(one_hot(classes_of(shares), 3))
    assert losses["kl"].item() == pytest.approx(0.5 * posterior.kl().sum(1).mean().item(), rel=1e-4)
    assert losses["reconstruction"].item() > 0.5
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in task.parameters())


def test_what_structures_leave_is_background() -> None:
    shares = torch.tensor([[[0.2, 0.9, 0.3, 0.0]], [[0.1, 0.1, 0.6, 0.0]]]).transpose(0, 1)
    assert classes_of(shares).tolist() == [[0, 1, 2, 0]]
