"""What a study compares: one YAML file -> one typed value."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, PositiveInt, ValidationError, field_validator, model_validator

from segpipe.core.errors import ConfigError
from segpipe.core.section import Section
from segpipe.shipped import shipped, shipped_names

STUDIES = "configs/studies"
SET_HERE = ("train.labels", "train.seeds", "train.folds")
"""Keys that each training of a study has its own value of."""
Name = Annotated[str, Field(pattern=r"^[\w .+-]{1,40}$")]


class StudyConfig(Section):
    """Several ways to train, each at several numbers of labelled cases, with several seeds."""

    kind: Literal["label_efficiency"] = "label_efficiency"
    """What is studied: how good a model is for the labelled cases that it was given."""
    config: str = "default"
    """The pipeline's configuration: a YAML file beside the study's, or the name of one that ships."""
    labels: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (4, 8, 16, 64)
    """Numbers of labelled cases to train on."""
    seeds: PositiveInt = 3
    """How often each training is repeated: with the seeds train.fit.seed, train.fit.seed + 1, …. A seed chooses the
    labelled cases too, the same for all conditions. With three or fewer the intervals are very wide."""
    seeded: Annotated[tuple[str, ...], Field(min_length=1)] = ("train.fit.seed",)
    """The settings that take the seed. With pretrain.fit.seed among them each seed has a pretraining of its own, and
    the intervals cover its chance too; otherwise all seeds share one."""
    settings: tuple[str, ...] = ()
    """Settings of all trainings, key=value: a small network, few steps."""
    conditions: Annotated[dict[Name, tuple[str, ...]], Field(min_length=2)]
    """The ways to train, by a name of your choice: what each changes, as a list of key=value."""
    baseline: str = "scratch"
    """The condition that each other one is compared with."""
    controls: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Further comparisons: a condition, and those that it has to beat beside the baseline."""

    @field_validator("conditions", mode="before")
    @classmethod
    def _nothing_is_an_empty_list(cls, conditions: Any) -> Any:
        if not isinstance(conditions, dict):
            return conditions
        return {str(name): [] if settings is None else settings for name, settings in conditions.items()}

    @model_validator(mode="after")
    def _names_are_conditions(self) -> Self:
        named = {name: "controls" for one, others in self.controls.items() for name in (one, *others)}
        named[self.baseline] = "baseline"
        for name, where in named.items():
            if name not in self.conditions:
                raise ValueError(f"{where}: there is no condition '{name}'. There are: {', '.join(self.conditions)}.")
        for numbers in (self.labels, self.seeded):
            if len(set(numbers)) < len(numbers):
                raise ValueError(f"{list(numbers)}: something stands there twice. Take it out.")
        return self

    @model_validator(mode="after")
    def _leaves_the_cells_alone(self) -> Self:
        for where, texts, taken in (
            ("settings", self.settings, SET_HERE),
            *((f"conditions.{name}", texts, (*SET_HERE, *self.seeded)) for name, texts in self.conditions.items()),
        ):
            for text in texts:
                if (key := text.partition("=")[0]) in taken:
                    raise ValueError(f"{where}: {key} is what the study itself sets. Take it out.")
        return self

    def pairs(self) -> list[tuple[str, str]]:
        """Return who is compared with whom: each condition with the baseline, then with its controls."""
        others = [(name, self.baseline) for name in self.conditions if name != self.baseline]
        further = [(name, control) for name, controls in self.controls.items() for control in controls]
        return list(dict.fromkeys([*others, *(pair for pair in further if pair[0] != pair[1])]))


def load_study(name: str) -> tuple[StudyConfig, Path]:
    """Return a study by its file, or by its name among those that ship, and the file of its pipeline's configuration.

    Raises:
        ConfigError: There is none, or it is wrong; the text names each key.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = shipped(STUDIES, name)
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        ship = ", ".join(shipped_names(STUDIES))
        raise ConfigError(f"{name}: there is no such study. Give a YAML file, or one that ships: {ship}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: this is no valid YAML ({' '.join(str(error).split())}).") from error
    try:
        study = StudyConfig.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{name}: " + "; ".join(_explained(dict(one)) for one in error.errors())) from error
    return study, _config_of(study, path)


def _config_of(study: StudyConfig, path: Path) -> Path:
    beside = Path(study.config)
    found = path.parent / beside if beside.suffix in (".yaml", ".yml") else shipped("configs", study.config)
    if not found.is_file():
        raise ConfigError(
            f"{path.name}: config: {study.config}: there is no such file beside the study's. "
            f"Those that ship: {', '.join(shipped_names('configs'))}."
        )
    return found


def _explained(error: Mapping[str, Any]) -> str:
    key = ".".join(str(part) for part in error["loc"] if part != "[key]")
    if error["type"] == "extra_forbidden":
        return f"{key}: a study has no such setting. It has: {', '.join(StudyConfig.model_fields)}."
    if error["type"] == "missing":
        return f"{key}: is needed."
    said = str(error["msg"]).removeprefix("Value error, ")
    return f"{key}: {said}" if key else said
