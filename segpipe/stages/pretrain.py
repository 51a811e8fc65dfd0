"""Inputs without their labels -> an encoder to begin with."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

import numpy as np
import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, field_validator
from torch import Tensor, nn

from segpipe.core.atomic import write_array, write_json
from segpipe.core.section import Section
from segpipe.core.stage import Inputs, Point, Stage, Summary, Workspace
from segpipe.dataset.manifest import Case, Dataset, Fold
from segpipe.dataset.plan import Plan
from segpipe.dataset.prepare import Prepared, PreparedSet
from segpipe.dataset.settings import IngestConfig
from segpipe.learn import ranks
from segpipe.learn.augment import LIST, AugmentConfig
from segpipe.learn.augment_listed import refuse_unfit
from segpipe.learn.batches import PatchSampler
from segpipe.learn.chance import FactorRange, Share
from segpipe.learn.fit import FitConfig, Recipe
from segpipe.learn.latent_space import Seen, look_into, middle_patch, seen_of
from segpipe.learn.objectives import Objective, Pretraining
from segpipe.learn.optim import Kind, OptimConfig
from segpipe.learn.phases import train_phases
from segpipe.learn.transfer import CASES, seen_in_pretraining
from segpipe.nets.checkpoint import save_encoder
from segpipe.nets.precision import Precision, computing, laid_out
from segpipe.nets.unet import UNetConfig

PICTURES = "reconstructions"
LATENT = "latent"
ASIDE = 4
"""Where no case is held out, every so manyth is one that the latent space is measured by."""
SHOWN = 4
"""Cases of which the middle is shown beside its reconstruction."""
LOOKED_AT = 8
"""Batches of validation patches: without gradients they take no more memory than training does."""


class PretrainAugment(AugmentConfig):
    """How patches are varied in pretraining: mildly, since they are to be drawn again as they are."""

    rotate_degrees: NonNegativeFloat = 10.0
    """Largest angle about each axis."""
    scale: FactorRange = (0.9, 1.1)
    """Range of sizes."""
    elastic: Share = 0.0
    """Share that is bent by a smooth random field."""
    bias_field: Share = 0.0
    """Share whose brightness drifts over the patch."""
    noise: Share = 0.0
    """Share with Gaussian noise; that of a denoising objective is set there."""
    blur: Share = 0.0
    """Share that is blurred."""
    brightness: Share = 0.0
    """Share to which a constant is added."""
    contrast: Share = 0.0
    """Share whose deviation from the mean is multiplied."""
    low_resolution: Share = 0.0
    """Share that is coarsened and brought back."""
    gamma: Share = 0.0
    """Share whose intensities are bent by an exponent."""
    gamma_inverted: Share = 0.0
    """Share that is bent so upside down."""


class PretrainFit(FitConfig):
    """How long pretraining takes, how exactly, and how often to look."""

    seed: NonNegativeInt = 0
    """Decides first weights, patches and chance. Under train.seeds each seed has a pretraining of its own, with it."""
    keep: Literal["best", "last"] = "last"
    """Which averaged weights a phase ends with: `last`: those after its last step; `best`: those with the smallest
    mean squared error on validation patches, which a growing penalty makes larger."""


class PretrainOptim(OptimConfig):
    """The optimiser of pretraining, and its schedule."""

    kind: Kind = "adamw"
    """As in `train.optim.kind`; the figures in docs/ were made with AdamW."""
    learning_rate: PositiveFloat = 1e-3
    """Peak learning rate, reached after warm-up."""


class PretrainConfig(Section):
    """How the encoder is pretrained, on images alone. Without an objective it is not."""

    objective: Objective | None = None
    """What is learned; empty: nothing. Its kind alone will do: `pretrain.objective=masked`."""
    fold: Fold | None = None
    """Of which fold the validation cases are left out; empty: of that of the training; `all`: of none."""
    cases: Literal["training", "develop"] = "training"
    """`training`: all but the validation cases of the fold; `develop`: these too. The unlabelled cases always, but for
    those of a subject that is held out; a case of the test split never."""
    fit: PretrainFit = PretrainFit()
    """How long and how exactly."""
    optim: PretrainOptim = PretrainOptim()
    """Optimiser and schedule; each phase of an objective begins it anew."""
    augment: PretrainAugment = PretrainAugment()
    """How patches are varied."""

    @field_validator("objective", mode="before")
    @classmethod
    def _kind_alone(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

    def at(self, point: Point, fold: Fold) -> "PretrainConfig":
        """Return the settings of the one pretraining at a point of the axes, before a training on this fold."""
        fit = self.fit.model_copy(update={"seed": point.get("seed", self.fit.seed)})
        return self.model_copy(update={"fold": fold if self.fold is None else self.fold, "fit": fit})


class Settings(Section):
    """Everything that decides what this stage writes."""

    ingest: IngestConfig
    model: UNetConfig
    pretrain: PretrainConfig


class _Watched(Protocol):
    def figures(self, image: Tensor) -> dict[str, float]: ...


Look = Callable[[nn.Module], dict[str, float]]


@dataclass(frozen=True)
class _Pretraining:
    """Everything that a pretraining starts from, ready on its device."""

    plan: Plan
    cases: tuple[Case, ...]
    held_out: tuple[Case, ...]
    task: Pretraining
    sampler: PatchSampler
    recipe: Recipe
    shown: tuple[Prepared, ...]
    seen: tuple[list[Seen], list[Seen]]
    """Cases trained on, and others, by which the latent space is looked at."""
    look: Look


def run(settings: Settings, inputs: Inputs, work: Workspace) -> Summary:
    """Train the phases of the objective, one after the other, and save the encoder with what it was trained on."""
    start = _assembled(settings, inputs, work.device)
    told = train_phases(start.task, start.sampler, start.recipe, lambda task: _scored(start.look(task)), work)
    if not ranks.first():
        return {}
    task = start.task.eval()
    config = settings.pretrain
    assert config.objective is not None, "the stage is planned with an objective only"
    origin = {
        "objective": config.objective.deciding(),
        "patch": list(start.plan.patch),
        "dataset": start.plan.dataset,
        "channels": [channel.name for channel in start.plan.channels],
        "spacing_mm": list(start.plan.spacing),
        "cases": len(start.cases),
        "fold": config.fold,
        "seed": config.fit.seed,
        "steps": config.fit.steps,
        "fingerprints": {name: artifact.fingerprint for name, artifact in inputs.artifacts.items()},
    }
    _draw(start, work)
    latent = _look_inside(start, config.objective.kind, work)
    write_json(work.path / CASES, seen_in_pretraining(start.cases))
    save_encoder(work.path, task.encoder, task.decoder, origin)
    for path in work.path.glob("*.best.safetensors"):
        path.unlink()
    return {
        "objective": config.objective.kind,
        "steps": sum(one["steps"] for one in told.values()),
        "resumed_at": max(one["resumed_at"] for one in told.values()),
        "phases": list(told),
        **{name: value for name, value in start.look(task).items() if math.isfinite(value)},
        **latent,
        "code_ratio": task.ratio,
        "cases": len(start.cases),
        "validation_cases": len(start.held_out),
        "encoder_parameters": sum(parameter.numel() for parameter in task.encoder.parameters()),
    }


def _assembled(settings: Settings, inputs: Inputs, device: str) -> _Pretraining:
    config = settings.pretrain
    assert config.objective is not None, "the stage is planned with an objective only"
    dataset = Dataset.open(inputs["ingest"], settings.ingest.source.folder)
    plan = Plan.model_validate_json((inputs["preprocess"] / "plan.json").read_text())
    prepared = PreparedSet(inputs["preprocess"])
    cases, held_out = cases_for(dataset, config.fold or 0, config.cases)
    training, validation = _of(cases, prepared), _of(held_out or cases, prepared)

    torch.manual_seed(config.fit.seed)
    network = settings.model.spec(len(plan.channels), plan.out_channels, plan.topology.strides, plan.topology.kernels)
    refuse_unfit(config.augment.albumentations, plan.patch, len(plan.channels), None, f"pretrain.augment.{LIST}")
    task = laid_out(config.objective.build(network.encoder, plan.patch), network.encoder.rank, device)
    share = (ranks.rank(), ranks.world())
    few = PatchSampler(validation, plan.patch, LOOKED_AT * plan.batch, config.fit.seed, None)(0).image
    return _Pretraining(
        plan,
        cases,
        held_out,
        task,
        PatchSampler(training, plan.patch, plan.batch, config.fit.seed, None, share),
        Recipe(config.fit, config.optim, config.augment, plan.spacing, tuple(each.name for each in plan.channels)),
        tuple(validation[:SHOWN]),
        _seen(dataset, cases, held_out or cases[::ASIDE], prepared, plan),
        _look_at(few.to(device), config.fit.precision, device),
    )


def cases_for(dataset: Dataset, fold: Fold, which: str) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """Return the cases to pretrain on, and those of the fold that they are to be tried on.

    A case is left out with its whole subject: another scan of a test subject is no image that was never seen.

    Args:
        dataset: All cases.
        fold: Whose validation cases are held out.
        which: ``training``, or ``develop`` to take the validation cases too.
    """
    training, validation = dataset.fold(fold)
    held = () if which == "develop" else validation
    closed = {case.subject for case in (*dataset.part("test"), *held)}
    free = tuple(case for case in dataset.part("unlabelled") if case.subject not in closed)
    return (*training, *(validation if which == "develop" else ()), *free), validation


def _look_at(image: Tensor, precision: Precision, device: str) -> Look:
    """Return what finds the figures of a task on these patches (N, C, *P)."""

    @torch.no_grad()
    def look(task: nn.Module) -> dict[str, float]:
        with computing(precision, device):
            figures = cast(_Watched, task).figures(image)
        return {name: float(value) for name, value in figures.items()}

    return look


def _scored(figures: dict[str, float]) -> dict[str, float]:
    # of what was taken away, where something was: what was to be seen is not trained on
    error = figures.get("masked_mse", figures.get("restored_mse", figures["mse"]))
    return {**figures, "score": -error}


def _draw(start: _Pretraining, work: Workspace) -> None:
    """Write the middle of a few cases and its reconstruction: float16 (2, C, *P) each."""
    for case in start.shown:
        image = middle_patch(case, start.plan.patch)[None].to(work.device)
        with torch.no_grad(), computing(start.recipe.fit.precision, work.device):
            again = start.task.reconstruct(image)
        pair = torch.cat([image, again.float()]).cpu().numpy().astype(np.float16)
        write_array(work.path / PICTURES / f"{case.id}.npy", pair)


def _look_inside(start: _Pretraining, kind: str, work: Workspace) -> dict[str, float]:
    """Write pictures, map and figures of the latent space; return the figures."""
    look = look_into(start.task, *start.seen, start.plan.spacing, start.recipe.fit.precision)
    for name, slices in look.pictures.items():
        write_array(work.path / LATENT / f"{name}.npy", slices)
    write_json(work.path / LATENT / "latent.json", {"objective": kind, "figures": look.figures, **look.facts})
    return look.figures


def _seen(
    dataset: Dataset, cases: Sequence[Case], tried: Sequence[Case], prepared: PreparedSet, plan: Plan
) -> tuple[list[Seen], list[Seen]]:
    """Return the cases that are not tried, and those that are, by their numbers in the manifest."""
    number = {case.id: index for index, case in enumerate(dataset.cases)}
    aside = {case.id for case in tried}
    parts = [case for case in cases if case.id not in aside], tried
    known, other = (seen_of(_of(part, prepared), [number[case.id] for case in part], plan.patch) for part in parts)
    return known, other


def _of(cases: Sequence[Case], prepared: PreparedSet) -> list[Prepared]:
    return [prepared[case.id] for case in cases]


def _wanted(settings: Settings) -> bool:
    return settings.pretrain.objective is not None


STAGE = Stage(
    "pretrain",
    Settings,
    run,
    needs=("ingest", "preprocess"),
    spread=("seed", "fold"),
    together=True,
    wanted=_wanted,
)
