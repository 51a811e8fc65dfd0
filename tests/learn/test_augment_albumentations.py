"""A list of albumentations' transforms: image, target and weight move as one, by the patch's own random numbers."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.config import load_config
from segpipe.core.errors import ConfigError, MachineError
from segpipe.imaging.labels import LabelSet
from segpipe.learn import augment_albumentations as door
from segpipe.learn.augment import AugmentConfig, augmented
from segpipe.learn.augment_albumentations import pipeline
from segpipe.learn.augment_listed import listed, refuse_unfit
from segpipe.learn.batches import Batch
from segpipe.learn.chance import Chance

pytest.importorskip("albumentations", reason="albumentations is not installed: pip install 'segpipe[2d]'")

EXACT = [["D4"], ["RandomRotate90"], ["HorizontalFlip"], [{"Transpose": {"p": 0.5}}, "VerticalFlip"]]
"""Geometry that moves whole pixels."""
NEAREST = {"interpolation": "INTER_NEAREST", "mask_interpolation": "INTER_NEAREST", "p": 1.0}
MOVING = [
    [{"ElasticTransform": {"alpha": 30, "sigma": 4, **NEAREST}}],
    [{"Affine": {"rotate": [-40, 40], "scale": [0.8, 1.3], "translate_px": [-5, 5], **NEAREST}}],
    [{"CoarseElastic": {"sd_pixels": 4, "border_mode": "BORDER_CONSTANT", **NEAREST}}],
    [{"OneOf": {"transforms": ["D4", {"GridDistortion": NEAREST}], "p": 1.0}}],
    [{"Perspective": NEAREST}],
]
"""Geometry between pixels; to the nearest everywhere, so that the maps can be compared."""
BRIGHT = [{"RandomBrightnessContrast": {"p": 1.0}}, {"GaussNoise": {"p": 1.0}}, {"RandomGamma": {"p": 1.0}}]


def entries(*listing: object) -> list[dict[str, dict[str, object]]]:
    """Return a list as the settings hold it."""
    return list(AugmentConfig.model_validate({"albumentations": listing}).albumentations)


def batch(count: int = 2, channels: int = 1, size: tuple[int, int] = (40, 40), low: float = -3.0) -> Batch:
    """Return patches whose target and weight tell of each pixel where in the image it was."""
    rng = np.random.default_rng(5)
    image = torch.from_numpy(rng.integers(1, 250, (count, channels, *size)).astype(np.float32)) + low
    first = image[:, :1] - low
    return Batch(image, first.to(torch.uint8), first / 2, ("case",) * count)


def chances(count: int, step: int = 0) -> list[Chance]:
    return [Chance(3, step, index) for index in range(count)]


def same(one: Batch, other: Batch) -> bool:
    assert one.weight is not None
    assert other.weight is not None
    return (
        torch.equal(one.image, other.image)
        and torch.equal(one.target, other.target)
        and torch.equal(one.weight, other.weight)
    )


# ---- geometry


@pytest.mark.parametrize("listing", EXACT + MOVING, ids=str)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_geometry_moves_image_target_and_weight_together(listing: list[object], channels: int) -> None:
    before = batch(2, channels)
    moved = 0
    for step in range(4):
        after = listed(before, entries(*listing), chances(2, step))
        assert after.weight is not None
        assert after.target.dtype == torch.uint8
        inside = after.target > 0  # where something of the patch came to lie: no pixel of it is 0
        assert inside.float().mean() > 0.5
        apart = (after.image[:, :1] + 3 - after.target)[inside].abs() > 1e-3
        assert apart.float().mean() < 1e-3  # OpenCV rounds a place halfway between two pixels by the type of the image
        assert torch.allclose(after.weight[inside], after.target[inside].float() / 2)
        assert (after.weight[~inside] == 0).all()
        moved += not torch.equal(after.target, before.target)
    assert moved > 0


@pytest.mark.parametrize("channels", [2, 3, 5])
def test_every_channel_moves_alike(channels: int) -> None:
    one = batch(1)
    many = one._replace(image=one.image.repeat(1, channels, 1, 1) * torch.arange(1, channels + 1).reshape(1, -1, 1, 1))
    after = listed(many, entries("D4", {"CoarseElastic": {"sd_pixels": 3}}), chances(1))
    for channel in range(1, channels):
        assert torch.allclose(after.image[0, channel] / (channel + 1), after.image[0, 0], atol=1e-3)


def test_horizontal_is_along_the_first_axis_which_runs_to_the_right() -> None:
    before = batch(1)
    after = listed(before, entries({"HorizontalFlip": {"p": 1.0}}), chances(1))
    assert torch.allclose(after.image, before.image.flip(2), atol=1e-4)
    assert torch.equal(after.target, before.target.flip(2))


def test_classes_stay_classes_and_what_nobody_annotated_stays_so() -> None:
    before = batch(1)
    before = before._replace(target=torch.where(before.target > 125, 255, before.target // 60).to(torch.uint8))
    after = listed(before, entries(*MOVING[0], {"Affine": {"rotate": [10, 40], "p": 1.0}}), chances(1))
    assert set(after.target.unique().tolist()) <= {0, 1, 2, 255}


def test_beyond_the_rim_a_distance_map_is_far_and_regions_are_empty() -> None:
    before = batch(1)
    away = entries({"Affine": {"translate_px": {"x": [30, 30], "y": [0, 0]}, "p": 1.0}})
    distances = listed(before._replace(target=torch.full((1, 3, 40, 40), -0.5)), away, chances(1)).target
    assert (distances[:, :, :29] == 1).all()
    assert torch.allclose(distances[:, :, 31:], torch.tensor(-0.5))
    regions = listed(before._replace(target=torch.ones(1, 2, 40, 40, dtype=torch.uint8)), away, chances(1)).target
    assert regions.shape == (1, 2, 40, 40)
    assert not regions[:, :, :29].any()
    assert regions[:, :, 31:].all()


def test_intensities_leave_target_and_weight_alone_and_may_lie_anywhere() -> None:
    before = batch(2, channels=2, low=-500.0)
    after = listed(before, entries(*BRIGHT), chances(2))
    assert torch.equal(after.target, before.target)
    assert after.weight is not None
    assert before.weight is not None
    assert torch.equal(after.weight, before.weight)
    assert not torch.equal(after.image, before.image)
    assert after.image.min() >= -500  # each channel runs over its own range, as a picture over 0 to 1
    assert after.image.max() <= -250
    flat = before._replace(image=torch.full((2, 2, 40, 40), 7.0))
    assert torch.allclose(listed(flat, entries("HorizontalFlip"), chances(2)).image, torch.tensor(7.0))


def test_without_labels_and_weights_images_are_varied_alone() -> None:
    before = batch()._replace(target=torch.zeros((2, 0, 40, 40), dtype=torch.uint8), weight=None)
    after = listed(before, entries("D4", *BRIGHT), chances(2))
    assert after.weight is None
    assert after.target.shape == (2, 0, 40, 40)


# ---- random numbers


EVERYTHING = ["D4", *MOVING[0], {"SomeOf": {"transforms": [*BRIGHT, {"CoarseDropout": {}}], "n": 2, "p": 1.0}}]


def test_the_same_patch_is_varied_alike_however_the_batch_is_divided() -> None:
    config = AugmentConfig.model_validate({"albumentations": EVERYTHING})
    whole = batch(4)
    assert whole.weight is not None
    wanted = augmented(whole, config, (1.0, 1.0), 7, 11)
    assert same(wanted, augmented(whole, config, (1.0, 1.0), 7, 11))
    assert wanted.weight is not None
    for first, last in ((0, 1), (1, 3), (3, 4)):
        part = Batch(whole.image[first:last], whole.target[first:last], whole.weight[first:last], ("c",), first)
        found = augmented(part, config, (1.0, 1.0), 7, 11)
        assert torch.equal(found.image, wanted.image[first:last])
        assert torch.equal(found.target, wanted.target[first:last])


def test_another_step_and_another_patch_are_varied_otherwise() -> None:
    one = batch(1)
    twice = one._replace(image=one.image.repeat(2, 1, 1, 1), target=one.target.repeat(2, 1, 1, 1), weight=None)
    listing = entries({"CoarseElastic": {"sd_pixels": 4}})
    after = listed(twice, listing, chances(2))
    assert not torch.equal(after.image[0], after.image[1])
    assert not torch.equal(after.image, listed(twice, listing, chances(2, step=1)).image)


def test_the_batch_that_came_in_is_not_written_to() -> None:
    before = batch(2, channels=2)
    copy = before._replace(image=before.image.clone(), target=before.target.clone(), weight=before.weight.clone())
    listed(before, entries(*EVERYTHING), chances(2))
    assert same(before, copy)


# ---- the original U-Net's deformation


def test_the_coarse_field_is_gaussian_at_the_corners_and_smooth_between() -> None:
    transform = pipeline(entries({"CoarseElastic": {"sd_pixels": 10}})).transforms[0]
    corners = []
    for seed in range(300):
        transform.set_random_seed(seed)
        field = transform.get_params_dependent_on_data({"shape": (33, 65)}, {})
        right = field["map_x"] - np.arange(65)
        down = field["map_y"] - np.arange(33)[:, None]
        corners += [right[0, 0], right[-1, -1], right[16, 32], down[0, -1]]
        # between points 32 pixels apart, steps of some tens of pixels change by a share of them from one to the next
        assert np.abs(np.diff(right, axis=1)).max() < 0.08 * np.ptp(right) + 0.5
    assert np.mean(corners) == pytest.approx(0, abs=1)
    assert np.std(corners) == pytest.approx(10, rel=0.06)


def test_the_coarse_field_is_keys_bicubic_interpolation_of_its_points() -> None:
    def kernel(t: float, a: float = -0.75) -> float:
        t = abs(t)
        if t <= 1:
            return (a + 2) * t**3 - (a + 3) * t**2 + 1
        return a * (t**3 - 5 * t**2 + 8 * t - 4) if t < 2 else 0

    transform = pipeline(entries({"CoarseElastic": {"sd_pixels": 10, "grid": 4}})).transforms[0]
    transform.set_random_seed(1)
    found = transform.get_params_dependent_on_data({"shape": (10, 13)}, {})["map_x"] - np.arange(13)
    coarse = np.random.default_rng(1).normal(0, 10, (1, 2, 4, 4))[0, 1]
    for row, column in [(0, 0), (3, 5), (7, 11), (9, 12)]:
        y, x = row * 3 / 9, column * 3 / 12
        value = sum(
            kernel(y - i) * kernel(x - j) * coarse[min(max(i, 0), 3), min(max(j, 0), 3)]
            for i in range(-2, 6)
            for j in range(-2, 6)
        )
        assert found[row, column] == pytest.approx(value, abs=1e-4)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 5), st.tuples(st.integers(8, 40), st.integers(8, 40)))
def test_without_displacements_nothing_moves(seed: int, grid: int, size: tuple[int, int]) -> None:
    before = batch(1, size=size)
    listing = entries({"CoarseElastic": {"sd_pixels": 0, "grid": grid}})
    after = listed(before, listing, [Chance(seed, 0, 0)])
    assert torch.allclose(after.image, before.image, atol=1e-3)
    assert torch.equal(after.target, before.target)


# ---- what is wrong is one line


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text("ingest: {source: {kind: folder, root: data}}\n")
    return path


@pytest.mark.parametrize(
    ("listing", "words"),
    [
        ("[ElasticTransfrom]", "there is no transform ElasticTransfrom. Did you mean ElasticTransform?"),
        ("[horizontalflip]", "Did you mean HorizontalFlip?"),
        ("[{ElasticTransform: {alfa: 3}}]", "ElasticTransform has no argument alfa. Did you mean alpha? It has: alpha"),
        ("[{ElasticTransform: {alpha: -3}}]", "ElasticTransform: alpha: Input should be greater than or equal to 0"),
        ("[{CoarseElastic: {grid: 1}}]", "CoarseElastic: grid: Input should be greater than or equal to 2"),
        ("[{GaussNoise: {std_range: [0.5, 0.1]}}]", "GaussNoise: std_range: "),
        ("[RandomCrop]", "RandomCrop: height: Field required"),
        ("[{Rotate: {border_mode: BORDER_REFLEKT}}]", "OpenCV has no such constant. Did you mean BORDER_REFLECT?"),
        ("[{OneOf: {transforms: [D4, {Rotate: {limt: 3}}]}}]", "Rotate has no argument limt. Did you mean limit?"),
        ("[{OneOf: {transforms: [D4], p: 2}}]", "OneOf: p=2: a probability lies from 0 to 1"),
        ("[{SomeOf: {n: 2}}]", "SomeOf needs a list of transforms"),
        ("[RandomCrop3D]", "there is no transform RandomCrop3D"),
        ("[{Lambda: {image: x}}]", "there is no transform Lambda"),
        ("D4", "expected a list such as"),
        ("[[D4]]", "expected a name, or one name with its arguments"),
        ("[{D4: 0.5}]", "D4: expected arguments by name ({D4: {p: 0.5}})"),
    ],
)
def test_a_wrong_list_is_one_line_when_the_settings_are_read(file: Path, listing: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(file, [f"train.augment.albumentations={listing}"])
    told = str(caught.value)
    assert told.startswith(f"{file}: 1 setting is wrong: train.augment.albumentations")
    assert words in told
    assert "\n" not in told


def test_other_settings_beside_a_list_are_refused(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.augment: mirror_axes, noise: not used where albumentations lists"):
        load_config(
            file, ["train.augment.albumentations=[D4]", "train.augment.noise=0.4", "train.augment.mirror_axes=[]"]
        )


def test_a_list_comes_back_from_the_settings_that_are_stored(file: Path) -> None:
    config = load_config(file, ["train.augment.albumentations=[D4, {Rotate: {limit: [-3, 3]}}]"]).train.augment
    assert AugmentConfig.model_validate(config.model_dump(mode="json")) == config
    assert config.deciding()["albumentations"] == [{"D4": {}}, {"Rotate": {"limit": [-3, 3]}}]


def refusal(*listing: object, patch: tuple[int, ...] = (24, 32), channels: int = 1, **labels: int) -> str:
    with pytest.raises(ConfigError) as caught:
        refuse_unfit(entries(*listing), patch, channels, LabelSet.plain(labels or {"cell": 1}), "a.b")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_volumes_are_refused_in_one_line() -> None:
    assert refusal("D4", patch=(8, 8, 8)).startswith("a.b is for 2D images, and these have 3 axes.")


def test_a_transform_that_changes_the_size_of_patches_is_named() -> None:
    told = refusal("HorizontalFlip", {"RandomCrop": {"height": 16, "width": 16, "p": 0.01}})
    assert "RandomCrop does not work on patches of 24x32 pixels" in told
    assert "16x16" in told
    assert "it gives 32x24 pixels" in refusal("RandomRotate90")
    refuse_unfit(entries("RandomRotate90"), (32, 32), 1, None, "a.b")


def test_a_transform_that_fails_is_named_with_its_reason() -> None:
    assert "MaskDropout" not in refusal({"HueSaturationValue": {"p": 0.1}}, channels=2)
    assert "HueSaturationValue does not work" in refusal({"HueSaturationValue": {"p": 0.1}}, channels=2)


def test_sides_are_not_mirrored() -> None:
    told = refusal({"OneOf": {"transforms": ["HorizontalFlip", "Blur"]}}, left_kidney=1, right_kidney=2)
    assert "HorizontalFlip can make left right, but 'left_kidney' names a side" in told
    refuse_unfit(entries("VerticalFlip"), (16, 16), 1, LabelSet.plain({"left_kidney": 1, "right_kidney": 2}), "a.b")


def test_a_library_that_is_not_installed_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for cached in (door._library, door._transforms, door._pipeline):
        cached.cache_clear()
    monkeypatch.setitem(sys.modules, "albumentations", None)
    try:
        with pytest.raises(MachineError, match=r"albumentations.*pip install 'segpipe\[2d\]'"):
            pipeline([{"D4": {}}])
    finally:
        monkeypatch.undo()
        door._library.cache_clear()


def test_the_library_asks_no_server_for_its_version() -> None:
    look = (
        "import urllib.request as u\n"
        "u.build_opener = lambda *a: (_ for _ in ()).throw(SystemExit('asked'))\n"
        "from segpipe.learn.augment import AugmentConfig\n"
        "AugmentConfig(albumentations=[{'D4': {}}])\nprint('built')"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "built", done.stderr
