"""Preprocess: every case once, whole or absent, and only what changed again."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from phantoms import load, made, prepare, rows, save, scan, scans, summary, write_msd, write_nnunet

from segpipe.core.atomic import write_json
from segpipe.dataset import prepare as preparing
from segpipe.dataset.plan import Plan
from segpipe.dataset.prepare import PreparedSet
from segpipe.imaging.weights import BorderWeight

HERE = Path(__file__).parent.parent
CASES = [f"case_{number}" for number in range(1, 6)]
REGIONS = {"background": 0, "whole": [1, 2], "core": [2]}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_msd(tmp_path / "data", scans(5))


def states(folder: Path) -> dict[str, tuple[int, int]]:
    """Return inode and time of change of every file of every case."""
    files = sorted(folder.glob("cases/*/*"))
    return {f"{path.parent.name}/{path.name}": (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def of(case: str, found: dict[str, Any]) -> dict[str, Any]:
    return {name: state for name, state in found.items() if name.startswith(f"{case}/")}


def contents(folder: Path) -> dict[str, bytes]:
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in sorted(folder.glob("cases/*/*"))}


def brighter(data: Path, case: str) -> None:
    path = data / "imagesTr" / f"{case}.nii.gz"
    image, affine = load(path)
    save(path, image + np.int16(100), affine)


class TestOneChangedImage:
    @pytest.fixture
    def folders(self, data: Path, tmp_path: Path) -> tuple[Path, Path]:
        assert prepare(data, tmp_path / "out").code == 0
        before = made(tmp_path / "out", "preprocess")
        brighter(data, "case_3")
        assert prepare(data, tmp_path / "out").code == 0
        return before, made(tmp_path / "out", "preprocess")

    def test_is_the_only_one_that_is_prepared_again(self, folders: tuple[Path, Path], tmp_path: Path) -> None:
        told = summary(tmp_path / "out", "preprocess")
        assert (told["cases"], told["prepared"], told["taken_over"]) == (5, 1, 4)

    def test_leaves_the_others_as_links_to_the_very_same_bytes(self, folders: tuple[Path, Path]) -> None:
        before, after = folders
        assert before != after
        for case in CASES:
            linked = of(case, states(before)) == of(case, states(after))
            assert linked == (case != "case_3"), case
        assert not states(before).items() & of("case_3", states(after)).items()

    def test_gives_what_a_fresh_start_gives(self, folders: tuple[Path, Path], data: Path, tmp_path: Path) -> None:
        assert prepare(data, tmp_path / "fresh").code == 0
        assert contents(folders[1]) == contents(made(tmp_path / "fresh", "preprocess"))
        assert summary(tmp_path / "fresh", "preprocess")["prepared"] == 5


def test_a_new_case_costs_its_own_work(data: Path, tmp_path: Path) -> None:
    assert prepare(data, tmp_path / "out").code == 0
    write_msd(tmp_path / "more", [*scans(5), scan("case_6", 6)])
    assert prepare(tmp_path / "more", tmp_path / "out").code == 0
    assert summary(tmp_path / "out", "preprocess")["prepared"] == 1


def test_another_split_costs_nothing(data: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        assert prepare(data, tmp_path / "out", f"ingest.split.seed={seed}").code == 0
    assert summary(tmp_path / "out", "preprocess")["prepared"] == 0


def test_another_patch_costs_nothing_and_another_spacing_everything(data: Path, tmp_path: Path) -> None:
    for settings, redone in (
        ((), 5),
        (("preprocess.plan.patch=[8,8,8]",), 0),
        (("preprocess.plan.spacing=[2,2,2]",), 5),
    ):
        assert prepare(data, tmp_path / "out", *settings).code == 0
        assert summary(tmp_path / "out", "preprocess")["prepared"] == redone


def test_of_ct_a_changed_training_image_changes_the_window_and_so_every_case(tmp_path: Path) -> None:
    data = write_msd(tmp_path / "data", scans(5), modality={"0": "CT"})
    assert prepare(data, tmp_path / "out").code == 0
    brighter(data, next(row["id"] for row in rows(tmp_path / "out/latest/manifest.jsonl") if row["part"] == "develop"))
    assert prepare(data, tmp_path / "out").code == 0
    assert summary(tmp_path / "out", "preprocess")["prepared"] == 5


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from phantoms import prepare
from pathlib import Path
from segpipe.stages import preprocess

done = []
original = preprocess.prepare_case

def prepare_case(job):
    if len(done) == {after}:
        os.kill(os.getpid(), signal.SIGKILL)
    done.append(original(job))
    return done[-1]

preprocess.prepare_case = prepare_case
prepare(Path({data!r}), Path({out!r}))
"""


@pytest.mark.slow
def test_killed_after_three_cases_it_goes_on_with_the_fourth(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    program = KILLED.format(tests=str(HERE), after=3, data=str(data), out=str(out))
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (partial,) = out.glob("preprocess/*.partial")
    assert not list(out.glob("preprocess/*/artifact.json"))
    finished = sorted(path.parent.name for path in partial.glob("cases/*/case.json"))
    assert finished == CASES[:3]
    before = states(partial)

    assert prepare(data, out).code == 0
    told = summary(out, "preprocess")
    assert (told["prepared"], told["taken_over"]) == (2, 3)
    after = states(made(out, "preprocess"))
    assert {name: after[name] for name in before} == before
    assert not list(out.glob("preprocess/*.partial"))
    assert prepare(data, tmp_path / "fresh").code == 0
    assert contents(made(out, "preprocess")) == contents(made(tmp_path / "fresh", "preprocess"))


@pytest.mark.slow
def test_killed_with_worker_processes_it_goes_on_too(tmp_path: Path) -> None:
    data, out = write_msd(tmp_path / "data", scans(30)), tmp_path / "out"
    command = [sys.executable, "-m", "segpipe", "run", "default", "--data", data, "-o", out, "--pipeline", "prepare"]
    command += ["run.tracking.kind=none", "run.executor.workers=2"]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, start_new_session=True) as process:
        while process.poll() is None and len(list(out.glob("preprocess/*.partial/cases/*/case.json"))) < 3:
            pass
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the run was over before it could be killed"
    (partial,) = out.glob("preprocess/*.partial")
    finished = {path.parent.name for path in partial.glob("cases/*/case.json")}
    before = {name: state for name, state in states(partial).items() if name.split("/")[0] in finished}
    assert prepare(data, out).code == 0
    assert summary(out, "preprocess")["taken_over"] == len(finished)
    after = states(made(out, "preprocess"))
    assert {name: after[name] for name in before} == before
    assert prepare(data, tmp_path / "fresh").code == 0
    assert contents(made(out, "preprocess")) == contents(made(tmp_path / "fresh", "preprocess"))


@pytest.mark.parametrize("nth", range(1, 7))
def test_a_case_that_was_stopped_midway_is_made_again(
    nth: int, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0

    def stopping(write: Any) -> Any:
        def stopped(path: Path, value: object) -> None:
            nonlocal written
            written += 1
            if written == nth:
                raise KeyboardInterrupt
            write(path, value)

        return stopped

    with monkeypatch.context() as patch:
        patch.setattr(preparing, "write_array", stopping(preparing.write_array))
        patch.setattr(preparing, "write_json", stopping(write_json))
        assert prepare(data, tmp_path / "out").code == 130
    whole = nth > 5  # image, labels, target, points, and the receipt of the first case
    assert prepare(data, tmp_path / "out").code == 0
    assert summary(tmp_path / "out", "preprocess")["taken_over"] == whole
    assert prepare(data, tmp_path / "fresh").code == 0
    assert contents(made(tmp_path / "out", "preprocess")) == contents(made(tmp_path / "fresh", "preprocess"))


def test_one_case_that_fails_is_named_and_the_others_are_kept(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = preparing.load_image

    def failing(files: Any) -> Any:
        if files.id == "case_2":
            raise MemoryError("too large")
        return original(files)

    with monkeypatch.context() as patch:
        patch.setattr(preparing, "load_image", failing)
        ran = prepare(data, tmp_path / "out")
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert "1 case(s) failed, the others are done. case_2: MemoryError: too large" in line
    assert prepare(data, tmp_path / "out").code == 0
    assert summary(tmp_path / "out", "preprocess")["prepared"] == 1


def test_many_hands_give_the_same_bytes(data: Path, tmp_path: Path) -> None:
    assert prepare(data, tmp_path / "one").code == 0
    ran = prepare(data, tmp_path / "two", "run.executor.kind=processes", "run.executor.workers=2")
    assert ran.code == 0, ran.err
    assert contents(made(tmp_path / "one", "preprocess")) == contents(made(tmp_path / "two", "preprocess"))


def test_every_prepared_case_lies_on_the_planned_grid(data: Path, tmp_path: Path) -> None:
    assert prepare(data, tmp_path / "out", "preprocess.plan.spacing=[2,1.5,1]").code == 0
    folder = made(tmp_path / "out", "preprocess")
    plan = Plan.model_validate_json((folder / "plan.json").read_text())
    assert plan.spacing == (2, 1.5, 1)
    for case in CASES:
        found = PreparedSet(folder)[case]
        assert found.geometry.spacing == plan.spacing
        assert found.geometry.axes == "RAS"
        assert found.image.dtype == np.float16
        assert found.image.shape == (1, *found.geometry.shape)
        assert found.target.shape == found.labels.shape == found.image.shape


@pytest.mark.parametrize("patch", ["[16,16]", "[16]", "[16,16,16,16]"])
def test_a_patch_of_another_rank_gives_one_line(patch: str, data: Path, tmp_path: Path) -> None:
    ran = prepare(data, tmp_path / "out", f"preprocess.plan.patch={patch}")
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert line == f"segpipe: preprocess.plan.patch={json.dumps(json.loads(patch))}: the images have 3 axes."


def test_scans_of_a_single_slice_are_prepared_as_2d(tmp_path: Path) -> None:
    flat = [scan(f"case_{n}", n, shape=(40, 44, 1)) for n in range(1, 5)]
    assert prepare(write_msd(tmp_path / "data", flat), tmp_path / "out").code == 0
    plan = Plan.model_validate_json((tmp_path / "out/latest/plan.json").read_text())
    assert len(plan.patch) == len(plan.spacing) == 2
    found = PreparedSet(made(tmp_path / "out", "preprocess"))["case_1"]
    assert found.image.shape == (1, 40, 44)


def test_one_scan_of_a_single_slice_among_others_stays_3d(data: Path, tmp_path: Path) -> None:
    thin = scan("case_2", 2, shape=(40, 44, 1))
    save(data / "imagesTr" / "case_2.nii.gz", thin.image[0], thin.affine)
    save(data / "labelsTr" / "case_2.nii.gz", thin.label, thin.affine)
    assert prepare(data, tmp_path / "out").code == 0
    found = PreparedSet(made(tmp_path / "out", "preprocess"))["case_2"]
    assert found.image.shape[3] == 1


def test_an_image_of_two_axes_is_set_aside_and_named(data: Path, tmp_path: Path) -> None:
    for part in ("imagesTr", "labelsTr"):
        image, affine = load(data / part / "case_2.nii.gz")
        save(data / part / "case_2.nii.gz", image[:, :, 9], affine)
    ran = prepare(data, tmp_path / "out")
    assert ran.code == 3
    (line,) = ran.aside
    assert line.startswith("case_2 imagesTr/case_2.nii.gz: is 2D, while most images are 3D. Take it out")


def test_images_of_a_few_voxels_are_prepared(tmp_path: Path) -> None:
    tiny = [scan(f"case_{n}", n, shape=(4, 3, 5), spacing=(4, 4, 4)) for n in range(1, 5)]
    assert all(one.label.any() for one in tiny)
    assert prepare(write_msd(tmp_path / "data", tiny), tmp_path / "out").code == 0
    assert summary(tmp_path / "out", "preprocess")["depth"] == 1


class TestTargetsAndWeights:
    def folder(self, data: Path, out: Path, *settings: str) -> PreparedSet:
        ran = prepare(data, out, *settings)
        assert ran.code == 0, ran.err
        return PreparedSet(made(out, "preprocess"))

    def test_the_border_weight_is_written_beside_the_target(self, data: Path, tmp_path: Path) -> None:
        found = self.folder(data, tmp_path / "out", "preprocess.weight={kind: border, w0: 7, sigma_voxels: 2}")
        for case in CASES:
            one = found[case]
            wanted = BorderWeight(w0=7, sigma_voxels=2)(np.asarray(one.labels))
            assert np.array_equal(one.weight, wanted.astype(np.float16))
            gap = np.argwhere(one.labels[0] == 0)
            assert one.weight is not None
            assert one.weight[0][tuple(gap.T)].max() > one.weight[0].min()

    def test_without_one_every_voxel_counts_alike(self, data: Path, tmp_path: Path) -> None:
        assert self.folder(data, tmp_path / "out")["case_1"].weight is None

    def test_regions_are_one_mask_each(self, tmp_path: Path) -> None:
        data = write_nnunet(tmp_path / "data", scans(4), labels=REGIONS, regions_class_order=[1, 2])
        found = self.folder(data, tmp_path / "out")["case_1"]
        assert np.array_equal(found.target, np.concatenate([found.labels > 0, found.labels == 2]))

    def test_regions_may_be_asked_for_where_nothing_overlaps(self, data: Path, tmp_path: Path) -> None:
        found = self.folder(data, tmp_path / "out", "preprocess.target.kind=regions")["case_1"]
        assert np.array_equal(found.target, np.concatenate([found.labels == 1, found.labels == 2]))

    def test_signed_distances_are_negative_within_each_structure(self, data: Path, tmp_path: Path) -> None:
        settings = ("preprocess.target={kind: signed_distance, clip_mm: 6}",)
        found = self.folder(data, tmp_path / "out", *settings)["case_1"]
        assert found.target.dtype == np.float32
        assert np.array_equal(found.target < 0, np.concatenate([found.labels == 1, found.labels == 2]))
        assert np.abs(found.target).max() == 1

    @pytest.mark.parametrize("kind", ["classes", "regions", "signed_distance"])
    def test_every_target_comes_back_as_the_label_map(self, kind: str, data: Path, tmp_path: Path) -> None:
        found = self.folder(data, tmp_path / "out", f"preprocess.target.kind={kind}")
        plan = Plan.model_validate_json((tmp_path / "out/latest/plan.json").read_text())
        for case in CASES:
            target = np.asarray(found[case].target)
            scores = {
                "classes": np.concatenate([target == number for number in range(3)]).astype(float),
                "regions": target.astype(float) - 0.5,
                "signed_distance": target,
            }[kind]
            assert np.array_equal(plan.target.decode(scores, plan.labels), found[case].labels[0])

    def test_a_wrong_form_of_either_is_refused_before_anything_is_done(self, data: Path, tmp_path: Path) -> None:
        ran = prepare(data, tmp_path / "out", "preprocess.weight={kind: border, w1: 7}")
        assert ran.code == 2
        assert "Did you mean w0?" in ran.err
        assert not (tmp_path / "out").exists()
