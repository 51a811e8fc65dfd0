"""The plan: what the training cases decide, and why."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from phantoms import NAMES, SHAPE, affine_of, save, scan

from segpipe.core.errors import ConfigError
from segpipe.dataset.manifest import CaseFiles, Channel, DatasetHeader
from segpipe.dataset.plan import CaseMeasure, Plan, PlanConfig, make_plan, measure_case
from segpipe.imaging.intensity import SAMPLES, Unchanged, Window, ZScore
from segpipe.imaging.labels import LabelSet, Structure
from segpipe.imaging.targets import Regions, SignedDistance
from segpipe.nets.cost import GIB, training_bytes
from segpipe.nets.unet import UNetConfig

PLAIN = LabelSet.plain(NAMES)
OVERLAPPING = LabelSet(
    structures=(Structure(name="whole", values=(1, 2), paint=1), Structure(name="core", values=(2,), paint=2))
)


def header(*channels: str, labels: LabelSet = PLAIN) -> DatasetHeader:
    return DatasetHeader(name="x", layout="msd", channels=tuple(Channel(name=name) for name in channels), labels=labels)


def measure(shape: tuple[int, ...], spacing: tuple[float, ...], *samples: Any) -> CaseMeasure:
    return CaseMeasure(shape, spacing, tuple(np.asarray(one, np.float32) for one in samples))


def planned(measures: list[CaseMeasure], *channels: str, target: Any = None, **settings: Any) -> Plan:
    named = {f"case_{number}": one for number, one in enumerate(measures)}
    return make_plan(header(*channels), named, PlanConfig(**settings), target)


def test_spacing_is_the_median_axis_by_axis() -> None:
    spacings = [(1.0, 1.0, 1.2), (0.8, 1.0, 1.4), (0.9, 1.0, 1.6)]
    plan = planned([measure((40, 40, 40), spacing, [1, 2]) for spacing in spacings], "T1")
    assert plan.spacing == (0.9, 1.0, 1.4)
    assert plan.reasons["spacing"] == "median of 3 case(s), axis by axis (0.8 to 1, 1, 1.2 to 1.6 mm)"


def test_the_median_shape_is_measured_at_the_planned_spacing() -> None:
    plan = planned([measure((40, 60, 20), (1.0, 1.0, 2.0), [1, 2])] * 3, "T1", spacing=(2, 2, 2))
    assert plan.median_shape == (20, 30, 20)
    assert plan.reasons["spacing"] == "set in the config"


def test_of_thick_slices_the_finer_ones_decide() -> None:
    spacings = [(0.5, 0.5, thick) for thick in (3.0, 5.0, 5.0, 5.0, 6.0)]
    plan = planned([measure((256, 256, 24), spacing, [1, 2]) for spacing in spacings], "T2")
    assert plan.spacing == (0.5, 0.5, pytest.approx(np.percentile([3, 5, 5, 5, 6], 10), abs=1e-3))
    assert "5 mm along S is over 3 times the finest" in plan.reasons["spacing"]


def test_thick_slices_are_pooled_and_filtered_along_last() -> None:
    plan = planned([measure((256, 256, 24), (0.5, 0.5, 5.0), [1, 2])] * 4, "T2")
    assert plan.spacing == (0.5, 0.5, 5.0)
    assert plan.topology.strides[0] == (2, 2, 1)
    assert plan.topology.kernels[0] == (3, 3, 1)
    assert plan.topology.kernels[-1] == (3, 3, 3)
    assert plan.patch[0] > plan.patch[2]


def test_equal_spacing_is_pooled_and_filtered_alike() -> None:
    plan = planned([measure((64, 64, 64), (1.0, 1.0, 1.0), [1, 2])] * 4, "T1")
    assert {*plan.topology.strides} == {(2, 2, 2)}
    assert {*plan.topology.kernels} == {(3, 3, 3)}


def test_the_hippocampus_is_taken_whole_four_at_a_time() -> None:
    plan = planned([measure((36, 50, 35), (1.0, 1.0, 1.0), [1, 2])] * 4, "T1")
    assert (plan.patch, plan.topology.depth, plan.batch) == ((40, 56, 40), 3, 4)
    assert plan.reasons["batch"] == "what fits into 8 GiB, from 2 to 4"
    assert "take 1.2 of 8 GiB" in plan.reasons["memory"]


def peak_gib(plan: Plan, channels: int = 1) -> float:
    topology = plan.topology
    spec = UNetConfig().spec(channels, plan.out_channels, topology.strides, topology.kernels)
    return training_bytes(spec, plan.patch, plan.batch, bf16=True) / GIB


@pytest.mark.parametrize("gib", [2.0, 8.0, 24.0])
def test_a_large_image_gives_a_patch_that_uses_the_memory_and_says_so(gib: float) -> None:
    plan = planned([measure((512, 512, 400), (0.8, 0.8, 0.8), [1, 2])] * 2, "CT", memory_gib=gib)
    assert plan.batch == 2
    assert 0.8 * gib < peak_gib(plan) <= gib
    assert f"does not fit into {gib:g} GiB" in plan.reasons["patch"]
    assert f"{peak_gib(plan):.1f} of {gib:g} GiB" in plan.reasons["memory"]


def test_a_patch_of_a_large_ct_is_as_large_as_is_usual_and_has_its_form() -> None:
    plan = planned([measure((512, 512, 400), (0.8, 0.8, 0.8), [1, 2])] * 2, "CT")
    assert 96**3 <= np.prod(plan.patch) <= 160**3
    assert plan.patch[0] == plan.patch[1] > plan.patch[2] >= 96


def test_a_batch_that_is_set_leaves_less_for_the_patch() -> None:
    case = [measure((512, 512, 400), (0.8, 0.8, 0.8), [1, 2])] * 2
    one, two, six = (planned(case, "CT", batch=batch) for batch in (1, None, 6))
    assert np.prod(one.patch) > np.prod(two.patch) > np.prod(six.patch)
    assert peak_gib(six) <= 8


def test_more_structures_and_channels_leave_less_for_the_patch() -> None:
    case = {"a": measure((512, 512, 400), (0.8, 0.8, 0.8), [1, 2], [1, 2])}
    many = LabelSet.plain({f"part {value}": value for value in range(1, 105)})
    few, rich = (make_plan(header("CT", "PET", labels=labels), case, PlanConfig(), None) for labels in (PLAIN, many))
    assert np.prod(rich.patch) < np.prod(few.patch)
    assert peak_gib(rich, 2) <= 8


def test_memory_that_not_even_the_smallest_patch_fits_into_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        planned([measure((64, 64, 64), (1.0, 1.0, 1.0), [1, 2])], "T1", memory_gib=0.3)
    assert str(caught.value).startswith("preprocess.plan.memory_gib=0.3: even 2 patches of 8x8x8 voxels take 0.")


def test_slices_ten_times_as_thick_are_pooled_in_plane_first() -> None:
    plan = planned([measure((320, 320, 20), (0.5, 0.5, 5.0), [1, 2])] * 2, "T2")
    assert plan.topology.strides == ((2, 2, 1), (2, 2, 1), (2, 2, 1), (2, 2, 2))
    assert [kernel[2] for kernel in plan.topology.kernels] == [1, 1, 1, 3, 3]
    assert plan.patch[2] >= 16
    assert plan.patch[0] >= 256


@pytest.mark.parametrize(("shape", "depth"), [((512, 512, 1), 4), ((96, 80, 3), 4)])
def test_flat_volumes_give_a_network_that_looks_in_plane_alone(shape: tuple[int, ...], depth: int) -> None:
    plan = planned([measure(shape, (0.5, 0.5, 5.0), [1, 2])] * 2, "T2")
    assert {step[2] for step in (*plan.topology.strides, *plan.topology.kernels)} == {1}
    assert f"along S there are {shape[2]}, fewer than 4: no pooling there, and kernels of 1" in plan.reasons["depth"]
    assert (plan.patch[2], plan.batch, plan.topology.depth) == (shape[2], 8, depth)
    network = UNetConfig(features=2).spec(1, plan.out_channels, plan.topology.strides, plan.topology.kernels).build()
    maps = network.maps(torch.zeros(1, 1, 64, 64, shape[2]))
    assert [tuple(one.shape[2:]) for one in maps] == [(64 // 2**k, 64 // 2**k, shape[2]) for k in range(len(maps))]


def test_what_fits_of_two_dimensional_images_is_eight_at_most() -> None:
    assert planned([measure((256, 256), (1.0, 1.0), [1, 2])] * 2, "EM").batch == 8
    assert planned([measure((4000, 4000), (1.0, 1.0), [1, 2])] * 2, "EM").batch == 2


def test_every_decision_has_a_reason() -> None:
    plan = planned([measure((64, 64, 64), (1.0, 1.0, 1.0), np.arange(100))], "CT")
    assert set(plan.reasons) == {"spacing", "patch", "depth", "batch", "memory", "target", "normalise CT"}
    assert "(64x64x64 voxels at this spacing), in multiples of 16x16x16" in plan.reasons["patch"]
    assert plan.reasons["depth"].endswith("4x4x4 voxels are left")
    assert plan.reasons["normalise CT"].endswith("of the foreground (0.495 to 98.505)")


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 4, 5), (7, 7, 2)])
def test_a_tiny_image_gets_a_plan(shape: tuple[int, ...]) -> None:
    plan = planned([measure(shape, (1.0, 1.0, 1.0), [1, 2])] * 2, "T1")
    assert plan.topology.depth == 1
    assert all(p >= n for p, n in zip(plan.patch, shape, strict=True))


def test_two_axes_are_planned_like_three() -> None:
    plan = planned([measure((200, 300), (0.5, 0.5), [1, 2])] * 2, "EM")
    assert len(plan.patch) == len(plan.spacing) == len(plan.topology.total) == 2


@pytest.mark.parametrize("name", ["spacing", "patch"])
@pytest.mark.parametrize("value", [(16, 16), (16, 16, 16, 16)])
def test_a_setting_of_another_rank_is_refused(name: str, value: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        planned([measure((40, 40, 40), (1.0, 1.0, 1.0), [1, 2])], "T1", **{name: value})
    assert str(caught.value).startswith(f"preprocess.plan.{name}={[*map(float if name == 'spacing' else int, value)]}")
    assert "the images have 3 axes" in str(caught.value)


def test_what_is_set_is_taken() -> None:
    settings = {"patch": (32, 16, 8), "batch": 7, "depth": 2, "spacing": (1, 1, 3)}
    plan = planned([measure((64, 64, 64), (1.0, 1.0, 1.0), [1, 2])], "T1", **settings)
    assert (plan.patch, plan.batch, plan.topology.depth, plan.spacing) == ((32, 16, 8), 7, 2, (1, 1, 3))
    assert {plan.reasons[name] for name in ("patch", "batch", "spacing")} == {"set in the config"}


class TestNormalisation:
    SAMPLES = (np.linspace(-100, 900, 1001), np.linspace(0, 1, 1001))

    def of(self, *channels: str, **settings: Any) -> tuple[Any, ...]:
        measures = [measure((40, 40, 40), (1.0, 1.0, 1.0), *self.SAMPLES[: len(channels)])]
        return planned(measures, *channels, **settings).normalise

    @pytest.mark.parametrize("name", ["CT", "ct", " Computed Tomography "])
    def test_of_ct_is_a_window_from_the_foreground(self, name: str) -> None:
        (window,) = self.of(name)
        assert isinstance(window, Window)
        assert (window.low, window.high) == (pytest.approx(-95), pytest.approx(895))
        assert window.mean == pytest.approx(400)
        assert window.sd == pytest.approx(self.SAMPLES[0].std(), rel=1e-4)

    @pytest.mark.parametrize("name", ["T1", "CTA-like", "FLAIR"])
    def test_of_any_other_is_image_by_image(self, name: str) -> None:
        assert self.of(name) == (ZScore(),)

    def test_is_chosen_channel_by_channel(self) -> None:
        window, score = self.of("CT", "PET")
        assert isinstance(window, Window)
        assert score == ZScore()

    def test_may_be_set(self) -> None:
        assert self.of("CT", normalise="unchanged") == (Unchanged(),)
        assert self.of("CT", normalise="z_score") == (ZScore(),)
        assert isinstance(self.of("T1", normalise="window")[0], Window)


def test_structures_of_several_values_are_learned_as_regions() -> None:
    measures = {"a": measure((40, 40, 40), (1.0, 1.0, 1.0), [1, 2])}
    plan = make_plan(header("T1", labels=OVERLAPPING), measures, PlanConfig(), None)
    assert (plan.target, plan.out_channels) == (Regions(), 2)
    assert plan.reasons["target"].startswith("regions: ")


def test_the_target_may_be_set() -> None:
    plan = planned([measure((40, 40, 40), (1.0, 1.0, 1.0), [1, 2])], "T1", target=SignedDistance(clip_mm=4))
    assert plan.target == SignedDistance(clip_mm=4)
    assert "target" not in plan.reasons


def test_the_order_of_the_cases_plays_no_part() -> None:
    named = {str(n): measure((30 + n, 40, 50), (1.0, 1 + n / 10, 1.0), [n, n + 3]) for n in range(5)}
    backwards = dict(reversed(named.items()))
    config = PlanConfig()
    assert make_plan(header("CT"), named, config, None) == make_plan(header("CT"), backwards, config, None)


def test_a_plan_comes_back_from_json() -> None:
    plan = planned([measure((64, 64, 20), (1.0, 1.0, 4.0), [1, 2, 3])], "CT")
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


class TestMeasuring:
    def files(self, folder: Path, image: Any, label: Any, affine: Any) -> CaseFiles:
        paths = tuple(save(folder / f"{n}.nii.gz", channel, affine) for n, channel in enumerate(image))
        return CaseFiles("a", paths, save(folder / "label.nii.gz", label, affine))

    def test_turns_axes_to_the_world_and_crops_what_shows_nothing(self, tmp_path: Path) -> None:
        image, label = np.zeros((1, 20, 30, 40), np.int16), np.zeros((20, 30, 40), np.uint8)
        image[0, 2:12, 5:25, 10:13] = 7
        label[5:7, 8:9, 11:12] = 1
        affine = affine_of((20, 30, 40), (1, 2, 3), "PIR")
        found = measure_case(self.files(tmp_path, image, label, affine))
        # axis 0 runs to P, axis 1 to I, axis 2 to R
        assert found.shape == (3, 10, 20)
        assert found.spacing == (3, 1, 2)

    def test_takes_the_intensities_of_labelled_voxels_alone(self, tmp_path: Path) -> None:
        image = np.random.default_rng(0).integers(1, 50, (2, *SHAPE)).astype(np.int16)
        label = np.zeros(SHAPE, np.uint8)
        label[4:6, 4, 4], image[0, 4:6, 4, 4], image[1, 4:6, 4, 4] = 2, (100, 101), (-5, -6)
        found = measure_case(self.files(tmp_path, image, label, affine_of(SHAPE)))
        assert [sorted(sample.tolist()) for sample in found.samples] == [[100, 101], [-6, -5]]

    def test_keeps_no_more_samples_than_it_says(self, tmp_path: Path) -> None:
        one = scan("a", shape=(64, 64, 64), spacing=(0.3, 0.3, 0.3))
        found = measure_case(self.files(tmp_path, one.image, one.label, one.affine))
        assert (one.label > 0).sum() > SAMPLES
        assert len(found.samples[0]) <= SAMPLES
