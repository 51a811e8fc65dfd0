"""How far off the predicted Dice is, and whether its error holds, on scans as they are and on damaged ones.

Takes the networks of a run, and cases on which they were not trained: of these a part teaches the predictor, drawn
again and again, and the rest is predicted. Damaged scans are predicted by what all clean cases to develop taught.

    python -m segpipe run configs/hippocampus.yaml --data FOLDER -o OUT train.labels=16 …
    python benchmarks/predicted_dice.py OUT --data FOLDER
"""

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.stats import spearmanr

from segpipe.dataset.load import load_image, load_labels
from segpipe.dataset.manifest import Case, Dataset
from segpipe.imaging.volume import Volume
from segpipe.predict.confidence import confidence_in
from segpipe.predict.segmenter import Segmenter
from segpipe.quality.confidence import Confidence
from segpipe.quality.predicted import DicePredictor, HeldOut, measured
from segpipe.score.overlap import count, dice

MOST = 45
DRAWS = 100
Known = tuple[str, dict[str, Confidence], dict[str, float]]
"""A case, how sure the network was of each structure, and its true Dice."""


def damaged(scan: Volume, kind: str) -> Volume:
    """Return a scan as it is, with noise of 0.8 of its SD, or blurred by 2 voxels."""
    x = scan.array.astype(np.float32)
    if kind == "noise":
        x = x + np.random.default_rng(0).normal(0, 0.8 * x.std(), x.shape).astype(np.float32)
    if kind == "blur":
        x = ndimage.gaussian_filter(x, (0, *[2.0] * (x.ndim - 1)))
    return Volume(x, scan.geometry)


def looked_at(cases: Sequence[Case], dataset: Dataset, segmenter: Segmenter, kind: str) -> list[Known]:
    """Segment cases; return how sure the network was, and how right."""
    found = []
    for case in cases:
        files = dataset.files(case)
        scan, truth = damaged(load_image(files), kind), load_labels(files).array[0]
        scores = segmenter.scores(scan)
        drawn = segmenter.labels(scores, scan).array[0]
        true = {
            name: dice(count(np.isin(drawn, values), np.isin(truth, values)))
            for name, values in segmenter.plan.labels.groups().items()
        }
        found.append((case.id, confidence_in(scores.array, segmenter.plan), true))
    return found


def learned(known: Sequence[Known], names: tuple[str, ...]) -> DicePredictor:
    """Return the predictor that cases teach."""
    cases = [measured(case, case, sure, true, names) for case, sure, true in known]
    return DicePredictor([HeldOut(structures=names, cases=tuple(cases))])


def judged(predictor: DicePredictor, known: Sequence[Known]) -> list[float]:
    """Return error, bias, share within the error told, that error, rank correlation, and the error of a constant."""
    told = np.asarray([predictor(sure).mean for _, sure, _ in known])
    true = np.asarray([np.nanmean(list(each.values())) for _, _, each in known])
    constant = np.mean([np.nanmean(list(one.dice.values())) for one in predictor.cases])
    off = told - true
    rank = float(spearmanr(told, true).statistic) if np.ptp(told) > 0 else math.nan
    within = float((np.abs(off) <= predictor.error).mean())
    return [float(np.abs(off).mean()), off.mean(), within, predictor.error, rank, np.abs(constant - true).mean()]


def rows(folder: Path, dataset: Dataset) -> Iterator[tuple[str, list[float]]]:
    """Yield what is measured of the network in the folder of a training."""
    trained = set(json.loads((folder / "cases.json").read_text())["training"])
    segmenter = Segmenter.load(folder / "model", "cpu")
    names = segmenter.plan.labels.names
    develop = looked_at(
        [case for case in dataset.part("develop") if case.id not in trained][:MOST], dataset, segmenter, "clean"
    )
    test = dataset.part("test")
    clean = looked_at(test, dataset, segmenter, "clean")
    unseen = [*develop, *clean]
    for size in (13, 25, 45):
        draws = []
        for draw in range(DRAWS):
            order = np.random.default_rng(draw).permutation(len(unseen))
            few, rest = ([unseen[place] for place in part] for part in (order[:size], order[size:]))
            draws.append(judged(learned(few, names), rest))
        yield f"clean, learned from {size}", list(np.nanmean(draws, axis=0))
    yield f"clean test scans, learned from {len(develop)}", judged(learned(develop, names), clean)
    for kind in ("noise", "blur"):
        yield (
            f"{kind}, learned from {len(develop)}",
            judged(learned(develop, names), looked_at(test, dataset, segmenter, kind)),
        )


def main() -> None:
    """Print a table for each network of a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    given = parser.parse_args()
    dataset = Dataset.open(next(iter(sorted((given.run / "ingest").iterdir()))), given.data)
    for folder in sorted((given.run / "train").glob("*/cases.json")):
        print(f"\n{folder.parent.name}\n\n| scans | error | bias | within | error told | rank | of a constant |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for title, (error, bias, within, told, rank, constant) in rows(folder.parent, dataset):
            figures = f"{error:.3f} | {bias:+.3f} | {within:.2f} | {told:.3f} | {rank:+.2f} | {constant:.3f}"
            print(f"| {title} | {figures} |")


if __name__ == "__main__":
    main()
