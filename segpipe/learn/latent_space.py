"""Looking at what a pretraining learned: pictures, a map and figures of its latent space."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segpipe.dataset.prepare import Prepared
from segpipe.learn.batches import cut
from segpipe.learn.latent_figures import (
    completeness,
    continuity,
    path_lengths,
    power_spectrum,
    spectrum_distance,
    within,
)
from segpipe.learn.objectives.autoencoder import AutoencoderTask
from segpipe.learn.objectives.masked import MaskedTask
from segpipe.learn.objectives.pretraining import Pretraining
from segpipe.learn.objectives.vae import VaeTask
from segpipe.learn.principal import Principal, principal
from segpipe.nets.latent import MEAN_POOL
from segpipe.nets.layers import Axes
from segpipe.nets.precision import Precision, computing

MAPPED = 256
"""Training cases on the map; of more, so many are taken, evenly spread."""
TRIED = 24
"""Held-out cases at most."""
REFERENCE = 64
"""Training reconstructions that samples are compared with."""
SAMPLES = 32
PAIRS = 8
"""Ways between two cases that are measured."""
STEPS = 8
"""Steps of a way."""
SHOWN = 4
"""Cases, and ways, that are shown."""
SAMPLES_SHOWN = 8
DIRECTIONS = 3
DEVIATIONS = (-2.0, -1.0, 0.0, 1.0, 2.0)
"""Where on a principal direction images are drawn, in standard deviations of the codes."""
CHUNK = 4
"""Images that are encoded or drawn at once."""
COARSE = 32
"""Voxels along an axis, at most, of the images whose nearest neighbour is looked for."""

Decode = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Seen:
    """A case that is looked at."""

    number: int
    """In the data set's manifest: pictures and map name cases by it alone."""
    image: Callable[[], Tensor]
    """Reads what the task sees of it, (C, *P)."""


@dataclass
class LatentLook:
    """What was seen."""

    figures: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    """What is needed to draw the pictures; JSON."""
    pictures: dict[str, NDArray[np.float16]] = field(default_factory=dict)
    """Middle slices (…, rows, columns) of the first channel."""


def seen_of(cases: Sequence[Prepared], numbers: Sequence[int], patch: Axes) -> list[Seen]:
    """Return prepared cases as they are looked at: the patch in the middle of each."""
    return [Seen(number, partial(middle_patch, case, patch)) for case, number in zip(cases, numbers, strict=True)]


def middle_patch(case: Prepared, patch: Axes) -> Tensor:
    """Return the middle (C, *patch) of a case, float32; zeros outside of it."""
    start = [(n - p) // 2 for n, p in zip(case.image.shape[1:], patch, strict=True)]
    return torch.from_numpy(cut(case.image, start, patch).astype(np.float32))


def decoder_of(task: Pretraining, size: Axes) -> Decode | None:
    """Return what draws images (N, C, *size) of codes (N, D, …); None where codes alone do not make an image."""
    if isinstance(task, VaeTask):
        return partial(task.decode, size=size)
    if isinstance(task, AutoencoderTask):
        return partial(task.redraw, size=size)
    if isinstance(task, MaskedTask) and not task.config.skips:
        return partial(task.draw, size=size)
    return None


def look_into(
    task: Pretraining,
    training: Sequence[Seen],
    held_out: Sequence[Seen],
    spacing: Sequence[float],
    precision: Precision,
) -> LatentLook:
    """Return pictures, map and figures of a trained task; chance is seeded, so that twice gives the same.

    What needs a decoder of codes is left out where there is none (a masked objective with skips), and so are figures
    for which there are too few cases (three for training, two held out) or whose codes are no numbers.

    Args:
        task: In evaluation mode.
        training: Cases it was trained on; none of those held out.
        held_out: Cases to show and to measure by.
        spacing: Millimetres of a voxel, by axis.
        precision: To compute in.
    """
    training, held_out = _spread(training, MAPPED), _spread(held_out, TRIED)
    eyes = _Eyes(task, precision, plane_of(spacing))
    look = LatentLook(facts={"through": eyes.through, "spacing_mm": _in_plane(spacing, eyes.through)})
    with torch.no_grad():
        look.pictures["cases"] = np.stack(
            [eyes.slices([one.image() for one in held_out[:SHOWN]]), eyes.again(held_out)]
        )
        if isinstance(task, MaskedTask):
            look.pictures["masked"] = eyes.masked(task, held_out)
        if len(training) < DIRECTIONS or len(held_out) < 2:
            return look
        codes, own = eyes.codes(training), eyes.codes(held_out)
        if not (codes.isfinite().all() and own.isfinite().all()):
            return look
        basis = principal(codes)
        look.facts["map"] = _map(basis, {"training": (training, codes), "validation": (held_out, own)})
        look.facts["shares"] = basis.shares[:DIRECTIONS].tolist()
        if eyes.decode is not None:
            _walk(look, eyes, held_out, own)
            _traverse(look, eyes, basis)
            _sample(look, eyes, basis, _spread(range(len(codes)), REFERENCE), codes, own)
    return look


class _Eyes:
    """A task and how it is looked through: codes are flat and lie on the CPU, images are read a few at a time."""

    def __init__(self, task: Pretraining, precision: Precision, through: int | None) -> None:
        self.task = task
        self.precision = precision
        self.through = through
        self.device = next(task.parameters()).device
        self.shape: Axes = ()
        self.decode = decoder_of(task, task.patch)

    def codes(self, cases: Sequence[Seen]) -> Tensor:
        """Return codes (N, D)."""
        found = []
        for chunk in _chunks(cases):
            images = torch.stack([one.image() for one in chunk]).to(self.device)
            found.append(self._compute(self.task.code, images))
        self.shape = tuple(found[0].shape[1:])
        return torch.cat(found).flatten(1)

    def drawn(self, codes: Tensor) -> Tensor:
        """Return images (N, C, *P) of codes (N, D), at once."""
        assert self.decode is not None, "asked for only where there is one"
        codes = codes.reshape(-1, *self.shape).to(self.device)
        return torch.cat([self._compute(self.decode, chunk) for chunk in torch.split(codes, CHUNK)])

    def gist(self, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return coarse images (N, V), spectra (N, bins) and middle slices (N, H, W) of what is drawn of codes."""
        coarse, spectra, slices = [], [], []
        for chunk in torch.split(codes, CHUNK):
            images = self.drawn(chunk)
            size = tuple(min(n, COARSE) for n in images.shape[2:])
            coarse.append(MEAN_POOL[len(size)](size)(images).flatten(1))
            spectra.append(power_spectrum(images))
            slices.append(self.plane(images))
        return torch.cat(coarse), torch.cat(spectra), torch.cat(slices)

    def again(self, cases: Sequence[Seen]) -> NDArray[np.float16]:
        """Return slices of the first cases as they come back."""
        images = [one.image()[None].to(self.device) for one in cases[:SHOWN]]
        return self.slices([self._compute(self.task.reconstruct, image)[0] for image in images])

    def masked(self, task: MaskedTask, cases: Sequence[Seen]) -> NDArray[np.float16]:
        """Return slices (3, N, H, W): what is left of the first cases, what is drawn of it, and the whole."""
        rows: list[list[Tensor]] = [[], [], []]
        for number, one in enumerate(cases[:SHOWN]):
            image = one.image()[None].to(self.device)
            left = task.masked(image, task.mask(image, seed=number))
            for row, shown in zip(rows, (left, self._compute(task.reconstruct, left), image), strict=True):
                row.append(shown[0])
        return np.stack([self.slices(row) for row in rows])

    def plane(self, images: Tensor) -> Tensor:
        """Return the middle slice (N, H, W) of the first channel of images (N, C, *P)."""
        first = images[:, 0].float().cpu()
        return first if self.through is None else first.select(self.through + 1, first.shape[self.through + 1] // 2)

    def slices(self, images: Sequence[Tensor]) -> NDArray[np.float16]:
        """Return the middle slices (N, H, W) of images (C, *P)."""
        return _half(torch.cat([self.plane(image[None]) for image in images]))

    def _compute(self, what: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        with computing(self.precision, str(self.device)):
            return what(x).float().cpu()


def _walk(look: LatentLook, eyes: _Eyes, cases: Sequence[Seen], codes: Tensor) -> None:
    """Add the ways between held-out cases, one to the next."""
    shares = torch.linspace(0, 1, STEPS + 1)[:, None]
    steps, straight, apart, shown = [], [], [], []
    for number in range(min(PAIRS, len(codes) - 1)):
        path = eyes.drawn(torch.lerp(codes[number], codes[number + 1], shares))
        lengths, ends = path_lengths(path)
        steps.append(lengths)
        straight.append(ends)
        apart.append(path_lengths(torch.stack([cases[number].image(), cases[number + 1].image()]))[1])
        if number < SHOWN:
            shown.append(eyes.plane(path))
    look.figures |= continuity(torch.stack(steps), torch.stack(straight), float(torch.stack(apart).mean()))
    look.pictures["interpolation"] = _half(torch.stack(shown))
    look.facts["interpolation_steps"] = STEPS


def _traverse(look: LatentLook, eyes: _Eyes, basis: Principal) -> None:
    """Add what is drawn along the principal directions, from the mean code on."""
    rows = []
    for direction, deviation in list(zip(basis.directions, basis.deviations, strict=True))[:DIRECTIONS]:
        places = torch.tensor(DEVIATIONS)[:, None] * deviation * direction
        rows.append(eyes.plane(eyes.drawn(basis.mean + places)))
    if rows:
        look.pictures["traversal"] = _half(torch.stack(rows))
        look.facts["deviations"] = list(DEVIATIONS)


def _sample(look: LatentLook, eyes: _Eyes, basis: Principal, chosen: Sequence[int], codes: Tensor, own: Tensor) -> None:
    """Add samples of N(0, I), a VAE's prior, and of the Gaussian fitted to the codes, for every objective alike."""
    chance = torch.Generator().manual_seed(0)
    training, _, _ = eyes.gist(codes[list(chosen)])
    held_out, usual, _ = eyes.gist(own)
    look.figures["completeness_held_out_precision"] = within(held_out, training)
    sources = {
        "prior": torch.randn(SAMPLES, codes.shape[1], generator=chance),
        "fitted": basis.samples(SAMPLES, chance),
    }
    for name, drawn in sources.items():
        coarse, spectra, slices = eyes.gist(drawn)
        found = completeness(coarse, held_out, training) | {"spectrum": spectrum_distance(spectra, usual)}
        look.figures |= {f"completeness_{name}_{key}": value for key, value in found.items() if math.isfinite(value)}
        look.pictures[f"samples_{name}"] = _half(slices[:SAMPLES_SHOWN])


def _map(basis: Principal, parts: dict[str, tuple[Sequence[Seen], Tensor]]) -> list[dict[str, Any]]:
    """Return the place of each case on the first two principal directions."""
    found: list[dict[str, Any]] = []
    for part, (cases, codes) in parts.items():
        places = torch.nn.functional.pad(basis.places(codes)[:, :2], (0, 2))[:, :2].tolist()
        found += [{"case": one.number, "part": part, "place": at} for one, at in zip(cases, places, strict=True)]
    return found


def plane_of(spacing: Sequence[float]) -> int | None:
    """Return the axis through which images are sliced, that of the thickest voxels; None in 2D."""
    return max(range(len(spacing)), key=lambda axis: (spacing[axis], axis)) if len(spacing) > 2 else None


def _in_plane(spacing: Sequence[float], through: int | None) -> list[float]:
    return [float(mm) for axis, mm in enumerate(spacing) if axis != through]


def _spread(items: Sequence[Any], most: int) -> list[Any]:
    """Return at most so many items, evenly spread."""
    count = min(len(items), most)
    return [items[index * len(items) // count] for index in range(count)]


def _chunks(cases: Sequence[Seen]) -> list[Sequence[Seen]]:
    return [cases[first : first + CHUNK] for first in range(0, len(cases), CHUNK)]


def _half(images: Tensor) -> NDArray[np.float16]:
    return images.clamp(-6e4, 6e4).numpy().astype(np.float16)
