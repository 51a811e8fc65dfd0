"""Whether scans of another kind are told: AUROC of each corruption against clean scans that were held out.

Prepares the data, pretrains where the settings ask for it, learns what is usual on the cases to develop; then spoils
raw scans before they are prepared, and prints a row for each way of spoiling: AUROC by image statistics alone, by
redrawing alone and by both, and how many of the spoiled scans are called unusual.

    python benchmarks/outliers.py configs/hippocampus.yaml --data FOLDER -o OUT [--part develop] [key=value ...]

Figures are to be chosen with --part develop, the cases of fold 0 that pretraining does not see; the test split, which
is the default, is for measuring once. Images have three axes.
"""

import argparse
import math
import subprocess
import sys
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import mannwhitneyu

from segpipe.config import load_config
from segpipe.core.store import Store
from segpipe.dataset.manifest import Case, Dataset
from segpipe.dataset.plan import Plan, load_image
from segpipe.dataset.prepare import prepare_image
from segpipe.imaging.geometry import Geometry
from segpipe.imaging.volume import Volume
from segpipe.learn.redraw import Redrawing
from segpipe.quality.usual import USUAL, border_of, both, read_usual

PIPELINE = "description: What is usual.\nstages: [ingest, preprocess, pretrain, qc]\n"
Floats = NDArray[np.float32]
Spoil = Callable[[Floats, Geometry, np.random.Generator], tuple[Floats, Geometry]]
"""From voxels (C, X, Y, Z) and their grid to spoiled ones."""


def noise(sigma: float) -> Spoil:
    """Add Gaussian noise, in units of the image's SD."""
    return lambda a, g, r: (a + sigma * a.std() * r.normal(size=a.shape), g)


def blur(sigma: float) -> Spoil:
    """Smooth by a Gaussian, in voxels."""
    return lambda a, g, r: (ndimage.gaussian_filter(a, (0, sigma, sigma, sigma)), g)


def thick(times: int) -> Spoil:
    """Take the mean of so many slices, on a grid that tells of it."""

    def spoil(a: Floats, g: Geometry, r: np.random.Generator) -> tuple[Floats, Geometry]:
        count = a.shape[-1] // times
        merged = a[..., : count * times].reshape(*a.shape[:-1], count, times).mean(axis=-1)
        affine = g.affine.copy()
        affine[:-1, -1] = g.world([0, 0, (times - 1) / 2])
        affine[:-1, 2] *= times
        return merged, Geometry(merged.shape[1:], affine)

    return spoil


def gamma(exponent: float) -> Spoil:
    """Bend intensities between the least and the largest."""

    def spoil(a: Floats, g: Geometry, r: np.random.Generator) -> tuple[Floats, Geometry]:
        share = (a - a.min()) / (a.max() - a.min())
        return 1000 * share**exponent, g

    return spoil


def spikes(count: int, amplitude: float) -> Spoil:
    """Add waves, each one point of k-space and its mirror image; amplitude in units of the image's SD."""

    def spoil(a: Floats, g: Geometry, r: np.random.Generator) -> tuple[Floats, Geometry]:
        places, waves = np.indices(a.shape[1:]), np.zeros(a.shape[1:])
        for _ in range(count):
            cycles = [round(n * r.uniform(0.15, 0.45) * r.choice([-1, 1])) / n for n in a.shape[1:]]
            phase = sum(f * place for f, place in zip(cycles, places, strict=True))
            waves += np.cos(2 * np.pi * phase + r.uniform(0, 2 * np.pi))
        return a + amplitude * a.std() * waves, g

    return spoil


def flip(axis: int) -> Spoil:
    """Turn an axis round, and leave the header as it is."""
    return lambda a, g, r: (np.flip(a, axis + 1).copy(), g)


def swap(one: int, other: int) -> Spoil:
    """Exchange two axes, and leave the header as it is."""

    def spoil(a: Floats, g: Geometry, r: np.random.Generator) -> tuple[Floats, Geometry]:
        turned = np.swapaxes(a, one + 1, other + 1).copy()
        return turned, Geometry(turned.shape[1:], g.affine)

    return spoil


def missing(a: Floats, g: Geometry, r: np.random.Generator) -> tuple[Floats, Geometry]:
    """Set a block of a third of each axis to 0."""
    sizes = [n // 3 for n in a.shape[1:]]
    starts = [int(r.integers(0, n - size + 1)) for n, size in zip(a.shape[1:], sizes, strict=True)]
    holed = a.copy()
    holed[(slice(None), *(slice(start, start + size) for start, size in zip(starts, sizes, strict=True)))] = 0
    return holed, g


def bias(strength: float) -> Spoil:
    """Multiply by the exponential of a random quadratic field, between -strength and strength."""

    def spoil(a: Floats, g: Geometry, r: np.random.Generator) -> tuple[Floats, Geometry]:
        places = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in a.shape[1:]), indexing="ij"))
        direction, bend = r.normal(size=3), 0.5 * r.normal(size=(3, 3))
        field = np.tensordot(direction / np.linalg.norm(direction), places, axes=1)
        field += np.einsum("i...,ij,j...->...", places, bend, places)
        return a * np.exp(strength * field / np.abs(field).max()), g

    return spoil


def ghost(share: float) -> Spoil:
    """Add the image again, half a field of view away."""
    return lambda a, g, r: (a + share * np.roll(a, a.shape[2] // 2, axis=2), g)


SPOILED: dict[str, Spoil] = {
    "noise, 0.2 SD": noise(0.2),
    "noise, 0.5 SD": noise(0.5),
    "blur, 1 voxel": blur(1.0),
    "slices twice as thick": thick(2),
    "slices four times as thick": thick(4),
    "inverted": lambda a, g, r: (a.max() + a.min() - a, g),
    "gamma 0.5": gamma(0.5),
    "gamma 2": gamma(2.0),
    "three spikes in k-space, 0.3 SD": spikes(3, 0.3),
    "flipped left-right": flip(0),
    "flipped back-front": flip(1),
    "flipped feet-head": flip(2),
    "first and second axis swapped": swap(0, 1),
    "second and third axis swapped": swap(1, 2),
    "a block missing": missing,
    "bias field, 0.5": bias(0.5),
    "ghost, 0.3": ghost(0.3),
}


def prepared(case: Case, dataset: Dataset, plan: Plan, spoil: Spoil | None, name: str) -> Floats:
    """Return a case (C, *S) as a network sees it, spoiled before; chance depends on both names alone."""
    scan = load_image(dataset.files(case))
    if spoil is not None:
        random = np.random.default_rng([zlib.crc32(name.encode()), zlib.crc32(case.id.encode())])
        array, geometry = spoil(scan.array.astype(np.float32), scan.geometry, random)
        scan = Volume(np.asarray(array, np.float32), geometry)
    return np.asarray(prepare_image(scan, plan).array, np.float32)


def auroc(spoiled: NDArray[np.float64], clean: NDArray[np.float64]) -> float:
    """Return the chance that a spoiled scan has the larger score."""
    return float(mannwhitneyu(spoiled, clean).statistic) / (len(spoiled) * len(clean))


def learned(config: str, data: Path, out: Path, settings: list[str]) -> Mapping[str, Path]:
    """Make what is not made yet; return the folder of each stage."""
    out.mkdir(parents=True, exist_ok=True)
    pipeline = out / "usual.yaml"
    pipeline.write_text(PIPELINE)
    places = ["--data", str(data), "-o", str(out), "--pipeline", str(pipeline)]
    subprocess.run([sys.executable, "-m", "segpipe", "run", config, *places, *settings], check=True)
    newest = {stage: next(Store(out).all(stage), None) for stage in ("ingest", "preprocess", "pretrain", "qc")}
    return {stage: artifact.path for stage, artifact in newest.items() if artifact}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("settings", nargs="*")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--part", choices=["test", "develop"], default="test")
    args = parser.parse_intermixed_args()
    folders = learned(args.config, args.data, args.out, args.settings)
    config = load_config(Path(args.config), [f"ingest.source.root={args.data}", *args.settings])
    dataset = Dataset.open(folders["ingest"], config.ingest.source.folder)
    plan = Plan.model_validate_json((folders["preprocess"] / "plan.json").read_text())
    usual = read_usual(folders["qc"] / USUAL)
    if usual is None:
        sys.exit("too few cases to say what is usual")
    redraw = Redrawing.load([folders["pretrain"]], usual.channels, "cpu") if usual.reconstruction else None
    cases = dataset.part("test") if args.part == "test" else dataset.fold(0)[1]

    def scores(name: str, spoil: Spoil | None) -> NDArray[np.float64]:
        """Return rows: distance by statistics, by redrawing, by both."""
        rows = []
        for case in cases:
            image = prepared(case, dataset, plan, spoil, name)
            plain = usual.statistics.distance(usual.figures(image))
            other = usual.reconstruction.distance(redraw(image)) if redraw and usual.reconstruction else math.nan
            rows.append((plain, other, both(plain, other) if redraw else plain))
        return np.asarray(rows).T

    border = border_of(usual.together if redraw else usual.statistics.usual, usual.alarm)
    clean = scores("", None)
    print(f"{len(cases)} {args.part} scans; {100 * np.mean(clean[2] > border):.0f} % of the clean ones called unusual")
    print("| spoiled by | statistics | redrawing | both | called unusual |\n| --- | --- | --- | --- | --- |")
    table = []
    for name, spoil in SPOILED.items():
        found = scores(name, spoil)
        table.append([auroc(*pair) for pair in zip(found, clean, strict=True)] + [float(np.mean(found[2] > border))])
        print(_row(name, table[-1]), flush=True)
    print(_row("**mean**", np.mean(table, axis=0)))


def _row(name: str, values: list[float]) -> str:
    *areas, share = values
    return f"| {name} | {' | '.join(f'{value:.3f}' for value in areas)} | {100 * share:.0f} % |"


if __name__ == "__main__":
    main()
