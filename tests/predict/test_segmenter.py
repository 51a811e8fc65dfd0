"""A scan in, a label map on the same grid out, whatever that grid is."""

import itertools
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import nn

from segpipe.core.errors import ArtifactError, ConfigError, DataError
from segpipe.dataset.manifest import Channel
from segpipe.dataset.plan import Plan
from segpipe.dataset.topology import Topology
from segpipe.imaging.geometry import Geometry
from segpipe.imaging.intensity import Unchanged
from segpipe.imaging.labels import LabelSet, Structure
from segpipe.imaging.masks import CleanUp
from segpipe.imaging.targets import Classes, Regions, SignedDistance, Target
from segpipe.imaging.volume import Volume
from segpipe.nets.checkpoint import MODEL, save_model
from segpipe.nets.unet import UNet, UNetConfig
from segpipe.predict.segmenter import Segmenter
from segpipe.predict.window import WindowConfig

TURNS = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))
EXACT = WindowConfig(precision="fp32")
CUT = 0.5
BALL = LabelSet.plain({"ball": 3})


def plan_of(labels: LabelSet = BALL, target: Target | None = None, **changes: Any) -> Plan:
    values: dict[str, Any] = {
        "dataset": "toy",
        "channels": (Channel(name="T1"),),
        "labels": labels,
        "target": target or Classes(),
        "spacing": (1.0, 1.0, 1.0),
        "normalise": (Unchanged(),),
        "median_shape": (20, 20, 20),
        "patch": (16, 16, 16),
        "batch": 2,
        "topology": Topology(strides=((1, 1, 1),), kernels=((1, 1, 1),) * 2),
        "reasons": {},
    }
    return Plan(**(values | changes))


def threshold(plan: Plan, sign: float = 1.0) -> UNet:
    """Return a network whose last channel is above the first, or above 0, where the first image is above ``CUT``."""
    config = UNetConfig(widths=(1, 1), norm="none", deep_supervision=False, convolutions=1, activation="relu")
    topology = plan.topology
    network = config.spec(len(plan.channels), plan.out_channels, topology.strides, topology.kernels).build()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for layer in (network.encoder.blocks[0][0], network.decoder.blocks[0][0]):
            assert isinstance(layer, nn.Conv3d)
            layer.weight[0, 0] = 1
        head = network.decoder.heads[0]
        assert isinstance(head, nn.Conv3d)
        head.weight[-1] = 20 * sign
        head.bias[-1] = -20 * sign * CUT
    return network.eval()


def segmenter(plan: Plan | None = None, clean: CleanUp | None = None, sign: float = 1.0) -> Segmenter:
    plan = plan or plan_of()
    return Segmenter((threshold(plan, sign),), plan, EXACT, clean or CleanUp())


def grid(
    shape: tuple[int, ...] = (21, 24, 18),
    spacing: tuple[float, ...] = (1.0, 1.0, 1.0),
    order: tuple[int, ...] = (0, 1, 2),
    signs: tuple[int, ...] = (1, 1, 1),
) -> Geometry:
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", (12, -9, 17), degrees=True).as_matrix()
    affine[:3, :3] = (turn * spacing)[:, order] * signs
    affine[:3, 3] = (30, -70, 411)
    return Geometry(tuple(np.array(shape)[list(order)].tolist()), affine)


def scan_of(geometry: Geometry, padding: float = 0.1) -> tuple[Volume, NDArray[np.bool_]]:
    """Return a scan of a soft ball, off the middle, and where it is above ``CUT``."""
    points = geometry.world(np.indices(geometry.shape).reshape(3, -1).T)
    centre = geometry.edges().mean(axis=0) + np.array((1.5, -2, 1))
    away = np.linalg.norm(points - centre, axis=1).reshape(geometry.shape)
    image = np.clip(1 - away / 12, padding, 1).astype(np.float32)
    return Volume(image[None], geometry), image > CUT


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.mark.parametrize(("order", "signs"), TURNS[::3])
def test_a_prediction_lies_on_the_grid_of_the_scan_in_every_storage_order(
    order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    scan, truth = scan_of(grid(order=order, signs=signs))
    found = segmenter()(scan)
    assert found.geometry is scan.geometry
    assert found.array.dtype == np.uint8
    # nothing is resampled: only voxels within a half-precision step of the cut may differ
    sure = np.abs(scan.array[0] - CUT) > 1e-3
    assert np.array_equal((found.array[0] == 3)[sure], truth[sure])
    assert set(np.unique(found.array)) == {0, 3}


@pytest.mark.parametrize(("order", "signs"), TURNS[1::9])
@pytest.mark.parametrize("spacing", [(0.7, 0.8, 2.5), (2.0, 0.5, 1.0)])
def test_an_anisotropic_oblique_scan_is_resampled_there_and_back(
    order: tuple[int, ...], signs: tuple[int, ...], spacing: tuple[float, ...]
) -> None:
    shape = tuple(int(22 / mm) for mm in spacing)
    scan, truth = scan_of(grid(shape, spacing, order, signs))
    found = segmenter()(scan)
    assert found.geometry is scan.geometry
    assert found.array.shape == scan.array.shape
    assert dice(found.array[0] == 3, truth) > 0.95


def test_padding_around_a_scan_is_cropped_away_and_comes_back_as_background() -> None:
    scan, _ = scan_of(grid((30, 30, 30)), padding=0.1)
    image = np.zeros_like(scan.array)
    inside = (slice(None), slice(9, 22), slice(8, 21), slice(8, 24))
    image[inside] = scan.array[inside]
    found = segmenter()(Volume(image, scan.geometry)).array
    assert np.array_equal(found[0] == 3, (image[0].astype(np.float16) > CUT))
    # where nothing is shown nothing is found, even by a network that finds everything
    everywhere = segmenter(sign=-1.0)(Volume(image, scan.geometry)).array
    assert (everywhere[image == 0] == 0).all()
    assert (everywhere[(image > 0) & (image < CUT - 1e-3)] == 3).all()


def test_a_scan_that_shows_nothing_gives_an_empty_map() -> None:
    scan = Volume(np.zeros((1, 8, 9, 10), np.float32), grid((8, 9, 10)))
    found = segmenter()(scan)
    assert found.array.shape == (1, 8, 9, 10)
    assert not found.array.any()


@pytest.mark.parametrize(
    ("target", "sign"),
    [(Classes(), 1.0), (Regions(), 1.0), (SignedDistance(), -1.0)],
    ids=["classes", "regions", "sdt"],
)
def test_every_target_is_decoded(target: Target, sign: float) -> None:
    scan, truth = scan_of(grid(spacing=(0.8, 0.9, 1.3)))
    found = segmenter(plan_of(target=target), sign=sign)(scan)
    assert dice(found.array[0] == 3, truth) > 0.95


def test_values_above_255_are_written_in_two_bytes() -> None:
    scan, truth = scan_of(grid())
    found = segmenter(plan_of(LabelSet.plain({"ball": 4000})))(scan)
    assert found.array.dtype == np.uint16
    assert dice(found.array[0] == 4000, truth) > 0.99


def test_a_merged_class_value_above_255_is_not_cut_off() -> None:
    labels = LabelSet(structures=(Structure(name="ball", values=(300,), paint=1),))
    scan, truth = scan_of(grid())
    found = segmenter(plan_of(labels))(scan)
    assert dice(found.array[0] == 300, truth) > 0.99


def two_balls() -> Volume:
    scan, _ = scan_of(grid((30, 20, 20)), padding=0.1)
    image = scan.array.copy()
    image[0, 1:3, 1:3, 1:3] = 0.9
    return Volume(image, scan.geometry)


def test_only_the_largest_part_is_kept_where_that_is_asked_for() -> None:
    scan = two_balls()
    every = segmenter()(scan).array
    largest = segmenter(clean=CleanUp(largest_only=("ball",)))(scan).array
    assert every[0, 1, 1, 1] == 3
    assert every.sum() - largest.sum() == 8 * 3
    assert largest[0, 1, 1, 1] == 0


def test_cleaning_a_structure_that_the_model_does_not_draw_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="no structure is named 'liver'"):
        segmenter(clean=CleanUp(largest_only=("liver",)))(two_balls())


@pytest.mark.parametrize("channels", [2, 3])
def test_a_scan_with_other_channels_is_refused_in_one_line(channels: int) -> None:
    scan = Volume(np.ones((channels, 6, 6, 6), np.float32), grid((6, 6, 6)))
    with pytest.raises(DataError, match=rf"has {channels} channel\(s\); the model needs 1: T1\.") as caught:
        segmenter()(scan)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_scan_with_voxels_that_are_no_numbers_is_refused_in_one_line(bad: float, dtype: type) -> None:
    scan, _ = scan_of(grid())
    image = scan.array.astype(dtype)
    image[0, 3, 4, 5] = bad
    with pytest.raises(DataError, match="not numbers") as caught:
        segmenter()(Volume(image, scan.geometry))
    assert "\n" not in str(caught.value)


def test_the_scan_itself_is_left_as_it_was() -> None:
    scan, _ = scan_of(grid(spacing=(0.8, 0.9, 1.3)))
    before = scan.array.copy()
    segmenter()(scan)
    assert np.array_equal(scan.array, before)


def test_whole_numbers_are_taken_too() -> None:
    scan, _ = scan_of(grid())
    counts = Volume((scan.array * 100).astype(np.int16), scan.geometry)
    plan = plan_of()
    network = threshold(plan)
    with torch.no_grad():
        network.decoder.heads[0].weight.mul_(0.01)
        network.decoder.heads[0].bias.mul_(1.01)  # the cut lies between 50 and 51
    found = Segmenter((network,), plan, EXACT)(counts)
    assert np.array_equal(found.array == 3, counts.array > 50)


# ---- from a folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    plan = plan_of()
    notes = {"plan": plan.model_dump(mode="json"), "window": EXACT.model_dump(mode="json")}
    save_model(tmp_path / "model", threshold(plan), notes)
    return tmp_path / "model"


def test_a_model_folder_is_all_that_is_needed(model: Path) -> None:
    scan, _ = scan_of(grid(spacing=(0.8, 0.9, 1.3), order=(2, 0, 1)))
    loaded = Segmenter.load(model, "cpu")
    assert loaded.plan == plan_of()
    assert loaded.window == EXACT
    assert np.array_equal(loaded(scan).array, segmenter()(scan).array)


def test_window_and_cleaning_can_be_chosen_anew(model: Path) -> None:
    window, clean = WindowConfig(overlap=0.25, precision="fp32"), CleanUp(largest_only=("ball",))
    loaded = Segmenter.load(model, "cpu", window, clean)
    assert loaded.window == window
    assert loaded.clean == clean


@pytest.mark.parametrize("lost", ["plan", "window"])
@pytest.mark.parametrize("instead", [None, {"unknown": 1}])
def test_a_model_without_a_readable_plan_is_one_line(model: Path, lost: str, instead: Any) -> None:
    described = json.loads((model / MODEL).read_text())
    del described[lost]
    if instead:
        described[lost] = instead
    (model / MODEL).write_text(json.dumps(described))
    with pytest.raises(ArtifactError, match="plan in it cannot be read") as caught:
        Segmenter.load(model, "cpu")
    assert str(model) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "axes", "fine"),
    [
        (("left_ear", "right_ear"), (0,), False),
        (("left_ear", "right_ear"), (1, 2), True),
        (("ear", "nose"), (0,), True),
    ],
)
def test_images_are_not_mirrored_left_right_where_structures_have_sides(
    names: tuple[str, str],
    axes: tuple[int, ...],
    fine: bool,
) -> None:
    labels = LabelSet.plain({name: value for value, name in enumerate(names, start=1)})
    plan = plan_of(labels)
    expected: Any = nullcontext() if fine else pytest.raises(ConfigError, match=f"'{names[0]}' names a side")
    with expected:
        Segmenter((threshold(plan),), plan, WindowConfig(mirror_axes=axes))


def test_a_segmenter_refuses_quarter_turns_of_volumes() -> None:
    plan = plan_of()
    with pytest.raises(ConfigError, match="quarter_turns is for 2D images"):
        Segmenter((threshold(plan),), plan, WindowConfig(quarter_turns=True))
