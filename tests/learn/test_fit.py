import math
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from segpipe.core.atomic import write_array
from segpipe.core.errors import DataError, StopRequestError
from segpipe.learn.batches import Batch, PatchSampler
from segpipe.learn.fit import fit
from segpipe.learn.losses import DiceCE
from segpipe.learn.optim import OptimConfig
from segpipe.learn.state import Checkpoints, State
from segpipe.learn.task import Segmentation
from tests.learn import tiny
from tests.learn.conftest import MakeCase
from tests.learn.tiny import Journal, StoppedError, recipe, scripted, task, weights, work

ROOT = Path(__file__).parents[2]


@pytest.fixture
def sampler(make_case: MakeCase) -> PatchSampler:
    made = [make_case(name, (10, 10, 10)) for name in ("a", "b")]
    return tiny.sampler(made[0].folder.parent)


def stop_at(step: int, sampler: PatchSampler, folder: Path, **changes: object) -> None:
    """Train in a folder until a figure is logged, and be cut off there."""
    with pytest.raises(StoppedError):
        fit(task(), sampler, recipe(**changes), work(folder, Journal(step)), validate=None, name="unet")


def test_training_makes_the_loss_smaller(sampler: PatchSampler, tmp_path: Path) -> None:
    journal = Journal()
    longer = recipe(steps=60)
    fit(task(), sampler, longer, work(tmp_path, journal), validate=None, name="unet")
    losses = [row["loss"] for _, row in journal.rows]
    assert losses[-1] < 0.8 * losses[0]


def test_the_same_seed_gives_the_same_weights(sampler: PatchSampler, tmp_path: Path) -> None:
    first, second = task(), task()
    fit(first, sampler, recipe(), work(tmp_path / "1"), validate=None, name="unet")
    fit(second, sampler, recipe(), work(tmp_path / "2"), validate=None, name="unet")
    assert torch.equal(weights(first), weights(second))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_stopped_run_goes_on_to_the_very_same_weights(sampler: PatchSampler, tmp_path: Path, dropout: float) -> None:
    whole, halved, anew = (task(dropout=dropout) for _ in range(3))
    fit(whole, sampler, recipe(), work(tmp_path / "1"), validate=None, name="unet")
    with pytest.raises(StoppedError):
        fit(halved, sampler, recipe(), work(tmp_path / "2", Journal(stop_at=10)), validate=None, name="unet")
    torch.manual_seed(99)  # whatever was drawn in between
    summary = fit(anew, sampler, recipe(), work(tmp_path / "2"), validate=None, name="unet")
    assert summary["resumed_at"] == 9
    assert torch.equal(weights(whole), weights(anew))
    assert not torch.equal(weights(whole), weights(halved))


def test_a_process_killed_at_any_moment_goes_on_to_the_very_same_weights(sampler: PatchSampler, tmp_path: Path) -> None:
    folder = sampler.cases[0].folder.parent
    command = [sys.executable, "-m", "tests.learn.tiny", "steadily", str(tmp_path / "killed"), str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == 11:
                process.kill()
                break
    assert process.returncode == -9, "it was over before it could be killed"
    whole, resumed = task(), task()
    same = recipe(steps=tiny.LONGER, checkpoints=2)
    summary = fit(resumed, sampler, same, work(tmp_path / "killed"), validate=None, name="unet")
    assert 0 < summary["resumed_at"] < tiny.LONGER
    fit(whole, sampler, same, work(tmp_path / "whole"), validate=None, name="unet")
    assert torch.equal(weights(whole), weights(resumed))


def test_a_request_to_stop_saves_and_the_run_goes_on(sampler: PatchSampler, tmp_path: Path) -> None:
    def ask(step: int) -> None:
        if step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    seldom = recipe(checkpoint_minutes=99)
    with pytest.raises(StopRequestError, match=r"stopped at step [45] of 12, saved"):
        fit(task(), tiny.watched(sampler, ask), seldom, work(tmp_path / "2"), validate=None, name="unet")
    whole, anew = task(), task()
    fit(whole, sampler, seldom, work(tmp_path / "1"), validate=None, name="unet")
    summary = fit(anew, sampler, seldom, work(tmp_path / "2"), validate=None, name="unet")
    assert summary["resumed_at"] in (4, 5)
    assert torch.equal(weights(whole), weights(anew))


class TestCheckpoints:
    def test_the_latest_few_are_kept_and_go_when_training_is_over(self, sampler: PatchSampler, tmp_path: Path) -> None:
        stop_at(10, sampler, tmp_path, checkpoints=3)
        names = ["unet.last-1.safetensors", "unet.last-2.safetensors", "unet.last.safetensors"]
        assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == names
        assert [step_of(tmp_path / names[index]) for index in (2, 0, 1)] == [9, 8, 7]
        fit(task(), sampler, recipe(), work(tmp_path), validate=None, name="unet")
        assert not list(tmp_path.glob("*.safetensors"))

    def test_where_the_newest_is_damaged_the_next_older_is_taken(self, sampler: PatchSampler, tmp_path: Path) -> None:
        whole, anew = task(), task()
        fit(whole, sampler, recipe(), work(tmp_path / "1"), validate=None, name="unet")
        stop_at(10, sampler, tmp_path / "2", checkpoints=3)
        newest = tmp_path / "2" / "unet.last.safetensors"
        newest.write_bytes(newest.read_bytes()[:-100])
        summary = fit(anew, sampler, recipe(), work(tmp_path / "2"), validate=None, name="unet")
        assert summary["resumed_at"] == 8
        assert torch.equal(weights(whole), weights(anew))

    @pytest.mark.parametrize("content", ["nothing", "wider", "part"])
    def test_one_that_cannot_be_used_means_beginning_as_if_it_were_not_there(
        self, sampler: PatchSampler, tmp_path: Path, content: str
    ) -> None:
        whole, anew = task(), task()
        fit(whole, sampler, recipe(), work(tmp_path / "1"), validate=None, name="unet")
        last = work(tmp_path / "2").path / "unet.last.safetensors"
        if content == "nothing":
            last.write_bytes(b"no weights")
        else:
            other = State.of(task(widths=(4, 12)) if content == "wider" else task(), OptimConfig())
            if content == "part":
                other.average = nn.Linear(1, 1)
            with torch.no_grad():
                for parameter in other.task.parameters():
                    parameter.fill_(7)
            other.save(last)
        summary = fit(anew, sampler, recipe(), work(tmp_path / "2"), validate=None, name="unet")
        assert summary["resumed_at"] == 0
        assert torch.equal(weights(whole), weights(anew))


def step_of(path: Path) -> int:
    state = State.of(task(), OptimConfig())
    state.load(path)
    return state.step


class TestWhatIsKept:
    def test_the_weights_with_the_best_validation(self, sampler: PatchSampler, tmp_path: Path) -> None:
        seen, trained, summary = self.run(sampler, tmp_path, keep="best")
        assert summary["best_dice"] == 0.9
        assert torch.equal(weights(trained), seen[1])

    def test_or_those_after_the_last_step(self, sampler: PatchSampler, tmp_path: Path) -> None:
        seen, trained, summary = self.run(sampler, tmp_path, keep="last")
        assert "best_dice" not in summary
        assert torch.equal(weights(trained), seen[2])
        assert not torch.equal(weights(trained), seen[1])

    def test_a_best_of_an_earlier_trial_is_not_taken_for_one_of_this(
        self, sampler: PatchSampler, tmp_path: Path
    ) -> None:
        self.run(sampler, tmp_path, keep="best")
        trained, last = task(), task()
        nothing = scripted([math.nan] * 3)
        fit(trained, sampler, recipe(seed=1), work(tmp_path), validate=nothing, name="unet")
        fit(last, sampler, recipe(seed=1), work(tmp_path / "2"), validate=None, name="unet")
        assert torch.equal(weights(trained), weights(last))

    @staticmethod
    def run(
        sampler: PatchSampler, folder: Path, keep: str
    ) -> tuple[list[torch.Tensor], Segmentation, Mapping[str, float]]:
        seen: list[torch.Tensor] = []
        score = scripted([0.2, 0.9, 0.4])

        def validate(averaged: nn.Module) -> Mapping[str, float]:
            seen.append(weights(averaged).clone())
            return score(averaged)

        trained = task()
        summary = fit(trained, sampler, recipe(keep=keep), work(folder), validate=validate, name="unet")
        return seen, trained, summary


def test_what_is_validated_is_a_running_average(sampler: PatchSampler, tmp_path: Path) -> None:
    trained = task()
    before = weights(trained).clone()
    fit(trained, sampler, recipe(average=0.999999, steps=4), work(tmp_path), validate=None, name="unet")
    moved = (weights(trained) - before).norm()
    assert 0 < moved < before.norm()


def test_where_torch_compile_fails_training_goes_on_with_one_line(
    sampler: PatchSampler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_compiler(forward: object) -> object:
        def fail(*arguments: object) -> object:
            raise RuntimeError("no C compiler\nwas found")

        return fail

    monkeypatch.setattr(torch, "compile", no_compiler)
    told: list[str] = []
    plain, quick = task(), task()
    fit(plain, sampler, recipe(), work(tmp_path / "1"), validate=None, name="unet")
    fit(quick, sampler, recipe(compile=True), work(tmp_path / "2", tell=told.append), validate=None, name="unet")
    assert told == ["torch.compile fails here (no C compiler); training goes on without it."]
    assert torch.equal(weights(plain), weights(quick))


class TestALossThatIsNotFinite:
    @pytest.fixture
    def mixed(self, make_case: MakeCase) -> PatchSampler:
        """Return a sampler of cases with two channels; the second one of case b holds an infinite voxel."""
        for name in ("a", "b", "c"):
            case = make_case(name, (10, 10, 10))
            image = np.concatenate([case.image, case.image])
            if name == "b":
                image[1, 4:7, 4:7, 4:7] = np.inf
            write_array(case.folder / "image.npy", image)
        return tiny.sampler(case.folder.parent, batch=6)

    def test_names_the_guilty_case_and_channel_and_no_other(self, mixed: PatchSampler, tmp_path: Path) -> None:
        with pytest.raises(DataError) as caught:
            fit(task(2), mixed, recipe(), work(tmp_path), validate=None, name="unet")
        assert len(set(mixed(0).cases)) > 1
        assert "not finite at step 0, on case b (channel 1 holds " in str(caught.value)
        assert "case a" not in str(caught.value)
        assert "channel 0" not in str(caught.value)
        named = replace(recipe(), channels=("T1", "T2"))
        with pytest.raises(DataError, match=r"case b \(channel 1 'T2' holds \d+ values that are not finite"):
            fit(task(2), mixed, named, work(tmp_path), validate=None, name="unet")

    def test_leaves_the_checkpoint_from_before(self, mixed: PatchSampler, tmp_path: Path) -> None:
        sound = replace(mixed, cases=[case for case in mixed.cases if case.id != "b"])

        class Later(PatchSampler):
            def __call__(self, step: int) -> Batch:
                return (mixed if step == 5 else sound)(step)

        later = Later(mixed.cases, tiny.PATCH, 6, 0, mixed.config)
        with pytest.raises(DataError, match="at step 5, on case b"):
            fit(task(2), later, recipe(), work(tmp_path), validate=None, name="unet")
        state = State.of(task(2), OptimConfig())
        assert Checkpoints(tmp_path, "unet").resume(state) == 5
        assert weights(state.task).isfinite().all()
        assert not torch.equal(weights(state.task), weights(task(2)))

    def test_of_broken_weights_names_no_case(self, mixed: PatchSampler, tmp_path: Path) -> None:
        spoilt = task(2)
        with torch.no_grad():
            next(spoilt.parameters()).fill_(math.nan)
        with pytest.raises(DataError, match=r"weights are no longer finite. Lower optim.learning_rate") as caught:
            fit(spoilt, mixed, recipe(), work(tmp_path), validate=None, name="unet")
        assert "case" not in str(caught.value)

    def test_on_every_patch_of_sound_images_is_divergence(self, sampler: PatchSampler, tmp_path: Path) -> None:
        class Breaks(Segmentation):
            def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
                return {name: value * math.nan for name, value in super().forward(batch).items()}

        many = replace(sampler, batch=8)
        with pytest.raises(DataError, match=r"the images look sound \(case a; case b\): training has diverged"):
            fit(Breaks(task().network, DiceCE()), many, recipe(), work(tmp_path), validate=None, name="unet")
