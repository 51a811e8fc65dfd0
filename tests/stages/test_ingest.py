"""Ingest: the name follows the files, twins and subjects stay together, and nothing is checked twice."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from phantoms import (
    NAMES,
    load,
    made,
    prepare,
    rows,
    run_stage,
    save,
    scan,
    scans,
    segpipe,
    summary,
    workspace,
    write_csv,
    write_folder,
    write_msd,
)

from segpipe.core.errors import ArtifactError, ConfigError, DataError
from segpipe.core.stage import Inputs
from segpipe.dataset import checks
from segpipe.dataset.checks import CheckConfig, CheckJob, check_case
from segpipe.dataset.manifest import Case, Dataset, Refusal
from segpipe.dataset.sources.decathlon import Msd
from segpipe.stages import ingest

Change = Callable[[Path], None]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_msd(tmp_path / "data", scans(5))


def settings_of(data: Path, **more: Any) -> dict[str, Any]:
    return {"ingest": {"source": {"kind": "auto", "root": str(data)}, **more}}


def ingested(data: Path, into: Path, **more: Any) -> Dataset:
    run_stage(ingest.STAGE, settings_of(data, **more), into)
    return Dataset.open(into, data)


def name_of(data: Path, *settings: str) -> str:
    """Return the fingerprint that ingest would have."""
    ran = segpipe("plan", "default", "--data", data, "--pipeline", "prepare", *settings)
    assert ran.code == 0, ran.err
    return ran.out.split()[1]


def brighter(data: Path, case: str) -> None:
    path = data / "imagesTr" / f"{case}.nii.gz"
    image, affine = load(path)
    save(path, image + np.int16(100), affine)


def test_the_manifest_says_where_each_case_lies_and_what_it_is(data: Path, tmp_path: Path) -> None:
    found = ingested(data, tmp_path / "out")
    one = scans(5)[2]
    case = next(case for case in found.cases if case.id == one.id)
    assert case.images[0].path == "imagesTr/case_3.nii.gz"
    assert case.label is not None
    assert case.label.path == "labelsTr/case_3.nii.gz"
    assert case.native.shape == one.label.shape
    assert np.allclose(case.native.affine, one.affine)
    assert found.files(case).images == (data / "imagesTr/case_3.nii.gz",)
    assert [case.id for case in found.cases] == [f"case_{n}" for n in range(1, 6)]


def test_the_data_set_comes_back_from_its_folder(data: Path, tmp_path: Path) -> None:
    found = ingested(data, tmp_path / "out")
    split = json.loads((tmp_path / "out" / "splits.json").read_text())
    assert [sorted(fold) for fold in found.folds] == split["folds"]
    assert sorted(case.id for case in found.part("test")) == split["test"]
    for index in range(len(found.folds)):
        training, validation = found.fold(index)
        assert {case.id for case in validation} == found.folds[index]
        assert not {case.id for case in training} & {*found.folds[index], *split["test"]}
        assert len(training) + len(validation) == len(found.part("develop"))
    assert found.fold("all") == (found.part("develop"), ())
    with pytest.raises(DataError, match=r"train\.fold=9: the split has folds 0 to 3"):
        found.fold(9)


@pytest.mark.parametrize("file", ["dataset.json", "manifest.jsonl", "quarantine.jsonl", "splits.json"])
@pytest.mark.parametrize("text", [None, "{", '{"x": 1}\n'])
def test_a_damaged_data_set_is_named(file: str, text: str | None, data: Path, tmp_path: Path) -> None:
    ingested(data, tmp_path / "out")
    (tmp_path / "out" / file).unlink() if text is None else (tmp_path / "out" / file).write_text(text)
    with pytest.raises(ArtifactError, match=r"^\S*: damaged \(.*\)\. Delete this folder and run again\.$"):
        Dataset.open(tmp_path / "out", data)


def change_an_image(data: Path) -> None:
    brighter(data, "case_1")


def touch_a_label(data: Path) -> None:
    os.utime(data / "labelsTr" / "case_1.nii.gz", ns=(1, 1))


def describe_otherwise(data: Path) -> None:
    text = (data / "dataset.json").read_text()
    (data / "dataset.json").write_text(text.replace("phantoms", "others"))


def lose_a_label(data: Path) -> None:
    (data / "labelsTr" / "case_1.nii.gz").unlink()


def list_one_more(data: Path) -> None:
    one = scan("case_6", 6)
    save(data / "imagesTr" / "case_6.nii.gz", one.image[0], one.affine)
    save(data / "labelsTr" / "case_6.nii.gz", one.label, one.affine)
    described = json.loads((data / "dataset.json").read_text())
    described["training"].append({"image": "imagesTr/case_6.nii.gz", "label": "labelsTr/case_6.nii.gz"})
    (data / "dataset.json").write_text(json.dumps(described))


def add_litter(data: Path) -> None:
    (data / "imagesTr" / "._case_1.nii.gz").write_bytes(b"litter")
    (data / "notes.txt").write_text("mine")


@pytest.mark.parametrize("change", [change_an_image, touch_a_label, describe_otherwise, lose_a_label, list_one_more])
def test_a_change_of_the_files_is_another_data_set(change: Change, data: Path) -> None:
    before = name_of(data)
    change(data)
    assert name_of(data) != before


def test_litter_and_a_new_place_are_not(data: Path, tmp_path: Path) -> None:
    before = name_of(data)
    add_litter(data)
    assert name_of(data) == before
    assert name_of(data.rename(tmp_path / "moved")) == before
    shutil.copytree(tmp_path / "moved", tmp_path / "copy", copy_function=shutil.copy2)
    assert name_of(tmp_path / "copy") == before


def test_a_file_added_to_folders_is_another_data_set(tmp_path: Path) -> None:
    write_folder(tmp_path, scans(3))
    labels = f"ingest.source.labels={NAMES}"
    before = name_of(tmp_path, labels)
    save(tmp_path / "labels" / "lonely.nii.gz", scan("x").label, scan("x").affine)
    assert name_of(tmp_path, labels) != before


class TestTheTestSplit:
    def test_plays_no_part_in_the_plan(self, data: Path, tmp_path: Path) -> None:
        settings = ("preprocess.plan.normalise=window",)  # the only plan that holds intensities
        assert prepare(data, tmp_path / "out", *settings).code == 0
        first, plan = made(tmp_path / "out", "ingest"), (tmp_path / "out/latest/plan.json").read_bytes()
        (held,) = json.loads((first / "splits.json").read_text())["test"]
        brighter(data, held)
        assert prepare(data, tmp_path / "out", *settings).code == 0
        assert made(tmp_path / "out", "ingest") != first
        assert (tmp_path / "out/latest/plan.json").read_bytes() == plan

    def test_is_told_from_the_others_by_that(self, data: Path, tmp_path: Path) -> None:
        settings = ("preprocess.plan.normalise=window",)
        assert prepare(data, tmp_path / "out", *settings).code == 0
        plan = (tmp_path / "out/latest/plan.json").read_bytes()
        develop = next(row["id"] for row in rows(tmp_path / "out/latest/manifest.jsonl") if row["part"] == "develop")
        brighter(data, develop)
        assert prepare(data, tmp_path / "out", *settings).code == 0
        assert (tmp_path / "out/latest/plan.json").read_bytes() != plan

    def test_is_the_same_whatever_is_set_aside_elsewhere(self, data: Path, tmp_path: Path) -> None:
        split = {case.id: case.part for case in ingested(data, tmp_path / "one").cases}
        develop = next(case for case, part in split.items() if part == "develop")
        (data / "labelsTr" / f"{develop}.nii.gz").unlink()
        after = {case.id: case.part for case in ingested(data, tmp_path / "two").cases}
        assert after == {case: part for case, part in split.items() if case != develop}


@pytest.mark.parametrize("seed", range(8))
def test_the_very_same_image_under_two_ids_stays_on_one_side(seed: int, data: Path, tmp_path: Path) -> None:
    for folder in ("imagesTr", "labelsTr"):
        shutil.copy(data / folder / "case_1.nii.gz", data / folder / "case_2.nii.gz")
    found = ingested(data, tmp_path / "out", split={"seed": seed, "test_fraction": 0.4})
    sides = [*map(set, found.folds), {case.id for case in found.part("test")}]
    assert sum("case_1" in side for side in sides) == 1
    assert all(("case_1" in side) == ("case_2" in side) for side in sides)


@pytest.mark.parametrize("seed", range(8))
def test_subjects_that_share_an_image_stay_on_one_side_with_all_their_cases(seed: int, tmp_path: Path) -> None:
    # the subjects of cases 2 and 3 share an image, and so do those of 4 and 5: all of a, b, c are one
    cases = [scan(f"case_{number}", content) for number, content in enumerate((1, 2, 2, 3, 3, 4, 5, 6, 7, 8), 1)]
    subjects = ["a", "a", "b", "b", "c", "c", "d", "e", "f", "g"]
    table = write_csv(tmp_path / "cases.csv", cases, columns={"subject": subjects})
    source = {"kind": "csv", "root": str(table), "labels": NAMES}
    run_stage(
        ingest.STAGE, {"ingest": {"source": source, "split": {"seed": seed, "test_fraction": 0.4}}}, tmp_path / "x"
    )
    found = Dataset.open(tmp_path / "x", tmp_path)
    sides = [*found.folds, frozenset(case.id for case in found.part("test"))]
    together = {f"case_{number}" for number in range(1, 7)}
    assert [side & together for side in sides if side & together] == [together]
    assert len(set(found.subjects.values())) == 5


class TestSubjects:
    def test_are_found_in_the_id_by_a_pattern(self, tmp_path: Path) -> None:
        names = ["sub-1_ses-1", "sub-1_ses-2", "sub-2_ses-1", "sub-3_ses-1", "other"]
        data = write_msd(tmp_path / "data", [scan(name, number) for number, name in enumerate(names)])
        found = ingested(data, tmp_path / "out", subject_pattern=r"(sub-\d+)")
        assert found.subjects == dict(zip(sorted(names), ["other", "sub-1", "sub-1", "sub-2", "sub-3"], strict=True))

    @pytest.mark.parametrize(
        ("pattern", "words"), [("(sub", "no regular expression"), (r"sub-\d+", "needs a group in parentheses")]
    )
    def test_of_a_wrong_pattern_are_refused(self, pattern: str, words: str, data: Path, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=rf"ingest\.subject_pattern: {words}"):
            ingested(data, tmp_path / "out", subject_pattern=pattern)


class TestASplitFile:
    def write(self, folder: Path, split: object) -> Path:
        (folder / "splits.json").write_text(json.dumps(split))
        return folder / "splits.json"

    def test_is_used_as_it_is(self, data: Path, tmp_path: Path) -> None:
        path = self.write(tmp_path, {"test": ["case_4", "case_5"], "folds": [["case_1"], ["case_2", "case_3"]]})
        found = ingested(data, tmp_path / "out", split={"file": str(path)})
        assert [case.id for case in found.part("test")] == ["case_4", "case_5"]
        assert found.folds == (frozenset({"case_1"}), frozenset({"case_2", "case_3"}))

    def test_that_leaks_stops_the_run_with_one_line(self, data: Path, tmp_path: Path) -> None:
        path = self.write(
            tmp_path, {"test": ["case_4"], "folds": [["case_1", "case_4"], ["case_2", "case_3", "case_5"]]}
        )
        ran = prepare(data, tmp_path / "out", f"ingest.split.file={path}")
        assert ran.code == 2
        (line,) = ran.err.splitlines()
        assert "splits.json: subject 'case_4' is in two parts" in line

    def test_may_not_part_twins(self, data: Path, tmp_path: Path) -> None:
        shutil.copy(data / "imagesTr" / "case_1.nii.gz", data / "imagesTr" / "case_2.nii.gz")
        path = self.write(tmp_path, {"test": ["case_1"], "folds": [["case_2"], ["case_3", "case_4", "case_5"]]})
        with pytest.raises(DataError, match="subject 'case_1' is in two parts"):
            ingested(data, tmp_path / "out", split={"file": str(path)})

    def test_names_another_data_set_when_it_changes(self, data: Path, tmp_path: Path) -> None:
        path = self.write(tmp_path, {"test": ["case_4", "case_5"], "folds": [["case_1"], ["case_2", "case_3"]]})
        before = name_of(data, f"ingest.split.file={path}")
        self.write(tmp_path, {"test": ["case_4"], "folds": [["case_1", "case_5"], ["case_2", "case_3"]]})
        assert name_of(data, f"ingest.split.file={path}") != before


class TestChecks:
    @pytest.fixture
    def checked(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The cases that were really looked at."""
        looked: list[str] = []

        def counted(job: CheckJob) -> Case | Refusal:
            looked.append(job.raw.id)
            return check_case(job)

        monkeypatch.setattr(ingest, "check_case", counted)
        return looked

    def test_are_made_once(self, checked: list[str], data: Path, tmp_path: Path) -> None:
        assert prepare(data, tmp_path / "out").code == 0
        assert sorted(checked) == [f"case_{n}" for n in range(1, 6)]
        checked.clear()
        brighter(data, "case_2")
        list_one_more(data)
        assert prepare(data, tmp_path / "out").code == 0
        assert checked == ["case_2", "case_6"]

    def test_are_made_again_under_other_rules(self, checked: list[str], data: Path, tmp_path: Path) -> None:
        assert prepare(data, tmp_path / "out").code == 0
        assert prepare(data, tmp_path / "out", "ingest.split.seed=3").code == 0
        assert len(checked) == 5
        assert prepare(data, tmp_path / "out", "ingest.check.tolerance_mm=1").code == 0
        assert len(checked) == 10

    def test_of_a_run_that_was_stopped_are_kept(self, checked: list[str], data: Path, tmp_path: Path) -> None:
        settings = ("ingest.split.test_fraction=0.9",)
        assert prepare(data, tmp_path / "out", *settings).code == 2  # after the checks: too few are left to train on
        assert prepare(data, tmp_path / "out", *settings).code == 2
        assert len(checked) == 5

    def test_that_fail_for_want_of_memory_set_the_case_aside(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def greedy(*given: object) -> None:
            raise MemoryError

        monkeypatch.setattr(checks, "read_volume", greedy)
        found = Msd(root=data).read()
        result = check_case(CheckJob(found.cases[0], data, found.header, CheckConfig()))
        assert isinstance(result, Refusal)
        assert str(result) == "case_1 case_1.nii.gz: cannot be read (MemoryError). Fetch it again."

    def test_let_a_bug_show_itself(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*given: object) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr(checks, "read_volume", broken)
        found = Msd(root=data).read()
        with pytest.raises(RuntimeError, match="a bug"):
            check_case(CheckJob(found.cases[0], data, found.header, CheckConfig()))

    @pytest.mark.parametrize(
        ("shift", "rule", "fine"),
        [
            (0.04, {}, True),
            (0.06, {}, False),
            (0.06, {"tolerance_mm": 0.1}, True),
            (0.01, {"tolerance_mm": 0.005}, False),
        ],
    )
    def test_hold_grids_to_the_tolerance(
        self, shift: float, rule: dict[str, float], fine: bool, data: Path, tmp_path: Path
    ) -> None:
        path = data / "labelsTr" / "case_1.nii.gz"
        label, affine = load(path)
        affine[0, 3] += shift
        save(path, label, affine)
        found = ingested(data, tmp_path / "out", check=rule)
        assert len(found.quarantined) == (0 if fine else 1)


def test_the_summary_counts_subjects_and_parts(tmp_path: Path) -> None:
    columns = {"subject": ["a", "a", "b", "c", "d", "e"]}
    table = write_csv(tmp_path / "data/cases.csv", scans(6), columns=columns)
    assert prepare(table, tmp_path / "out", f"ingest.source.labels={NAMES}").code == 0
    told = summary(tmp_path / "out", "ingest")
    assert (told["cases"], told["subjects"], told["unlabelled"], told["quarantined"]) == (6, 5, 0, 0)
    assert told["develop"] + told["test"] == 6


def test_an_interrupted_stage_leaves_no_finished_folder(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ingest, "divide", stopped)
        assert prepare(data, tmp_path / "out").code == 130
    assert not list((tmp_path / "out").glob("ingest/*/artifact.json"))
    assert prepare(data, tmp_path / "out").code == 0


def test_an_empty_workspace_is_no_hindrance(data: Path, tmp_path: Path) -> None:
    told = ingest.run(
        ingest.Settings.model_validate(settings_of(data)), Inputs({}), workspace(tmp_path / "out", tmp_path / "nowhere")
    )
    assert told["cases"] == 5
