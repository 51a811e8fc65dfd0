"""How the tensors of one network enter another: as they are, adapted to its shape, or not at all."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

FIRST = "blocks.0.0.weight"
"""The encoder's first convolution: it alone sees the image's channels."""


@dataclass
class LoadReport:
    """What became of each tensor of the network that could be loaded."""

    loaded: list[str] = field(default_factory=list)
    adapted: dict[str, str] = field(default_factory=dict)
    """How, by name."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Why, by name."""
    share: float = 0.0
    """Of the encoder's numbers, how many come from the file."""
    origin: Mapping[str, Any] = field(default_factory=dict)
    """Where the weights come from."""
    shuffled: bool = False
    """Whether they were shuffled: the control."""
    validation_seen: list[str] = field(default_factory=list)
    """Validation cases that the weights were pretrained on."""

    @property
    def summary(self) -> dict[str, int | float]:
        """The figures in short: loaded n of m tensors."""
        taken = len(self.loaded) + len(self.adapted)
        return {
            "loaded_tensors": taken,
            "transferable_tensors": taken + len(self.skipped),
            "loaded_share_of_encoder": round(self.share, 4),
            "pretrained_on_validation_cases": len(self.validation_seen),
        }

    @property
    def sentence(self) -> str:
        """The report in a line for people."""
        told = self.summary
        text = (
            f"pretrained weights: {told['loaded_tensors']} of {told['transferable_tensors']} tensors, "
            f"{self.share:.0%} of the encoder's numbers"
        )
        if self.shuffled:
            text += ", shuffled"
        if self.validation_seen:
            text += f"; {len(self.validation_seen)} validation case(s) were seen in pretraining"
        return text


@torch.no_grad()
def take(prefix: str, into: Mapping[str, Tensor], entries: Mapping[str, Tensor], report: LoadReport) -> int:
    """Copy what fits into the tensors of a part, note each in the report, and return how many numbers were copied."""
    taken = 0
    for name, target in into.items():
        value, title = entries.get(name), f"{prefix}{name}"
        if value is None:
            report.skipped[title] = "not in the file"
            continue
        fitting, how = (value, "") if value.shape == target.shape else _adapted(title, value, target)
        if fitting is None:
            report.skipped[title] = f"{_shape(value)} in the file, {_shape(target)} in the network"
            continue
        target.copy_(fitting)  # in place: the layout in memory stays
        taken += value.numel() if how.startswith("half") else target.numel()
        if how:
            report.adapted[title] = how
        else:
            report.loaded.append(title)
    report.skipped.update({f"{prefix}{name}": "not in the network" for name in entries if name not in into})
    return taken


def _adapted(title: str, value: Tensor, target: Tensor) -> tuple[Tensor | None, str]:
    """Return a tensor in the shape of ``target``, and how it was made; None where nothing makes sense."""
    if value.ndim != target.ndim or value.ndim < 4 or value.shape[2:] != target.shape[2:]:
        return None, ""
    if value.shape[0] != target.shape[0]:
        return None, ""
    have, want = value.shape[1], target.shape[1]
    if title == f"encoder.{FIRST}":
        mean = value.mean(dim=1, keepdim=True) * (have / want)
        return mean.expand_as(target), f"mean over {have} channel(s), for {want}"
    if title.startswith("decoder.blocks.") and want == 2 * have:  # features of the skip come first
        return torch.cat([target[:, :have].to(value.device), value], dim=1), "half: what sees the up-sampled features"
    return None, ""


def _shape(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "a number"
