"""The command line: instant help, one line an error, exit codes, and a first config that runs."""

import errno
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import yaml
from phantoms import (
    QUIET,
    affine_of,
    prepare,
    save,
    scans,
    segpipe,
    segpipe_apart,
    write_csv,
    write_folder,
    write_msd,
    write_nnunet,
)

import segpipe.pipeline as segpipe_pipeline
from segpipe import __version__
from segpipe.config import load_config
from segpipe.core.errors import ArtifactError, ConfigError, DataError, FailedCasesError, LockedError, MachineError
from segpipe.shipped import shipped_names

HEAVY = ("torch", "mlflow", "monai", "nibabel", "SimpleITK", "scipy", "numpy")
WRITERS = {"msd": write_msd, "nnunet": write_nnunet, "folder": write_folder}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_msd(tmp_path / "data", scans(4))


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["config", "--help"], ["--version"]])
def test_help_loads_no_heavy_library(arguments: Sequence[str]) -> None:
    look = (
        "import sys\nfrom segpipe.cli import app\n"
        f"try:\n    app({list(arguments)}, prog_name='segpipe')\n"
        f"finally:\n    print('LOADED', [name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, timeout=60, check=False)
    assert "LOADED []" in done.stdout, done.stdout + done.stderr


def test_help_names_every_command() -> None:
    text = segpipe_apart("--help").out
    commands = ("run", "train", "plan", "study", "compare", "verify", "score", "predict", "phantom", "init", "config")
    assert all(f"  {name} " in text for name in commands)


def test_the_version_is_printed() -> None:
    ran = segpipe("--version")
    assert (ran.code, ran.out) == (0, f"segpipe {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], "ingest.source.root: is needed. Give the folder of the data set with --data"),
        (["run", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["run", "default", "--data", "x", "--pipeline", "fly"], "there is no such pipeline. Those that ship: "),
        (["plan", "default", "--data", "x", "train.fit.stepz=1"], "Did you mean steps?"),
        (["train", "default", "--data", "x", "train.fit.stepz=1"], "Did you mean steps?"),
        (["train", "--profile"], "ingest.source.root: is needed. Give the folder of the data set with --data"),
        (["config", "explain", "train.fit.stepz"], "Did you mean train.fit.steps?"),
        (["init", "nowhere"], "nowhere: there is no such folder"),
        (["predict", "nowhere", "scan.nii.gz", "-o", "maps"], "nowhere"),
    ],
)
def test_wrong_usage_gives_one_line_and_exit_code_2(arguments: Sequence[str], words: str) -> None:
    ran = segpipe(*arguments)
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert line.startswith("segpipe: ")
    assert words in line


def test_an_unknown_option_is_named() -> None:
    ran = segpipe("run", "--dta", "x")
    assert ran.code == 2
    assert "--dta" in ran.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (DataError("x"), 2),
        (ArtifactError("x"), 2),
        (MachineError("x"), 4),
        (LockedError("x"), 5),
        (FailedCasesError({"case_1": DataError("x")}), 2),
        (FailedCasesError({"case_1": DataError("x"), "case_2": MachineError("y")}), 4),
        (OSError(errno.ENOSPC, "No space left on device"), 4),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 4),
        (PermissionError(errno.EACCES, "Permission denied", "/somewhere"), 4),
        (OSError(errno.EROFS, "Read-only file system", "/somewhere"), 4),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_each_kind_of_error_has_its_exit_code_and_one_line(
    error: BaseException, code: int, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> NoReturn:
        raise error

    monkeypatch.setattr(segpipe_pipeline, "run_pipeline", fail)
    ran = segpipe("run", "default", "--data", data)
    assert ran.code == code
    assert len(ran.err.splitlines()) == 1
    assert ran.err.startswith("segpipe: ")


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError(errno.EIO, "Input/output error")])
def test_a_bug_shows_itself(error: Exception, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> NoReturn:
        raise error

    monkeypatch.setattr(segpipe_pipeline, "run_pipeline", fail)
    with pytest.raises(type(error)):
        segpipe("run", "default", "--data", data)


def test_train_is_a_run_that_ends_with_the_model(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def note(spec: Any, config: Any, told: object, *, name: str, only: str | None) -> NoReturn:
        asked.append((name, *spec.stages, str(config.train.fit.steps)))
        raise DataError("x")

    monkeypatch.setattr(segpipe_pipeline, "run_pipeline", note)
    ran = segpipe("train", "--data", data, "-o", tmp_path, "train.fit.steps=7")
    assert (ran.code, ran.err) == (2, "segpipe: x\n")
    assert asked == [("default", "ingest", "preprocess", "pretrain", "train", "qc", "7")]


def test_train_with_profile_prints_the_cost_of_a_step(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lines(config: Any, told: object) -> Iterator[str]:
        yield f"data from {config.ingest.source.root.name}"
        yield f"results in {config.run.store.name}"

    monkeypatch.setattr(segpipe_pipeline, "profile_training", lines, raising=False)
    ran = segpipe("train", "--profile", "--data", data, "-o", tmp_path / "out")
    assert (ran.code, ran.out) == (0, "data from data\nresults in out\n")


def test_plan_names_every_step_and_runs_nothing(data: Path, tmp_path: Path) -> None:
    command = ("plan", "default", "--data", data, "-o", tmp_path / "out")
    ran = segpipe(*command)
    words = [line.split(maxsplit=2) for line in ran.out.splitlines()]
    assert [word[0] for word in words] == ["ingest", "preprocess", "train", "qc", "infer", "evaluate", "report"]
    assert {word[2] for word in words} == {"to make"}
    assert not (tmp_path / "out").exists()
    assert prepare(data, tmp_path / "out").code == 0
    after = [line.split(maxsplit=2) for line in segpipe(*command).out.splitlines()]
    assert [word[:2] for word in after] == [word[:2] for word in words]
    assert [word[2] for word in after] == ["found"] * 2 + ["to make"] * 5


def test_where_and_with_how_many_hands_names_nothing_else(data: Path, tmp_path: Path) -> None:
    plans = {
        segpipe("plan", "default", "--data", data, "-o", tmp_path / out, "report.pdf=false", *settings).out
        for out, settings in (("a", QUIET), ("b", ()), ("c", ("run.executor.workers=7", "run.device=cpu")))
    }
    assert len(plans) == 1


def test_moving_the_data_names_nothing_else(data: Path, tmp_path: Path) -> None:
    before = segpipe("plan", "default", "--data", data).out
    moved = data.rename(tmp_path / "moved")
    assert segpipe("plan", "default", "--data", moved).out == before


def test_the_config_may_be_left_out_before_settings(data: Path) -> None:
    short = segpipe("plan", "--data", data, "train.fit.steps=12")
    assert short.code == 0
    assert short.out == segpipe("plan", "default", "--data", data, "train.fit.steps=12").out
    assert short.out != segpipe("plan", "default", "--data", data).out


def test_the_short_options_win_over_the_file_and_settings_over_both(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("ingest: {source: {kind: msd, root: elsewhere}}\nrun: {store: there}\n")
    shown = yaml.safe_load(segpipe("config", "show", path, "--data", data, "-o", "here", "run.store=over").out)
    assert shown["ingest"]["source"]["root"] == str(data)
    assert shown["run"]["store"] == "over"


def test_only_one_stage_is_made_when_asked(data: Path, tmp_path: Path) -> None:
    only = ("run", "default", "--data", data, "-o", tmp_path / "out", "--pipeline", "prepare", *QUIET, "--only")
    refused = segpipe(*only, "preprocess")
    assert refused.code == 2
    assert "'ingest' is not there yet. Run it first" in refused.err
    assert segpipe(*only, "ingest").code == 0
    assert not (tmp_path / "out" / "preprocess").exists()
    assert segpipe(*only, "preprocess").code == 0
    unknown = segpipe(*only, "fly")
    assert unknown.code == 2
    assert "It has: ingest, preprocess" in unknown.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("description: x\nstages: [preprocess]\n", "'preprocess' needs 'ingest' before it. Add it to the stages"),
        ("description: x\nstages: [ingest, fly]\n", "there is no stage 'fly'. There are: ingest, "),
        ("stages: [ingest]\n", "description: Field required"),
        ("description: x\nstages: ingest\n", "stages: "),
        ("description: [\n", "no valid YAML"),
    ],
)
def test_a_pipeline_that_makes_no_sense_gives_one_line(text: str, words: str, data: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    ran = segpipe("plan", "default", "--data", data, "--pipeline", path)
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert words in line


@pytest.mark.parametrize("name", shipped_names("pipelines"))
def test_every_shipped_pipeline_can_be_planned(name: str, data: Path) -> None:
    assert segpipe("plan", "default", "--data", data, "--pipeline", name).code == 0


@pytest.mark.parametrize("layout", WRITERS)
def test_init_writes_a_config_that_loads_and_plans(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    WRITERS[layout](tmp_path / "my data: part 1", scans(4))
    monkeypatch.chdir(tmp_path)
    ran = segpipe("init", "my data: part 1", "-o", "mine.yaml")
    assert ran.code == 0
    assert f"4 cases, layout {layout}" in ran.out
    assert "next: segpipe run mine.yaml" in ran.out
    assert load_config(tmp_path / "mine.yaml").ingest.source.root == Path("my data: part 1")
    assert segpipe("plan", "mine.yaml").code == 0
    assert segpipe("run", "mine.yaml", "--pipeline", "prepare", *QUIET).code == 0
    assert (tmp_path / "work" / "latest" / "plan.json").is_file()


def test_init_takes_a_table(tmp_path: Path) -> None:
    table = write_csv(tmp_path / "data/cases.csv", scans(4))
    assert segpipe("init", table, "-o", tmp_path / "mine.yaml").code == 0
    assert segpipe("plan", tmp_path / "mine.yaml").code == 0


def test_init_gives_unnamed_structures_names_to_be_changed(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", scans(4))
    ran = segpipe("init", tmp_path / "data", "-o", tmp_path / "mine.yaml")
    assert "structures: name1, name2 (rename them in the config)" in ran.out
    assert load_config(tmp_path / "mine.yaml").ingest.source.model_dump()["labels"] == {"name1": 1, "name2": 2}


def test_init_survives_a_description_with_line_ends(tmp_path: Path) -> None:
    write_msd(tmp_path / "data", scans(4), name="two\nlines", modality={"0": "T1\n: ["})
    assert segpipe("init", tmp_path / "data", "-o", tmp_path / "mine.yaml").code == 0
    assert segpipe("plan", tmp_path / "mine.yaml").code == 0


def test_init_keeps_a_file_that_is_there(data: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("mine")
    ran = segpipe("init", data, "-o", tmp_path / "mine.yaml")
    assert ran.code == 2
    assert "is there already" in ran.err
    assert (tmp_path / "mine.yaml").read_text() == "mine"


def test_the_closing_lines_name_files_that_are_there(data: Path, tmp_path: Path) -> None:
    ran = prepare(data, tmp_path / "out")
    paths = [Path(line.split(maxsplit=1)[1]) for line in ran.out.splitlines() if str(tmp_path / "out") in line]
    assert {path.name for path in paths} == {"plan.json", "manifest.jsonl", "quarantine.jsonl"}
    assert all(path.is_file() for path in paths)
    assert json.loads((tmp_path / "out/latest/plan.json").read_text())["dataset"] == "phantoms"


def test_brackets_in_a_message_are_no_markup(tmp_path: Path) -> None:
    cases = scans(4)
    data = write_msd(tmp_path / "data", cases, labels={"0": "background", "1": "[red]lump", "2": "[/red]"})
    save(data / "labelsTr" / "case_1.nii.gz", cases[0].label * np.uint8(9), affine_of(cases[0].label.shape))
    (line,) = prepare(data, tmp_path / "out").aside
    assert "1 [red]lump, 2 [/red]" in line


class TestTheLatestResults:
    def test_are_links_that_survive_a_move(self, data: Path, tmp_path: Path) -> None:
        assert prepare(data, tmp_path / "out").code == 0
        moved = (tmp_path / "out").rename(tmp_path / "moved")
        assert (moved / "latest" / "plan.json").is_symlink()
        assert json.loads((moved / "latest" / "plan.json").read_text())["dataset"] == "phantoms"

    def test_are_copies_where_links_are_impossible(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_link(*arguments: object) -> NoReturn:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(Path, "symlink_to", no_link)
        for settings in ((), ("preprocess.plan.spacing=[2,2,2]",)):
            assert prepare(data, tmp_path / "out", *settings).code == 0
        plan = tmp_path / "out" / "latest" / "plan.json"
        assert not plan.is_symlink()
        assert json.loads(plan.read_text())["spacing"] == [2, 2, 2]

    def test_are_those_of_the_run_that_was_last(self, data: Path, tmp_path: Path) -> None:
        plan = tmp_path / "out" / "latest" / "plan.json"
        for spacing in (2.0, 1.0, 2.0):
            assert prepare(data, tmp_path / "out", f"preprocess.plan.spacing=[{spacing},1,1]").code == 0
            assert json.loads(plan.read_text())["spacing"] == [spacing, 1, 1]

    def test_hold_nothing_that_the_last_run_did_not_make(self, data: Path, tmp_path: Path) -> None:
        assert prepare(data, tmp_path / "out").code == 0
        (tmp_path / "mine.yaml").write_text("description: looks only\nstages: [ingest]\n")
        looked = ("run", "default", "--data", data, "-o", tmp_path / "out", "--pipeline", tmp_path / "mine.yaml")
        assert segpipe(*looked, *QUIET, "ingest.split.seed=1").code == 0
        names = {path.name for path in (tmp_path / "out" / "latest").iterdir()}
        assert names == {"manifest.jsonl", "quarantine.jsonl"}
