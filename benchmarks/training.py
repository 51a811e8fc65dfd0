"""segpipe and nnU-Net trained side by side: Dice against CPU seconds, seconds a patch, peak memory.

Both train on the same cases (fold 0 of segpipe's split), with the same patch and batch, and segment the same
untouched test cases, which one and the same code scores. Each budget is a training of its own from fresh weights
with its own schedule, and the two alternate, so that a machine whose speed drifts treats them alike. Counted is the
training alone: not preparing, not segmenting. nnU-Net trains with its own trainer, fp32 as it does on a CPU, and
segments as it does by default (mirroring on); it is installed into an environment of its own at the first call.

    python benchmarks/training.py --data FOLDER --env FOLDER -o OUT [--ours 100 200 400] [--theirs 50 100] \
        [--set key=value …]
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

import numpy as np
import torch
from training_step import NNUNET

from segpipe.core.store import Store
from segpipe.dataset.manifest import Dataset
from segpipe.score.case import MetricsConfig
from segpipe.score.table import read_scores
from segpipe.stages.evaluate import ScoreJob, score_files

CONFIG = "configs/hippocampus.yaml"
DATASET = "Dataset001_Bench"
BESIDE = (
    *("scikit-image", "scipy", "pandas", "einops", "tqdm", "scikit-learn", "SimpleITK", "graphviz", "tifffile"),
    *("requests", "nibabel", "matplotlib", "seaborn", "imagecodecs", "yacs", "blosc2", "connected-components-3d"),
    *("dicom2nifti", "lazy_loader", "imageio", "networkx", "threadpoolctl"),
)

PREPARE = """
import json, os, sys
from pathlib import Path
from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess
patch, batch, folds = json.loads(sys.argv[1])
if __name__ == "__main__":
    extract_fingerprints([1], num_processes=2)
    name = plan_experiments([1])
    there = Path(os.environ["nnUNet_preprocessed"]) / "Dataset001_Bench"
    plans = json.loads((there / f"{name}.json").read_text())
    plans["configurations"]["3d_fullres"] |= {"patch_size": patch, "batch_size": batch}
    (there / f"{name}.json").write_text(json.dumps(plans))
    (there / "splits_final.json").write_text(json.dumps(folds))
    preprocess([1], name, configurations=["3d_fullres"], num_processes=[2])
"""

TRAIN = """
import json, os, resource, sys, time, torch
from pathlib import Path
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
steps, out, scans, threads = json.loads(sys.argv[1])
EPOCHS = 10  # its learning rate falls once an epoch

def seconds():
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in both)

if __name__ == "__main__":
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    there = Path(os.environ["nnUNet_preprocessed"]) / "Dataset001_Bench"
    plans = json.loads((there / "nnUNetPlans.json").read_text())
    dataset = json.loads((there / "dataset.json").read_text())
    trainer = nnUNetTrainer(plans, "3d_fullres", 0, dataset, device=torch.device("cpu"))
    trainer.num_epochs, trainer.num_iterations_per_epoch = EPOCHS, max(steps // EPOCHS, 1)
    trainer.num_val_iterations_per_epoch, trainer.save_every = 1, 10 ** 6
    trainer.disable_checkpointing = True
    began = time.perf_counter()
    trainer.run_training()
    wall = time.perf_counter() - began
    print(json.dumps({"wall_s": wall, "cpu_s": seconds(),
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "patches": EPOCHS * trainer.num_iterations_per_epoch * trainer.batch_size}), flush=True)
    trainer.set_deep_supervision_enabled(False)
    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
    predictor.manual_initialization(trainer.network, trainer.plans_manager, trainer.configuration_manager,
        [trainer.network.state_dict()], dataset, "nnUNetTrainer", trainer.inference_allowed_mirroring_axes)
    predictor.predict_from_files_sequential([[s] for s in scans.values()],
        [f"{out}/{name}.nii.gz" for name in scans], save_probabilities=False, overwrite=True)
"""


def make_environment(folder: Path) -> Path:
    """Return the interpreter of nnU-Net's environment; makes it where it is not there."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    have = subprocess.run([str(python), "-c", "import nnunetv2, blosc2, lazy_loader"], capture_output=True, check=False)
    if have.returncode:
        pip = [str(python), "-m", "pip", "install", "-q"]
        subprocess.run([*pip, f"torch=={torch.__version__.split('+')[0]}", "numpy"], check=True)
        # without what they need: their list holds torchvision, which nothing used here imports
        subprocess.run([*pip, "--no-deps", *NNUNET, "timm"], check=True)
        subprocess.run([*pip, *BESIDE], check=True)
    return python


class Theirs:
    """nnU-Net in a folder of its own."""

    def __init__(self, python: Path, folder: Path, dataset: Dataset, plan: dict[str, object], threads: int) -> None:
        self.python, self.folder, self.dataset, self.threads = python, folder, dataset, threads
        names = {"raw": "nnUNet_raw", "preprocessed": "nnUNet_preprocessed", "results": "nnUNet_results"}
        self.environment = {
            **os.environ,
            **{name: str(folder / name) for name in names.values()},
            "nnUNet_n_proc_DA": "1",
            "nnUNet_compile": "f",
            "GOMP_SPINCOUNT": "1000",
            "THP_MEM_ALLOC_ENABLE": "1",
        }
        if not (folder / "ready").exists():
            self._prepare(plan)
            (folder / "ready").touch()

    def _prepare(self, plan: dict[str, object]) -> None:
        raw = self.folder / "nnUNet_raw" / DATASET
        shutil.rmtree(raw, ignore_errors=True)
        training, validation = self.dataset.fold(0)
        for case in (*training, *validation):
            files = self.dataset.files(case)
            assert files.label is not None
            pairs = [(f"imagesTr/{case.id}_{index:04}.nii.gz", path) for index, path in enumerate(files.images)]
            for name, path in [*pairs, (f"labelsTr/{case.id}.nii.gz", files.label)]:
                (raw / name).parent.mkdir(parents=True, exist_ok=True)
                (raw / name).symlink_to(path.resolve())
        header = self.dataset.header
        described = {
            "channel_names": {str(index): channel.name for index, channel in enumerate(header.channels)},
            "labels": {"background": 0} | {s.name: s.values[0] for s in header.labels.structures},
            "numTraining": len(training) + len(validation),
            "file_ending": ".nii.gz",
        }
        (raw / "dataset.json").write_text(json.dumps(described))
        folds = [{"train": [case.id for case in training], "val": [case.id for case in validation]}]
        self._run(PREPARE, [plan["patch"], plan["batch"], folds])

    def train(self, steps: int) -> dict[str, float]:
        """Train, segment the test cases, score them."""
        out = self.folder / f"predictions-{steps}"
        out.mkdir(exist_ok=True)
        test = self.dataset.part("test")
        scans = {case.id: str(self.dataset.files(case).images[0]) for case in test}
        lines = self._run(TRAIN, [steps, str(out), scans, self.threads]).splitlines()
        figures: dict[str, float] = json.loads(next(line for line in lines if line.startswith('{"wall_s"')))
        labels, scores = self.dataset.header.labels, []
        for case in test:
            truth = self.dataset.files(case).label
            assert truth is not None
            found = score_files(ScoreJob(out / f"{case.id}.nii.gz", truth, labels, MetricsConfig()))
            assert not isinstance(found, str), found
            scores.append(np.nanmean([found[name, "dice"] for name in labels.names]))
        return {**figures, "dice": float(np.mean(scores))}

    def _run(self, code: str, what: object) -> str:
        script = self.folder / "script.py"
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(code)
        command = [str(self.python), str(script), json.dumps(what)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=self.environment)
        if done.returncode:
            sys.exit(done.stdout[-2000:] + done.stderr[-4000:])
        return done.stdout


def ours(data: Path, out: Path, steps: int, settings: list[str], batch: int) -> dict[str, float]:
    """Train with segpipe, then segment and score."""
    command = [sys.executable, "-m", "segpipe", "run", CONFIG, *settings, f"train.fit.steps={steps}"]
    command += ["--data", str(data), "-o", str(out)]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([*command, "--pipeline", "train"], check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    scores: dict[str, list[float]] = {}
    for row in read_scores(out / "latest" / "scores.csv"):
        if row.metric == "dice":
            scores.setdefault(row.case, []).append(float(row.value))
    return {
        "wall_s": wall,
        "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "peak_gib": after.ru_maxrss / 2**20,
        "patches": steps * batch,
        "dice": float(np.mean([np.nanmean(values) for values in scores.values()])),
    }


def plot(rows: list[dict[str, float | str]], path: Path) -> None:
    """Draw Dice against CPU seconds: a dot a training, a line through the means."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - comes with mlflow; only this picture needs it

    figure = Figure((6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for name in ("segpipe", "nnU-Net"):
        mine = [row for row in rows if row["who"] == name]
        if not mine:
            continue
        groups = [[row for row in mine if row["steps"] == steps] for steps in sorted({row["steps"] for row in mine})]
        mean = [[np.mean([float(row[key]) for row in group]) for group in groups] for key in ("cpu_s", "dice")]
        (drawn,) = axes.plot(*mean, "-", label=name)
        axes.plot(*([float(row[key]) for row in mine] for key in ("cpu_s", "dice")), "o", color=drawn.get_color())
    axes.set(xscale="log", xlabel="CPU seconds of training", ylabel="mean Dice, test cases")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", dest="settings", nargs="+", default=[], help="segpipe's settings")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--env", type=Path, required=True, help="folder of nnU-Net's environment")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--ours", type=int, nargs="+", default=[100, 200, 400, 800])
    parser.add_argument("--theirs", type=int, nargs="+", default=[50, 100, 200])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="segpipe's; nnU-Net is trained once")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    out = options.out.resolve()
    command = [sys.executable, "-m", "segpipe", "run", CONFIG, *options.settings, "--data", str(options.data)]
    subprocess.run([*command, "-o", str(out / "segpipe"), "--pipeline", "prepare"], check=True)
    store = out / "segpipe"
    newest = {stage: next(Store(store).all(stage)).path for stage in ("ingest", "preprocess")}
    dataset = Dataset.open(newest["ingest"], options.data.resolve())
    plan = json.loads((newest["preprocess"] / "plan.json").read_text())
    theirs = Theirs(make_environment(options.env), out / "nnunet", dataset, plan, options.threads)
    rows: list[dict[str, float | str]] = []
    for index in range(max(len(options.ours), len(options.theirs))):
        for seed in options.seeds if index < len(options.ours) else ():
            steps = options.ours[index]
            settings = [*options.settings, f"train.fit.seed={seed}"]
            figures = ours(options.data, store, steps, settings, plan["batch"])
            rows.append({"who": "segpipe", "steps": steps, "seed": seed} | figures)
            print(json.dumps(rows[-1]), flush=True)
        if index < len(options.theirs):
            rows.append({"who": "nnU-Net", "steps": options.theirs[index]} | theirs.train(options.theirs[index]))
            print(json.dumps(rows[-1]), flush=True)
    (out / "training.json").write_text(json.dumps(rows, indent=1))
    plot(rows, out / "dice_over_cpu_seconds.png")
    for row in rows:
        per_patch = {key: float(row[key]) / float(row["patches"]) for key in ("wall_s", "cpu_s")}
        print(
            f"{row['who']:8} {row['steps']:5} steps  Dice {row['dice']:.4f}  {row['cpu_s']:6.0f} CPU s  "
            f"{per_patch['wall_s']:.3f} s and {per_patch['cpu_s']:.3f} CPU s a patch  {row['peak_gib']:.2f} GiB"
        )
    print(f"{out / 'dice_over_cpu_seconds.png'}; load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
