"""The plan: what the training cases decide, and why."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from phantoms import NAMES, SHAPE, affine_of, save, scan

from segpipe.core.errors import ConfigError
from segpipe.dataset.manifest import CaseFiles, Channel, DatasetHeader
from segpipe.dataset.plan import CaseMeasure, Plan, PlanConfig, make_plan, measure_case
from segpipe.imaging.intensity import SAMPLES, Unchanged, Window, ZScore
from segpipe.imaging.labels import LabelSet, Structure
from segpipe.imaging.targets import Regions, SignedDistance

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
    assert plan.reasons["spacing"] == "median of 3 cases, axis by axis"


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


def test_a_large_image_gives_a_patch_within_the_memory_and_says_so() -> None:
    plan = planned([measure((512, 512, 200), (0.8, 0.8, 2.0), [1, 2])] * 2, "CT")
    assert 3000 * np.prod(plan.patch) * plan.batch <= 2 * 2**30
    assert "does not fit into 2 GiB" in plan.reasons["patch"]
    small = planned([measure((512, 512, 200), (0.8, 0.8, 2.0), [1, 2])] * 2, "CT", memory_gib=0.5)
    assert np.prod(small.patch) < np.prod(plan.patch)


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
