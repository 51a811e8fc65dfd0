"""Where a model comes from: the facts that its card and its description tell."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from segpipe.core.section import Section, Undeciding
from segpipe.dataset.manifest import Case, Fold


class ExportConfig(Section):
    """What the model card says beside what segpipe knows."""

    licence: Annotated[str, Undeciding()] = ""
    """The licence of the weights, such as `CC-BY-NC-4.0`; empty: the card says that it is not stated."""
    authors: Annotated[str, Undeciding()] = ""
    """Who answers for the model, and how to reach them; the card is passed on with the model."""
    intended_use: Annotated[str, Undeciding()] = ""
    """What the model is for, and for whom, in your own words."""


@dataclass(frozen=True)
class Origin:
    """How a model came about. Of the cases only counts, spacings and one hash are ever written."""

    training: Sequence[Case]
    """Those that it learnt from; at least one."""
    validation: Sequence[Case]
    """Those on which ``figures`` were measured."""
    fold: Fold
    seed: int
    steps: int
    settings: Mapping[str, Any]
    """The settings that decided it, places left out: ``deciding()`` of the stage's."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """``dice``, the mean over structures, and ``dice_<structure>``; those that are not finite are left out."""
    chosen: bool = True
    """Whether the weights were chosen among several by these figures."""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """Of the artifacts that training read, by stage."""
    export: ExportConfig = field(default_factory=ExportConfig)

    def trained_on(self, dataset: str, unit: str = "mm") -> dict[str, Any]:
        """Return what the model's description says about the training."""
        low, high = spacing_range(self.training)
        return {
            "dataset": dataset,
            "cases": len(self.training),
            "subjects": len({case.subject for case in self.training}),
            "cases_sha256": content_hash(self.training),
            f"spacing_{unit}": {"from": low, "to": high},
            "fold": self.fold,
            "seed": self.seed,
            "steps": self.steps,
            "made_from": dict(self.fingerprints),
        }

    def validated_on(self) -> dict[str, Any]:
        """Return what the model's description says about the validation."""
        return {
            "cases": len(self.validation),
            "subjects": len({case.subject for case in self.validation}),
            "figures": {name: value for name, value in self.figures.items() if math.isfinite(value)},
            "chose_the_weights": self.chosen,
        }


def spacing_range(cases: Sequence[Case]) -> tuple[list[float], list[float]]:
    """Return the smallest and the largest spacing of the source images along R, A, S."""
    spacings = [case.native.canonical().spacing for case in cases]
    along = list(zip(*spacings, strict=True))
    return [min(axis) for axis in along], [max(axis) for axis in along]


def content_hash(cases: Sequence[Case]) -> str:
    """Return one SHA-256 over the content of all files of these cases, whatever they are called and their order."""
    contents = [[*[image.sha256 for image in case.images], case.label.sha256 if case.label else ""] for case in cases]
    return hashlib.sha256("\n".join(sorted(" ".join(files) for files in contents)).encode()).hexdigest()
