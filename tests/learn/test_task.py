import torch

from segpipe.learn.batches import Batch
from segpipe.learn.losses import DiceCE
from segpipe.learn.task import Segmentation
from segpipe.nets.unet import UNetConfig

AXES = ((2, 2), (2, 2), (2, 2))
KERNELS = ((3, 3),) * 4


def batch(size: int) -> Batch:
    image = torch.randn(1, 1, size, size, generator=torch.Generator().manual_seed(0))
    return Batch(image, (image > 0).to(torch.uint8), None, ("a",))


def task(**changes: object) -> Segmentation:
    torch.manual_seed(0)
    config = UNetConfig(features=4, **changes)  # type: ignore[arg-type]
    return Segmentation(config.spec(1, 2, AXES, KERNELS).build(), DiceCE())


def test_deep_supervision_gives_each_head_half_the_weight_of_the_finer_one() -> None:
    calls: list[torch.Size] = []

    def one(scores: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
        calls.append(scores.shape)
        assert scores.shape[2:] == target.shape[2:]
        return scores.mean() * 0 + 1

    module = task()
    module.loss = one
    losses = module(batch(33))
    assert [shape[-1] for shape in calls] == [33, 17]
    assert losses["head0"] == 2 * losses["head1"]
    assert torch.isclose(sum(losses.values()), torch.tensor(1.0))


def test_valid_convolutions_are_trained_on_the_middle_of_the_target() -> None:
    seen: list[torch.Tensor] = []

    def keep(scores: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
        seen.append(target)
        return scores.sum()

    module = task(padding="valid", deep_supervision=False)
    module.loss = keep
    full = batch(108)
    module(full)
    size = seen[0].shape[-1]
    rim = (108 - size) // 2
    assert size == module.network.spec.output_size((108, 108))[0] < 108
    assert torch.equal(seen[0], full.target[..., rim : rim + size, rim : rim + size])
