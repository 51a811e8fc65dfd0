"""ISBI 2012: the original U-Net's recipe and a modern one on slices they never saw, and what two parts of it bring.

Trains each recipe with each seed, segments the slices of the test split, and prints the scores of the challenge
(foreground-restricted Rand and information scores after thinning, pixel error) as mean and standard deviation over
seeds. The challenge took the best threshold on the slices it scored; here the threshold of each score is the best on
the validation slices, or with `train.fold=all` on every fifth that it trained on. The figures at one half, which is
what `segpipe run` writes, stand beside them.

    python benchmarks/isbi.py --data FOLDER -o OUT [--recipes isbi2012 isbi2012-modern] [--seeds 0 1 2]
        [--set key=value ...]
    python benchmarks/isbi.py --data FOLDER -o OUT --ablation --seeds 0 1 2 --set model.features=16 train.fit.steps=600

--ablation trains the first recipe with and without the ridges of its weight map and its elastic deformation.
--set ingest.split.seed=N gives another split, which is another measure. What is trained already is not trained again.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from recipe import Training, train

from segpipe.dataset.plan import Plan
from segpipe.dataset.prepare import Prepared, PreparedSet
from segpipe.nets.checkpoint import load_model
from segpipe.nets.precision import laid_out
from segpipe.predict.ensemble import averaged
from segpipe.predict.window import WindowConfig, predict_scores
from segpipe.score.instances import over_thresholds

CONFIGS = Path(__file__).parent.parent / "configs"
THRESHOLDS = (0.01, 0.02, 0.03, 0.05, 0.07, *(round(0.1 + 0.05 * step, 2) for step in range(17)), 0.93, 0.95, 0.97)
"""Of the probability of lying inside a cell: where membranes weigh much, it is small wherever there may be one."""
HALF = 0.5
BEST = {"vrand": max, "vinfo": max, "pixel_error": min}
"""The scores, and which of two is better."""
ELASTIC = "CoarseElastic"

Scores = dict[str, float]


def variants(config: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the rows of the ablation: settings that are laid over a recipe."""
    listing = config["train"]["augment"]["albumentations"]
    stiff = [entry for entry in listing if ELASTIC not in entry]
    if len(stiff) == len(listing):
        sys.exit(f"the recipe's train.augment.albumentations holds no {ELASTIC}")
    no_ridge = ["preprocess.weight.w0=0"]
    no_elastic = [f"train.augment.albumentations={yaml.safe_dump(stiff, default_flow_style=True, width=10**6).strip()}"]
    return {
        "as published": [],
        "no border weights": no_ridge,
        "no elastic deformation": no_elastic,
        "neither": [*no_ridge, *no_elastic],
    }


def folder_of(out: Path, stage: str, train_folder: Path) -> Path:
    """Return the folder of a stage that a training was made from."""
    return out / stage / json.loads((train_folder / "artifact.json").read_text())["inputs"][stage]


def probabilities(model: Path, cases: list[Prepared], plan: Plan, window: WindowConfig) -> Iterator[np.ndarray]:
    """Yield the probability (*S) of lying inside a cell, for each case."""
    network = laid_out(load_model(model).network, 2, "cpu")
    for case in cases:
        scores = predict_scores(network, case.image, plan.patch, window)
        yield averaged([scores], plan.target.kind)[1].numpy()


def table(cases: list[Prepared], found: Iterator[np.ndarray]) -> dict[float, Scores]:
    """Return the mean of each score over cases, by threshold."""
    each = [over_thresholds(case.labels[0] > 0, one, THRESHOLDS) for case, one in zip(cases, found, strict=True)]
    return {
        limit: {score: float(np.mean([one[limit][score] for one in each])) for score in BEST} for limit in THRESHOLDS
    }


def judged(out: Path, made: Path, window: WindowConfig) -> dict[str, Any]:
    """Return the scores of one training on the test split, at thresholds chosen on other slices.

    These are the validation slices; where none were held out, every fifth of those that it trained on.
    """
    prepared = folder_of(out, "preprocess", made)
    plan = Plan.model_validate(load_model(made / "model").notes["plan"])
    splits = json.loads((folder_of(out, "ingest", made) / "splits.json").read_text())
    divided = json.loads((made / "cases.json").read_text())
    part = "validation" if divided["validation"] else "training"
    others = divided[part] if part == "validation" else divided[part][::5]
    began = time.process_time()
    tables = {}
    for name, ids in ((part, others), ("test", splits["test"])):
        cases = [PreparedSet(prepared)[case] for case in ids]
        tables[name] = table(cases, probabilities(made / "model", cases, plan, window))
    chosen = {
        score: best(THRESHOLDS, key=lambda limit, score=score: tables[part][limit][score])
        for score, best in BEST.items()
    }
    return {
        "test": {score: tables["test"][limit][score] for score, limit in chosen.items()},
        "test_at_half": tables["test"][HALF],
        part: {score: tables[part][limit][score] for score, limit in chosen.items()},
        f"{part}_at_half": tables[part][HALF],
        "thresholds": chosen,
        "test_slices": splits["test"],
        "judging_cpu_s": time.process_time() - began,
    }


def row(name: str, trainings: list[Training], found: list[dict[str, Any]]) -> str:
    """Return a line of the table."""
    cells = []
    for score in BEST:
        for part in ("test", "test_at_half"):
            values = np.array([one[part][score] for one in found])
            spread = f" ± {values.std(ddof=1):.4f}" if len(values) > 1 else ""
            cells.append(f"{values.mean():.4f}{spread}")
    cpu = np.mean([one.cpu_s for one in trainings])
    return f"| {name} | {' | '.join(cells)} | {cpu:.0f} |"


HEAD = (
    "| | V^Rand | V^Rand at 1/2 | V^Info | V^Info at 1/2 | pixel error | pixel error at 1/2 | CPU s of training |\n"
    "|---|---|---|---|---|---|---|---|"
)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--recipes", nargs="+", default=["isbi2012", "isbi2012-modern"], help="names in configs/")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--ablation", action="store_true", help="of the first recipe")
    parser.add_argument("--set", nargs="+", default=[], metavar="key=value", dest="settings", help="for all rows")
    return parser.parse_args()


def main() -> None:
    options = parsed()
    paths = {name: CONFIGS / f"{name}.yaml" for name in options.recipes}
    configs = {name: yaml.safe_load(path.read_text()) for name, path in paths.items()}
    first = options.recipes[0]
    rows = {name: (name, []) for name in options.recipes}
    if options.ablation:
        rows = {name: (first, settings) for name, settings in variants(configs[first]).items()}
    trainings: dict[str, list[Training]] = {name: [] for name in rows}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in rows}
    # all rows with one seed before the next: a table that is stopped early still compares like with like
    for seed in options.seeds:
        for name, (recipe, settings) in rows.items():
            whole = [f"train.fit.seed={seed}", *options.settings, *settings]
            trainings[name].append(train(str(paths[recipe]), options.data, options.out, whole))
            made = (options.out / "latest" / "model" / "model.json").resolve().parents[1]
            window = WindowConfig.model_validate(configs[recipe].get("infer", {}).get("window", {}))
            found[name].append(judged(options.out, made, window))
            print(json.dumps({"row": name, "seed": seed, **found[name][-1]}), file=sys.stderr, flush=True)
        print(f"\n{HEAD}")
        for name in rows:
            print(row(name, trainings[name], found[name]))
        print(f"\nload {os.getloadavg()[0]:.1f}", flush=True)


if __name__ == "__main__":
    main()
