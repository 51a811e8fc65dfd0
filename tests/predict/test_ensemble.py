"""Several models as one: the mean of what they draw, and only of models that see images alike."""

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit, softmax
from torch import Tensor

from segpipe.core.errors import ArtifactError
from segpipe.dataset.manifest import Channel
from segpipe.dataset.plan import Plan
from segpipe.dataset.topology import Topology
from segpipe.imaging.geometry import Geometry
from segpipe.imaging.intensity import Unchanged, Window, ZScore
from segpipe.imaging.labels import LabelSet
from segpipe.imaging.targets import Classes, Regions, SignedDistance, Target
from segpipe.imaging.volume import Volume
from segpipe.nets.checkpoint import save_model
from segpipe.nets.precision import laid_out
from segpipe.nets.unet import UNet, UNetConfig
from segpipe.predict import segmenter
from segpipe.predict.ensemble import averaged
from segpipe.predict.segmenter import Segmenter
from segpipe.predict.window import WindowConfig, predict_scores

EXACT = WindowConfig(precision="fp32")
TARGETS = [Classes(), Regions(), SignedDistance()]
KINDS = [target.kind for target in TARGETS]


def plan_of(target: Target | None = None, **changes: Any) -> Plan:
    values: dict[str, Any] = {
        "dataset": "toy",
        "channels": (Channel(name="T1"),),
        "labels": LabelSet.plain({"a": 1, "b": 2}),
        "target": target or Classes(),
        "spacing": (1.0, 1.0, 1.5),
        "normalise": (ZScore(),),
        "median_shape": (12, 12, 8),
        "patch": (8, 8, 8),
        "batch": 2,
        "topology": Topology(strides=((2, 2, 2),), kernels=((3, 3, 3),) * 2),
        "reasons": {},
    }
    return Plan(**(values | changes))


def network_of(plan: Plan, seed: int, features: int = 3) -> UNet:
    torch.manual_seed(seed)
    config = UNetConfig(features=features, deep_supervision=False)
    spec = config.spec(len(plan.channels), plan.out_channels, plan.topology.strides, plan.topology.kernels)
    return spec.build().eval()


def save(folder: Path, plan: Plan, seed: int = 0, window: WindowConfig = EXACT, features: int = 3) -> Path:
    notes = {"plan": plan.model_dump(mode="json"), "window": window.model_dump(mode="json"), "seed": seed}
    save_model(folder, network_of(plan, seed, features), notes)
    return folder


def scan_of(spacing: float = 1.3) -> Volume:
    image = np.random.default_rng(3).normal(size=(1, 11, 12, 9)).astype(np.float32)
    return Volume(image, Geometry(image.shape[1:], np.diag([spacing, 1.0, 1.5, 1.0])))


# ---- the mean


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_map_is_not_changed_by_averaging(kind: str) -> None:
    scores = torch.randn(3, 4, 5) * 50
    found = averaged([scores], kind)
    assert torch.equal(found, scores.softmax(dim=0) if kind == "classes" else scores)


@given(st.integers(1, 6), st.integers(0, 2**31), st.floats(0.1, 60))
def test_the_mean_is_that_of_the_probabilities_and_of_the_distances(count: int, seed: int, scale: float) -> None:
    maps = np.random.default_rng(seed).normal(size=(count, 3, 4, 5)) * scale
    given_ = [torch.from_numpy(one.astype(np.float32)) for one in maps]
    exact = maps.astype(np.float32).astype(np.float64)
    assert averaged(given_, "classes").numpy() == pytest.approx(softmax(exact, axis=1).mean(axis=0), abs=1e-5)
    found = averaged(given_, "regions").numpy()
    assert expit(found.astype(np.float64)) == pytest.approx(expit(exact).mean(axis=0), rel=1e-3, abs=1e-6)
    moderate = np.abs(exact).max(axis=0) < 30
    assert found[moderate] == pytest.approx(logit(expit(exact).mean(axis=0))[moderate], rel=1e-4, abs=1e-4)
    assert averaged(given_, "signed_distance").numpy() == pytest.approx(exact.mean(axis=0), rel=1e-4, abs=1e-4)


def test_two_sure_members_are_not_lost_at_the_ends_of_float32() -> None:
    sure = torch.tensor([[200.0, -200.0, 200.0]])
    against = torch.tensor([[200.0, -200.0, -200.0]])
    found = averaged([sure, against], "regions")
    assert found.tolist() == [[pytest.approx(200), pytest.approx(-200), pytest.approx(0, abs=1e-3)]]


@given(st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=5))
def test_a_region_is_drawn_where_the_mean_probability_is_above_one_half(values: list[float]) -> None:
    mean = float(expit(np.asarray(values, np.float64)).mean())
    score = float(averaged([torch.tensor([value]) for value in values], "regions"))
    if abs(mean - 0.5) > 1e-5:
        assert (score > 0) == (mean > 0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_maps_of_the_members_are_not_kept(kind: str) -> None:
    alive: list[weakref.ref[Tensor]] = []

    def members() -> Iterator[Tensor]:
        for _ in range(6):
            scores = torch.randn(2, 3)
            alive.append(weakref.ref(scores))
            assert sum(one() is not None for one in alive) <= 3  # this one, the last, and at first the mean
            yield scores
            del scores

    averaged(members(), kind)


# ---- as one segmenter


@pytest.mark.parametrize("target", TARGETS, ids=KINDS)
def test_an_ensemble_of_one_gives_the_bits_of_the_model(tmp_path: Path, target: Target) -> None:
    single = save(tmp_path / "single", plan_of(target))
    save(tmp_path / "several" / "fold0", plan_of(target))
    one, alone = (Segmenter.load(tmp_path / name, "cpu") for name in ("several", "single"))
    assert np.array_equal(one.scores(scan_of()).array, alone.scores(scan_of()).array)
    assert np.array_equal(one(scan_of()).array, Segmenter.of([single], "cpu")(scan_of()).array)


@pytest.mark.parametrize("target", TARGETS, ids=KINDS)
def test_several_folders_are_one_segmenter_with_the_mean_of_their_scores(tmp_path: Path, target: Target) -> None:
    folders = [save(tmp_path / "all" / f"seed{seed}", plan_of(target), seed, features=2 + seed) for seed in range(3)]
    together = Segmenter.load(tmp_path / "all", "cpu")
    assert [note["seed"] for note in together.notes] == [0, 1, 2]
    each = [Segmenter.load(folder, "cpu").scores(scan_of()).array for folder in folders]
    squash, back = (expit, logit) if target.kind == "regions" else (np.asarray, np.asarray)
    mean = back(np.mean([squash(one.astype(np.float64)) for one in each], axis=0))
    found = together.scores(scan_of()).array
    assert found == pytest.approx(mean, abs=1e-4)
    assert not np.allclose(found, each[0], atol=1e-3)  # the members do differ
    scan = scan_of()
    drawn = together(scan)
    assert np.array_equal(drawn.array, Segmenter.of(folders, "cpu")(scan).array)
    assert np.array_equal(drawn.array, together.labels(together.scores(scan), scan).array)
    assert drawn.geometry is scan.geometry


def test_networks_in_memory_predict_without_a_folder(tmp_path: Path) -> None:
    plan = plan_of()
    folders = [save(tmp_path / f"{seed}", plan, seed) for seed in range(2)]
    here = Segmenter(tuple(laid_out(network_of(plan, seed), 3, "cpu") for seed in range(2)), plan, EXACT)
    assert np.array_equal(here.scores(scan_of()).array, Segmenter.of(folders, "cpu").scores(scan_of()).array)


def test_the_image_is_prepared_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [save(tmp_path / f"{seed}", plan_of(), seed) for seed in range(3)]
    prepared, predicted = [], []
    prepare = segmenter.prepare_image
    monkeypatch.setattr(segmenter, "prepare_image", lambda *given: prepared.append(1) or prepare(*given))
    monkeypatch.setattr(segmenter, "predict_scores", lambda *given: predicted.append(1) or predict_scores(*given))
    Segmenter.of(folders, "cpu")(scan_of())
    assert (len(prepared), len(predicted)) == (1, 3)


DIFFERENT: dict[str, dict[str, Any]] = {
    "spacing": {"spacing": (1.0, 1.0, 2.0)},
    "normalise": {"normalise": (Unchanged(),)},
    "channels": {"channels": (Channel(name="T2"),)},
    "labels": {"labels": LabelSet.plain({"a": 1, "c": 2})},
    "target": {"target": Regions()},
    "patch": {"patch": (8, 8, 16)},
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_models_that_see_images_otherwise_are_refused_by_folder_and_reason(tmp_path: Path, what: str) -> None:
    save(tmp_path / "fold0", plan_of())
    save(tmp_path / "fold1", plan_of())
    save(tmp_path / "fold2", plan_of(**DIFFERENT[what]))
    with pytest.raises(ArtifactError, match=rf"fold2: its {what} is .*, that of .*fold0 is ") as caught:
        Segmenter.load(tmp_path, "cpu")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + 2 * len(str(tmp_path))


def test_another_ct_window_is_another_normalisation(tmp_path: Path) -> None:
    for name, high in (("fold0", 100.0), ("fold1", 101.0)):
        window = Window(low=0, high=high, mean=40, sd=10)
        save(tmp_path / name, plan_of(normalise=(window,)))
    with pytest.raises(ArtifactError, match=r"fold1: its normalise is .*101"):
        Segmenter.load(tmp_path, "cpu")


def test_what_does_not_touch_the_image_may_differ(tmp_path: Path) -> None:
    save(tmp_path / "fold0", plan_of(), 0)
    save(tmp_path / "fold1", plan_of(batch=4, median_shape=(13, 12, 8), reasons={"batch": "set"}), 1)
    assert len(Segmenter.load(tmp_path, "cpu").networks) == 2


def test_models_with_windows_of_their_own_need_one_for_all(tmp_path: Path) -> None:
    folders = [
        save(tmp_path / f"{overlap}", plan_of(), window=WindowConfig(overlap=overlap, precision="fp32"))
        for overlap in (0.25, 0.5)
    ]
    with pytest.raises(ArtifactError, match=r"0\.5: its window is "):
        Segmenter.of(folders, "cpu")
    assert Segmenter.of(folders, "cpu", EXACT).window == EXACT


def test_no_folder_is_no_model() -> None:
    with pytest.raises(ArtifactError, match="no model folder is given"):
        Segmenter.of([], "cpu")
