"""One image to network input, the same way for training and for deployment; and its target maps."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.atomic import write_array, write_json
from segpipe.core.fingerprint import fingerprint
from segpipe.dataset.load import load_image, load_labels
from segpipe.dataset.manifest import Case, CaseFiles
from segpipe.dataset.plan import Plan
from segpipe.imaging.geometry import Geometry
from segpipe.imaging.masks import Box, box_of, inside_of
from segpipe.imaging.resample import resample_image, resample_labels
from segpipe.imaging.targets import IGNORED
from segpipe.imaging.volume import Volume
from segpipe.imaging.weights import Weight

VERSION = 1
"""Raise it when the same plan comes to mean other arrays."""
POINTS = 2000
"""Voxels of each class that are remembered, for sampling patches."""
CASE = "case.json"


def prepare_image(image: Volume, plan: Plan) -> Volume:
    """Return (C, *S) float16 network input: cropped, reoriented to RAS, resampled, normalised.

    Args:
        image: (C, *S) as read from its files.
        plan: Spacing and normalisation.
    """
    inside = inside_of(image.array)
    box = box_of(inside) or Box((0,) * inside.ndim, inside.shape)
    cropped = Volume(image.array, image.geometry).cropped(*box).canonical()
    mask = Volume(inside[None], image.geometry).cropped(*box).canonical().array[0]
    # before resampling: the statistics are those of the voxels that were measured
    channels = [
        normalise(np.asarray(channel, np.float32), mask)
        for normalise, channel in zip(plan.normalise, cropped.array, strict=True)
    ]
    normalised = Volume(np.stack(channels), cropped.geometry)
    resampled = resample_image(normalised, cropped.geometry.respaced(plan.spacing))
    return Volume(resampled.array.astype(np.float16), resampled.geometry)


@dataclass(frozen=True)
class PrepareJob:
    """One case to prepare."""

    files: CaseFiles
    key: str
    plan: Plan
    weight: Weight | None
    into: Path


def key_of(case: Case, plan: Plan, weight: Weight | None) -> str:
    """Return a name for what preparing this case gives: content of its files and what is done to them."""
    return fingerprint(
        {
            "version": VERSION,
            "images": [image.sha256 for image in case.images],
            "label": case.label.sha256 if case.label else None,
            "page": case.page,
            "reading": plan.reading.deciding(),
            "spacing": plan.spacing,
            "normalise": [normalise.deciding() for normalise in plan.normalise],
            "target": plan.target.deciding(),
            "labels": plan.labels.deciding(),
            "weight": weight.deciding() if weight else None,
        }
    )


def prepare_case(job: PrepareJob) -> str:
    """Write image, target, weight and sampling points of one case; ``case.json`` comes last. Returns the id."""
    folder = job.into / "cases" / job.files.id
    image = prepare_image(load_image(job.files), job.plan)
    write_array(folder / "image.npy", image.array)
    if job.files.label is not None:
        _write_target(load_labels(job.files), image.geometry, job, folder)
    write_json(folder / CASE, {"key": job.key, **image.geometry.to_json()})
    return job.files.id


def _write_target(label: Volume, onto: Geometry, job: PrepareJob, folder: Path) -> None:
    values = Volume(label.array.astype(np.int32), label.geometry)
    labels = resample_labels(values, onto).array
    write_array(folder / "labels.npy", labels.astype(np.uint16))
    write_array(folder / "target.npy", job.plan.target.encode(labels, job.plan.labels, onto.spacing))
    write_array(folder / "points.npy", _points(job.plan.labels.indices(labels, IGNORED)[0]))
    if job.weight is not None:
        annotated = np.where(labels == job.plan.labels.ignore, 0, labels)  # what nobody annotated is no object
        write_array(folder / "weight.npy", job.weight(annotated).astype(np.float16))


def _points(classes: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return rows [class, *voxel] (n, 1 + rank) of labelled voxels, at most ``POINTS`` a class, evenly spread."""
    rows = []
    for value in np.unique(classes):
        if value in (0, IGNORED):
            continue
        found = np.argwhere(classes == value)
        chosen = found[np.linspace(0, len(found) - 1, min(len(found), POINTS)).astype(int)]
        rows.append(np.column_stack([np.full(len(chosen), value), chosen]))
    empty = np.zeros((0, classes.ndim + 1))
    return np.concatenate([empty, *rows]).astype(np.int32)


@dataclass(frozen=True)
class Prepared:
    """One case as the network sees it; arrays are memory-mapped when they are asked for."""

    id: str
    folder: Path

    @cached_property
    def image(self) -> NDArray[np.float16]:
        """(C, *S)."""
        array: NDArray[np.float16] = np.load(self.folder / "image.npy", mmap_mode="r")
        return array

    @cached_property
    def target(self) -> NDArray[Any]:
        """(K, *S)."""
        array: NDArray[Any] = np.load(self.folder / "target.npy", mmap_mode="r")
        return array

    @cached_property
    def labels(self) -> NDArray[np.uint16]:
        """(1, *S) label values, as they were before encoding."""
        array: NDArray[np.uint16] = np.load(self.folder / "labels.npy", mmap_mode="r")
        return array

    @cached_property
    def weight(self) -> NDArray[np.float16] | None:
        """(1, *S), or None where all voxels count alike."""
        path = self.folder / "weight.npy"
        return np.load(path, mmap_mode="r") if path.is_file() else None

    @cached_property
    def points(self) -> NDArray[np.int32]:
        """(n, 1 + rank): class and voxel of labelled voxels."""
        array: NDArray[np.int32] = np.load(self.folder / "points.npy")
        return array

    @property
    def geometry(self) -> Geometry:
        """The grid of the prepared image."""
        return Geometry.from_json(json.loads((self.folder / CASE).read_text()))


@dataclass(frozen=True)
class PreparedSet:
    """The prepared cases in a folder."""

    folder: Path

    def __getitem__(self, case: str) -> Prepared:
        return Prepared(case, self.folder / "cases" / case)

    def key(self, case: str) -> str | None:
        """Return the key under which a case was prepared, or None where it was not finished."""
        try:
            found: str = json.loads((self.folder / "cases" / case / CASE).read_text())["key"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found

    def adopt(self, keys: Mapping[str, str], earlier: Sequence[Path]) -> list[str]:
        """Link every case that an earlier folder holds under the same key; return those still to be made."""
        missing = []
        for case, key in keys.items():
            if self.key(case) == key:
                continue
            source = next((PreparedSet(path) for path in earlier if PreparedSet(path).key(case) == key), None)
            if source is None:
                missing.append(case)
            else:
                _link(source[case].folder, self[case].folder)
        return missing


def _link(source: Path, target: Path) -> None:
    """Give every file of ``source`` a second name in ``target``, ``case.json`` last; copy where links fail."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir(), key=lambda found: found.name == CASE):
        there = target / path.name
        there.unlink(missing_ok=True)
        try:
            os.link(path, there)
        except OSError:
            shutil.copy2(path, there)
