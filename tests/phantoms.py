"""Small scans of ellipsoids with known volumes, writers of every layout, and ways to run segpipe on them."""

import gzip
import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from numpy.typing import NDArray
from typer.testing import CliRunner

from segpipe.cli import app
from segpipe.core.parallel import SerialExecutor
from segpipe.core.stage import Artifact, Inputs, Stage, Workspace

SHAPE = (20, 22, 18)
NAMES = {"front": 1, "back": 2}
"""The structures of a scan, by value."""
CENTRES = {1: (-4.5, 0.0, 0.0), 2: (4.5, 1.0, 0.0)}
"""Their centres, in mm from the middle of the grid."""
RADII = {1: (3.5, 6.0, 5.0), 2: (3.0, 5.0, 6.0)}
QUIET = ("run.tracking.kind=none", "run.executor.kind=serial", "report.pdf=false")
"""Settings for a run in this very process."""


@dataclass(frozen=True, eq=False)
class Scan:
    """An image (C, X, Y, Z), its label map (X, Y, Z), their grid, and the true volume of each structure."""

    id: str
    image: NDArray[np.int16]
    label: NDArray[np.uint8]
    affine: NDArray[np.float64]
    volumes_mm3: Mapping[int, float]


def affine_of(
    shape: Sequence[int], spacing: Sequence[float] = (1, 1, 1), axes: str = "RAS", degrees: float = 0
) -> NDArray[np.float64]:
    """Return the affine of a grid about the world's origin, turned about the axis that points up."""
    turn = ornt_transform(axcodes2ornt(tuple(axes)), io_orientation(np.eye(4)))
    order = [int(axis) for axis in turn[:, 0]]
    world_shape, world_spacing = np.empty(3), np.empty(3)
    world_shape[order], world_spacing[order] = shape, spacing
    straight = np.diag([*world_spacing, 1.0])
    straight[:3, 3] = -world_spacing * (world_shape - 1) / 2
    back = ornt_transform(io_orientation(np.eye(4)), axcodes2ornt(tuple(axes)))
    affine = straight @ inv_ornt_aff(back, tuple(int(n) for n in world_shape))
    angle = math.radians(degrees)
    turned = np.eye(4)
    turned[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    return np.asarray(turned @ affine, np.float64)


def scan(
    name: str,
    seed: int = 0,
    *,
    shape: tuple[int, int, int] = SHAPE,
    spacing: tuple[float, float, float] = (1, 1, 1),
    axes: str = "RAS",
    channels: int = 1,
) -> Scan:
    """Return two ellipsoids side by side in noise; the world they lie in is the same on every grid."""
    random = np.random.default_rng(seed)
    affine = affine_of(shape, spacing, axes)
    points = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1) @ affine[:3, :3].T + affine[:3, 3]
    size = 1 + random.uniform(-0.1, 0.1)
    label = np.zeros(shape, np.uint8)
    volumes = {}
    for value, centre in CENTRES.items():
        radii = np.asarray(RADII[value]) * size
        label[(((points - centre) / radii) ** 2).sum(axis=-1) <= 1] = value
        volumes[value] = 4 / 3 * math.pi * float(np.prod(radii))
    contrast = np.asarray([[50, 120, 200], [80, 40, 160], [60, 90, 30]])[np.arange(channels) % 3]
    image = contrast[:, label] + random.normal(0, 8, (channels, *shape))
    return Scan(name, np.round(image).astype(np.int16), label, affine, volumes)


def scans(count: int, **form: Any) -> list[Scan]:
    """Return scans of different content, named ``case_1`` and so on."""
    return [scan(f"case_{number}", number, **form) for number in range(1, count + 1)]


def save(path: Path, array: NDArray[Any], affine: NDArray[np.float64]) -> Path:
    """Write (X, Y, Z) or (X, Y, Z, C) voxels with nibabel; the same voxels give the same bytes."""
    image = nib.Nifti1Image(array, affine, dtype=array.dtype)
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    data = image.to_bytes()
    path.write_bytes(gzip.compress(data, 1, mtime=0) if path.name.endswith(".gz") else data)
    return path


def load(path: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return the voxels and the affine of a file, as nibabel reads them."""
    image = nib.Nifti1Image.from_bytes(gzip.decompress(path.read_bytes()))
    return np.asarray(image.dataobj), np.asarray(image.affine)


def write_msd(root: Path, cases: Sequence[Scan], *, unlabelled: Sequence[Scan] = (), **more: Any) -> Path:
    """Write a Decathlon folder; several channels lie along a fourth axis. ``more`` is laid over dataset.json."""
    for folder, group in (("imagesTr", cases), ("imagesTs", unlabelled)):
        for case in group:
            image = case.image[0] if len(case.image) == 1 else np.moveaxis(case.image, 0, -1)
            save(root / folder / f"{case.id}.nii.gz", image, case.affine)
    for case in cases:
        save(root / "labelsTr" / f"{case.id}.nii.gz", case.label, case.affine)
    described = {
        "name": "phantoms",
        "modality": {str(index): f"MR{index}" for index in range(len(cases[0].image))},
        "labels": {"0": "background", **{str(value): name for name, value in NAMES.items()}},
        "training": [
            {"image": f"./imagesTr/{case.id}.nii.gz", "label": f"./labelsTr/{case.id}.nii.gz"} for case in cases
        ],
        "test": [f"./imagesTs/{case.id}.nii.gz" for case in unlabelled],
    }
    return _describe(root, described | more)


def write_nnunet(
    root: Path, cases: Sequence[Scan], *, version: int = 2, unlabelled: Sequence[Scan] = (), **more: Any
) -> Path:
    """Write an nnU-Net raw folder, a file a channel. ``more`` is laid over dataset.json."""
    for folder, group in (("imagesTr", cases), ("imagesTs", unlabelled)):
        for case in group:
            for index, channel in enumerate(case.image):
                save(root / folder / f"{case.id}_{index:04d}.nii.gz", channel, case.affine)
    for case in cases:
        save(root / "labelsTr" / f"{case.id}.nii.gz", case.label, case.affine)
    channels = {str(index): f"MR{index}" for index in range(len(cases[0].image))}
    if version == 1:
        listed = [{"image": f"./imagesTr/{case.id}.nii.gz", "label": f"./labelsTr/{case.id}.nii.gz"} for case in cases]
        values = {str(value): name for name, value in NAMES.items()}
        described = {"modality": channels, "labels": {"0": "background", **values}, "training": listed}
    else:
        described = {"channel_names": channels, "labels": {"background": 0, **NAMES}, "file_ending": ".nii.gz"}
    return _describe(root, {"name": "phantoms", "numTraining": len(cases)} | described | more)


def write_folder(root: Path, cases: Sequence[Scan]) -> Path:
    """Write ``images/`` and ``labels/``, matched by name."""
    for case in cases:
        for index, channel in enumerate(case.image):
            suffix = f"_{index:04d}" if len(case.image) > 1 else ""
            save(root / "images" / f"{case.id}{suffix}.nii.gz", channel, case.affine)
        save(root / "labels" / f"{case.id}.nii.gz", case.label, case.affine)
    return root


def write_csv(
    table: Path,
    cases: Sequence[Scan],
    *,
    separator: str = ",",
    encoding: str = "utf-8",
    columns: Mapping[str, Sequence[str]] | None = None,
) -> Path:
    """Write a table and the files it names; ``columns`` are further ones."""
    names = [f"image_MR{index}" for index in range(len(cases[0].image))] if len(cases[0].image) > 1 else ["image"]
    extra = columns or {}
    lines = [separator.join(["case", *names, "label", *extra])]
    for row, case in enumerate(cases):
        images = [f"scans/{case.id}_{name}.nii.gz" for name in names]
        for image, channel in zip(images, case.image, strict=True):
            save(table.parent / image, channel, case.affine)
        save(table.parent / f"maps/{case.id}.nii.gz", case.label, case.affine)
        more = [values[row] for values in extra.values()]
        lines.append(separator.join([case.id, *images, f"maps/{case.id}.nii.gz", *more]))
    table.write_text("\r\n".join(lines) + "\r\n", encoding=encoding)
    return table


def _describe(root: Path, described: Mapping[str, Any]) -> Path:
    (root / "dataset.json").write_text(json.dumps(described, indent=1))
    return root


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def aside(self) -> list[str]:
        """The lines that say which case was set aside, and why."""
        lines = [line.strip() for line in self.out.splitlines()]
        return [line.removeprefix("set aside: ") for line in lines if line.startswith("set aside: ")]


def segpipe(*arguments: object) -> Ran:
    """Run the command line in this process; an error that it does not explain is raised here."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    return Ran(done.exit_code, done.stdout, done.stderr)


def segpipe_apart(*arguments: object, timeout: float = 120) -> Ran:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "segpipe", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    return Ran(done.returncode, done.stdout, done.stderr)


def prepare(data: Path, out: Path, *settings: str) -> Ran:
    """Ingest and preprocess, in this process, untracked."""
    return segpipe("run", "default", "--data", data, "-o", out, "--pipeline", "prepare", *QUIET, *settings)


def made(out: Path, stage: str) -> Path:
    """Return the newest finished folder of a stage."""
    return max(out.glob(f"{stage}/*/artifact.json"), key=lambda path: path.stat().st_mtime_ns).parent


def summary(out: Path, stage: str) -> dict[str, Any]:
    """Return what the newest folder of a stage says of itself."""
    told: dict[str, Any] = json.loads((made(out, stage) / "artifact.json").read_text())["summary"]
    return told


def mean_dice(out: Path) -> dict[str, float]:
    """Return the mean Dice of each structure, as the latest summary of a run has it."""
    told = json.loads((out / "latest" / "summary.json").read_text())
    return {row["label"]: row["mean"] for row in told["scores"] if row["metric"] == "dice"}


def rows(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSON Lines file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def _no_log(metrics: Mapping[str, float], step: int) -> None:
    """Forget the figures."""


def _no_bar(what: str, total: int) -> AbstractContextManager[Any]:
    return nullcontext(lambda done: None)


def workspace(path: Path, *earlier: Path) -> Workspace:
    """Return a folder to work in, with one pair of hands and nobody who watches."""
    path.mkdir(parents=True, exist_ok=True)
    return Workspace(path, SerialExecutor(), _no_log, _no_bar, earlier=earlier)


def run_stage(stage: Stage[Any], settings: Mapping[str, Any], into: Path, **inputs: Path) -> Artifact:
    """Run one stage with plain settings, into a folder; ``inputs`` are folders of earlier stages."""
    given = {name: Artifact(name, name, path, {}) for name, path in inputs.items()}
    told = stage.run(stage.settings.model_validate(settings), Inputs(given), workspace(into))
    return Artifact(stage.name, into.name, into, told)
