"""Tracking: a run lands in the database, nothing that names a person or a machine does, and no failure stops a run."""

import contextlib
import getpass
import logging
import os
import platform
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from phantoms import Ran, prepare, scans, segpipe, write_csv, write_msd

from segpipe import tracking
from segpipe.core.stage import Artifact
from segpipe.tracking import MlflowTracker, NullTracker, TrackingConfig, open_tracker

FOLDER, COVARIATE, SUBJECT, STORE = "zqfolderxk", "zqcovariatexk", "zqsubjectxk", "zqstorexk"
USER, HOST = "zquserxk", "zqhostxk"
PLANTED = (FOLDER, COVARIATE, SUBJECT, STORE, USER, HOST)
LOCAL = ("run.executor.kind=serial", "report.pdf=false")

# MLflow's own use of SQLAlchemy
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")


def tracked(data: Path, out: Path, *settings: str) -> Ran:
    return segpipe("run", "default", "--data", data, "-o", out, "--pipeline", "prepare", *LOCAL, *settings)


def table(database: Path, query: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()


@pytest.fixture(scope="module", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    from sqlalchemy import Engine, event

    def hurry(connection: sqlite3.Connection, record: object) -> None:
        connection.execute("PRAGMA synchronous=OFF")

    event.listen(Engine, "connect", hurry)
    yield
    event.remove(Engine, "connect", hurry)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A tracked run of two stages, on data with planted words, from a folder of its own."""
    home = tmp_path_factory.mktemp("home")
    columns = {"subject": [f"{SUBJECT}{n}" for n in range(4)], "site": [COVARIATE] * 4}
    cohort = write_csv(home / FOLDER / "cases.csv", scans(4), columns=columns)
    with contextlib.chdir(home), pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOGNAME", USER)
        patch.setattr(socket, "gethostname", lambda: HOST)
        patch.setattr(platform, "node", lambda: HOST)
        assert getpass.getuser() == USER
        ran = tracked(cohort, home / STORE, "ingest.source.labels={a: 1, b: 2}", "run.tracking.experiment=trial")
    assert ran.code == 0, ran.err
    yield home / STORE
    assert not (home / "mlruns").exists()


@pytest.fixture(scope="module")
def database(out: Path) -> Path:
    return out / "mlflow.db"


class TestARunOfTwoStages:
    def test_is_a_parent_run_with_a_nested_run_for_each(self, database: Path) -> None:
        runs = dict(table(database, "select run_uuid, status from runs"))
        names = dict(table(database, "select run_uuid, name from runs"))
        parents = dict(table(database, "select run_uuid, value from tags where key = 'mlflow.parentRunId'"))
        stages = dict(table(database, "select run_uuid, value from tags where key = 'stage'"))
        (parent,) = set(parents.values())
        assert set(runs) == {parent, *parents}
        assert set(runs.values()) == {"FINISHED"}
        assert sorted(stages[child] for child in parents) == ["ingest", "preprocess"]
        assert names[parent] == "default"

    def test_is_kept_under_its_experiment(self, database: Path) -> None:
        (experiment,) = table(database, "select experiment_id from experiments where name = 'trial'")
        assert {row[0] for row in table(database, "select experiment_id from runs")} == {int(experiment[0])}

    def test_has_the_settings_as_parameters(self, database: Path) -> None:
        params = dict(table(database, "select key, value from params"))
        assert params["ingest.split.test_fraction"] == "0.2"
        assert params["ingest.source.labels.b"] == "2"
        assert params["train.fit.seed"] == "0"
        assert params["run.executor.kind"] == "serial"

    def test_has_the_fingerprint_of_each_stage(self, database: Path, out: Path) -> None:
        told = {row[0] for row in table(database, "select value from tags where key = 'fingerprint'")}
        assert told == {path.parent.name for path in out.glob("*/*/artifact.json")}

    def test_has_the_figures_of_each_stage(self, database: Path) -> None:
        figures = dict(table(database, "select m.key, m.value from metrics m join params p using (run_uuid)"))
        assert figures["ingest.cases"] == 4
        assert figures["preprocess.prepared"] == 4

    def test_keeps_the_plan_where_a_server_looks_for_it(self, database: Path, out: Path) -> None:
        (place,) = {row[0] for row in table(database, "select artifact_uri from runs join params using (run_uuid)")}
        scheme, relative = place.split(":/", 1)
        assert scheme == "mlflow-artifacts"
        kept = out / "mlartifacts" / relative / "preprocess" / "plan.json"
        assert kept.read_bytes() == (out / "latest" / "plan.json").read_bytes()

    def test_names_no_person_machine_or_path(self, database: Path, out: Path) -> None:
        words = [*PLANTED, str(out), str(Path.cwd()), f"{Path.home()}{os.sep}", "file:", tempfile.gettempdir()]
        tables = [name for (name,) in table(database, "select name from sqlite_master where type = 'table'")]
        rows = [(name, row) for name in tables for row in table(database, f'select * from "{name}"')]
        assert len(rows) > 20
        for name, row in rows:
            for cell in row:
                hits = [word for word in words if word in str(cell)]
                assert not hits, f"{name}: {cell}"

    def test_leaves_no_planted_word_in_the_bytes_of_the_database(self, database: Path, out: Path) -> None:
        planted = [word.encode() for word in PLANTED]
        # the search itself works: the manifest and the receipt do hold them
        receipt = next(out.glob("ingest/*/artifact.json")).read_bytes()
        assert planted[0] in receipt
        assert planted[1] in (out / "latest" / "manifest.jsonl").read_bytes()
        held = b"".join(path.read_bytes() for path in out.glob("mlflow.db*"))
        assert b"preprocess" in held
        assert not [word for word in planted if word in held]

    def test_can_be_opened_by_a_client(self, database: Path) -> None:
        from mlflow.tracking import MlflowClient

        client = MlflowClient(f"sqlite:///{database}")
        experiment = client.get_experiment_by_name("trial")
        assert experiment is not None
        assert len(client.search_runs([experiment.experiment_id])) == 3


def test_a_second_run_into_the_same_store_adds_a_run(tmp_path: Path) -> None:
    data = write_msd(tmp_path / "data", scans(4))
    for settings in ((), ("ingest.split.seed=1",)):
        assert tracked(data, tmp_path / "out", *settings).code == 0
    parents = table(tmp_path / "out/mlflow.db", "select value from params where key = 'ingest.split.seed'")
    assert sorted(parents) == [("0",), ("1",)]


def test_a_run_with_nothing_to_do_is_not_tracked(tmp_path: Path) -> None:
    data = write_msd(tmp_path / "data", scans(4))
    for _ in range(2):
        assert tracked(data, tmp_path / "out").code == 0
    assert len(table(tmp_path / "out/mlflow.db", "select * from runs")) == 3


def test_a_run_that_fails_is_marked_as_failed(tmp_path: Path) -> None:
    data = write_msd(tmp_path / "data", scans(4))
    assert tracked(data, tmp_path / "out", "preprocess.plan.patch=[8,8]").code == 2
    states = dict(table(tmp_path / "out/mlflow.db", "select name, status from runs"))
    assert states == {"default": "FAILED", "default ingest": "FINISHED", "default preprocess": "FAILED"}


def test_nobody_is_told_where_nobody_wants_to_know(tmp_path: Path) -> None:
    data = write_msd(tmp_path / "data", scans(4))
    assert prepare(data, tmp_path / "out").code == 0
    assert not list((tmp_path / "out").glob("mlflow*"))
    assert isinstance(open_tracker(TrackingConfig(kind="none"), tmp_path), NullTracker)


def test_an_address_with_a_password_in_it_is_no_parameter(tmp_path: Path) -> None:
    data = write_msd(tmp_path / "data", scans(4))
    uri = f"sqlite:///{tmp_path}/named.db"
    assert tracked(data, tmp_path / "out", f"run.tracking.uri={uri}").code == 0
    keys = {row[0] for row in table(tmp_path / "named.db", "select key from params")}
    assert keys
    assert not [key for key in keys if key.startswith("run.tracking")]


def test_a_database_of_ones_own_keeps_files_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = write_msd(tmp_path / "data", scans(4))
    (tmp_path / "shared").mkdir()
    assert tracked(data, tmp_path / "out", f"run.tracking.uri=sqlite:///{tmp_path}/shared/all.db").code == 0
    assert list((tmp_path / "shared" / "mlartifacts").glob("*/artifacts/preprocess/plan.json"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out", "shared"]


@pytest.mark.parametrize("name", ["50% done", "a#b", "a b"])
def test_a_store_of_any_name_has_its_database(name: str, tmp_path: Path) -> None:
    tracker = MlflowTracker(TrackingConfig(), tmp_path / name)
    (tmp_path / name).mkdir()
    tracker.begin("run", {"a": 1})
    assert tracker.working
    assert table(tmp_path / name / "mlflow.db", "select key from params") == [("a",)]


def test_an_unreachable_server_is_told_of_once_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = write_msd(tmp_path / "data", scans(4))
    began = time.monotonic()
    with caplog.at_level(logging.WARNING, logger="segpipe"):
        ran = tracked(data, tmp_path / "out", "run.tracking.uri=http://127.0.0.1:9")
    assert time.monotonic() - began < 60
    assert ran.code == 0
    assert (tmp_path / "out/latest/plan.json").is_file()
    warnings = [record for record in caplog.records if record.name.startswith("segpipe")]
    assert len(warnings) == 1
    assert "MLflow cannot be reached and is left alone for this run" in warnings[0].getMessage()
    assert "\n" not in warnings[0].getMessage()


def test_a_server_that_never_answers_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as silent, caplog.at_level(logging.WARNING, logger="segpipe"):
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        tracker = MlflowTracker(TrackingConfig(uri=f"http://127.0.0.1:{silent.getsockname()[1]}"), tmp_path)
        began = time.monotonic()
        tracker.begin("run", {})
        assert time.monotonic() - began < 60
        tracker.stage_begins("ingest", {"stage": "ingest"})
        tracker.end({}, well=True)
    assert not tracker.working
    assert len(caplog.records) == 1


def test_a_tracker_that_fails_midway_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = MlflowTracker(TrackingConfig(), tmp_path)
    tracker.begin("run", {"a.b": 1})

    def broken(*arguments: object, **options: object) -> NoReturn:
        raise RuntimeError("the disk of the server is full")

    tracker.stage_begins("ingest", {"stage": "ingest"})
    monkeypatch.setattr(tracker.client, "log_batch", broken)
    with caplog.at_level(logging.WARNING, logger="segpipe"):
        for step in range(5):
            tracker.log({"loss": 1.0}, step)
        tracker.stage_ends(None)
        tracker.end({}, well=False)
    assert [record.getMessage() for record in caplog.records] == [
        "MLflow cannot be reached and is left alone for this run: the disk of the server is full"
    ]


def test_figures_of_a_stage_are_kept_by_step(tmp_path: Path) -> None:
    tracker = MlflowTracker(TrackingConfig(), tmp_path)
    tracker.begin("run", {})
    tracker.stage_begins("train", {"stage": "train"})
    for step in (10, 20):
        tracker.log({"dice (left)": step / 100}, step)
    tracker.stage_ends(Artifact("train", "0123", tmp_path, {"steps": 20, "patch": [8, 8]}))
    tracker.end({}, well=True)
    held = table(tmp_path / "mlflow.db", "select key, step, value from metrics order by key, step")
    assert ("dice _left_", 10, 0.1) in held
    assert ("dice _left_", 20, 0.2) in held
    assert ("train.steps", 0, 20.0) in held
    assert not [key for key, *_ in held if "patch" in key]


def test_long_values_are_cut_to_what_mlflow_takes(tmp_path: Path) -> None:
    tracker = MlflowTracker(TrackingConfig(), tmp_path)
    tracker.begin("run", {"long": "x" * 10_000})
    assert tracker.working
    assert table(tmp_path / "mlflow.db", "select length(value) from params") == [(tracking.PARAM_LIMIT,)]


def test_mlflow_is_opened_without_any_network(tmp_path: Path) -> None:
    program = f"""
import atexit, socket
from pathlib import Path

tried = []
atexit.register(lambda: print("TRIED", tried))  # first in, last out

def refuse(*arguments, **options):
    tried.append(arguments)
    raise OSError("no network here")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse
from segpipe.tracking import TrackingConfig, open_tracker
tracker = open_tracker(TrackingConfig(), Path({str(tmp_path)!r}))
tracker.begin("run", {{"a": 1}})
tracker.stage_begins("ingest", {{"stage": "ingest"}})
tracker.log({{"loss": 1.0}}, 1)
tracker.stage_ends(None)
tracker.end({{}}, well=True)
assert tracker.working
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "TRIED []" in done.stdout


def test_importing_the_tracker_does_not_import_mlflow() -> None:
    look = "import sys, segpipe.pipeline; print('mlflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "False\n", done.stderr


def test_a_part_of_a_stage_is_a_run_within_its_run(tmp_path: Path) -> None:
    tracker = MlflowTracker(TrackingConfig(), tmp_path)
    tracker.begin("run", {})
    tracker.stage_begins("pretrain", {"stage": "pretrain"})
    tracker.part_begins("level 1")
    tracker.log({"loss": 2.0}, 1)
    tracker.part_ends(well=True)
    tracker.log({"loss": 1.0}, 2)
    tracker.stage_ends(None)
    tracker.end({}, well=True)
    experiment = tracker.client.get_experiment_by_name("segpipe")
    runs = {run.info.run_name: run for run in tracker.client.search_runs([experiment.experiment_id])}
    stage, part = runs["run pretrain"], runs["run pretrain level 1"]
    assert part.data.tags["mlflow.parentRunId"] == stage.info.run_id
    assert part.info.status == "FINISHED"
    assert (part.data.metrics["loss"], stage.data.metrics["loss"]) == (2.0, 1.0)


def test_two_runs_that_begin_at_once_make_one_database(tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from segpipe.tracking import TrackingConfig, open_tracker
tracker = open_tracker(TrackingConfig(), Path({str(tmp_path)!r}))
print("ready", flush=True)
sys.stdin.readline()
tracker.begin("run", {{}})
tracker.end({{}}, well=True)
print(tracker.working)
"""
    command = [sys.executable, "-c", program]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with contextlib.ExitStack() as running:
        runs = [running.enter_context(subprocess.Popen(command, text=True, **pipes)) for _ in range(2)]
        for run in runs:
            running.callback(run.kill)
            assert run.stdout.readline() == "ready\n", run.stderr.read()
        for run in runs:
            run.stdin.write("go\n")
            run.stdin.flush()
        assert [run.communicate(timeout=240) for run in runs] == [("True\n", "")] * 2
    assert table(tmp_path / "mlflow.db", "select count(*) from runs") == [(2,)]
