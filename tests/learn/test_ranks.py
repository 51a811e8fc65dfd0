"""Two real processes that train together do what one does with the whole batch."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from segpipe.core.atomic import write_array
from segpipe.core.errors import MachineError
from segpipe.learn import ranks
from segpipe.nets.checkpoint import load_tensors
from tests.learn.conftest import MakeCase
from tests.learn.tiny import head_gradients, sampler, shared_fit, task

ROOT = Path(__file__).parents[2]
CLOSE = 1e-5
IN_BF16 = 2e-3
"""Muon multiplies in bfloat16: a sum in another order is rounded otherwise there."""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def start_two(*arguments: object) -> list[subprocess.Popen[str]]:
    """Start the tiny program twice, with the variables that torchrun sets."""
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.learn.tiny", *map(str, arguments)]
    return [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]


def waited_for(processes: Sequence[subprocess.Popen[str]]) -> None:
    told = []
    for process in processes:
        try:
            told.append(process.communicate(timeout=120)[0])
        except subprocess.TimeoutExpired:
            process.kill()
            told.append("too slow: " + process.communicate()[0])
    assert [process.returncode for process in processes] == [0, 0], "\n".join(told)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return tmp_path_factory.mktemp("out"), tmp_path_factory.mktemp("cases")


@pytest.fixture
def out(places: tuple[Path, Path], make_case: MakeCase, tmp_path: Path) -> Path:
    """Return where two processes have written what they found, with cases that one process finds too."""
    out, folder = places
    if not (out / "said.0.json").exists():
        for name in ("a", "b", "c"):
            made = make_case(name, (10, 10, 10))
            shutil.copytree(made.folder, folder / "good" / name)
            image = np.concatenate([made.image, made.image])
            if name == "b":
                image[1, 4:7, 4:7, 4:7] = np.inf
            write_array(shutil.copytree(made.folder, folder / "bad" / name) / "image.npy", image)
        waited_for(start_two("together", out, folder))
    return out


def tensors(out: Path, name: str) -> list[dict[str, torch.Tensor]]:
    return [load_tensors(out / f"{name}.{rank}.safetensors")[0] for rank in range(2)]


def furthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def said(out: Path) -> list[dict[str, str]]:
    return [json.loads((out / f"said.{rank}.json").read_text()) for rank in range(2)]


def test_the_gradient_of_every_loss_is_that_of_the_whole_batch(out: Path) -> None:
    whole = head_gradients()
    assert all(float(value.abs().max()) > 1e-3 for name, value in whole.items() if name.endswith("weight"))
    for part in tensors(out, "gradients"):
        assert furthest(whole, part) < 1e-6
    # and it is not what a mean over the processes' own losses would give
    apart = [head_gradients(share) for share in ((0, 2), (2, 3))]
    assert furthest(whole, {name: (apart[0][name] + apart[1][name]) / 2 for name in whole}) > 1e-3


@pytest.mark.parametrize(("kind", "close"), [("sgd", CLOSE), ("adamw", CLOSE), ("muon", IN_BF16)])
def test_two_processes_learn_the_weights_of_one(
    out: Path, places: tuple[Path, Path], tmp_path: Path, kind: str, close: float
) -> None:
    alone = task()
    before = {name: value.clone() for name, value in alone.state_dict().items()}
    shared_fit(alone, sampler(places[1] / "good", 4), tmp_path / "alone", kind=kind)
    first, second = tensors(out, kind)
    assert furthest(alone.state_dict(), first) < close < furthest(before, first) / 10
    assert furthest(first, second) == 0


def test_the_first_process_alone_writes(out: Path) -> None:
    assert {path.name for path in (out / "sgd").iterdir()} == {"unet.best.safetensors"}
    assert not list((out / "stopped").iterdir())  # checkpoints go when training is over


def test_a_request_to_stop_one_stops_all_at_the_same_step_and_they_go_on(
    out: Path, places: tuple[Path, Path], tmp_path: Path
) -> None:
    told = said(out)
    assert told[0]["stop"] == told[1]["stop"]
    assert told[0]["stop"].startswith("StopRequestError: stopped at step ")
    assert told[0]["resumed_at"] == told[1]["resumed_at"] == told[0]["stop"].split()[4]
    alone = task()
    shared_fit(alone, sampler(places[1] / "good", 4), tmp_path / "alone", keep="last")
    first, second = tensors(out, "stopped")
    assert furthest(alone.state_dict(), first) < CLOSE
    assert furthest(first, second) == 0


def test_a_broken_image_in_one_process_stops_all_with_one_message(out: Path) -> None:
    told = said(out)
    assert told[0]["broken"] == told[1]["broken"]
    assert "on case b (channel 1 'T2' holds " in told[0]["broken"]
    assert "case a" not in told[0]["broken"]


def test_a_process_that_waits_for_a_lost_one_says_so(out: Path) -> None:
    lost = [(out / f"lost.{rank}.txt").read_text() for rank in range(2)]
    assert lost[0].startswith("MachineError: another of the 2 processes that train together was lost.")
    assert lost[1] == ""


class TestAlone:
    def test_nothing_is_initialised_and_everything_is_the_identity(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("WORLD_SIZE", raising=False)
        layer = torch.nn.Linear(2, 2)
        with ranks.joined("cpu") as place:
            assert (place.rank, place.world, place.device) == (0, 1, "cpu")
            assert not dist.is_initialized()
            assert (ranks.rank(), ranks.world(), ranks.first()) == (0, 1, True)
            assert [ranks.any_of(flag) for flag in (False, True)] == [False, True]
            assert ranks.summed(layer.weight) is layer.weight
            assert ranks.parallel(layer) is layer
            assert ranks.broadcast_text("x") == "x"
            assert ranks.broadcast_text(None) == ""
            ranks.broadcast_weights(layer)
            ranks.barrier()

    def test_torchrun_with_one_process_is_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WORLD_SIZE", "1")
        with ranks.joined("cpu"):
            assert not dist.is_initialized()

    def test_processes_that_cannot_be_found_give_one_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in (("WORLD_SIZE", "2"), ("RANK", "1"), ("MASTER_PORT", "1")):
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("MASTER_ADDR", raising=False)
        with pytest.raises(MachineError, match="Start them with torchrun, or unset WORLD_SIZE"), ranks.joined("cpu"):
            raise AssertionError

    def test_more_processes_than_gpus_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WORLD_SIZE", "4")
        monkeypatch.setenv("LOCAL_RANK", "3")
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        wanted = r"process 4 has no GPU: this machine has 2. Start torchrun with --nproc-per-node 2"
        with pytest.raises(MachineError, match=wanted), ranks.joined("cuda"):
            raise AssertionError
