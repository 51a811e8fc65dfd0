"""Greedy layerwise training: only one level moves at a time, and at last there is one ordinary encoder."""

import pytest
import torch

from segpipe.core.errors import ConfigError
from segpipe.learn.objectives.layerwise import Layerwise, LayerwiseTask, noisy
from segpipe.nets.unet import UNetSpec
from tests.learn.objectives.small import few_steps, phantoms, same, spec, tensors

IMAGE = phantoms((16, 16))


def built(depth: int = 2, norm: str = "instance", **settings: object) -> LayerwiseTask:
    torch.manual_seed(0)
    return Layerwise.model_validate(settings).build(spec(depth=depth, norm=norm), (16, 16))


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_levels_below_and_above_do_not_move_by_a_bit(norm: str) -> None:
    task = built(norm=norm)
    *levels, _ = task.phases()
    assert len(levels) == 3
    for number, phase in enumerate(levels):
        before = [tensors(block) for block in task.encoder.blocks]
        decoder = tensors(task.decoder)
        few_steps(phase.task, IMAGE, steps=4)
        moved = [not same(tensors(block), then) for block, then in zip(task.encoder.blocks, before, strict=True)]
        assert moved == [level == number for level in range(3)]
        after = tensors(task.decoder)
        changed = {".".join(name.split(".")[:2]) for name in after if not torch.equal(after[name], decoder[name])}
        wanted = {"heads.0"} if number == 0 else {f"ups.{2 - number}", f"blocks.{2 - number}"}
        assert changed == wanted


def test_at_last_all_levels_move_and_the_encoder_is_an_ordinary_one() -> None:
    task = built()
    *levels, whole = task.phases()
    for phase in levels:
        few_steps(phase.task, IMAGE, steps=2)
    before = [tensors(block) for block in task.encoder.blocks]
    few_steps(whole.task, IMAGE, steps=2)
    assert whole.task is task
    assert not any(same(tensors(block), then) for block, then in zip(task.encoder.blocks, before, strict=True))
    network = UNetSpec(encoder=spec(), out_channels=2).build()
    network.encoder.load_state_dict(task.encoder.state_dict(), strict=True)
    assert all(weight.requires_grad for weight in task.parameters())


def test_a_level_sees_what_the_frozen_levels_below_make_of_the_image() -> None:
    task = built().eval()
    features = task.encoder(IMAGE)
    first, second, third, _ = (phase.task for phase in task.phases())
    assert torch.equal(first.below(IMAGE), IMAGE)
    assert torch.equal(second.below(IMAGE), features[0])
    assert torch.equal(third.below(IMAGE), features[1])
    assert third.redrawn(features[1]).shape == features[1].shape


def test_a_level_has_the_weights_that_it_trains_and_no_others() -> None:
    task = built()
    for number, phase in enumerate(task.phases()[:-1]):
        own = {id(weight) for weight in phase.task.parameters()}
        block = {id(weight) for weight in task.encoder.blocks[number].parameters()}
        others = {id(weight) for weight in task.encoder.parameters()} - block
        assert block < own
        assert not own & others


def test_the_parts_make_the_whole_a_better_start() -> None:
    fresh, trained = built(), built()
    for phase in trained.phases()[:-1]:
        few_steps(phase.task, IMAGE)
    assert trained.eval().figures(IMAGE)["mse"] < 0.5 * fresh.eval().figures(IMAGE)["mse"]


def test_levels_and_shares_are_as_set() -> None:
    names = {count: [phase.name for phase in built(depth=3, levels=count).phases()] for count in (1, 3, 9)}
    assert names[1] == ["level1", "whole"]
    assert names[3] == ["level1", "level2", "level3", "whole"]
    assert names[9] == ["level1", "level2", "level3", "level4", "whole"]
    shares = [phase.share for phase in built(levels=2, last=0.5).phases()]
    assert shares == [0.25, 0.25, 0.5]


def test_after_a_level_the_whole_can_be_trained_again_also_its_running_statistics() -> None:
    task = built(norm="batch")
    few_steps(task.phases()[2].task, IMAGE, steps=1)
    few_steps(task, IMAGE, steps=1)
    assert all(module.training for module in task.modules())


def test_noise_is_a_share_of_each_patchs_own_deviation() -> None:
    torch.manual_seed(0)
    image = torch.randn(3, 2, 40, 40) * torch.tensor([1.0, 5.0, 0.1]).reshape(3, 1, 1, 1)
    ratio = (noisy(image, 0.3) - image).flatten(1).std(1) / image.flatten(1).std(1)
    torch.testing.assert_close(ratio, torch.full((3,), 0.3), rtol=0.05, atol=0)


def test_without_noise_the_first_level_could_copy_and_is_refused() -> None:
    with pytest.raises(ConfigError, match="noise is 0: the first level, 4 channels for 1"):
        built(noise=0)
