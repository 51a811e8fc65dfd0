"""Which number format is faster on this processor: a training step in bf16 beside fp32, and Muon's two ways.

One process, in turns, so that a machine whose speed drifts gives fair ratios: medians, and the spread over rounds.

    python benchmarks/number_format.py [--rounds 7] [--threads 2]
"""

import argparse
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from segpipe.learn import muon
from segpipe.learn.batches import Batch
from segpipe.learn.losses import DiceCE
from segpipe.learn.task import Segmentation
from segpipe.nets.precision import computing, fast_bf16, laid_out
from segpipe.nets.unet import UNetConfig

PATCH, BATCH = (40, 56, 40), 2
SHAPES = ((320, 8640), (1024, 9216), (512, 4608), (1024, 2048))
"""Kernels as matrices: 3x3x3 of 320 channels, 3x3 of 1024 and of 512, and 2x2 of 1024 to 512."""


def training_step(precision: str) -> Callable[[], object]:
    """Return forward and backward pass of the default network of the hippocampus, from the same weights."""
    torch.manual_seed(0)
    task = Segmentation(
        laid_out(UNetConfig().spec(1, 3, ((2, 2, 2),) * 3, ((3, 3, 3),) * 4).build(), 3, "cpu"), DiceCE()
    )
    image, target = torch.randn(BATCH, 1, *PATCH), torch.randint(0, 3, (BATCH, 1, *PATCH)).to(torch.uint8)
    batch = Batch(image, target, None, ("a", "b"))

    def step() -> None:
        with computing(precision, "cpu"):
            losses = task(batch)
        sum(losses.values()).backward()
        task.zero_grad(set_to_none=True)

    return step


def in_turns(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """Return the seconds of each way, in rounds of one call each; the first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - begun)
    return {name: np.array(each[1:]) for name, each in seconds.items()}


def line(what: str, found: Mapping[str, np.ndarray]) -> str:
    """Return times in ms, and how many times as long as the last way each other takes."""
    last = list(found)[-1]
    parts = []
    for name, seconds in found.items():
        ratio = seconds / found[last]
        spread = "" if name == last else f" ({np.median(ratio):.2f}x, {ratio.min():.2f} to {ratio.max():.2f})"
        parts.append(f"{name} {1000 * np.median(seconds):.1f} ms{spread}")
    return f"{what}: {', '.join(parts)}"


def ways_of(matrix: Tensor) -> dict[str, Callable[[], object]]:
    return {
        "in bf16": lambda: muon.iterated(matrix.bfloat16()),
        "in fp32": lambda: muon.iterated(matrix),
        "by its Gram matrix": lambda: muon.by_gram(matrix),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(torch.cpu.get_capabilities().get("cpu_name", "a processor without a name"), f"{options.threads} threads")
    print(f"auto is {'bf16' if fast_bf16('cpu') else 'fp32'}")
    steps = {name: training_step(name) for name in ("bf16", "fp32")}
    print(line(f"forward and backward pass, {BATCH} patches of {PATCH}", in_turns(steps, options.rounds)), flush=True)
    for shape in SHAPES:
        matrix = torch.randn(shape)
        print(line(f"update of {shape}", in_turns(ways_of(matrix / matrix.norm()), options.rounds)), flush=True)


if __name__ == "__main__":
    main()
