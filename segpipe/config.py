"""The whole configuration: YAML and dotted overrides -> one typed value."""

import difflib
import logging
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, get_args

import yaml
from pydantic import ValidationError, model_validator

from segpipe.core.errors import ConfigError
from segpipe.core.parallel import ExecutorConfig
from segpipe.core.section import Place, Section
from segpipe.dataset.settings import IngestConfig
from segpipe.nets.unet import UNetConfig
from segpipe.stages.evaluate import EvaluateConfig
from segpipe.stages.infer import InferConfig
from segpipe.stages.preprocess import PreprocessConfig
from segpipe.stages.pretrain import PretrainConfig
from segpipe.stages.qc import QcConfig
from segpipe.stages.report import ReportConfig
from segpipe.stages.train import TrainConfig
from segpipe.tracking import TrackingConfig

logger = logging.getLogger(__name__)

KIND = "kind"
DATA = "ingest.source.root"


class RunConfig(Section):
    """Where, with how many hands, tracked by whom. Never part of a fingerprint."""

    store: Place = Path("work")
    """Folder of all results; `-o OUT` is short for it."""
    strict: bool = False
    """Whether a single quarantined case stops the run."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`; `auto`: the GPU where there is one."""
    devices: tuple[str, ...] = ()
    """Devices on which folds and seeds train side by side, a process each, such as [cuda:0, cuda:1] or [cpu, cpu];
    empty: all GPUs where there are several, else one training after the other."""
    executor: ExecutorConfig = ExecutorConfig()
    """How many hands work on the cases of a stage."""
    tracking: TrackingConfig = TrackingConfig()
    """Who is told of the run."""


class Config(Section):
    """Everything a run can be told."""

    ingest: IngestConfig
    """Where cases come from, what is checked, how they are divided."""
    preprocess: PreprocessConfig = PreprocessConfig()
    """How a scan becomes network input and target map."""
    model: UNetConfig = UNetConfig()
    """The network."""
    pretrain: PretrainConfig = PretrainConfig()
    """How its encoder is pretrained, on images alone; not at all without an objective."""
    train: TrainConfig = TrainConfig()
    """How it is trained."""
    qc: QcConfig = QcConfig()
    """What is learned of the training scans, by which unusual ones are told."""
    infer: InferConfig = InferConfig()
    """Which cases are segmented, and how."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """What is measured."""
    report: ReportConfig = ReportConfig()
    """What is written for people."""
    run: RunConfig = RunConfig()
    """Where and by whom; decides no result."""

    @model_validator(mode="after")
    def _folds_agree(self) -> Self:
        split = self.ingest.split
        if self.train.folds not in (None, split.folds) and split.file is None:
            raise ValueError(
                f"train.folds={self.train.folds}, but the cases are divided into {split.folds} folds. Set "
                f"ingest.split.folds={self.train.folds} too."
            )
        return self


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Return the configuration in a YAML file with ``key.sub=value`` texts laid over it.

    An override that changes a ``kind`` starts that section afresh; a warning names the file's settings that this drops.

    Raises:
        ConfigError: A key or value is wrong; the text names each, and what it might have been.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}). Give a YAML file, or see 'segpipe init'."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: this is no valid YAML ({' '.join(str(error).split())}).") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected sections such as 'ingest:' and 'train:', found {type(tree).__name__}.")
    set_anew = {text.partition("=")[0] for text in overrides}
    # kinds first: they may start a section afresh, whichever order they were given in
    for text in sorted(overrides, key=lambda text: not text.partition("=")[0].endswith(f".{KIND}")):
        _lay_over(tree, text, set_anew)
    return validated(tree, str(path))


def validated(tree: Mapping[str, Any], where: str) -> Config:
    """Return the configuration of a tree of plain values.

    Raises:
        ConfigError: Something in it is wrong.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        lines = [_explained(dict(one)) for one in error.errors()]
        plural = "setting is" if len(lines) == 1 else "settings are"
        raise ConfigError(f"{where}: {len(lines)} {plural} wrong: " + "; ".join(lines)) from error


def _lay_over(tree: dict[str, Any], text: str, set_anew: Collection[str]) -> None:
    key, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"\w+(\.\w+)*", key):
        raise ConfigError(f"'{text}': a setting is written key=value, as in train.fit.steps=500.")
    *sections, last = key.split(".")
    node = tree
    for name in sections:
        deeper = node.setdefault(name, {})
        if not isinstance(deeper, dict):
            deeper = node[name] = {}
        node = deeper
    try:
        parsed = yaml.safe_load(value) if value else None
    except yaml.YAMLError as error:
        raise ConfigError(f"{key}: '{value}' is no valid YAML. Put quotes around such text.") from error
    if isinstance(parsed, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", parsed):
        parsed = float(parsed)  # YAML 1.1 takes 1e-3 for a word
    if last == KIND and node.get(KIND, parsed) != parsed:
        section = key.removesuffix(f".{KIND}")
        if dropped := [name for name in node if name != KIND and f"{section}.{name}" not in set_anew]:
            logger.warning("%s starts %s afresh, without the config's %s.", text, section, ", ".join(dropped))
        node.clear()
    node[last] = parsed


def _explained(error: Mapping[str, Any]) -> str:
    keys, options = _walked([str(part) for part in error["loc"]])
    key = ".".join(keys)
    if error["type"] == "extra_forbidden":
        names = sorted({name for option in options for name in option.model_fields})
        near = difflib.get_close_matches(keys[-1], names, n=1, cutoff=0.5)
        return f"{key}: there is no such setting. " + (
            f"Did you mean {near[0]}?" if near else f"It has: {', '.join(names)}."
        )
    if error["type"] == "missing":
        return f"{key}: is needed." + (" Give the folder of the data set with --data." if key == DATA else "")
    said = str(error["msg"]).removeprefix("Value error, ")
    if not key:  # settings of several sections do not agree: the message names them
        return said
    shown = "" if isinstance(error["input"], dict | list) else f" = {error['input']}"
    return f"{key}{shown}: {said}"


def _walked(place: Sequence[str]) -> tuple[list[str], list[type[Section]]]:
    """Return the keys of an error's place, and the sections in which the last of them stands.

    pydantic names the chosen member of a menu in the place; it is no key.
    """
    keys: list[str] = []
    options: list[type[Section]] = [Config]
    for index, part in enumerate(place):
        tagged = [o for o in options if KIND in o.model_fields and o.model_fields[KIND].default == part]
        if tagged:
            options = tagged
            continue
        keys.append(part)
        if index < len(place) - 1:
            fields = [o.model_fields[part] for o in options if part in o.model_fields]
            options = [section for field in fields for section in sections_of(field.annotation)] or options
    return keys, options


def sections_of(annotation: Any) -> Iterator[type[Section]]:
    """Yield the sections that a field may hold."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in get_args(annotation):
        yield from sections_of(part)


def flat(settings: Section, *, places: bool = True) -> dict[str, Any]:
    """Return the settings as ``{"train.fit.steps": 1000, …}``, or only those that name no place on this machine."""

    def walk(value: Any, key: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict) and value:
            for name, inner in value.items():
                yield from walk(inner, f"{key}.{name}" if key else str(name))
        else:
            yield key, value

    return dict(walk(settings.model_dump(mode="json") if places else settings.deciding(), ""))


def explain(key: str) -> list[str]:
    """Return a line for each section that knows the dotted ``key``: meaning, type, default and module.

    Raises:
        ConfigError: There is no such key.
    """
    options: list[type[Section]] = [Config]
    *above, last = key.split(".")
    for name in above:
        fields = [o.model_fields[name] for o in options if name in o.model_fields]
        options = [section for field in fields for section in sections_of(field.annotation)]
    found = [option for option in options if last in option.model_fields]
    if not found:
        names = sorted({name for option in options for name in option.model_fields})
        near = difflib.get_close_matches(last, names, n=1, cutoff=0.3)
        raise ConfigError(
            f"{key}: there is no such setting." + (f" Did you mean {'.'.join([*above, near[0]])}?" if near else "")
        )
    return [_described(key, option, last) for option in found]


def _described(key: str, section: type[Section], name: str) -> str:
    field = section.model_fields[name]
    kind = getattr(field.annotation, "__name__", str(field.annotation)).replace("typing.", "")
    inner = list(sections_of(field.annotation))
    if inner:
        kind = " | ".join(section.__name__ for section in inner)
    default = "needed" if field.is_required() else f"default {field.get_default(call_default_factory=True)!r}"
    if inner and not field.is_required():
        default = "has defaults"
    return f"{key}: {' '.join((field.description or '').split())} ({kind}; {default}; {section.__module__})"


def describe() -> str:
    """Return every key as a Markdown table, section by section: the text of docs/config.md."""
    lines = ["# Every setting", "", "Made by `segpipe config docs`; do not edit.", ""]

    def table(section: type[Section], key: str) -> None:
        one_of_a_menu = KIND in section.model_fields and len(get_args(section.model_fields[KIND].annotation)) == 1
        title = f"`{key}`" + (f" with `kind: {section.model_fields[KIND].default}`" if one_of_a_menu else "")
        lines.extend([f"## {title}", "", " ".join((section.__doc__ or "").split()), ""])
        lines.extend(["| key | default | meaning |", "|---|---|---|"])
        deeper: list[tuple[type[Section], str]] = []
        for name, field in section.model_fields.items():
            if name == KIND and one_of_a_menu:
                continue
            inner = list(sections_of(field.annotation))
            deeper += [(one, f"{key}.{name}") for one in inner]
            value = None if field.is_required() else field.get_default(call_default_factory=True)
            default = "see below" if inner else "needed" if field.is_required() else f"`{value!r}`"
            lines.append(f"| `{key}.{name}` | {default} | {' '.join((field.description or '').split())} |")
        lines.append("")
        for one, where in deeper:
            table(one, where)

    for name, field in Config.model_fields.items():
        for section in sections_of(field.annotation):
            table(section, name)
    return "\n".join(lines)
