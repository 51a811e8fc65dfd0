"""What people are told before a training: memory beside what is free, time, and what to set where it will not do."""

from pathlib import Path
from typing import Any

import pytest
import torch

from segpipe.learn import forecast
from segpipe.learn.forecast import Speed, expected, free_bytes, processor_speed, step_seconds
from segpipe.nets.cost import flops, training_bytes
from segpipe.nets.unet import UNetConfig

GIB = 2**30
SPEC = UNetConfig(features=8).spec(1, 3, ((2, 2, 2),) * 2, ((3, 3, 3),) * 3)
PATCH = (16, 16, 16)


def told(**changes: Any) -> list[str]:
    how: dict[str, Any] = {"precision": "bf16", "device": "cpu"} | changes
    return list(expected(SPEC, PATCH, 2, 600, **how))


@pytest.fixture(autouse=True)
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is always alike."""
    monkeypatch.setattr(forecast, "processor_speed", lambda bf16: Speed(0.7e12 if bf16 else 0.3e12, 4e10))


def test_people_are_told_memory_time_and_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "free_bytes", lambda device: 15 * GIB)
    monkeypatch.setattr(forecast, "step_seconds", lambda *how: 0.9)
    (line,) = told()
    peak = training_bytes(SPEC, PATCH, 2, bf16=True) / GIB
    work = 3 * flops(SPEC, PATCH, 2) / 1e12
    assert line == (
        f"expects a peak of {peak:.1f} GiB of memory (15.0 GiB free) and about 9 min for 600 steps "
        f"({work:.2f} TFLOP a step; this machine convolves at 0.70 TFLOP/s in bf16)"
    )


def test_where_memory_may_not_suffice_people_are_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "free_bytes", lambda device: GIB // 4)
    _, warning = told()
    assert warning.startswith("training may run out of memory: 0.6 GiB expected, 0.2 GiB free. Set a smaller ")
    for setting in ("preprocess.plan.batch (now 2)", "preprocess.plan.patch (now [16, 16, 16])", "features (now 8)"):
        assert setting in warning


def test_where_nobody_tells_what_is_free_nothing_is_said_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "free_bytes", lambda device: None)
    (line,) = told()
    assert "free" not in line


def test_the_time_comes_from_the_processor_and_the_number_format() -> None:
    line, *_ = told()
    assert " for 600 steps (" in line
    assert line.endswith("; this machine convolves at 0.70 TFLOP/s in bf16)")
    assert told(precision="fp32")[0].endswith("at 0.30 TFLOP/s in fp32)")


def test_of_a_gpu_no_time_is_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "free_bytes", lambda device: 15 * GIB)
    (line,) = told(device="cuda:0")
    assert "for 600 steps" not in line
    assert "(15.0 GiB free)" in line


def test_a_step_takes_longer_on_a_slower_machine_in_either_way() -> None:
    fast = step_seconds(SPEC, PATCH, 2, Speed(1e12, 1e11))
    slow_units = step_seconds(SPEC, PATCH, 2, Speed(5e11, 1e11))
    slow_memory = step_seconds(SPEC, PATCH, 2, Speed(1e12, 5e10))
    assert fast < min(slow_units, slow_memory)
    assert slow_units + slow_memory == pytest.approx(3 * fast)


def test_the_work_of_the_optimiser_comes_on_top_whatever_the_batch() -> None:
    for batch in (1, 4):
        beside = step_seconds(SPEC, PATCH, batch, Speed(1e12, 1e11), 2 * 10**12)
        assert beside - step_seconds(SPEC, PATCH, batch, Speed(1e12, 1e11)) == pytest.approx(2)
    line, *_ = told(update=14 * 10**11)
    assert "about 20 min for 600 steps (1.40 TFLOP a step; " in line


def test_a_step_of_the_hippocampus_network_takes_what_was_measured() -> None:
    # two cores of an AMD EPYC, bf16: 0.41 s; fp32: 0.60 to 0.65 s; speeds as processor_speed found them there
    spec = UNetConfig().spec(1, 3, ((2, 2, 2),) * 3, ((3, 3, 3),) * 4)
    assert step_seconds(spec, (40, 56, 40), 2, Speed(0.97e12, 41.5e9)) == pytest.approx(0.41, rel=0.1)
    assert step_seconds(spec, (40, 56, 40), 2, Speed(0.49e12, 40.9e9)) == pytest.approx(0.62, rel=0.1)


def test_looking_at_the_processor_leaves_random_numbers_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    speed = processor_speed(bf16=False)
    assert speed.operations > 1e8
    assert speed.copied > 1e7
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.1, "1 s"), (45, "45 s"), (89, "89 s"), (540, "9 min"), (5300, "88 min"), (5400, "1.5 h"), (36000, "10.0 h")],
)
def test_a_duration_is_told_as_people_say_it(seconds: float, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "step_seconds", lambda *how: seconds / 600)
    assert f"about {words} for 600 steps" in told()[0]


class TestFreeMemory:
    """On a machine made of files: 8 GiB available, 1 GiB of it is the process's own besides."""

    def machine(self, root: Path, groups: str = "") -> Path:
        self.write(root / "proc/meminfo", f"MemTotal: 99 kB\nMemAvailable:    {8 * 2**20} kB\n")
        self.write(root / "proc/self/status", f"Name: x\nVmRSS:\t {2**20} kB\n")
        self.write(root / "proc/self/cgroup", groups)
        return root

    def write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def group(self, root: Path, folder: str, limit: str, usage: int, idle: int) -> None:
        old = folder.startswith("memory")
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if old else ("memory.max", "memory.current")
        for name, text in zip(names, (limit, str(usage)), strict=True):
            self.write(root / "sys/fs/cgroup" / folder / name, f"{text}\n")
        stat = f"cache 7\n{'total_inactive_file' if old else 'inactive_file'} {idle}\n"
        self.write(root / "sys/fs/cgroup" / folder / "memory.stat", stat)

    def test_is_what_linux_can_give_and_what_is_ours_already(self, tmp_path: Path) -> None:
        assert free_bytes("cpu", self.machine(tmp_path)) == 9 * GIB

    def test_is_less_where_a_group_of_version_2_is_limited(self, tmp_path: Path) -> None:
        root = self.machine(tmp_path, "0::/user/job\n")
        self.group(root, "user/job", "max", 3 * GIB, 0)
        self.group(root, "user", str(4 * GIB), 3 * GIB, GIB // 2)
        assert free_bytes("cpu", root) == (1.5 + 1) * GIB

    def test_is_less_where_a_group_of_version_1_is_limited(self, tmp_path: Path) -> None:
        root = self.machine(tmp_path, "3:cpuset:/\n4:cpu,memory:/job\n0::/\n")
        self.group(root, "memory/job", str(2 * GIB), 2 * GIB, GIB)
        self.group(root, "memory", str(2**63 - 4096), 7 * GIB, 0)
        assert free_bytes("cpu", root) == (1 + 1) * GIB

    def test_of_a_container_is_found_where_its_own_path_is_not_seen(self, tmp_path: Path) -> None:
        root = self.machine(tmp_path, "0::/docker/0123abcd\n")
        self.group(root, ".", str(3 * GIB), 2 * GIB, 0)
        assert free_bytes("cpu", root) == (1 + 1) * GIB

    def test_is_not_known_on_another_system(self, tmp_path: Path) -> None:
        assert free_bytes("cpu", tmp_path) is None
