import itertools
import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from segpipe.learn import profile
from segpipe.learn.batches import PatchSampler
from segpipe.learn.profile import PARTS, Profile, matrix_speed, profile_steps
from tests.learn import tiny
from tests.learn.conftest import MakeCase

VOXELS = 8**3


@pytest.fixture
def sampler(make_case: MakeCase) -> PatchSampler:
    return tiny.sampler(make_case("a", (10, 10, 10)).folder.parent)


@pytest.fixture(autouse=True)
def small_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "SIDE", {"cpu": 128})


def measured(sampler: PatchSampler, **changes: object) -> Profile:
    return profile_steps(tiny.task(), sampler, tiny.recipe(**changes), "cpu", steps=5)


def test_the_parts_of_a_step_make_up_the_whole(sampler: PatchSampler) -> None:
    found = measured(sampler)
    assert tuple(found.seconds) == PARTS
    assert all(seconds > 0 for seconds in found.seconds.values())
    assert 0.5 * found.total < sum(found.seconds.values()) <= found.total
    assert found.steps == 3
    assert found.size == (2, 1, *tiny.PATCH)


def test_the_operations_are_those_of_the_convolutions(sampler: PatchSampler) -> None:
    # multiply and add, twice as many again backward, but for the image, which needs no gradient
    widths, fine, coarse = (1, 4, 4), VOXELS, VOXELS // 8
    first, *others = [before * after * 27 * fine for before, after in itertools.pairwise(widths)]
    others += [4 * 8 * 27 * coarse, 8 * 8 * 27 * coarse]  # the middle
    others += [8 * 4 * 8 * coarse, 8 * 4 * 27 * fine, 4 * 4 * 27 * fine, 4 * 2 * fine]  # up, two convolutions, head
    assert measured(sampler).flop == 2 * 2 * (2 * first + 3 * sum(others))


def test_the_table_tells_shares_speed_and_conditions(sampler: PatchSampler) -> None:
    found = measured(sampler)
    lines = list(found.lines())
    rows = {line[:18].strip(): line[18:].split() for line in lines if re.search(r"%$", line)}
    assert list(rows) == [*PARTS, "between", "total"]
    assert rows["total"][1] == "100.0%"
    assert sum(float(row[1].rstrip("%")) for row in rows.values()) == pytest.approx(200, abs=0.5)
    assert float(rows["total"][0]) == pytest.approx(found.total * 1e3, abs=0.06)
    assert "batch of 2, patch 8x8x8" in lines[0]
    assert lines[-1].startswith(f"device cpu, {torch.get_num_threads()} threads, fp32, fast bf16: ")
    assert lines[-1].endswith("channels-last: yes, torch.compile: no")
    assert "bf16, " in list(measured(sampler, precision="bf16").lines())[-1]


def test_a_layout_that_is_not_channels_last_is_told(sampler: PatchSampler) -> None:
    plain = tiny.task()
    plain.network.to(memory_format=torch.contiguous_format)
    for module in plain.modules():
        if isinstance(module, nn.Conv3d):
            module.weight.data = module.weight.data.contiguous()
    assert "channels-last: no" in profile_steps(plain, sampler, tiny.recipe(), "cpu", steps=3).conditions


def test_speed_is_of_forward_and_backward_alone(sampler: PatchSampler) -> None:
    found = replace(measured(sampler), flop=6, seconds={**dict.fromkeys(PARTS, 100.0), "backward": 1.0})
    assert replace(found, seconds={**found.seconds, "forward and loss": 2.0}).speed == 2


def test_a_larger_matrix_product_is_not_slower_an_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = []
    for side in (4, 256):
        monkeypatch.setattr(profile, "SIDE", {"cpu": side})
        speeds.append(matrix_speed("cpu", bf16=False))
    assert speeds[0] < speeds[1] < 1e14
