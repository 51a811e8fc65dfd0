"""A training as small as can be; and a program that runs it in a process of its own."""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor, nn

from segpipe.core.errors import SegpipeError
from segpipe.core.leaving import leaving_in_time
from segpipe.core.parallel import SerialExecutor
from segpipe.core.stage import Workspace
from segpipe.dataset.prepare import Prepared
from segpipe.learn import ranks
from segpipe.learn.augment import AugmentConfig
from segpipe.learn.batches import Batch, PatchSampler, SamplingConfig
from segpipe.learn.fit import FitConfig, Recipe, fit
from segpipe.learn.losses import FOR_TARGET, DiceCE
from segpipe.learn.optim import OptimConfig
from segpipe.learn.task import Segmentation
from segpipe.nets.checkpoint import save_tensors
from segpipe.nets.encoder import EncoderSpec
from segpipe.nets.precision import laid_out
from segpipe.nets.unet import UNetSpec

STEPS = 12
LONGER = 40
PATCH = (8, 8, 8)
TOGETHER = 6
"""Steps of the runs that several processes share."""


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


def task(channels: int = 1, **form: object) -> Segmentation:
    torch.manual_seed(0)
    axes = (2, 2, 2)
    spec = {"in_channels": channels, "widths": (4, 8), "strides": (axes,), "kernels": ((3, 3, 3),) * 2} | form
    network = UNetSpec(encoder=EncoderSpec.model_validate(spec), out_channels=2).build()
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


def work(folder: Path, journal: Journal | None = None, tell: Callable[[str], None] = print) -> Workspace:
    folder.mkdir(exist_ok=True)
    return Workspace(folder, SerialExecutor(), journal or Journal(), no_bar, tell=tell)


def weights(module: nn.Module) -> Tensor:
    return torch.cat([value.flatten() for value in module.state_dict().values()])


def cases(folder: Path) -> list[Prepared]:
    return [Prepared(path.name, path) for path in sorted(folder.iterdir())]


def sampler(folder: Path, batch: int = 2) -> PatchSampler:
    """Return a sampler of the cases in a folder, that gives this process its part."""
    share = (ranks.rank(), ranks.world())
    return PatchSampler(cases(folder), PATCH, batch, 0, SamplingConfig(), share=share)


@dataclass(frozen=True)
class Watched(PatchSampler):
    """A sampler that tells of every step that is read."""

    told: Callable[[int], None] = print

    def __call__(self, step: int) -> Batch:
        self.told(step)
        return super().__call__(step)


def watched(draw: PatchSampler, told: Callable[[int], None]) -> Watched:
    return Watched(**{part.name: getattr(draw, part.name) for part in fields(draw)}, told=told)


def scripted(scores: Sequence[float]) -> Callable[[nn.Module], dict[str, float]]:
    """Return a validation that finds these Dice scores, one after the other."""
    left = iter(scores)
    return lambda averaged: {"dice": next(left)}


def head_gradients(share: tuple[int, int] = (0, 3)) -> dict[str, Tensor]:
    """Return the gradient of one convolution under each loss, from the patches ``share`` of a batch of three."""
    random = torch.Generator().manual_seed(0)
    image = torch.randn(3, 2, 6, 6, 6, generator=random)
    target = torch.randint(0, 3, (3, 1, 6, 6, 6), generator=random).to(torch.uint8)
    target[2] = 0  # a patch without structures: the Dice of the batch is not the mean of patches
    regions = torch.cat([target > 0, target > 1], dim=1).to(torch.uint8)
    targets = {"classes": target, "regions": regions, "signed_distance": regions - 0.3}
    weight = torch.rand(3, 1, 6, 6, 6, generator=random)
    mine = slice(*share)
    found = {}
    for kind, loss in FOR_TARGET.items():
        torch.manual_seed(1)
        layer = nn.Conv3d(2, 3 if kind == "classes" else 2, 1)
        model = ranks.parallel(layer)  # it must live until the gradients are there
        loss()(model(image[mine]), targets[kind][mine], weight[mine]).backward()
        found |= {f"{kind}.{name}": value.grad for name, value in layer.named_parameters()}
    return found


def together(out: Path, folder: Path) -> None:
    """Do with the other processes whatever is to be compared with one process alone; write it to ``out``."""
    me = ranks.rank()
    save_tensors(out / f"gradients.{me}.safetensors", head_gradients([(0, 2), (2, 3)][me]), {})

    def train(name: str, *, keep: str = "best", told: Callable[[int], None] | None = None, **changes: object) -> str:
        trained = task()
        draw = sampler(folder / "good", 4)
        at = shared_fit(trained, watched(draw, told) if told else draw, out / name, keep=keep, **changes)
        save_tensors(out / f"{name}.{me}.safetensors", trained.state_dict(), {})
        return str(at)

    train("sgd", kind="sgd")
    train("adamw", kind="adamw")
    train("muon", kind="muon")

    def interrupt(step: int) -> None:
        if (me, step) == (1, 3):
            os.kill(os.getpid(), signal.SIGTERM)

    said = {"stop": error_of(lambda: train("stopped", keep="last", told=interrupt))}
    said["resumed_at"] = train("stopped", keep="last")
    said["broken"] = error_of(lambda: shared_fit(task(2), sampler(folder / "bad", 8), out / "broken"))
    (out / f"said.{me}.json").write_text(json.dumps(said))


def shared_fit(
    trained: Segmentation, draw: PatchSampler, folder: Path, *, kind: str = "sgd", keep: str = "best"
) -> int:
    """Train a few steps; the second validation is the best. Return where it went on."""
    basis = recipe(steps=TOGETHER, validate_every=2, keep=keep)
    optim = basis.optim.model_copy(update={"kind": kind, "momentum": 0.9})
    config = Recipe(basis.fit, optim, basis.augment, basis.spacing, ("T1", "T2"))
    summary = fit(trained, draw, config, work(folder), validate=scripted([0.1, 0.9, 0.2]), name="unet")
    return int(summary["resumed_at"])


def error_of(action: Callable[[], object]) -> str:
    """Return the message of the error that an action raises."""
    try:
        action()
    except SegpipeError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def join(out: Path, folder: Path) -> None:
    """Work together; then the second process leaves, and the first one waits for it in vain."""
    with ranks.joined("cpu"):
        together(out, folder)
        if ranks.first():
            ranks.barrier()


def steadily(out: Path, folder: Path) -> None:
    """Train in ``out``, and print the number of every step that is read."""
    draw = watched(sampler(folder), lambda step: print(step, flush=True))  # noqa: T201 - what it is for
    fit(task(), draw, recipe(steps=LONGER, checkpoints=2), work(out), validate=None, name="unet")


if __name__ == "__main__":
    program, *places = sys.argv[1:]
    with leaving_in_time():
        if program == "steadily":
            steadily(*map(Path, places))
        else:
            lost = error_of(lambda: join(*map(Path, places)))
            (Path(places[0]) / f"lost.{os.environ['RANK']}.txt").write_text(lost)
