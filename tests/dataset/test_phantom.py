"""The phantom cohort: the same from the same seed, varied, whole, and beyond the reach of a threshold."""

import gzip
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from segpipe.dataset.phantom import HEAD, TAIL, PhantomConfig, make_case, write_cohort
from segpipe.imaging.files import read_volume
from segpipe.imaging.volume import Volume

SEVERAL = range(1, 7)
USELESS = 0.6
"""A Dice below which a method has not found the structure."""
STRAIGHT = 0.9999
"""Cosine above which an axis is taken to lie along a world axis."""

case = cache(make_case)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def dice(found: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    return float(2 * (found & true).sum() / (found.sum() + true.sum()))


def thresholds(image: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(np.quantile(image, np.linspace(0.6, 0.99, 24)), np.float64)


def largest_component(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    components, _ = ndimage.label(mask)
    sizes = np.bincount(components.ravel())
    return np.asarray(components == 1 + sizes[1:].argmax(), np.bool_)


def centre_mm(label: Volume, value: int) -> NDArray[np.float64]:
    return np.asarray(label.geometry.world(np.argwhere(label.array[0] == value)).mean(axis=0), np.float64)


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("once", "again"):
        write_cohort(tmp_path / name, PhantomConfig(cases=1, seed=3))
    assert files_of(tmp_path / "once") == files_of(tmp_path / "again")


def test_another_seed_gives_another_image() -> None:
    assert not np.array_equal(case(1, 0)[0].array, case(1, 1)[0].array)


def test_a_case_does_not_depend_on_the_size_of_the_cohort(tmp_path: Path) -> None:
    write_cohort(tmp_path / "one", PhantomConfig(cases=1))
    write_cohort(tmp_path / "two", PhantomConfig(cases=2))
    one, two = files_of(tmp_path / "one"), files_of(tmp_path / "two")
    for name in ("imagesTr/phantom_001.nii.gz", "labelsTr/phantom_001.nii.gz"):
        assert one[name] == two[name]


def test_a_file_holds_what_was_made_and_no_time_or_name(tmp_path: Path) -> None:
    write_cohort(tmp_path, PhantomConfig(cases=1))
    for folder, made in zip(("imagesTr", "labelsTr"), case(1, 0), strict=True):
        path = tmp_path / folder / "phantom_001.nii.gz"
        read = read_volume(path)
        assert np.array_equal(read.array, made.array)
        assert read.geometry.matches(made.geometry)
        flags, time = path.read_bytes()[3], path.read_bytes()[4:8]
        assert (flags, time) == (0, bytes(4))
        assert gzip.decompress(path.read_bytes())[:4] == (348).to_bytes(4, "little")


def test_the_description_lists_every_pair_that_was_written(tmp_path: Path) -> None:
    write_cohort(tmp_path, PhantomConfig(cases=2))
    description = json.loads((tmp_path / "dataset.json").read_text())
    assert description["labels"] == {"0": "background", "1": "head", "2": "tail"}
    assert description["numTraining"] == 2
    assert description["test"] == []
    listed = {str(Path(path)) for pair in description["training"] for path in pair.values()}
    assert listed | {"dataset.json"} == set(files_of(tmp_path))


@pytest.mark.parametrize("index", SEVERAL)
def test_the_label_lies_on_the_grid_of_the_image_and_holds_both_parts(index: int) -> None:
    image, label = case(index, 0)
    assert image.geometry.matches(label.geometry)
    assert (str(image.array.dtype), str(label.array.dtype)) == ("float32", "uint8")
    assert all(40 <= n <= 56 for n in image.geometry.shape)
    assert set(np.unique(label.array)) == {0, HEAD, TAIL}
    voxel_ml = np.prod(label.geometry.spacing) / 1000
    assert 1.2 < (label.array == HEAD).sum() * voxel_ml < 5
    assert 0.4 < (label.array == TAIL).sum() * voxel_ml < 2


@pytest.mark.parametrize("index", SEVERAL)
def test_each_part_is_one_piece_that_the_rim_does_not_cut(index: int) -> None:
    label = case(index, 0)[1].array[0]
    for part in (label == HEAD, label == TAIL, label > 0):
        assert ndimage.label(part, np.ones((3, 3, 3)))[1] == 1
    assert np.count_nonzero(label) == np.count_nonzero(label[1:-1, 1:-1, 1:-1])


@pytest.mark.parametrize("index", SEVERAL)
def test_the_head_lies_in_front_of_the_tail_in_the_world(index: int) -> None:
    label = case(index, 0)[1]
    assert centre_mm(label, HEAD)[1] > centre_mm(label, TAIL)[1] + 8


def test_orientation_spacing_and_brightness_vary_over_the_cases() -> None:
    images = [case(index, 0)[0] for index in SEVERAL]
    assert len({image.geometry.axes for image in images}) >= 4
    assert len({image.geometry.spacing for image in images}) == len(images)
    assert all(0.79 < step < 1.41 for image in images for step in image.geometry.spacing)
    axes = [np.abs(image.geometry.affine[:3, :3] / image.geometry.spacing) for image in images]
    cosines = [cosine.max(axis=0).min() for cosine in axes]
    assert min(cosines) < STRAIGHT < max(cosines)
    brightness = [float(np.median(image.array)) for image in images]
    assert max(brightness) > 1.5 * min(brightness)


def test_the_best_threshold_fails() -> None:
    scores = []
    for index in SEVERAL:
        image, label = (volume.array[0] for volume in case(index, 0))
        scores.append(max(dice(image > level, label > 0) for level in thresholds(image)))
    assert np.mean(scores) < USELESS


def test_the_largest_component_of_the_best_threshold_fails() -> None:
    scores = []
    for index in SEVERAL:
        image, label = (volume.array[0] for volume in case(index, 0))
        scores.append(max(dice(largest_component(image > level), label > 0) for level in thresholds(image)))
    assert np.mean(scores) < USELESS
