"""Inputs and targets -> model/."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated, Any, Self

import torch
from pydantic import PositiveInt, model_validator
from torch import nn

from segpipe.core.atomic import write_json
from segpipe.core.errors import ConfigError
from segpipe.core.fingerprint import fingerprint
from segpipe.core.section import Place, Section, Undeciding
from segpipe.core.stage import Inputs, Point, Stage, Summary, Workspace
from segpipe.dataset.load import load_image
from segpipe.dataset.manifest import EVERY, Case, Dataset, Fold
from segpipe.dataset.plan import Plan
from segpipe.dataset.prepare import Prepared, PreparedSet
from segpipe.dataset.settings import IngestConfig
from segpipe.learn import ranks
from segpipe.learn.augment import LIST, AugmentConfig
from segpipe.learn.augment_listed import refuse_unfit
from segpipe.learn.batches import PatchSampler, SamplingConfig
from segpipe.learn.fit import FitConfig, Recipe, fit
from segpipe.learn.fitting import LoadReport
from segpipe.learn.forecast import expected
from segpipe.learn.losses import FOR_TARGET, Loss
from segpipe.learn.optim import OptimConfig, Pace, update_flops
from segpipe.learn.profile import Profile, profile_steps
from segpipe.learn.sides import refuse_lone_sides, swap_for
from segpipe.learn.task import Segmentation
from segpipe.learn.transfer import TransferConfig, begin_with, content_of
from segpipe.nets.cost import even_patch
from segpipe.nets.precision import laid_out
from segpipe.nets.unet import UNet, UNetConfig
from segpipe.predict.export import export_model, self_test
from segpipe.predict.origin import ExportConfig, Origin
from segpipe.predict.segmenter import Segmenter
from segpipe.predict.validate import validated, whole_image_dice
from segpipe.predict.window import WindowConfig
from segpipe.quality.predicted import VALIDATION, write_held


class TrainConfig(Section):
    """How the network is trained."""

    fold: Fold = 0
    """Which fold is the validation set; `all`: none is, every case to develop is trained on, as one does with the last
    network of all. Nothing tells then how good it is but the test split, and the last weights are kept."""
    folds: Annotated[PositiveInt | None, Undeciding()] = None
    """Cross-validation: train this many folds, as many as ingest.split.folds. Each case to develop is then predicted
    by the network that never saw it. Each keeps the weights after its last step, unless train.fit.keep is set, so
    that nothing is chosen on the cases that are scored."""
    seeds: Annotated[PositiveInt, Undeciding()] = 1
    """Train this many times, with the seeds fit.seed, fit.seed + 1, …; the report tells mean and spread."""
    labels: PositiveInt | None = None
    """Train on this many labelled cases only. Which, depends on fit.seed; fewer are a part of more."""
    init_from: Place | None = None
    """A folder of pretrained weights to begin with, such as OUT/latest/encoder; what counts is their content. Empty:
    those of this run's own pretraining, where there is one."""
    transfer: TransferConfig = TransferConfig()
    """How pretrained weights enter the network, and how they are treated there."""
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
    export: ExportConfig = ExportConfig()
    """What the model card says beside what segpipe knows; it changes nothing in a model that is there."""

    @model_validator(mode="after")
    def _chosen_by_somebody(self) -> Self:
        if self.fold == EVERY and not self.folds and "keep" in self.fit.model_fields_set and self.fit.keep == "best":
            raise ValueError("fold=all leaves no case by which to tell the best weights. Take train.fit.keep=best out.")
        return self

    def axes(self) -> dict[str, tuple[int, ...]]:
        """Return along what training is repeated, and the values there: seeds, folds, both or nothing."""
        seeds = tuple(range(self.fit.seed, self.fit.seed + self.seeds)) if self.seeds > 1 else ()
        folds = tuple(range(self.folds)) if self.folds else ()
        return {axis: values for axis, values in (("seed", seeds), ("fold", folds)) if values}

    def at(self, point: Point) -> "TrainConfig":
        """Return the settings of the one training at a point of the axes."""
        fit = self.fit.model_copy(update={"seed": point.get("seed", self.fit.seed)})
        fold = point.get("fold", self.fold)
        if (self.folds or fold == EVERY) and "keep" not in self.fit.model_fields_set:
            fit = fit.model_copy(update={"keep": "last"})
        return self.model_copy(update={"fold": fold, "folds": None, "seeds": 1, "fit": fit})


class Settings(Section):
    """Everything that decides what this stage writes."""

    ingest: IngestConfig
    model: UNetConfig
    train: TrainConfig


@dataclass(frozen=True)
class _Training:
    """Everything that a training starts from, ready on its device."""

    dataset: Dataset
    plan: Plan
    training: tuple[Case, ...]
    validation: tuple[Case, ...]
    network: UNet
    task: Segmentation
    sampler: PatchSampler
    recipe: Recipe
    window: WindowConfig
    validate: Callable[[nn.Module], Mapping[str, float]] | None
    loaded: LoadReport | None
    pace: Pace | None


def run(settings: Settings, inputs: Inputs, work: Workspace) -> Summary:
    """Train a U-Net on all cases but those of one fold, and save it with the plan that prepares its input."""
    start = _assembled(settings, inputs, work.device)
    _forecast(start, work)
    summary = fit(start.task, start.sampler, start.recipe, work, validate=start.validate, name="unet", pace=start.pace)
    if not ranks.first():
        return summary
    prepared = PreparedSet(inputs["preprocess"])
    figures, held = validated(start.task.eval(), start.validation, prepared, start.plan, start.window)
    _export(start, settings, inputs, figures, work)
    write_held(work.path / "model" / VALIDATION, held.nameless())
    write_held(work.path / VALIDATION, held)
    cases = {"training": _ids(start.training), "validation": _ids(start.validation)}
    write_json(work.path / "cases.json", cases)
    if start.loaded:
        write_json(work.path / "transfer.json", asdict(start.loaded))
    return {
        **summary,
        **(start.loaded.summary if start.loaded else {}),
        **({"validation_dice": figures["dice"]} if math.isfinite(figures["dice"]) else {}),
        **{f"{part}_cases": len(ids) for part, ids in cases.items()},
        "parameters": sum(parameter.numel() for parameter in start.network.parameters()),
    }


def _forecast(start: _Training, work: Workspace) -> None:
    if not ranks.first():
        return
    if start.loaded:
        work.tell(start.loaded.sentence)
    share, config = -(-start.plan.batch // ranks.world()), start.recipe.fit
    spec, patch = start.network.spec, start.plan.patch
    update = update_flops(start.task, start.recipe.optim, work.device)
    for line in expected(
        spec, patch, share, config.steps, precision=config.precision, device=work.device, update=update
    ):
        work.tell(line)


def profile(settings: Settings, inputs: Inputs, device: str) -> Profile:
    """Train a few steps, save nothing, and return what they cost."""
    start = _assembled(settings, inputs, device)
    return profile_steps(start.task, start.sampler, start.recipe, device)


def _assembled(settings: Settings, inputs: Inputs, device: str) -> _Training:
    config = settings.train
    dataset = Dataset.open(inputs["ingest"], settings.ingest.source.folder)
    plan = Plan.model_validate_json((inputs["preprocess"] / "plan.json").read_text())
    prepared = PreparedSet(inputs["preprocess"])
    training, validation = dataset.fold(config.fold)
    training = training if config.labels is None else few_of(training, config.labels, config.fit.seed)
    loss = config.loss or FOR_TARGET[plan.target.kind]()
    _refuse_another_targets(loss, plan)
    refuse_lone_sides(plan.target, plan.labels, config.augment.mirror_axes)

    torch.manual_seed(config.fit.seed)
    spec = settings.model.spec(len(plan.channels), plan.out_channels, plan.topology.strides, plan.topology.kernels)
    if spec.encoder.padding == "valid":
        plan = plan.model_copy(update={"patch": even_patch(spec, plan.patch)})
    spec.output_size(plan.patch)  # refuses a patch that is too small, before anything is built
    refuse_unfit(config.augment.albumentations, plan.patch, len(plan.channels), plan.labels, f"train.augment.{LIST}")
    network = laid_out(spec.build(), spec.encoder.rank, device)
    pretrained = config.init_from or inputs.get("pretrain")
    loaded = None
    if pretrained:
        held_out = dataset.part("test"), validation
        loaded = begin_with(pretrained, network, config.transfer, config.fit.seed, held_out)
    window = WindowConfig(precision=config.fit.precision)
    share = (ranks.rank(), ranks.world())
    return _Training(
        dataset,
        plan,
        training,
        validation,
        network,
        Segmentation(network, loss),
        PatchSampler(
            _of(training, prepared),
            plan.patch,
            plan.batch,
            config.fit.seed,
            config.sampling,
            share,
            margin=spec.margin(plan.patch),
        ),
        Recipe(
            config.fit,
            config.optim,
            config.augment,
            plan.spacing,
            channels=tuple(channel.name for channel in plan.channels),
            swap=swap_for(plan.target, plan.labels),
        ),
        window,
        partial(whole_image_dice, cases=_of(validation, prepared), plan=plan, window=window) if validation else None,
        loaded,
        Pace(network.encoder, config.transfer.encoder_rate, config.transfer.freeze_steps) if loaded else None,
    )


def _export(
    start: _Training, settings: Settings, inputs: Inputs, figures: Mapping[str, float], work: Workspace
) -> None:
    """Write the model folder, and prove on one case that it predicts what the network in memory does."""
    config, folder = settings.train, work.path / "model"
    origin = Origin(
        training=start.training,
        validation=start.validation,
        fold=config.fold,
        seed=config.fit.seed,
        steps=config.fit.steps,
        settings=settings.deciding(),
        figures=figures,
        chosen=config.fit.keep == "best",
        fingerprints={name: artifact.fingerprint for name, artifact in inputs.artifacts.items()},
        export=config.export,
    )
    export_model(folder, start.network, start.plan, start.window, origin)
    example = load_image(start.dataset.files((start.validation or start.training)[0]))
    self_test(folder, Segmenter((start.network,), start.plan, start.window), example)


def few_of(cases: tuple[Case, ...], count: int, seed: int) -> tuple[Case, ...]:
    """Return ``count`` of the cases; which, depends on the seed, and fewer are a part of more.

    Raises:
        ConfigError: There are not so many.
    """
    if count > len(cases):
        raise ConfigError(f"train.labels={count}: there are {len(cases)} labelled cases to train on.")
    chosen = sorted(cases, key=lambda case: fingerprint([seed, case.id]))[:count]
    return tuple(sorted(chosen, key=lambda case: case.id))


def _refuse_another_targets(loss: Any, plan: Plan) -> None:
    wanted = FOR_TARGET[plan.target.kind]
    if not isinstance(loss, wanted):
        raise ConfigError(
            f"train.loss.kind={loss.kind} does not go with preprocess.target.kind={plan.target.kind}. "
            f"Use {wanted().kind}, or leave train.loss out."
        )


def _of(cases: tuple[Case, ...], prepared: PreparedSet) -> list[Prepared]:
    return [prepared[case.id] for case in cases]


def _ids(cases: tuple[Case, ...]) -> list[str]:
    return [case.id for case in cases]


def _pretrained(settings: Settings) -> Any:
    """Return the content of weights from elsewhere: it decides the result, and where they lie does not."""
    config = settings.train
    return content_of(config.init_from, decoder=config.transfer.decoder) if config.init_from else None


STAGE = Stage(
    "train",
    Settings,
    run,
    needs=("ingest", "preprocess"),
    may_use=("pretrain",),
    spread=("seed", "fold"),
    together=True,
    version=4,
    identity=_pretrained,
)
