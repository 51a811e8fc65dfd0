"""What is cut out lies where it should, the right way round."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from segpipe.core.errors import DataError, GeometryError
from segpipe.dataset.manifest import CaseFiles
from segpipe.imaging.files import write_volume
from segpipe.imaging.geometry import Geometry
from segpipe.imaging.volume import Volume
from segpipe.report.cuts import Cut, CutJob, Plane, cut_case

ORGAN = {"organ": (1,)}
TURNED = np.array([[0, -1.0, 0, 0], [2.0, 0, 0, 0], [0, 0, -3.0, 0], [0, 0, 0, 1]])
"""Axes that run A, L, I, with spacings 2, 1 and 3 mm."""


def job(
    folder: Path, image: NDArray[np.generic], truth: NDArray[np.uint8], affine: NDArray[np.float64], margin: float = 6
) -> CutJob:
    for name, array in (("image", image), ("truth", truth), ("prediction", truth)):
        write_volume(folder / f"{name}.nii.gz", Volume(array[None], Geometry(array.shape, affine)))
    files = CaseFiles("a", (folder / "image.nii.gz",), folder / "truth.nii.gz")
    return CutJob(files, folder / "prediction.nii.gz", ORGAN, 0, margin)


def block(shape: tuple[int, ...], start: int = 8, stop: int = 12) -> NDArray[np.uint8]:
    truth = np.zeros(shape, np.uint8)
    truth[tuple(slice(start, stop) for _ in shape)] = 1
    return truth


def brightest_side(plane: Plane) -> tuple[bool, bool]:
    """Return whether the right half and the upper half of a plane are the brighter ones."""
    rows, columns = plane.image.shape
    image = plane.image.astype(float)
    return (
        bool(image[:, columns // 2 :].mean() > image[:, : columns // 2].mean()),
        bool(image[: rows // 2].mean() > image[rows // 2 :].mean()),
    )


def test_right_anterior_and_superior_lie_to_the_right_and_above(tmp_path: Path) -> None:
    truth = block((20, 20, 20))
    grid = Geometry(truth.shape, TURNED)
    world = grid.world(np.moveaxis(np.indices(truth.shape), 0, -1))
    # each world direction is bright in one image: the marks must follow it
    for axis, expected in ((0, [True, None, True]), (1, [None, True, None]), (2, [None, None, None])):
        cut = cut_case(job(tmp_path, world[..., axis].astype(np.float32), truth, TURNED))
        planes = list(cut.planes())
        assert [plane.marks for plane in planes] == [("LR", "IS"), ("PA", "IS"), ("LR", "PA")]
        right = [brightest_side(plane)[0] if wanted else None for plane, wanted in zip(planes, expected, strict=True)]
        assert right == expected
        ups = {0: [], 1: [2], 2: [0, 1]}[axis]
        assert all(brightest_side(planes[index])[1] for index in ups)


def test_millimetres_go_with_the_axes(tmp_path: Path) -> None:
    cut = cut_case(job(tmp_path, np.random.default_rng(0).random((20, 20, 20)), block((20, 20, 20)), TURNED, margin=0))
    assert cut.spacing == (1.0, 2.0, 3.0)
    assert cut.extent == (4.0, 8.0, 12.0)
    assert [plane.size for plane in cut.planes()] == [(4.0, 12.0), (8.0, 12.0), (4.0, 8.0)]


def test_the_margin_is_in_millimetres_and_stops_at_the_rim(tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((20, 20, 20))
    assert cut_case(job(tmp_path, image, block((20, 20, 20)), TURNED, margin=6)).image.shape == (16, 10, 8)
    assert cut_case(job(tmp_path, image, block((20, 20, 20)), TURNED, margin=500)).image.shape == (20, 20, 20)


def test_the_planes_of_a_pair_go_through_one_of_the_two(tmp_path: Path) -> None:
    truth = block((30, 30, 30), 2, 6) + block((30, 30, 30), 24, 28)
    cut = cut_case(job(tmp_path, np.random.default_rng(0).random(truth.shape), truth, np.eye(4)))
    assert cut.truth[cut.centre] == 1


def test_an_empty_reference_is_cut_around_the_prediction_and_two_empty_ones_around_the_middle(tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((20, 20, 20))
    wanted = job(tmp_path, image, np.zeros((20, 20, 20), np.uint8), np.eye(4), margin=2)
    assert cut_case(wanted).image.shape == (5, 5, 5)
    write_volume(tmp_path / "prediction.nii.gz", Volume(block((20, 20, 20))[None], Geometry((20, 20, 20), np.eye(4))))
    assert cut_case(wanted).image.shape == (8, 8, 8)


def test_an_image_of_one_slice_has_one_plane(tmp_path: Path) -> None:
    truth = np.zeros((20, 20, 1), np.uint8)
    truth[5:9, 5:9] = 1
    cut = cut_case(job(tmp_path, np.random.default_rng(0).random((20, 20, 1)), truth, np.eye(4)))
    assert len(list(cut.planes())) == 1


def test_what_cannot_be_shown_is_told(tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((20, 20, 20))
    good = job(tmp_path, image, block((20, 20, 20)), np.eye(4))
    write_volume(tmp_path / "small.nii.gz", Volume(np.zeros((1, 9, 9, 9), np.uint8), Geometry((9, 9, 9), np.eye(4))))
    with pytest.raises(GeometryError, match="different shapes"):
        cut_case(CutJob(good.files, tmp_path / "small.nii.gz", ORGAN, 0, 5))
    with pytest.raises(DataError, match="no such file"):
        cut_case(CutJob(good.files, tmp_path / "none.nii.gz", ORGAN, 0, 5))


def test_grey_values_use_the_whole_range() -> None:
    ramp = np.linspace(-1000, 3000, 8000).reshape(20, 20, 20)
    grid = np.zeros((20, 20, 20), np.int32)
    from segpipe.report.cuts import _grey

    grey = _grey(ramp)
    assert (int(grey.min()), int(grey.max())) == (0, 255)
    assert not _grey(np.zeros_like(ramp)).any()
    assert Cut(grey, grid, grid, (1, 1, 1), (0, 0, 0), oriented=True).extent == (20, 20, 20)
