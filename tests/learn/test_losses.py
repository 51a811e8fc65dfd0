import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from segpipe.core.section import Section, members
from segpipe.imaging.targets import IGNORED
from segpipe.learn.losses import FOR_TARGET, DiceBce, DiceCE, Loss, SmoothL1

SHAPES = [(6, 7), (6, 7, 5)]


def problem(kind: type[Section], shape: tuple[int, ...] = (6, 7, 5)) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return a target, scores that solve it, and scores that are wrong."""
    rng = np.random.default_rng(0)
    if kind is DiceCE:
        target = torch.from_numpy(rng.integers(0, 3, (2, 1, *shape)).astype(np.uint8))
        right = 20.0 * torch.zeros(2, 3, *shape).scatter_(1, target.long(), 1.0)
        return target, right, right.roll(1, dims=1)
    if kind is DiceBce:
        target = torch.from_numpy(rng.integers(0, 2, (2, 3, *shape)).astype(np.uint8))
        right = 40.0 * target.float() - 20
        return target, right, -right
    target = torch.from_numpy(rng.uniform(-1, 1, (2, 3, *shape)).astype(np.float32))
    return target, target.clone(), target + 1


def test_the_menu_has_a_loss_for_every_kind_of_target() -> None:
    assert set(FOR_TARGET.values()) == set(members(Loss))


@pytest.mark.parametrize("kind", list(members(Loss)), ids=lambda kind: kind.__name__)
class TestEveryLoss:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_prefers_the_truth_in_2d_and_3d(self, kind: type[Section], shape: tuple[int, ...]) -> None:
        target, right, wrong = problem(kind, shape)
        assert kind()(right, target) < 0.01 < kind()(wrong, target)

    def test_has_a_gradient(self, kind: type[Section]) -> None:
        target, _, wrong = problem(kind)
        scores = wrong.clone().requires_grad_()
        kind()(scores, target).backward()
        assert scores.grad is not None
        assert scores.grad.isfinite().all()
        assert scores.grad.abs().sum() > 0

    def test_ignores_voxels_that_nobody_annotated(self, kind: type[Section]) -> None:
        target, right, wrong = problem(kind)
        part = target.clone()
        part[..., :3] = torch.nan if kind is SmoothL1 else IGNORED
        mixed = torch.cat([wrong[..., :3], right[..., 3:]], dim=-1)
        assert kind()(mixed, part) < 0.01

    def test_is_finite_when_nothing_is_annotated(self, kind: type[Section]) -> None:
        target, right, _ = problem(kind)
        nothing = torch.full_like(target, torch.nan if kind is SmoothL1 else IGNORED)
        assert kind()(right, nothing).isfinite()

    def test_a_heavier_voxel_counts_more(self, kind: type[Section]) -> None:
        target, right, wrong = problem(kind)
        mixed = torch.cat([wrong[..., :3], right[..., 3:]], dim=-1)
        weight = torch.ones(2, 1, *target.shape[2:])
        weight[..., :3] = 10
        assert kind()(mixed, target, weight) > kind()(mixed, target)

    def test_comes_back_from_plain_values(self, kind: type[Section]) -> None:
        assert kind.model_validate(kind().model_dump()) == kind()


def test_a_structure_that_is_absent_does_not_break_the_gradient() -> None:
    target = torch.zeros(1, 1, 6, 6, 6, dtype=torch.uint8)
    scores = torch.randn(1, 3, 6, 6, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    DiceCE()(scores, target).backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


def test_dice_ce_equals_monais_on_a_batch() -> None:
    from monai.losses import DiceLoss

    target, right, _ = problem(DiceCE)
    noise = torch.randn(right.shape, generator=torch.Generator().manual_seed(1))
    theirs = DiceLoss(
        to_onehot_y=True, softmax=True, include_background=False, batch=True, smooth_nr=1e-5, smooth_dr=1e-5
    )
    wanted = theirs(noise, target.long()) + F.cross_entropy(noise, target[:, 0].long())
    assert torch.allclose(DiceCE()(noise, target), wanted, atol=1e-6)
