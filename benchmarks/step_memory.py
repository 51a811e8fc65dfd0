"""Peak memory and time of training steps and of predictions, beside what segpipe says before: one child for each case.

A case trains three steps with ``learn.fit.fit`` itself: augmentation, loss, gradients, AdamW, running average;
or it predicts one image by tiles. The figures calibrate the constants of segpipe/nets/cost.py and of
segpipe/learn/forecast.py. Times mean something only on a machine that does nothing else.

    python benchmarks/step_memory.py [case ...]
"""

import json
import os
import subprocess
import sys
from typing import Any

from segpipe.nets.cost import prediction_bytes, training_bytes
from segpipe.nets.unet import UNetConfig, UNetSpec

MIB = 2**20
SWITCHES = {"GOMP_SPINCOUNT": "1000", "THP_MEM_ALLOC_ENABLE": "1", "MALLOC_MMAP_THRESHOLD_": str(4 * MIB)}


def halved(depth: int, rank: int = 3) -> dict[str, Any]:
    return {"strides": [[2] * rank] * depth, "kernels": [[3] * rank] * (depth + 1)}


THICK = {"strides": [[2, 2, 1], [2, 2, 1], [2, 2, 2]], "kernels": [[3, 3, 1], [3, 3, 1], [3, 3, 3], [3, 3, 3]]}
SMALL = {"patch": [40, 56, 40], "batch": 2, **halved(3)}
VALID = {"padding": "valid", "deep_supervision": False}

CASES: dict[str, dict[str, Any]] = {
    "tiny": {"patch": [16, 16, 16], "batch": 2, **halved(2), "model": {"features": 8}},
    "hippocampus, batch 2": SMALL,
    "hippocampus, batch 4": {**SMALL, "batch": 4},
    "hippocampus, fp32": {**SMALL, "batch": 4, "precision": "fp32"},
    "features 16": {**SMALL, "batch": 4, "model": {"features": 16}},
    "features 64": {**SMALL, "batch": 1, "model": {"features": 64}},
    "40 classes": {**SMALL, "classes": 40},
    "group, gelu": {**SMALL, "model": {"norm": "group", "activation": "gelu"}},
    "valid": {"patch": [68, 68, 68], "batch": 2, **halved(2), "model": VALID},
    "thick slices": {"patch": [96, 96, 16], "batch": 2, **THICK},
    "large": {"patch": [80, 80, 80], "batch": 2, **halved(4)},
    "2D": {"patch": [512, 512], "batch": 2, **halved(4, 2)},
    "2D, fp32": {"patch": [320, 320], "batch": 2, "precision": "fp32", **halved(4, 2)},
    "predict": {**SMALL, "image": [80, 80, 60]},
    "predict, large": {"patch": [80, 80, 80], "batch": 2, **halved(4), "image": [240, 160, 80], "classes": 10},
    "predict, 2D": {"patch": [512, 512], "batch": 2, **halved(4, 2), "image": [700, 700]},
}

COMMON = """
import contextlib, json, pathlib, resource, sys, tempfile, time
import mlflow, torch
import segpipe.stages  # what a run has loaded
from segpipe.nets.precision import laid_out
from segpipe.nets.unet import UNetSpec

case = json.loads(sys.argv[1])
spec = UNetSpec.model_validate(case["spec"])
patch, batch = case["patch"], case["batch"]
torch.set_num_threads(2)
network = laid_out(spec.build(), spec.encoder.rank, "cpu")
seconds = told = None
"""

TRAIN = """
from segpipe.core.stage import Workspace
from segpipe.learn.augment import AugmentConfig
from segpipe.learn.batches import Batch
from segpipe.learn.fit import FitConfig, Recipe, fit
from segpipe.learn.forecast import processor_speed, step_seconds
from segpipe.learn.losses import DiceCE
from segpipe.learn.optim import OptimConfig, update_flops
from segpipe.learn.task import Segmentation

target = torch.randint(0, spec.out_channels, (batch, 1, *patch), dtype=torch.uint8)
some = Batch(torch.randn(batch, spec.encoder.in_channels, *patch), target, None, ("a",) * batch)

class Same:
    batch = batch

    def __call__(self, step):
        return some

ends = []

@contextlib.contextmanager
def unseen(what, total):
    yield lambda count: ends.append(time.perf_counter())

recipe = Recipe(
    FitConfig(steps=3, precision=case["precision"]), OptimConfig(), AugmentConfig(spatial=1.0), (1.0,) * len(patch)
)
speed = processor_speed(bf16=case["precision"] == "bf16")
told = step_seconds(spec, tuple(patch), batch, speed, update_flops(network, OptimConfig(), "cpu"))
with tempfile.TemporaryDirectory() as folder:
    work = Workspace(pathlib.Path(folder), None, lambda figures, step: None, unseen)
    fit(Segmentation(network, DiceCE()), Same(), recipe, work, validate=None, name="unet")
seconds = min(after - before for before, after in zip(ends[1:], ends[2:]))
"""

PREDICT = """
import numpy as np
from segpipe.predict.window import WindowConfig, predict_scores

image = np.zeros((spec.encoder.in_channels, *case["image"]), np.float32)
window = WindowConfig(precision=case["precision"], overlap=0.0)
predict_scores(network.eval(), image, tuple(patch), window)
"""

LAST = """
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"peak": peak, "cpu_s": time.process_time(), "seconds": seconds, "told": told}))
"""


def spec_of(case: dict[str, Any]) -> UNetSpec:
    strides, kernels = (tuple(map(tuple, case[name])) for name in ("strides", "kernels"))
    return UNetConfig(**case.get("model", {})).spec(1, case.get("classes", 3), strides, kernels)


def measured(case: dict[str, Any], spec: UNetSpec) -> dict[str, Any]:
    """Return what a child reports: peak (bytes), CPU seconds, seconds of a step and the forecast of them."""
    told = {**case, "precision": case.get("precision", "bf16"), "spec": spec.model_dump(mode="json")}
    code = COMMON + (PREDICT if "image" in case else TRAIN) + LAST
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(told)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **SWITCHES},
    )
    if done.returncode:
        sys.exit(done.stderr)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def predicted(case: dict[str, Any], spec: UNetSpec) -> int:
    bf16 = case.get("precision", "bf16") == "bf16"
    patch = tuple(case["patch"])
    if "image" in case:
        return prediction_bytes(spec, patch, case["batch"], tuple(case["image"]), bf16=bf16)
    return training_bytes(spec, patch, case["batch"], bf16=bf16)


def main() -> None:
    print(f"{'case':22} {'peak MiB':>9} {'predicted':>10} {'ratio':>6} {'s/step':>8} {'forecast':>9} {'CPU s':>7}")
    for name in sys.argv[1:] or CASES:
        case = CASES[name]
        spec = spec_of(case)
        expected = predicted(case, spec)
        found = measured(case, spec)
        times = f"{found['seconds']:8.2f} {found['told']:9.2f}" if found["seconds"] else " " * 18
        print(
            f"{name:22} {found['peak'] / MIB:9.0f} {expected / MIB:10.0f} {expected / found['peak']:6.2f} {times} "
            f"{found['cpu_s']:7.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
