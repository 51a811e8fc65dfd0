import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from segpipe.core.errors import DataError
from segpipe.core.parallel import SerialExecutor
from segpipe.core.stage import Workspace
from segpipe.learn.augment import AugmentConfig
from segpipe.learn.batches import Batch, PatchSampler, SamplingConfig
from segpipe.learn.fit import FitConfig, Recipe, fit
from segpipe.learn.losses import DiceCE
from segpipe.learn.optim import OptimConfig
from segpipe.learn.task import Segmentation
from segpipe.nets.encoder import EncoderSpec
from segpipe.nets.precision import laid_out
from segpipe.nets.unet import UNetSpec
from tests.learn.conftest import MakeCase

STEPS = 12


class StoppedError(Exception):
    """Stands for a kill: raised from the log, in the middle of a run."""


class Journal:
    """Remembers what was logged; stops the run at a step."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.stop_at = stop_at

    def __call__(self, metrics: Mapping[str, float], step: int) -> None:
        self.rows.append((step, dict(metrics)))
        if step == self.stop_at:
            raise StoppedError


@contextlib.contextmanager
def no_bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    yield lambda done: None


def task() -> Segmentation:
    torch.manual_seed(0)
    axes = (2, 2, 2)
    encoder = EncoderSpec(in_channels=1, widths=(4, 8), strides=(axes,), kernels=((3, 3, 3),) * 2)
    network = UNetSpec(encoder=encoder, out_channels=2).build()
    # the layout of real training: moments that lie otherwise in memory spoil a resumed run
    return Segmentation(laid_out(network, 3, "cpu"), DiceCE())


def recipe(**changes: object) -> Recipe:
    config = FitConfig(steps=STEPS, validate_every=4, checkpoint_minutes=1e-9, precision="fp32")
    return Recipe(
        config.model_copy(update=changes),
        OptimConfig(learning_rate=1e-2, warmup_steps=2),
        AugmentConfig(),
        (1.0, 1.0, 1.0),
    )


def work(folder: Path, journal: Journal | None = None) -> Workspace:
    folder.mkdir(exist_ok=True)
    return Workspace(folder, SerialExecutor(), journal or Journal(), no_bar)


@pytest.fixture
def sampler(make_case: MakeCase) -> PatchSampler:
    cases = [make_case(name, (10, 10, 10)) for name in ("a", "b")]
    return PatchSampler(cases, (8, 8, 8), 2, 0, SamplingConfig())


def weights(module: nn.Module) -> torch.Tensor:
    return torch.cat([value.flatten() for value in module.state_dict().values()])


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


def test_a_stopped_run_goes_on_to_the_very_same_weights(sampler: PatchSampler, tmp_path: Path) -> None:
    whole, halved = task(), task()
    fit(whole, sampler, recipe(), work(tmp_path / "1"), validate=None, name="unet")
    with pytest.raises(StoppedError):
        fit(halved, sampler, recipe(), work(tmp_path / "2", Journal(stop_at=10)), validate=None, name="unet")
    anew = task()
    summary = fit(anew, sampler, recipe(), work(tmp_path / "2"), validate=None, name="unet")
    assert summary["resumed_at"] == 9
    assert torch.equal(weights(whole), weights(anew))
    assert not torch.equal(weights(whole), weights(halved))


def test_a_damaged_checkpoint_means_beginning_anew(sampler: PatchSampler, tmp_path: Path) -> None:
    (tmp_path / "unet.last.safetensors").write_bytes(b"no weights")
    summary = fit(task(), sampler, recipe(), work(tmp_path), validate=None, name="unet")
    assert summary["resumed_at"] == 0


def test_the_weights_with_the_best_validation_are_kept(sampler: PatchSampler, tmp_path: Path) -> None:
    seen: list[torch.Tensor] = []
    scores = iter([0.2, 0.9, 0.4])

    def validate(averaged: nn.Module) -> dict[str, float]:
        seen.append(weights(averaged).clone())
        return {"dice": next(scores)}

    trained = task()
    summary = fit(trained, sampler, recipe(), work(tmp_path), validate=validate, name="unet")
    assert summary["best_dice"] == 0.9
    assert torch.equal(weights(trained), seen[1])


def test_what_is_validated_is_a_running_average(sampler: PatchSampler, tmp_path: Path) -> None:
    trained = task()
    before = weights(trained).clone()
    fit(trained, sampler, recipe(average=0.999999, steps=4), work(tmp_path), validate=None, name="unet")
    moved = (weights(trained) - before).norm()
    assert 0 < moved < before.norm()


def test_a_loss_that_is_not_finite_stops_at_once_and_names_the_cases(sampler: PatchSampler, tmp_path: Path) -> None:
    class Breaks(Segmentation):
        def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
            return {name: value * math.nan for name, value in super().forward(batch).items()}

    whole = task()
    with pytest.raises(DataError, match=r"not finite at step 0, on cases [ab](, b)?"):
        fit(Breaks(whole.network, DiceCE()), sampler, recipe(), work(tmp_path), validate=None, name="unet")
