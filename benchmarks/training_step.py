"""A training step of segpipe beside one of nnU-Net: the same network size, patch and batch, in turns.

Each run is a process of its own (one builds segpipe's step, one nnU-Net's own network, loss and optimiser,
fp32 as its trainer uses on a CPU), and the two alternate, so that a machine whose speed drifts gives a fair
ratio. nnU-Net is installed into an environment of its own, made at the first call.

    python benchmarks/training_step.py --env FOLDER [--pairs 5] [--steps 3] [--threads 2]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import venv
from pathlib import Path

import torch

NNUNET = ("nnunetv2", "dynamic-network-architectures", "batchgenerators", "batchgeneratorsv2", "acvl-utils")
BESIDE = ("scikit-image", "scipy", "pandas", "timm", "einops")

COMMON = """
import json, resource, sys, time, torch
patch, batch, steps, threads = (40, 56, 40), 2, int(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(threads)
torch.manual_seed(0)
image = torch.randn(batch, 1, *patch)
target = torch.randint(0, 3, (batch, 1, *patch))
def timed(step):
    step()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        step()
    count = steps * batch
    print(json.dumps({
        "wall_s": (time.perf_counter() - wall) / count,
        "cpu_s": (time.process_time() - cpu) / count,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }))
"""

OURS = """
from segpipe.learn.batches import Batch
from segpipe.learn.losses import DiceCE
from segpipe.learn.optim import OptimConfig, make_optimizer
from segpipe.learn.task import Segmentation
from segpipe.nets.precision import computing, laid_out
from segpipe.nets.unet import UNetConfig
spec = UNetConfig().spec(1, 3, ((2, 2, 2),) * 3, ((3, 3, 3),) * 4)
task = Segmentation(laid_out(spec.build(), 3, "cpu"), DiceCE()).train()
optimizer = make_optimizer(task, OptimConfig())
some = Batch(image, target.to(torch.uint8), None, ("a", "b"))
def step():
    with computing("auto", "cpu"):
        losses = task(some)
    optimizer.zero_grad(set_to_none=True)
    sum(losses.values()).backward()
    torch.nn.utils.clip_grad_norm_(task.parameters(), 12)
    optimizer.step()
timed(step)
"""

THEIRS = """
import numpy as np
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
net = PlainConvUNet(1, 4, (32, 64, 128, 256), torch.nn.Conv3d, 3, (1, 2, 2, 2), 2, 3, 2, conv_bias=True,
    norm_op=torch.nn.InstanceNorm3d, norm_op_kwargs={"eps": 1e-5, "affine": True},
    nonlin=torch.nn.LeakyReLU, nonlin_kwargs={"inplace": True}, deep_supervision=True).train()
loss = DC_and_CE_loss({"batch_dice": False, "smooth": 1e-5, "do_bg": False, "ddp": False}, {},
    weight_ce=1, weight_dice=1, ignore_label=None, dice_class=MemoryEfficientSoftDiceLoss)
weights = np.array([1, 0.5, 0])  # nnU-Net leaves its coarsest head out
loss = DeepSupervisionWrapper(loss, weights / weights.sum())
optimizer = torch.optim.SGD(net.parameters(), 1e-2, weight_decay=3e-5, momentum=0.99, nesterov=True)
targets = [target.float()[:, :, ::2**k, ::2**k, ::2**k] for k in range(3)]
def step():
    optimizer.zero_grad(set_to_none=True)
    loss(net(image), targets).backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 12)
    optimizer.step()
timed(step)
"""


def make_environment(folder: Path) -> Path:
    """Return the interpreter of nnU-Net's environment; makes it where it is not there."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "-q"]
        subprocess.run([*pip, f"torch=={torch.__version__.split('+')[0]}", "numpy"], check=True)
        # without what they need: their list holds torchvision, which nothing here imports
        subprocess.run([*pip, "--no-deps", *NNUNET, *BESIDE], check=True)
    return python


def run(python: str | Path, code: str, options: argparse.Namespace) -> dict[str, float]:
    """Return the figures that one process prints."""
    command = [str(python), "-c", COMMON + code, str(options.steps), str(options.threads)]
    environment = {**os.environ, "GOMP_SPINCOUNT": "1000", "THP_MEM_ALLOC_ENABLE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(done.stderr)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", type=Path, required=True, help="folder of nnU-Net's environment")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    python = make_environment(options.env)
    pairs = []
    for _ in range(options.pairs):
        pairs.append((run(sys.executable, OURS, options), run(python, THEIRS, options)))
        print(json.dumps(pairs[-1]), flush=True)
    for figure in ("wall_s", "cpu_s", "peak_gib"):
        ours = [one[figure] for one, _ in pairs]
        theirs = [other[figure] for _, other in pairs]
        ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
        print(
            f"{figure:8} a patch: segpipe {statistics.median(ours):.3f}, nnU-Net {statistics.median(theirs):.3f}; "
            f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); "
            f"load {os.getloadavg()[0]:.1f}"
        )


if __name__ == "__main__":
    main()
