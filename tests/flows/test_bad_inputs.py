"""Bad input through the command line: one line that names case, file, reason and mend; the good cases go on."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from phantoms import (
    QUIET,
    SHAPE,
    affine_of,
    load,
    made,
    prepare,
    rows,
    save,
    scan,
    scans,
    segpipe,
    segpipe_apart,
    summary,
    write_csv,
    write_folder,
    write_msd,
    write_nnunet,
)

from segpipe.core.atomic import locked

GOOD = [f"case_{number}" for number in range(1, 5)]
BAD = "sick"

Spoil = Callable[[Path, str], None]


def image_of(root: Path, case: str) -> Path:
    return root / "imagesTr" / f"{case}.nii.gz"


def label_of(root: Path, case: str) -> Path:
    return root / "labelsTr" / f"{case}.nii.gz"


def no_label(root: Path, case: str) -> None:
    label_of(root, case).unlink()


def no_image(root: Path, case: str) -> None:
    image_of(root, case).unlink()


def label_on_a_smaller_grid(root: Path, case: str) -> None:
    label, affine = load(label_of(root, case))
    save(label_of(root, case), label[:-2], affine)


def label_turned(root: Path, case: str) -> None:
    save(label_of(root, case), load(label_of(root, case))[0], affine_of(SHAPE, degrees=2))


def label_mirrored(root: Path, case: str) -> None:
    save(label_of(root, case), load(label_of(root, case))[0], affine_of(SHAPE, axes="LAS"))


def label_shifted(root: Path, case: str) -> None:
    label, affine = load(label_of(root, case))
    affine[:3, 3] += (0, 3, 4)
    save(label_of(root, case), label, affine)


def label_of_another_spacing(root: Path, case: str) -> None:
    save(label_of(root, case), load(label_of(root, case))[0], affine_of(SHAPE, (1, 1, 2)))


def label_between_integers(root: Path, case: str) -> None:
    label, affine = load(label_of(root, case))
    smooth = label.astype(np.float32)
    smooth[3, 3, 3] = 0.5
    save(label_of(root, case), smooth, affine)


def label_below_zero(root: Path, case: str) -> None:
    label, affine = load(label_of(root, case))
    save(label_of(root, case), np.where(label == 2, -1, label.astype(np.int16)), affine)


def label_undeclared(root: Path, case: str) -> None:
    label, affine = load(label_of(root, case))
    label[2, 2, 2:5] = 7
    save(label_of(root, case), label, affine)


def label_empty(root: Path, case: str) -> None:
    label, affine = load(label_of(root, case))
    save(label_of(root, case), label * 0, affine)


def image_with(value: float) -> Spoil:
    def spoil(root: Path, case: str) -> None:
        image, affine = load(image_of(root, case))
        floats = image.astype(np.float32)
        floats[5, 5, 5:7] = value
        save(image_of(root, case), floats, affine)

    return spoil


def image_constant(root: Path, case: str) -> None:
    image, affine = load(image_of(root, case))
    save(image_of(root, case), np.full_like(image, 42), affine)


def image_of_absurd_spacing(root: Path, case: str) -> None:
    for path in (image_of(root, case), label_of(root, case)):
        save(path, load(path)[0], affine_of(SHAPE, (1, 1, 900)))


def image_cut_short(root: Path, case: str) -> None:
    data = image_of(root, case).read_bytes()
    image_of(root, case).write_bytes(data[: len(data) // 2])


def image_of_no_bytes(root: Path, case: str) -> None:
    image_of(root, case).write_bytes(b"")


def image_that_is_a_web_page(root: Path, case: str) -> None:
    image_of(root, case).write_text("<html><body>404 not found</body></html>")


def image_of_two_channels(root: Path, case: str) -> None:
    image, affine = load(image_of(root, case))
    save(image_of(root, case), np.stack([image, image + 1], axis=-1), affine)


def id_used_twice(root: Path, case: str) -> None:
    image, affine = load(image_of(root, case))
    save(root / "imagesTr" / f"{case}.nii", image, affine)
    described = json.loads((root / "dataset.json").read_text())
    described["training"].append({"image": f"imagesTr/{case}.nii", "label": f"labelsTr/{case}.nii.gz"})
    (root / "dataset.json").write_text(json.dumps(described))


@dataclass(frozen=True)
class Fault:
    """Something wrong with a case, and the words of the line that tells of it."""

    spoil: Spoil
    file: str
    reason: str
    mend: str

    def words(self, case: str) -> list[str]:
        return [f"{case} {self.file.format(case)}: ", self.reason, self.mend]


IMAGE, LABEL = "imagesTr/{}.nii.gz", "labelsTr/{}.nii.gz"
FAULTS = {
    "missing label": Fault(no_label, IMAGE, "has no label file", "Add one with the same name"),
    "label on another grid": Fault(
        label_on_a_smaller_grid, LABEL, "shape (18, 22, 18) differs from (20, 22, 18)", "Resample"
    ),
    "NaN in the image": Fault(image_with(np.nan), IMAGE, "2 voxel(s) are not numbers", "Replace them"),
    "truncated gzip": Fault(image_cut_short, IMAGE, "cut short", "Fetch it again"),
    "fractional labels": Fault(
        label_between_integers, LABEL, "fractional label values", "Save the label map as integers"
    ),
    "undeclared label value": Fault(label_undeclared, LABEL, "label value 7 (3 voxels) is not declared", "Declare it"),
    "empty label": Fault(label_empty, LABEL, "the label map is empty", "Annotate it"),
    "duplicate id": Fault(id_used_twice, "{0}.nii.gz,{0}.nii", "the id is used 2 times", "Give each case its own name"),
    "wrong channel count": Fault(
        image_of_two_channels, IMAGE, "2 channel(s), but the data set declares 1", "correct the list"
    ),
    "zero-byte file": Fault(image_of_no_bytes, IMAGE, "the file is empty (0 bytes)", "Fetch it again"),
    "label turned by 2 degrees": Fault(label_turned, LABEL, "turned by 2.00 degrees", "Resample"),
    "label mirrored": Fault(label_mirrored, LABEL, "turned by 180.00 degrees", "Resample"),
    "label shifted": Fault(label_shifted, LABEL, "up to 5.00 mm away", "Resample"),
    "spacing differs": Fault(label_of_another_spacing, LABEL, "spacing (1.0, 1.0, 2.0) mm differs", "Resample"),
    "negative labels": Fault(label_below_zero, LABEL, "negative label values", "Save the label map as integers"),
    "infinite values": Fault(image_with(np.inf), IMAGE, "2 voxel(s) are not numbers", "Replace them"),
    "constant image": Fault(image_constant, IMAGE, "every voxel is 42", "Export it again"),
    "absurd spacing": Fault(
        image_of_absurd_spacing, IMAGE, "implausible spacing (1.0, 1.0, 900.0) mm", "Correct the header"
    ),
    "listed image missing": Fault(no_image, IMAGE, "there is no such file", "Restore it"),
    "web page saved as image": Fault(image_that_is_a_web_page, IMAGE, "gzip file is damaged", "Fetch it again"),
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A Decathlon folder of four good cases and one that waits to be spoiled."""
    return write_msd(tmp_path / "data", [*scans(4), scan(BAD, 9)])


@pytest.mark.parametrize("fault", list(FAULTS.values()), ids=list(FAULTS))
class TestEveryFault:
    def test_costs_one_line_and_no_other_case(self, fault: Fault, data: Path, tmp_path: Path) -> None:
        fault.spoil(data, BAD)
        ran = prepare(data, tmp_path / "out")
        assert ran.code == 3
        (line,) = ran.aside
        for words in fault.words(BAD):
            assert words in line
        (row,) = rows(tmp_path / "out/latest/quarantine.jsonl")
        assert line == f"{row['case']} {row['reason']}"
        assert "Traceback" not in ran.out + ran.err
        ready = sorted(path.parent.name for path in made(tmp_path / "out", "preprocess").glob("cases/*/case.json"))
        assert ready == GOOD

    def test_stops_a_strict_run_with_the_same_line(self, fault: Fault, data: Path, tmp_path: Path) -> None:
        fault.spoil(data, BAD)
        ran = prepare(data, tmp_path / "out", "--strict")
        assert ran.code == 2
        (line,) = ran.err.splitlines()
        assert "--strict" in line
        for words in fault.words(BAD):
            assert words in line
        assert not (tmp_path / "out" / "preprocess").exists()

    def test_in_every_case_ends_the_run_with_one_line(self, fault: Fault, data: Path, tmp_path: Path) -> None:
        for case in (*GOOD, BAD):
            fault.spoil(data, case)
        ran = prepare(data, tmp_path / "out")
        assert ran.code == 2
        (line,) = ran.err.splitlines()
        assert "no usable labelled case: 5 of 5 set aside" in line
        assert fault.reason in line
        assert fault.mend in line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "hands"),
    [
        ("truncated gzip", "executor.workers=2"),
        ("NaN in the image", "executor.kind=serial"),
        ("zero-byte file", "executor.kind=serial"),
    ],
)
def test_in_a_process_of_its_own_it_is_the_same(name: str, hands: str, data: Path, tmp_path: Path) -> None:
    fault = FAULTS[name]
    fault.spoil(data, BAD)
    command = ("run", "default", "--data", data, "-o", tmp_path / "out", "--pipeline", "prepare")
    ran = segpipe_apart(*command, "run.tracking.kind=none", f"run.{hands}")
    assert ran.code == 3
    assert "Traceback" not in ran.out + ran.err
    (line,) = ran.aside
    assert all(words in line for words in fault.words(BAD))
    assert summary(tmp_path / "out", "preprocess")["prepared"] == 4


def test_every_case_is_accounted_for(data: Path, tmp_path: Path) -> None:
    described = json.loads((data / "dataset.json").read_text())
    described["test"] = [f"imagesTs/{name}.nii.gz" for name in ("new_1", "new_2")]
    (data / "dataset.json").write_text(json.dumps(described))
    save(data / "imagesTs/new_1.nii.gz", scan("new_1", 11).image[0], affine_of(SHAPE))
    for case, name in ((BAD, "NaN in the image"), ("case_1", "empty label")):
        FAULTS[name].spoil(data, case)
    ran = prepare(data, tmp_path / "out")
    told = summary(tmp_path / "out", "ingest")
    assert (told["develop"] + told["test"], told["unlabelled"], told["quarantined"]) == (3, 1, 3)
    assert {line.split()[0] for line in ran.aside} == {BAD, "case_1", "new_2"}


def test_reasons_are_shown_again_when_nothing_is_left_to_do(data: Path, tmp_path: Path) -> None:
    no_label(data, BAD)
    first, again = (prepare(data, tmp_path / "out") for _ in range(2))
    assert again.code == 3
    assert "found, nothing to do" in again.out
    assert again.aside == first.aside
    assert len(again.aside) == 1


def test_a_mended_case_joins_the_others(data: Path, tmp_path: Path) -> None:
    whole = image_of(data, BAD).read_bytes()
    image_cut_short(data, BAD)
    assert prepare(data, tmp_path / "out").code == 3
    image_of(data, BAD).write_bytes(whole)
    ran = prepare(data, tmp_path / "out")
    assert (ran.code, ran.aside) == (0, [])
    assert summary(tmp_path / "out", "preprocess")["cases"] == 5


def test_rounding_in_a_header_is_no_fault(data: Path, tmp_path: Path) -> None:
    label, affine = load(label_of(data, BAD))
    affine[:3] += 1e-4
    save(label_of(data, BAD), label, affine)
    assert prepare(data, tmp_path / "out").code == 0


def test_an_empty_label_is_a_case_where_the_config_allows_it(data: Path, tmp_path: Path) -> None:
    label_empty(data, BAD)
    assert prepare(data, tmp_path / "out", "ingest.check.allow_empty_labels=true").code == 0
    assert summary(tmp_path / "out", "preprocess")["prepared"] == 5


def test_one_blank_channel_of_several_is_named(tmp_path: Path) -> None:
    good = scans(5, channels=2)
    good[2].image[1] = 7
    ran = prepare(write_msd(tmp_path / "data", good), tmp_path / "out")
    assert ran.code == 3
    (line,) = ran.aside
    assert line.startswith("case_3 imagesTr/case_3.nii.gz: every voxel of channel 2 is 7; ")


def test_litter_beside_the_files_is_ignored(data: Path, tmp_path: Path) -> None:
    expected = prepare(data, tmp_path / "clean").out.replace("clean", "litter")
    for folder in ("imagesTr", "labelsTr"):
        (data / folder / "._case_1.nii.gz").write_bytes(b"\0\5\x16\7Mac OS X")
        (data / folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
        (data / folder / "Thumbs.db").write_bytes(b"litter")
    ran = prepare(data, tmp_path / "litter")
    assert ran.code == 0
    assert "found" not in ran.out
    assert [line.split()[:2] for line in ran.out.splitlines()] == [line.split()[:2] for line in expected.splitlines()]


@pytest.mark.parametrize("write", [write_nnunet, write_folder], ids=["nnunet", "folder"])
def test_litter_is_no_case_where_folders_are_searched(write: Callable[..., Path], tmp_path: Path) -> None:
    root = write(tmp_path / "data", scans(4))
    images = root / ("images" if write is write_folder else "imagesTr")
    litter = next(images.iterdir())
    (images / f"._{litter.name}").write_bytes(b"\0\5\x16\7Mac OS X")
    ran = prepare(root, tmp_path / "out", *(["ingest.source.labels={a: 1, b: 2}"] if write is write_folder else []))
    assert ran.code == 0
    assert summary(tmp_path / "out", "ingest")["cases"] == 4


@pytest.mark.parametrize("layout", ["folder", "nnunet"])
def test_a_label_map_without_an_image_is_named(layout: str, tmp_path: Path) -> None:
    write, labels = (write_folder, "labels") if layout == "folder" else (write_nnunet, "labelsTr")
    root = write(tmp_path / "data", scans(4))
    shutil.copy(root / labels / "case_1.nii.gz", root / labels / "lonely.nii.gz")
    ran = prepare(root, tmp_path / "out", *(["ingest.source.labels={a: 1, b: 2}"] if layout == "folder" else []))
    assert ran.code == 3
    (line,) = ran.aside
    assert line.startswith("lonely lonely.nii.gz: a label map without an image. Add the image")


def test_one_file_without_a_channel_number_costs_no_other_case(tmp_path: Path) -> None:
    root = write_nnunet(tmp_path / "data", scans(5))
    (root / "imagesTr/case_2_0000.nii.gz").rename(root / "imagesTr/case_2_new.nii.gz")
    ran = prepare(root, tmp_path / "out")
    assert ran.code == 3
    assert summary(tmp_path / "out", "ingest")["cases"] == 4
    assert any("case_2_new.nii.gz: has no label file" in line for line in ran.aside)


def test_a_channel_of_the_wrong_number_is_not_taken_for_another(tmp_path: Path) -> None:
    root = write_nnunet(tmp_path / "data", scans(5, channels=2))
    (root / "imagesTr/case_2_0001.nii.gz").rename(root / "imagesTr/case_2_0002.nii.gz")
    ran = prepare(root, tmp_path / "out")
    assert ran.code == 3
    (line,) = ran.aside
    assert line.startswith("case_2 imagesTr/case_2_0000.nii.gz: 1 channel(s), but the data set declares 2")


def test_a_broken_description_is_named_by_line_and_column(data: Path, tmp_path: Path) -> None:
    text = (data / "dataset.json").read_text()
    (data / "dataset.json").write_text(text.replace('"labels": {', '"labels" {'))
    line = next(n for n, row in enumerate(text.splitlines(), 1) if '"labels": {' in row)
    ran = prepare(data, tmp_path / "out")
    assert ran.code == 2
    (told,) = ran.err.splitlines()
    assert "dataset.json: this is not valid JSON" in told
    assert f"line {line} column 11" in told
    assert "Correct it there" in told


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"modality": {"first": "MR"}}, "channels"),
        ({"modality": {}}, "no channels are named"),
        ({"labels": {"0": "background"}}, "at least one structure"),
        ({"labels": {"0": "background", "1": "lump", "2": "lump"}}, "twice"),
        ({"labels": {"background": 0, "lump": "one"}}, "labels make no sense"),
        ({"training": []}, '"training" is empty'),
        ({"training": ["imagesTr/case_1.nii.gz"]}, "names no image"),
        ({"training": [{"image": "../elsewhere.nii.gz"}]}, "outside the data set"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_description_that_makes_no_sense_gives_one_line(
    change: dict[str, object], words: str, tmp_path: Path
) -> None:
    ran = prepare(write_msd(tmp_path / "data", scans(4), **change), tmp_path / "out")
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert "dataset.json" in line
    assert words in line


def test_a_test_list_of_nothing_is_no_fault(tmp_path: Path) -> None:
    assert prepare(write_msd(tmp_path / "data", scans(4), test=None), tmp_path / "out").code == 0


def test_too_few_good_cases_name_a_bad_one(data: Path, tmp_path: Path) -> None:
    for case in GOOD:
        image_of_no_bytes(data, case)
    ran = prepare(data, tmp_path / "out")
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert "at least 2 must be left" in line
    assert "4 case(s) were set aside" in line
    assert "case_1.nii.gz: the file is empty" in line


@pytest.mark.parametrize(("held", "words"), [([], "nothing"), (["scan.dcm", "notes.txt"], "notes.txt, scan.dcm")])
def test_a_folder_of_no_known_layout_is_told_what_it_holds(held: list[str], words: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in held:
        (tmp_path / "data" / name).touch()
    ran = prepare(tmp_path / "data", tmp_path / "out")
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert f"It holds: {words}." in line


def test_a_folder_that_is_not_there_gives_one_line(tmp_path: Path) -> None:
    ran = prepare(tmp_path / "nowhere", tmp_path / "out")
    assert ran.code == 2
    assert "there is no such folder" in ran.err
    assert len(ran.err.splitlines()) == 1


def test_a_row_of_a_table_that_points_outside_is_refused(tmp_path: Path) -> None:
    table = write_csv(tmp_path / "data/cases.csv", scans(4))
    table.write_text(table.read_text().replace("maps/case_2", "../../maps/case_2"))
    ran = prepare(table, tmp_path / "out", "ingest.source.labels={a: 1, b: 2}")
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert "cases.csv: line 3: ../../maps/case_2.nii.gz lies outside" in line


def test_a_file_in_place_of_the_output_folder_is_named(data: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    ran = prepare(data, tmp_path / "out")
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert f"{tmp_path / 'out'}: is a file" in line
    assert "-o" in line
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("name", ["2026-03-01", "17", "a: b", "[x]", "no", "with 'quotes\" and # hash"])
def test_any_name_of_a_folder_is_taken_as_it_is(name: str, data: Path, tmp_path: Path) -> None:
    root = data.rename(tmp_path / f"in {name}")
    assert prepare(root, tmp_path / name).code == 0
    assert (tmp_path / name / "latest" / "plan.json").is_file()


def test_relative_folders_of_odd_names_are_taken_as_they_are(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data.rename(tmp_path / "007")
    assert prepare(Path("007"), Path("2026-03-01")).code == 0
    assert (tmp_path / "2026-03-01" / "latest" / "plan.json").is_file()


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a folder that even root may not write to")
def test_output_that_may_not_be_written_is_the_machines_fault(data: Path) -> None:
    ran = prepare(data, Path("/sys/kernel/segpipe-out"))
    assert ran.code == 4
    (line,) = ran.err.splitlines()
    assert "/sys/kernel/segpipe-out" in line
    assert "Traceback" not in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root ignores the modes of files")
def test_a_read_only_folder_is_the_machines_fault(data: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    ran = prepare(data, tmp_path / "locked" / "out")
    assert ran.code == 4
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize("nth", [1, 2, 6, 13])
def test_a_full_disk_ends_the_run_with_exit_code_4_and_the_next_run_goes_on(
    nth: int, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renamed = 0
    rename = Path.replace

    def full(path: Path, target: Path) -> Path:
        nonlocal renamed
        renamed += 1
        if renamed >= nth:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        ran = prepare(data, tmp_path / "out")
    assert ran.code == 4
    assert len(ran.err.splitlines()) == 1
    assert "disk" in ran.err or "No space left" in ran.err
    assert not list((tmp_path / "out").rglob("*.tmp.*"))
    again = prepare(data, tmp_path / "out")
    assert again.code == 0
    assert summary(tmp_path / "out", "preprocess")["cases"] == 5


def test_the_input_is_never_written(data: Path, tmp_path: Path) -> None:
    def state() -> dict[str, tuple[int, bytes]]:
        files = [path for path in data.rglob("*") if path.is_file()]
        return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}

    image_cut_short(data, BAD)
    before = state()
    prepare(data, tmp_path / "out")
    assert state() == before


def test_a_second_run_leaves_at_once_and_names_the_first(data: Path, tmp_path: Path) -> None:
    planned = segpipe("plan", "default", "--data", data, "-o", tmp_path / "out", "--pipeline", "prepare")
    name = planned.out.split()[1]
    with locked(tmp_path / "out" / "ingest" / f"{name}.lock"):
        began = time.monotonic()
        ran = prepare(data, tmp_path / "out")
    assert time.monotonic() - began < 20, "it waited"
    assert ran.code == 5
    (line,) = ran.err.splitlines()
    assert f"process {os.getpid()} on " in line
    assert "Wait for it" in line


@pytest.mark.slow
def test_of_two_real_runs_the_first_goes_on_and_the_second_is_turned_away(tmp_path: Path) -> None:
    data, out = write_msd(tmp_path / "data", scans(60)), tmp_path / "out"
    command = [sys.executable, "-m", "segpipe", "run", "default", "--data", data, "-o", out, "--pipeline", "prepare"]
    with subprocess.Popen(list(map(str, [*command, *QUIET])), stdout=subprocess.DEVNULL) as first:
        try:
            deadline = time.monotonic() + 60
            while not list(out.glob("preprocess/*.partial/cases/*/case.json")) and time.monotonic() < deadline:
                time.sleep(0.001)
            os.kill(first.pid, signal.SIGSTOP)  # so that it is surely at work while the second one comes
            at_work = list(out.glob("preprocess/*.partial"))
            second = prepare(data, out)
        finally:
            os.kill(first.pid, signal.SIGCONT)
        assert at_work, "the first run was over before it could be stopped"
        assert second.code == 5
        assert f"process {first.pid} on " in second.err
        assert len(second.err.splitlines()) == 1
        assert first.wait(60) == 0
    assert prepare(data, out).code == 0


def test_a_lock_is_freed_when_its_holder_is_killed(data: Path, tmp_path: Path) -> None:
    planned = segpipe("plan", "default", "--data", data, "-o", tmp_path / "out", "--pipeline", "prepare")
    lock = tmp_path / "out" / "ingest" / f"{planned.out.split()[1]}.lock"
    hold = f"import fcntl, time; f = open({str(lock)!r}, 'a+'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True)"
    lock.parent.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", f"{hold}; time.sleep(60)"], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert prepare(data, tmp_path / "out").code == 5
        holder.kill()
        holder.wait()
    assert prepare(data, tmp_path / "out").code == 0


def test_the_same_scan_may_lie_in_any_orientation(tmp_path: Path) -> None:
    turned = [scan(f"case_{n}", n, axes=axes) for n, axes in enumerate(("RAS", "LPS", "PIR", "SAL"), 1)]
    assert prepare(write_msd(tmp_path / "data", turned), tmp_path / "out").code == 0
