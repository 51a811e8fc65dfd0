"""Prepared cases: the right grid and types, the same whichever way a file runs, and linked where nothing changed."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from phantoms import CENTRES, NAMES, Scan, affine_of, save, scan

from segpipe.dataset.manifest import Case, CaseFiles, Channel, DatasetHeader, FileRef
from segpipe.dataset.plan import CaseMeasure, Plan, PlanConfig, make_plan
from segpipe.dataset.prepare import POINTS, Prepared, PreparedSet, PrepareJob, key_of, prepare_case, prepare_image
from segpipe.imaging.geometry import Geometry
from segpipe.imaging.labels import LabelSet
from segpipe.imaging.targets import SignedDistance
from segpipe.imaging.volume import Volume
from segpipe.imaging.weights import BorderWeight, ClassBalance

LABELS = LabelSet.plain(NAMES)


def plan_of(
    spacing: tuple[float, ...] = (1.0, 1.0, 1.0), channels: int = 1, labels: LabelSet = LABELS, **more: Any
) -> Plan:
    header = DatasetHeader(
        name="x", layout="msd", channels=tuple(Channel(name=f"MR{n}") for n in range(channels)), labels=labels
    )
    measured = CaseMeasure((20,) * 3, (1.0,) * 3, (np.arange(9, dtype=np.float32),) * channels)
    return make_plan(header, {"a": measured}, PlanConfig(spacing=spacing), None).model_copy(update=more)


def prepared(one: Scan, folder: Path, plan: Plan, weight: Any = None, *, labelled: bool = True) -> Prepared:
    images = tuple(save(folder / f"in/{one.id}_{n}.nii.gz", channel, one.affine) for n, channel in enumerate(one.image))
    label = save(folder / f"in/{one.id}_label.nii.gz", one.label, one.affine) if labelled else None
    name = prepare_case(PrepareJob(CaseFiles(one.id, images, label), "key", plan, weight, folder / "out"))
    return PreparedSet(folder / "out")[name]


def volume(one: Scan) -> Volume:
    return Volume(one.image, Geometry(one.label.shape, one.affine))


def flipped(one: Scan, *axes: int) -> Scan:
    """Return the same world, the voxels stored the other way round along some axes."""
    affine = one.affine.copy()
    for axis in axes:
        affine[:3, 3] += affine[:3, axis] * (one.label.shape[axis] - 1)
        affine[:3, axis] *= -1
    return Scan(one.id, np.flip(one.image, [a + 1 for a in axes]), np.flip(one.label, axes), affine, one.volumes_mm3)


def test_arrays_have_their_types_and_one_grid(tmp_path: Path) -> None:
    found = prepared(scan("a", 1, channels=2), tmp_path, plan_of(channels=2), BorderWeight())
    shape = found.geometry.shape
    assert {name: (str(array.dtype), array.shape) for name, array in vars_of(found).items()} == {
        "image": ("float16", (2, *shape)),
        "target": ("uint8", (1, *shape)),
        "labels": ("uint16", (1, *shape)),
        "weight": ("float16", (1, *shape)),
    }
    assert found.points.dtype == np.int32
    assert found.points.shape[1] == 4


def vars_of(found: Prepared) -> dict[str, Any]:
    assert found.weight is not None
    return {"image": found.image, "target": found.target, "labels": found.labels, "weight": found.weight}


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "SAL"])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 1.2, 0.7)])
def test_structures_keep_their_place_and_size_in_the_world(
    axes: str, spacing: tuple[float, ...], tmp_path: Path
) -> None:
    one = scan("a", 3, axes=axes, shape=(20, 22, 24))
    found = prepared(one, tmp_path, plan_of(spacing))
    assert found.geometry.axes == "RAS"
    assert found.geometry.spacing == pytest.approx(spacing)
    for value, centre in CENTRES.items():
        voxels = np.argwhere(found.labels[0] == value)
        assert np.abs(found.geometry.world(voxels).mean(axis=0) - centre).max() < 0.35
        assert len(voxels) * np.prod(spacing) == pytest.approx(one.volumes_mm3[value], rel=0.1)


@pytest.mark.parametrize("axes", [(0,), (1, 2), (0, 1, 2)])
def test_the_way_a_file_runs_changes_nothing(axes: tuple[int, ...], tmp_path: Path) -> None:
    one = scan("a", 4)
    straight = prepared(one, tmp_path / "one", plan_of((1.5, 1.0, 1.0)))
    turned = prepared(flipped(one, *axes), tmp_path / "two", plan_of((1.5, 1.0, 1.0)))
    assert straight.geometry.matches(turned.geometry)
    assert np.array_equal(straight.labels, turned.labels)
    assert np.abs(straight.image.astype(float) - turned.image.astype(float)).max() < 4e-3


def test_at_its_own_spacing_an_image_keeps_every_voxel() -> None:
    one = scan("a", 5)
    found = prepare_image(volume(one), plan_of())
    image = one.image[0].astype(np.float64)
    wanted = (image - image.mean()) / image.std()
    assert np.abs(found.array[0] - wanted).max() < 4e-3
    assert found.geometry.matches(volume(one).geometry)


def test_what_shows_nothing_is_cut_away_and_not_measured() -> None:
    one = scan("a", 6)
    padded = np.pad(one.image, ((0, 0), (3, 4), (2, 0), (0, 5)))
    affine = one.affine.copy()
    affine[:3, 3] -= (3, 2, 0)
    found = prepare_image(Volume(padded, Geometry(padded.shape[1:], affine)), plan_of())
    alone = prepare_image(volume(one), plan_of())
    assert found.geometry.matches(alone.geometry)
    assert np.array_equal(found.array, alone.array)


def test_points_name_labelled_voxels_of_each_class(tmp_path: Path) -> None:
    found = prepared(scan("a", 7), tmp_path, plan_of())
    classes, *voxels = found.points.T
    assert set(classes) == {1, 2}
    assert np.array_equal(found.target[0][tuple(voxels)], classes)
    for value in (1, 2):
        assert (classes == value).sum() == min((found.target == value).sum(), POINTS)


def test_points_of_a_large_structure_are_spread_over_all_of_it(tmp_path: Path) -> None:
    found = prepared(scan("a", 7), tmp_path, plan_of((0.5, 0.5, 0.5)))
    of_one = found.points[found.points[:, 0] == 1][:, 1:]
    voxels = np.argwhere(found.target[0] == 1)
    assert len(voxels) > POINTS == len(of_one)
    assert np.array_equal(of_one.min(axis=0)[0], voxels.min(axis=0)[0])
    assert np.array_equal(of_one.max(axis=0)[0], voxels.max(axis=0)[0])


def test_a_case_without_a_label_has_an_image_alone(tmp_path: Path) -> None:
    found = prepared(scan("a", 8), tmp_path, plan_of(), labelled=False)
    assert sorted(path.name for path in found.folder.iterdir()) == ["case.json", "image.npy"]
    assert found.weight is None


@pytest.mark.parametrize("weight", [BorderWeight(), BorderWeight(balance=False), ClassBalance()])
def test_a_weight_map_is_that_of_the_prepared_labels(weight: Any, tmp_path: Path) -> None:
    found = prepared(scan("a", 9), tmp_path, plan_of((1.5, 1.5, 1.5)), weight)
    assert np.array_equal(found.weight, weight(np.asarray(found.labels)).astype(np.float16))


def test_distances_are_in_millimetres_at_the_prepared_spacing(tmp_path: Path) -> None:
    target = SignedDistance(clip_mm=50)
    found = prepared(scan("a", 10), tmp_path, plan_of((2.0, 1.0, 1.0), target=target))
    assert found.target.dtype == np.float32
    inside = found.labels[0] == 1
    assert ((found.target[0] < 0) == inside).all()
    index = tuple(np.round(found.geometry.index((0.0, 0.0, 8.0))).astype(int))
    nearest = found.geometry.world(np.argwhere(inside)) - found.geometry.world(index)
    assert found.target[0][index] * 50 == pytest.approx(np.linalg.norm(nearest, axis=1).min(), rel=1e-5)


def test_arrays_are_mapped_and_not_loaded(tmp_path: Path) -> None:
    found = prepared(scan("a", 1), tmp_path, plan_of())
    assert isinstance(found.image, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        found.image[0, 0, 0, 0] = 1


class TestTheKey:
    def case(self, **changes: Any) -> Case:
        reference = FileRef(path="a.nii.gz", sha256="0" * 64)
        plain: dict[str, Any] = {
            "id": "a",
            "subject": "a",
            "part": "develop",
            "images": (reference,),
            "label": reference,
            "shape": (2, 2, 2),
            "affine": tuple(map(tuple, np.eye(4).tolist())),
        }
        return Case(**plain | changes)

    @pytest.mark.parametrize(
        "change",
        [{"id": "b"}, {"subject": "b"}, {"part": "test"}, {"images": (FileRef(path="b.nii.gz", sha256="0" * 64),)}],
        ids=["id", "subject", "part", "path"],
    )
    def test_does_not_depend_on_names(self, change: dict[str, Any]) -> None:
        assert key_of(self.case(**change), plan_of(), None) == key_of(self.case(), plan_of(), None)

    @pytest.mark.parametrize(
        "change",
        [{"images": (FileRef(path="a.nii.gz", sha256="1" * 64),)}, {"label": None}],
        ids=["image", "label"],
    )
    def test_depends_on_what_the_files_hold(self, change: dict[str, Any]) -> None:
        assert key_of(self.case(**change), plan_of(), None) != key_of(self.case(), plan_of(), None)

    @pytest.mark.parametrize(
        "change",
        [
            lambda: key_of(TestTheKey().case(), plan_of((1, 1, 2)), None),
            lambda: key_of(TestTheKey().case(), plan_of(target=SignedDistance()), None),
            lambda: key_of(TestTheKey().case(), plan_of(labels=LabelSet.plain({"x": 1})), None),
            lambda: key_of(TestTheKey().case(), plan_of(), BorderWeight()),
            lambda: key_of(TestTheKey().case(), plan_of(), BorderWeight(w0=3)),
        ],
        ids=["spacing", "target", "labels", "weight", "weight's form"],
    )
    def test_depends_on_what_is_done_to_them(self, change: Callable[[], str]) -> None:
        assert change() not in {
            key_of(self.case(), plan_of(), None),
            key_of(self.case(), plan_of(), BorderWeight(w0=4)),
        }

    def test_does_not_depend_on_patch_and_batch(self) -> None:
        other = plan_of(patch=(8, 8, 8), batch=9)
        assert key_of(self.case(), other, None) == key_of(self.case(), plan_of(), None)


class TestAdopting:
    @pytest.fixture
    def earlier(self, tmp_path: Path) -> Path:
        for number in (1, 2):
            prepared(scan(f"case_{number}", number), tmp_path / "earlier", plan_of())
        return tmp_path / "earlier" / "out"

    def test_links_what_has_the_same_key(self, earlier: Path, tmp_path: Path) -> None:
        now = PreparedSet(tmp_path / "now")
        assert now.adopt({"case_1": "key", "case_2": "other", "case_3": "key"}, [earlier]) == ["case_2", "case_3"]
        for path in (earlier / "cases" / "case_1").iterdir():
            assert (now["case_1"].folder / path.name).stat().st_ino == path.stat().st_ino
        assert now.key("case_1") == "key"
        assert now.key("case_2") is None

    def test_copies_where_links_are_impossible(
        self, earlier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_link(*arguments: object) -> None:
            raise OSError("no links on this file system")

        monkeypatch.setattr(os, "link", no_link)
        now = PreparedSet(tmp_path / "now")
        assert now.adopt({"case_1": "key"}, [earlier]) == []
        for path in (earlier / "cases" / "case_1").iterdir():
            assert (now["case_1"].folder / path.name).read_bytes() == path.read_bytes()

    def test_leaves_what_is_there_already(self, earlier: Path, tmp_path: Path) -> None:
        assert PreparedSet(earlier).adopt({"case_1": "key"}, [tmp_path / "nowhere"]) == []

    @pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
    def test_trusts_no_damaged_receipt(self, text: str, earlier: Path, tmp_path: Path) -> None:
        (earlier / "cases" / "case_1" / "case.json").write_text(text)
        assert PreparedSet(tmp_path / "now").adopt({"case_1": "key"}, [earlier]) == ["case_1"]

    def test_takes_a_case_that_was_half_linked_for_missing(self, earlier: Path, tmp_path: Path) -> None:
        half = tmp_path / "now" / "cases" / "case_1"
        half.mkdir(parents=True)
        os.link(earlier / "cases" / "case_1" / "image.npy", half / "image.npy")
        now = PreparedSet(tmp_path / "now")
        assert now.key("case_1") is None
        assert now.adopt({"case_1": "key"}, [earlier]) == []
        assert json.loads((half / "case.json").read_text())["key"] == "key"
        assert now["case_1"].labels.any()


def test_the_affine_of_a_prepared_image_fits_its_array(tmp_path: Path) -> None:
    found = prepared(scan("a", 2, spacing=(0.7, 0.9, 1.3), axes="LPS"), tmp_path, plan_of((1.0, 1.0, 1.0)))
    assert found.geometry.shape == found.image.shape[1:]
    assert np.linalg.det(found.geometry.affine[:3, :3]) > 0
    assert affine_of(found.geometry.shape)[:3, :3] == pytest.approx(found.geometry.affine[:3, :3])
