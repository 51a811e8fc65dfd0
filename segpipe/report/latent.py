"""The chapter on pretraining: what the autoencoder draws, and what its latent space is like."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.dataset.manifest import Dataset
from segpipe.report.codemap import Colouring, code_map, colourings, legend
from segpipe.report.mosaic import mosaic, window
from segpipe.report.svg import WIDTH
from segpipe.report.wording import UNDEFINED, number, percent, signed

FULL = 2 * WIDTH
WORDS = {
    "autoencoder": "an undercomplete autoencoder",
    "sparse": "a sparse autoencoder",
    "denoising": "a denoising autoencoder",
    "masked": "a masked autoencoder",
    "layerwise": "greedy layerwise training",
    "vae": "a variational autoencoder",
}
THROUGH = ("sagittal", "coronal", "axial")
PRIOR, FITTED = "prior", "fitted"
CONTINUITY = {
    "continuity_step": (
        "Change per step",
        "How far the image moves in a step, in units of the distance of two real cases. {even} would be even steps "
        "all the way; far less means that images are blurred or all alike.",
    ),
    "continuity_path": (
        "Path over straight distance",
        "1 at least: the image changes straight from one case to the other. Larger: it makes detours.",
    ),
    "continuity_jump": (
        "Largest step over the mean",
        "1 is even; {steps} would be one sudden jump with nothing between.",
    ),
}
COMPLETENESS = {
    "distance": (
        "Distance to the nearest training case",
        "In units of that of held-out cases: about 1 is as plausible as these, far above 1 off the data, far below 1 "
        "an average image.",
    ),
    "precision": (
        "Precision",
        "Share of samples within the reach of training cases; of held-out cases it is {held}.",
    ),
    "coverage": (
        "Coverage",
        "Share of held-out cases that have a sample among their nearest; 0 where samples are all alike.",
    ),
    "spectrum": (
        "Distance of spectra",
        "0: samples are as sharp and as rough as held-out cases come back; 0.3 is a factor of two.",
    ),
}


@dataclass(frozen=True, eq=False)
class Latent:
    """What the stage wrote about its latent space."""

    told: Mapping[str, Any]
    pictures: Mapping[str, NDArray[np.float16]]


def read_latent(folder: Path | None) -> Latent | None:
    """Return what lies in the folder ``latent`` of a pretraining; None where it is missing or damaged."""
    if folder is None:
        return None
    try:
        told = json.loads((folder / "latent.json").read_text())
        pictures = {path.stem: np.load(path, allow_pickle=False) for path in sorted(folder.glob("*.npy"))}
    except (OSError, ValueError, EOFError):
        return None
    return Latent(told, pictures) if isinstance(told, dict) and "cases" in pictures else None


def chapter(latent: Latent | None, dataset: Dataset) -> dict[str, Any] | None:
    """Return what the template names: ``lead``, ``panels``, ``maps``, ``continuity``, ``completeness``; or None."""
    if latent is None:
        return None
    return {
        "lead": _lead(latent),
        "panels": _panels(latent),
        "maps": _maps(latent, dataset),
        "continuity": _continuity(latent.told),
        "completeness": _completeness(latent.told),
    }


def _lead(latent: Latent) -> str:
    kind = str(latent.told.get("objective"))
    through = latent.told.get("through")
    where = "" if through is None else f" Pictures are {THROUGH[int(through)]} slices through the middle."
    return f"The encoder was first trained on images alone, as {WORDS.get(kind, kind)}.{where}"


def _panels(latent: Latent) -> list[dict[str, Any]]:
    """Return the pictures, each with title and caption, as far as there are any."""
    told, pictures = latent.told, latent.pictures
    grey, spacing = window(pictures["cases"][0]), told.get("spacing_mm", (1.0, 1.0))
    found: list[dict[str, Any]] = []

    def panel(
        title: str, note: str, slices: NDArray[Any], rows: Sequence[str] = (), columns: Sequence[str] = ()
    ) -> None:
        wide = slices.shape[1] > len(slices) and slices.shape[1] > 5
        svg = mosaic(slices, grey, spacing, FULL if wide else WIDTH, f"{title}: {note}", rows, columns)
        found.append({"title": title, "note": note, "svg": svg, "wide": wide})

    held = ["held-out case", "comes back as"]
    panel("Reconstructions", "fine detail is lost first; what is anatomy should stay", pictures["cases"], held)
    if "masked" in pictures:
        names = ["what was left", "what is drawn", "the whole"]
        panel("Masked", "what was taken out has to be guessed from around it", pictures["masked"], names)
    if "traversal" in pictures:
        shares = told.get("shares", [])
        names = [f"direction {n + 1} ({percent(round(share, 2))})" for n, share in enumerate(shares)]
        rows = (names + [""] * len(pictures["traversal"]))[: len(pictures["traversal"])]
        columns = [f"{signed(sd, 0) if sd else 'mean'}{' SD' if sd else ''}" for sd in told.get("deviations", [])]
        note = "along the principal directions of the codes, with their share of the variance"
        panel("Traversals", note, pictures["traversal"], rows, columns)
    if {f"samples_{PRIOR}", f"samples_{FITTED}"} <= set(pictures):
        drawn = [pictures[f"samples_{name}"] for name in (PRIOR, FITTED)]
        note = "drawn of random codes: of the prior N(0, I), and of a Gaussian fitted to the codes"
        panel("Samples", f"{note}{_no_prior(told)}", np.stack(drawn), ["of the prior", "of the fitted"])
    if "interpolation" in pictures:
        steps = pictures["interpolation"].shape[1] - 1
        columns = ["one case", *[f"{n}/{steps}" for n in range(1, steps)], "another"]
        note = "straight ways between the codes of two held-out cases"
        panel("Interpolations", note, pictures["interpolation"], (), columns)
    return found


def _no_prior(told: Mapping[str, Any]) -> str:
    return (
        "" if told.get("objective") == "vae" else "; this objective knows of no prior, so the first need mean nothing"
    )


def _maps(latent: Latent, dataset: Dataset) -> list[dict[str, Any]]:
    points = [one for one in latent.told.get("map", []) if one["case"] < len(dataset.cases)]
    if not points:
        return []
    rank = len(dataset.cases[0].shape)
    ways: list[Colouring | None] = [*colourings(dataset.cases, rank, dataset.header.reading.sign)]
    mapped = {dataset.cases[point["case"]].id for point in points}
    return [
        {
            "title": "Map of codes",
            "note": f"by {colouring.title}" if colouring else "each dot is a case",
            "legend": legend(colouring, unknown=colouring is not None and not mapped <= set(colouring.of)),
            "svg": code_map(points, dataset.cases, colouring, latent.told.get("shares", [])),
        }
        for colouring in ways or [None]
    ]


def _continuity(told: Mapping[str, Any]) -> list[dict[str, str]]:
    figures, steps = told.get("figures", {}), told.get("interpolation_steps", 8)
    return [
        {
            "name": name,
            "value": number(figures[key], 3),
            "reading": reading.format(steps=steps, even=f"{1 / steps:.3f}"),
        }
        for key, (name, reading) in CONTINUITY.items()
        if key in figures
    ]


def _completeness(told: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return a row for each figure, of samples of the prior and of those of the fitted Gaussian."""
    figures = told.get("figures", {})
    held = _told(figures, "completeness_held_out_precision")
    rows = []
    for key, (name, reading) in COMPLETENESS.items():
        values = {source: _told(figures, f"completeness_{source}_{key}") for source in (PRIOR, FITTED)}
        if set(values.values()) != {UNDEFINED}:
            rows.append({"name": name, **values, "reading": reading.format(held=held)})
    return rows


def _told(figures: Mapping[str, float], key: str) -> str:
    return number(figures[key], 3) if key in figures else UNDEFINED
