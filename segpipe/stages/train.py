"""Inputs and targets -> model/."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from pydantic import NonNegativeInt
from torch import nn

from segpipe import __version__
from segpipe.core.atomic import write_json
from segpipe.core.errors import ConfigError
from segpipe.core.section import Section
from segpipe.core.stage import Inputs, Stage, Summary, Workspace
from segpipe.dataset.manifest import Case, Dataset
from segpipe.dataset.plan import Plan
from segpipe.dataset.prepare import Prepared, PreparedSet
from segpipe.dataset.settings import IngestConfig
from segpipe.learn.augment import AugmentConfig
from segpipe.learn.batches import PatchSampler, SamplingConfig
from segpipe.learn.fit import FitConfig, Recipe, fit
from segpipe.learn.losses import FOR_TARGET, Loss
from segpipe.learn.optim import OptimConfig
from segpipe.learn.task import Segmentation
from segpipe.nets.checkpoint import save_model
from segpipe.nets.precision import laid_out
from segpipe.nets.unet import UNetConfig
from segpipe.predict.window import WindowConfig, predict_scores
from segpipe.score.overlap import count, dice


class TrainConfig(Section):
    """How the network is trained."""

    fold: NonNegativeInt = 0
    """Which fold is the validation set."""
    loss: Loss | None = None
    """What is made small; empty: what goes with the target (Dice and cross-entropy for classes)."""
    sampling: SamplingConfig = SamplingConfig()
    """Which patches are drawn."""
    augment: AugmentConfig = AugmentConfig()
    """How they are varied."""
    optim: OptimConfig = OptimConfig()
    """Optimiser and schedule."""
    fit: FitConfig = FitConfig()
    """How long and how exactly."""


class Settings(Section):
    """Everything that decides what this stage writes."""

    ingest: IngestConfig
    model: UNetConfig
    train: TrainConfig


def run(settings: Settings, inputs: Inputs, work: Workspace) -> Summary:
    """Train a U-Net on one fold and save it with the plan that prepares its input."""
    config = settings.train
    dataset = Dataset.open(inputs["ingest"], settings.ingest.source.folder)
    plan = Plan.model_validate_json((inputs["preprocess"] / "plan.json").read_text())
    prepared = PreparedSet(inputs["preprocess"])
    training, validation = dataset.fold(config.fold)
    loss = config.loss or FOR_TARGET[plan.target.kind]()
    _refuse_misfits(loss, config, plan)

    torch.manual_seed(config.fit.seed)
    spec = settings.model.spec(len(plan.channels), plan.out_channels, plan.topology.strides, plan.topology.kernels)
    spec.output_size(plan.patch)  # refuses a patch that is too small, before anything is built
    network = laid_out(spec.build(), spec.encoder.rank, work.device)
    sampler = PatchSampler(_of(training, prepared), plan.patch, plan.batch, config.fit.seed, config.sampling)
    recipe = Recipe(config.fit, config.optim, config.augment, plan.spacing)
    window = WindowConfig(precision=config.fit.precision)
    validate = partial(whole_image_dice, cases=_of(validation, prepared), plan=plan, window=window)
    summary = fit(Segmentation(network, loss), sampler, recipe, work, validate=validate, name="unet")

    notes = {
        "plan": plan.model_dump(mode="json"),
        "window": window.model_dump(mode="json"),
        "made_by": f"segpipe {__version__}",
        "trained_on": {
            "dataset": plan.dataset,
            "cases": len(training),
            "fold": config.fold,
            "seed": config.fit.seed,
        },
    }
    save_model(work.path / "model", network.eval(), notes)
    write_json(work.path / "cases.json", {"training": _ids(training), "validation": _ids(validation)})
    return {
        **summary,
        "training_cases": len(training),
        "validation_cases": len(validation),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
    }


def whole_image_dice(task: nn.Module, cases: list[Prepared], plan: Plan, window: WindowConfig) -> Mapping[str, float]:
    """Return the mean Dice over whole validation images, of each structure and of all (``dice``).

    On the prepared grid, which is what the network sees; the evaluation is on the native one.
    """
    network = task.network
    each: dict[str, list[float]] = {name: [] for name in plan.labels.names}
    for case in cases:
        scores = predict_scores(network, case.image, plan.patch, window).cpu().numpy()  # type: ignore[arg-type]
        predicted = plan.target.decode(scores, plan.labels)
        truth = case.labels[0]
        counted = np.True_ if plan.labels.ignore is None else truth != plan.labels.ignore
        for structure in plan.labels.structures:
            masks = [np.isin(labels, structure.values) & counted for labels in (predicted, truth)]
            each[structure.name].append(dice(count(*masks)))
    means = {name: float(np.nanmean(values)) for name, values in each.items() if not np.isnan(values).all()}
    overall = float(np.mean(list(means.values()))) if means else float("nan")
    return {"dice": overall} | {f"dice_{name}": value for name, value in means.items()}


def _refuse_misfits(loss: Any, config: TrainConfig, plan: Plan) -> None:
    wanted = FOR_TARGET[plan.target.kind]
    if not isinstance(loss, wanted):
        raise ConfigError(
            f"train.loss.kind={loss.kind} does not go with preprocess.target.kind={plan.target.kind}. "
            f"Use {wanted().kind}, or leave train.loss out."
        )
    sided = [name for name in plan.labels.names if {"left", "right"} & set(name.lower().replace("-", "_").split("_"))]
    if sided and 0 in config.augment.mirror_axes:
        raise ConfigError(
            f"'{sided[0]}' names a side, but train.augment.mirror_axes holds axis 0 (left-right): flipped images would "
            "have swapped labels. Set train.augment.mirror_axes=[]."
        )


def _of(cases: tuple[Case, ...], prepared: PreparedSet) -> list[Prepared]:
    return [prepared[case.id] for case in cases]


def _ids(cases: tuple[Case, ...]) -> list[str]:
    return [case.id for case in cases]


STAGE = Stage("train", Settings, run, needs=("ingest", "preprocess"))
