"""Which parts of the training recipe pay: validation Dice and CPU seconds of variants of the settings.

Trains each variant with the same seeds on the same fold and prints a row for each: Dice over whole validation
images (mean over structures) after the last step and at its best, what is gained over the first variant with
the same seed, and what one training cost. Test cases are never segmented: settings must not be chosen on them.
What is trained already is read and not trained again.

    python benchmarks/recipe.py configs/hippocampus.yaml --data FOLDER -o OUT [--seeds 0 1 2] [--only NAME ...]
        [--variant NAME key=value ...] [--set key=value ...]

--set holds for all variants; --variant adds a row of your own and may be given more than once.
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

AUGMENT = "train.augment"
INTENSITY = ("bias_field", "noise", "blur", "brightness", "contrast", "low_resolution", "gamma", "gamma_inverted")
SPATIAL = ("spatial", "elastic")
MIRRORING = f"{AUGMENT}.mirror_axes=[]"


def without(*shares: str) -> list[str]:
    """Return the settings that switch parts of the augmentation off."""
    return [f"{AUGMENT}.{share}=0" for share in shares]


VARIANTS: dict[str, list[str]] = {
    "as set": [],
    "none": [*without(*SPATIAL, *INTENSITY), MIRRORING],
    "mirroring only": without(*SPATIAL, *INTENSITY),
    "spatial only": without("elastic", *INTENSITY),
    "spatial and elastic only": without(*INTENSITY),
    "intensities only": [*without(*SPATIAL), MIRRORING],
    "no mirroring": [MIRRORING],
    **{f"no {share}": without(share) for share in (*SPATIAL, *INTENSITY)},
    "no forced foreground": ["train.sampling.foreground=0"],
    "balance 0": ["train.sampling.balance=0"],
    "balance 1": ["train.sampling.balance=1"],
}
"""The settings of each row, laid over the config; the first one is what the others are compared with."""


@dataclass(frozen=True)
class Training:
    """What came of one training."""

    last: float
    """Validation Dice after the last step."""
    best: float
    """The best there was at any look; a little too good, since it is chosen on the cases that it is measured on."""
    cpu_s: float


def train(config: str, data: Path, out: Path, settings: list[str]) -> Training:
    """Return what came of one training; it is made where it is not there.

    CPU seconds are kept beside the result, because they cannot be read from it; nan where it was made elsewhere
    or in two goes.
    """
    command = [sys.executable, "-m", "segpipe", "run", config, "--data", str(data), "-o", str(out)]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    done = subprocess.run([*command, "--pipeline", "train", *settings], check=False, stdout=sys.stderr)
    if done.returncode not in (0, 3):
        sys.exit(done.returncode)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    made = (out / "latest" / "model" / "model.json").resolve().parents[1]
    receipt, cost = made / "artifact.json", out / "cpu_seconds" / made.name
    summary = json.loads(receipt.read_text())["summary"]
    if not cost.exists():
        whole = receipt.stat().st_mtime > began and summary["resumed_at"] == 0
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        cost.parent.mkdir(exist_ok=True)
        cost.write_text(str(spent if whole else float("nan")))
    rows = [json.loads(line) for line in (made / "history.jsonl").read_text().splitlines()]
    looks = {row["step"]: row["validation_dice"] for row in rows if "validation_dice" in row}
    last = looks[max(looks)] if looks else math.nan  # train.fold=all holds no case out
    return Training(last, summary.get("best_dice", max(looks.values(), default=last)), float(cost.read_text()))


def row(name: str, trainings: list[Training], base: list[Training]) -> str:
    """Return a line of the table."""
    last, best = (np.array([getattr(one, figure) for one in trainings]) for figure in ("last", "best"))
    gain = last - [one.last for one in base[: len(trainings)]]
    several = len(trainings) > 1
    spread = f"{gain.std(ddof=1) / len(gain) ** 0.5:7.4f}" if several else "      -"
    each = " ".join(f"{value:.4f}" for value in last)
    cpu = np.mean([one.cpu_s for one in trainings])
    return f"{name:26} {last.mean():7.4f} {best.mean():7.4f} {gain.mean():+8.4f} {spread} {cpu:7.0f}   {each}"


HEAD = f"{'variant':26} {'last':>7} {'best':>7} {'gain':>8} {'SE':>7} {'CPU s':>7}   last of each seed"


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"of {', '.join(VARIANTS)}")
    parser.add_argument("--variant", nargs="+", action="append", default=[], metavar=("NAME", "key=value"))
    parser.add_argument("--set", nargs="+", default=[], metavar="key=value", dest="settings", help="for all variants")
    options = parser.parse_args()
    if unknown := set(options.only or ()) - set(VARIANTS):
        parser.error(f"there is no variant {', '.join(sorted(unknown))}")
    return options


def main() -> None:
    options = parsed()
    chosen = {name: VARIANTS[name] for name in VARIANTS if name in (options.only or VARIANTS)}
    chosen |= {name: settings for name, *settings in options.variant}
    done: dict[str, list[Training]] = {name: [] for name in chosen}
    # all variants with one seed before the next seed: a table that is stopped early still compares like with like
    for seed in options.seeds:
        for name, settings in chosen.items():
            whole = [f"train.fit.seed={seed}", *options.settings, *settings]
            done[name].append(train(options.config, options.data, options.out, whole))
        print(f"\n{HEAD}")
        for name, trainings in done.items():
            print(row(name, trainings, next(iter(done.values()))))
        print(f"load {os.getloadavg()[0]:.1f}", flush=True)


if __name__ == "__main__":
    main()
