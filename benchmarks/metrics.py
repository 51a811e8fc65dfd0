"""All metrics of five structures in 512 x 512 x 200 voxels: segpipe beside MONAI and DeepMind's surface-distance.

Each pair is measured in one process, one after the other, so that a machine whose speed drifts gives a fair ratio.
"The same numbers" are those that both give: of MONAI Dice, IoU, sensitivity, precision, HD95, HD100, ASSD and NSD at
two tolerances; of surface-distance Dice and NSD at two tolerances. segpipe is timed for all its metrics, which are
more. That the shared numbers agree is checked before any ratio is printed.

surface-distance 0.1 is installed into a folder of its own at the first call; nothing else changes.

    python benchmarks/metrics.py --env FOLDER [--pairs 3] [--shape 512 512 200] [--json FILE]
"""

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from segpipe.score.case import MetricsConfig, score_case

Labels = NDArray[np.uint8]
Numbers = dict[str, list[float]]
SPACING = (0.8, 0.8, 1.5)
TOLERANCES = (1.0, 2.0)
ORGANS = (
    ((0.37, 0.45, 0.65), (0.186, 0.156, 0.225)),
    ((0.68, 0.51, 0.65), (0.078, 0.098, 0.15)),
    ((0.35, 0.64, 0.4), (0.062, 0.074, 0.18)),
    ((0.66, 0.64, 0.4), (0.062, 0.074, 0.18)),
    ((0.5, 0.49, 0.2), (0.098, 0.07, 0.1)),
)
"""Centre and radii of each structure, as shares of the image: about liver, spleen, two kidneys, bladder."""
STRUCTURES = {f"structure {number}": (number,) for number in range(1, len(ORGANS) + 1)}
FLOAT32 = 5e-5
"""MONAI takes percentiles between float32 numbers of a hundred thousand: the place between two is rounded too."""


def maps(shape: Sequence[int], seed: int = 0) -> tuple[Labels, Labels]:
    """Return prediction and reference: lumpy organs, and the same with other lumps."""
    random = np.random.default_rng(seed)
    grid = np.meshgrid(*[np.arange(n, dtype=np.float32) / n for n in shape], indexing="ij", sparse=True)

    def lumps() -> NDArray[np.float32]:
        coarse = gaussian_filter(random.standard_normal((32, 32, 26)), 1.5)
        fine = zoom((coarse / coarse.std()).astype(np.float32), np.array(shape) / coarse.shape, order=1)
        return np.asarray(fine, np.float32)

    shared = 0.12 * lumps()
    other = shared + 0.05 * lumps()
    truth, prediction = np.zeros((2, *shape), np.uint8)
    for number, (centre, radii) in enumerate(ORGANS, start=1):
        far = np.sqrt(sum(((axis - c) / r) ** 2 for axis, c, r in zip(grid, centre, radii, strict=True)))
        truth[far < 1 + shared] = number
        prediction[far < 1 + other] = number
    return prediction, truth


def ours(prediction: Labels, truth: Labels) -> Numbers:
    """Return every metric of every structure."""
    scores = score_case(prediction, truth, SPACING, STRUCTURES, MetricsConfig(nsd_tolerances_mm=TOLERANCES))
    return {metric: [scores[name, metric] for name in STRUCTURES] for _, metric in scores}


def of_monai(prediction: Labels, truth: Labels) -> Numbers:
    """Return what MONAI measures of the same, one-hot as it wants its input."""
    torch, metrics = importlib.import_module("torch"), importlib.import_module("monai.metrics")
    numbers = range(len(ORGANS) + 1)
    channels = [
        torch.as_tensor(np.stack([labels == number for number in numbers]))[None] for labels in (prediction, truth)
    ]
    told: dict[str, Any] = {"include_background": False, "spacing": list(SPACING)}
    found = {
        "hd95_mm": metrics.compute_hausdorff_distance(*channels, percentile=95, **told),
        "hd100_mm": metrics.compute_hausdorff_distance(*channels, **told),
        "assd_mm": metrics.compute_average_surface_distance(*channels, symmetric=True, **told),
        "dice": metrics.compute_dice(*channels, include_background=False),
        "iou": metrics.compute_iou(*channels, include_background=False),
    }
    for limit in TOLERANCES:
        found[f"nsd_{limit:g}mm"] = metrics.compute_surface_dice(
            *channels, class_thresholds=[limit] * len(ORGANS), use_subvoxels=True, **told
        )
    confusion = metrics.get_confusion_matrix(*[part.float() for part in channels], include_background=False)
    for name in ("sensitivity", "precision"):
        found[name] = metrics.compute_confusion_matrix_metric(name, confusion)
    return {name: [float(value) for value in values[0]] for name, values in found.items()}


def of_deepmind(prediction: Labels, truth: Labels) -> Numbers:
    """Return what surface-distance measures of the same; its HD95 and ASSD are others, of surfels."""
    library = importlib.import_module("surface_distance")
    found: Numbers = {name: [] for name in ("dice", "nsd_1mm", "nsd_2mm")}
    for number in range(1, len(ORGANS) + 1):
        wanted, given = truth == number, prediction == number
        distances = library.compute_surface_distances(wanted, given, SPACING)
        found["dice"].append(library.compute_dice_coefficient(wanted, given))
        for limit in TOLERANCES:
            found[f"nsd_{limit:g}mm"].append(library.compute_surface_dice_at_tolerance(distances, limit))
    return found


LIBRARIES: Mapping[str, Callable[[Labels, Labels], Numbers]] = {"MONAI": of_monai, "surface-distance": of_deepmind}


def timed(
    measure: Callable[[Labels, Labels], Numbers], pair: tuple[Labels, Labels]
) -> tuple[Numbers, dict[str, float]]:
    """Return the numbers, and the seconds they took by the wall and by the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    numbers = measure(*pair)
    return numbers, {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - processor}


def one_pair(library: str, shape: Sequence[int], first: str) -> dict[str, Any]:
    """Time segpipe and a library once each, in this process, and compare what they say."""
    warnings.simplefilter("ignore")
    small = maps((64, 64, 40))
    for measure in (ours, LIBRARIES[library]):
        measure(*small)  # what is loaded or built once is nobody's cost
    pair = maps(shape)
    both = {"segpipe": ours, library: LIBRARIES[library]}
    order = sorted(both, key=lambda name: name != first)
    found = {name: timed(both[name], pair) for name in order}
    apart = 0.0
    for metric, values in found[library][0].items():
        mine = found["segpipe"][0][metric]
        apart = max(apart, *(abs(a - b) / max(1.0, abs(b)) for a, b in zip(mine, values, strict=True)))
    return {name: seconds for name, (_, seconds) in found.items()} | {
        "apart": apart,
        "shared": len(found[library][0]),
        "all": len(found["segpipe"][0]),
    }


def beside(library: str, arguments: argparse.Namespace, environment: Mapping[str, str]) -> dict[str, Any]:
    """Run the pairs, each in a process of its own, and return medians."""
    pairs = []
    for number in range(arguments.pairs):
        first = ("segpipe", library)[number % 2]
        command = [sys.executable, __file__, "--env", str(arguments.env), "--one", library, "--first", first]
        command += ["--shape", *map(str, arguments.shape)]
        done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{library}: {done.stderr.strip().splitlines()[-1]}")
        pairs.append(json.loads(done.stdout.splitlines()[-1]))
        if not pairs[-1]["apart"] <= FLOAT32:
            sys.exit(
                f"{library} and segpipe differ by {pairs[-1]['apart']:.2g}: there is no ratio of different numbers."
            )
        print(f"  {library}, pair {number + 1}: {pairs[-1]}", flush=True)
    ratios = {kind: [pair[library][kind] / pair["segpipe"][kind] for pair in pairs] for kind in ("cpu_s", "wall_s")}
    middle = {
        name: {kind: statistics.median(pair[name][kind] for pair in pairs) for kind in ("cpu_s", "wall_s")}
        for name in ("segpipe", library)
    }
    return {
        "library": library,
        "ratio": {
            kind: {"median": statistics.median(r), "least": min(r), "most": max(r)} for kind, r in ratios.items()
        },
        "seconds": middle,
        "apart": max(pair["apart"] for pair in pairs),
    }


def install(folder: Path) -> None:
    """Put surface-distance 0.1 into a folder, alone: its dependencies are here."""
    if not (folder / "surface_distance").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
        subprocess.run([*command, "surface-distance==0.1"], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", type=Path, required=True, help="folder for surface-distance")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 200))
    parser.add_argument("--libraries", nargs="+", default=list(LIBRARIES), choices=list(LIBRARIES))
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--one", choices=list(LIBRARIES), help=argparse.SUPPRESS)
    parser.add_argument("--first", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one_pair(arguments.one, arguments.shape, arguments.first)))
        return
    install(arguments.env)
    paths = [str(arguments.env), str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    results = [beside(library, arguments, environment) for library in arguments.libraries]
    for result in results:
        for kind, ratio in result["ratio"].items():
            own, other = (result["seconds"][name][kind] for name in ("segpipe", result["library"]))
            print(
                f"{result['library']:<17} {kind:<7} {other:7.2f} s, segpipe {own:6.2f} s: "
                f"{ratio['median']:.1f} times as fast ({ratio['least']:.1f} to {ratio['most']:.1f}), "
                f"numbers within {result['apart']:.0e}"
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
