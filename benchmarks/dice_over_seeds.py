"""Held-out Dice over several seeds, with an interval, and what each run cost.

Runs the pipeline once for each seed on one fixed test split, then prints Dice of each structure as mean and
standard deviation over seeds, a bootstrap interval over subjects (scores averaged over seeds first), and wall
and CPU seconds.

    python benchmarks/dice_over_seeds.py configs/hippocampus.yaml --data FOLDER -o OUT --seeds 0 1 2 [--set key=value …]
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from segpipe.score.interval import mean_interval
from segpipe.score.table import read_scores


def run(config: str, data: Path, out: Path, seed: int, settings: list[str]) -> tuple[float, float]:
    """Run one seed; return wall and CPU seconds."""
    command = [sys.executable, "-m", "segpipe", "run", config, "--data", str(data), "-o", str(out)]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run([*command, f"train.fit.seed={seed}", *settings], check=False)
    if done.returncode not in (0, 3):
        sys.exit(done.returncode)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - began, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--set", dest="settings", nargs="+", default=[], help="settings laid over the config")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()

    dice: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    costs = []
    for seed in options.seeds:
        costs.append(run(options.config, options.data, options.out, seed, options.settings))
        for row in read_scores(options.out / "latest" / "scores.csv"):
            if row.metric == "dice":
                dice[row.label][row.case].append(float(row.value))
    per_case = [np.array(list(cases.values())) for cases in dice.values()]
    dice_of_all = np.nanmean(np.stack(per_case), axis=0)
    result = {name: described(np.array(list(cases.values()))) for name, cases in dice.items()}
    result["mean"] = described(dice_of_all)
    result["seeds"] = options.seeds
    result["wall_s"] = [round(wall) for wall, _ in costs]
    result["cpu_s"] = [round(cpu) for _, cpu in costs]
    result["load_at_end"] = os.getloadavg()[0]
    print(json.dumps(result, indent=1))


def described(scores: np.ndarray) -> dict[str, object]:
    """Return the figures of Dice (cases, seeds)."""
    by_seed = np.nanmean(scores, axis=0)
    of_case = np.nanmean(scores, axis=1)
    low, high = mean_interval(of_case, np.ones_like(of_case))
    return {
        "dice": round(float(by_seed.mean()), 4),
        "sd_over_seeds": round(float(by_seed.std(ddof=1)), 4) if len(by_seed) > 1 else None,
        "interval_95_over_cases": [round(float(low), 4), round(float(high), 4)],
        "each_seed": [round(float(value), 4) for value in by_seed],
        "cases": len(scores),
    }


if __name__ == "__main__":
    main()
