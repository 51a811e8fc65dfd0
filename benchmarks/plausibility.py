"""How well shape plausibility tells good predictions from bad ones, without a reference.

Needs a run with `qc.shapes.use=true`. Segments the cases of one part as they are and with six kinds of corruption,
each at four strengths, and takes every clean prediction also from the wrong place, at four distances; asks what a
checker says of each; and compares that with the true Dice (mean over structures). Intervals are from a bootstrap over
cases.

How good the predictions are depends on network and strengths, and among good ones no score tells the better from the
worse: a correlation says as much of the mixture as of the score. So it is told twice: of the predictions as they come,
and with weights that let every tenth of Dice count alike ("evenly"), as if as many were bad, middling and good.
--one-strength takes one strength of each kind a case, in turn, and one distance. --model takes several models, such as
those of trainings of different lengths: what each draws is judged.

    python -m segpipe run configs/hippocampus.yaml --data FOLDER -o OUT qc.shapes.use=true …
    python benchmarks/plausibility.py OUT --data FOLDER --part test
"""

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from segpipe.core.atomic import write_array
from segpipe.core.fingerprint import file_sha256
from segpipe.dataset.manifest import Case, Dataset
from segpipe.dataset.plan import load_image
from segpipe.imaging.files import read_volume
from segpipe.imaging.volume import Volume
from segpipe.nets.checkpoint import WEIGHTS, model_folders
from segpipe.nets.precision import use_threads
from segpipe.predict.agreement import other_passes
from segpipe.predict.seen import Segmented
from segpipe.predict.segmenter import Segmenter
from segpipe.predict.shapes import SHAPES, ShapeChecker, load_shapes
from segpipe.score.case import MetricsConfig, score_case

STRENGTHS = {
    "noise": (0.3, 0.6, 1.2, 2.0),
    "blur": (1.0, 1.7, 2.5, 4.0),
    "bias": (0.5, 1.0, 1.7, 2.5),
    "contrast": (0.4, 2.0, 4.0, -1.0),
    "ghost": (0.3, 0.6, 1.0, 1.6),
    "slices": (1, 2, 4, 8),
}
"""SD of the noise, in SD of the image; SD of the blur in voxels; largest logarithm of a linear bias; gamma, -1 being
inversion; brightness of a ghost half an image away; voxels by which every other slice is displaced."""
APART_MM = (3.0, 6.0, 9.0, 12.0)
"""How far clean predictions are moved."""
CLEAN, MOVED = "clean", "moved"
LOW = 0.7
TENTHS = 10
RESAMPLES = 2000


def corrupted(image: np.ndarray, kind: str, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Return an image (1, *S) made worse in one way."""
    x = np.asarray(image, np.float32)
    low, high = float(x.min()), float(x.max())
    match kind:
        case "noise":
            return x + strength * x.std() * rng.standard_normal(x.shape).astype(np.float32)
        case "blur":
            return np.stack([ndimage.gaussian_filter(channel, strength) for channel in x])
        case "bias":
            way = rng.standard_normal(x.ndim - 1)
            axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in x.shape[1:]], indexing="ij")
            slope = sum(w * axis for w, axis in zip(way / np.linalg.norm(way), axes, strict=True))
            return (x - low) * np.exp(strength * slope) + low
        case "contrast":
            return high + low - x if strength < 0 else low + (high - low) * ((x - low) / (high - low)) ** strength
        case "ghost":
            return x + strength * (np.roll(x, x.shape[2] // 2, axis=2) - low)
    moved = x.copy()
    if kind == "slices":
        moved[..., 1::2] = np.roll(x[..., 1::2], int(strength), axis=2)
    return moved


@dataclass(frozen=True, eq=False)
class Drawn:
    """One prediction, with what is needed to judge it and to score it."""

    seen: Segmented
    truth: Volume
    kind: str
    strength: float


def drawn(
    case: Case, number: int, dataset: Dataset, segmenter: Segmenter, cache: Path, *, one_strength: bool
) -> Iterator[Drawn]:
    """Yield the predictions of a case; label maps are kept in a folder, so that another checker judges them at once."""
    files = dataset.files(case)
    scan, truth = load_image(files), read_volume(files.label)
    for index, (kind, strength) in enumerate(damages(number, one_strength=one_strength)):
        rng = np.random.default_rng([number, index])
        worse = Volume(corrupted(scan.array, kind, strength, rng), scan.geometry)
        image = segmenter.prepared(worse)
        path = cache / f"{case.id}-{kind}-{strength:g}.npy"
        if not path.is_file():
            labels = segmenter.labels(segmenter.drawn(image), worse)
            write_array(path, np.stack([labels.array, *[o.array for o in other_passes(segmenter, image, worse)]]))
        first, *others = [Volume(array, scan.geometry) for array in np.load(path)]
        seen = Segmented(case.id, image, image, first, tuple(others))
        yield Drawn(seen, truth, kind, strength)
        if kind == CLEAN:
            # another pass over the image would give this away at once: here it is not asked
            for away in (APART_MM[number % 4],) if one_strength else APART_MM:
                way = rng.standard_normal(3)
                steps = np.rint(away * way / np.linalg.norm(way) / scan.geometry.spacing).astype(int)
                moved = Volume(ndimage.shift(first.array[0], steps, order=0)[None], scan.geometry)
                yield Drawn(replace(seen, labels=moved, others=()), truth, MOVED, away)


def damages(number: int, *, one_strength: bool) -> list[tuple[str, float]]:
    """Return kinds of damage and strengths for the case of this number, a clean one first."""
    if one_strength:
        return [(CLEAN, 0.0), *((kind, each[(number + i) % 4]) for i, (kind, each) in enumerate(STRENGTHS.items(), 1))]
    return [(CLEAN, 0.0), *((kind, strength) for kind, each in STRENGTHS.items() for strength in each)]


def row(one: Drawn, checker: ShapeChecker) -> dict[str, Any]:
    """Return the true Dice of a prediction, and what a checker says of it."""
    names = checker.known.frame.labels.groups()
    scores = score_case(
        one.seen.labels.array[0].astype(int),
        one.truth.array[0].astype(int),
        one.truth.geometry.spacing,
        names,
        MetricsConfig(surface=False),
    )
    return {
        "case": one.seen.case,
        "kind": one.kind,
        "strength": one.strength,
        "dice": float(np.mean([scores[name, "dice"] for name in names])),
        "parts": checker.parts(one.seen),
        "words": checker(one.seen)[0].words,
    }


def judged(rows: list[dict[str, Any]], checker: ShapeChecker) -> dict[str, np.ndarray]:
    """Return the true Dice and each score, the larger the better, of every row."""
    known = checker.known
    alone = {
        "combined": known.expected,
        "combined, no second pass": lambda one: known.expected(replace(one, agreement=math.nan)),
        "redrawn": lambda one: one.redrawn,
        "figures": lambda one: -one.form,
        "place": lambda one: -one.place,
        "second pass": lambda one: one.agreement,
    }
    found = {"dice": np.asarray([each["dice"] for each in rows])}
    for title, score in alone.items():
        # a structure that is missing has no figures and no place: nothing is worse
        values = [[score(one) for one in each["parts"].values()] for each in rows]
        found[title] = np.asarray(
            [np.mean([-50.0 if math.isnan(v) else max(v, -50.0) for v in each]) for each in values]
        )
    return found


def figures(dice: np.ndarray, score: np.ndarray, weight: np.ndarray) -> tuple[float, float, float]:
    """Return Spearman's correlation, the AUROC for a low Dice, and the mean absolute error, of weighted predictions."""
    share = weight / weight.sum()
    low = dice < LOW
    area = math.nan
    if 0 < low.sum() < len(low):
        below = placed(score, np.where(low, 0, weight))  # the weight of good predictions that a score lies above
        area = 1 - float(np.average(below[low], weights=weight[low])) / float(weight[~low].sum())
    return weighted_spearman(dice, score, share), area, float((share * np.abs(dice - score)).sum())


def placed(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return for each value the weight of the smaller ones, and half of that of its equals."""
    _, place = np.unique(values, return_inverse=True)
    each = np.bincount(place, weight)
    return (np.cumsum(each) - each / 2)[place]


def weighted_spearman(one: np.ndarray, other: np.ndarray, share: np.ndarray) -> float:
    """Return Pearson's correlation of weighted ranks; with equal shares, which add up to 1, Spearman's."""
    a, b = (ranks - (share * ranks).sum() for ranks in (placed(one, share), placed(other, share)))
    spread = (share * a * a).sum() * (share * b * b).sum()
    return float((share * a * b).sum() / math.sqrt(spread)) if spread else math.nan


def tenths(dice: np.ndarray) -> np.ndarray:
    """Return the number of the tenth, 0 to 9, in which each Dice lies."""
    return np.minimum((dice * TENTHS).astype(int), TENTHS - 1)


def evenly(dice: np.ndarray) -> np.ndarray:
    """Return weights by which each tenth of Dice that occurs counts as much as another."""
    tenth = tenths(dice)
    return 1 / np.bincount(tenth)[tenth]


def told(rows: list[dict[str, Any]], checker: ShapeChecker) -> Iterator[str]:
    """Yield a table: each score, with intervals."""
    cases = np.asarray([each["case"] for each in rows])
    kinds = np.asarray([each["kind"] for each in rows])
    scores = judged(rows, checker)
    dice = scores.pop("dice")
    members = [np.flatnonzero(cases == case) for case in np.unique(cases)]
    rng = np.random.default_rng(0)
    draws = [
        np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))]) for _ in range(RESAMPLES)
    ]
    yield f"{len(rows)} predictions of {len(members)} cases; Dice {dice.min():.2f} to {dice.max():.2f}, "
    yield f"{(dice < LOW).mean():.0%} below {LOW:g}; of the tenths of Dice "
    yield f"{', '.join(map(str, np.bincount(tenths(dice))))}\n"
    yield "\n| score | predictions | Spearman | AUROC, Dice < 0.7 | mean error |\n| --- | --- | --- | --- | --- |\n"
    everything, networks = kinds != "", kinds != MOVED
    for which, chosen, weigh in (
        ("evenly, all", everything, evenly),
        ("evenly, of networks", networks, evenly),
        ("as they come, all", everything, np.ones_like),
        ("as they come, of networks", networks, np.ones_like),
        ("as they come, moved or clean", np.isin(kinds, [MOVED, CLEAN]), np.ones_like),
    ):
        for title, score in scores.items():
            if title == "second pass" and not which.endswith("of networks"):
                continue  # moved predictions have no second pass
            point, *resampled = [
                figures(dice[each], score[each], weigh(dice[each]))
                for each in (np.flatnonzero(chosen), *(draw[chosen[draw]] for draw in draws))
            ]
            spread = np.nanpercentile(resampled, (2.5, 97.5), axis=0)
            cells = [f"{value:.3f} ({low:.3f} to {high:.3f})" for value, low, high in zip(point, *spread, strict=True)]
            if not title.startswith(("combined", "redrawn", "second")):
                cells[2] = ""
            yield f"| {title} | {which}, {int(chosen.sum())} | {' | '.join(cells)} |\n"
    yield "\n| kind | predictions | mean Dice | mean plausibility |\n| --- | --- | --- | --- |\n"
    for kind in dict.fromkeys(kinds):
        mine = kinds == kind
        yield f"| {kind} | {mine.sum()} | {dice[mine].mean():.2f} | {scores['combined'][mine].mean():.2f} |\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--part", choices=("develop", "test"), default="develop", help="develop: the held-out fold")
    parser.add_argument("--cases", type=int, help="the first so many; empty: all")
    parser.add_argument("--model", type=Path, nargs="+", help="model folders; empty: that of the run")
    parser.add_argument("--shapes", type=Path, help="a folder with shapes.json; empty: that of the run")
    parser.add_argument("--one-strength", action="store_true", help="of each kind of damage, in turn over cases")
    parser.add_argument("--draw-only", action="store_true", help="segment, and judge nothing yet")
    options = parser.parse_args()
    use_threads(1)
    ingest = next(path for path in (options.out / "ingest").iterdir() if not path.name.endswith(".partial"))
    dataset = Dataset.open(ingest, options.data)
    models = options.model or [options.out / "latest" / "model"]
    cases = (dataset.part("test") if options.part == "test" else dataset.fold(0)[1])[: options.cases]

    def predictions() -> Iterator[Drawn]:
        for model in models:
            segmenter = Segmenter.load(model, "cpu")
            name = "-".join(file_sha256(one / WEIGHTS)[:8] for one in model_folders(model))
            cache = options.out / "plausibility" / name
            for number, case in enumerate(cases):
                yield from drawn(case, number, dataset, segmenter, cache, one_strength=options.one_strength)

    if options.draw_only:
        list(predictions())
        return
    folder = options.shapes or next(path.parent for path in (options.out / "qc").glob(f"*/{SHAPES}"))
    checker = load_shapes(folder, "cpu")
    assert checker is not None
    rows = [row(one, checker) for one in predictions()]
    print("".join(told(rows, checker)))


if __name__ == "__main__":
    main()
