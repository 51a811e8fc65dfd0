"""Runs and figures to MLflow, or nowhere: the only door to mlflow."""

import logging
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal, Protocol

from segpipe.core.atomic import locked
from segpipe.core.section import Section
from segpipe.core.stage import Artifact

logger = logging.getLogger(__name__)
PARAM_LIMIT = 500
AT_ONCE = 100
"""Parameters that MLflow takes in one call; each call waits for the disk."""
SQLITE = "sqlite:///"
WAIT_S = 120.0
"""For how long another run may take to make the database: seconds, on a slow disk some more."""
PORTABLE = "mlflow-artifacts:/"
"""Where the files of runs lie, seen from a server: no path of this machine enters the database."""


class TrackingConfig(Section):
    """Who is told of runs."""

    kind: Literal["mlflow", "none"] = "mlflow"
    """`mlflow`: a local database in the store, or a server; `none`: nobody."""
    uri: str | None = None
    """Address of an MLflow server or database; empty: `mlflow.db` in the store."""
    experiment: str = "segpipe"
    """Name under which runs are gathered."""


class Tracker(Protocol):
    """Something that wants to know about a run."""

    def begin(self, name: str, settings: Mapping[str, Any]) -> None:
        """Take note that a run begins, with its flat settings."""

    def stage_begins(self, title: str, tags: Mapping[str, str]) -> None:
        """Take note that a stage begins, or one of its repetitions: its name, and what it is."""

    def part_begins(self, title: str) -> None:
        """Take note that a part of the stage begins, such as a phase of a training."""

    def part_ends(self, *, well: bool) -> None:
        """Take note that the part is over."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Take figures of the stage that runs."""

    def stage_ends(self, artifact: Artifact | None) -> None:
        """Take note of what a stage made, or (None) that it failed."""

    def end(self, files: Mapping[str, Path], *, well: bool) -> None:
        """Take note that the run is over, and of the files worth keeping."""


class NullTracker:
    """Wants to know nothing."""

    def begin(self, name: str, settings: Mapping[str, Any]) -> None:
        """Do nothing."""

    def stage_begins(self, title: str, tags: Mapping[str, str]) -> None:
        """Do nothing."""

    def part_begins(self, title: str) -> None:
        """Do nothing."""

    def part_ends(self, *, well: bool) -> None:
        """Do nothing."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Do nothing."""

    def stage_ends(self, artifact: Artifact | None) -> None:
        """Do nothing."""

    def end(self, files: Mapping[str, Path], *, well: bool) -> None:
        """Do nothing."""


class MlflowTracker:
    """A parent run with the configuration, a nested run for each stage that was made, and in it one for each part.

    The client is used and not the fluent interface: that one records the user's name and the
    path of the script. A tracker that fails is told of once and then left alone; the work goes on.
    """

    def __init__(self, config: TrackingConfig, store: Path) -> None:
        self.config = config
        self.uri = config.uri or f"{SQLITE}{(store / 'mlflow.db').resolve()}"
        self.is_file = self.uri.startswith(SQLITE)
        self.artifacts = Path(self.uri.removeprefix(SQLITE)).resolve().parent / "mlartifacts"
        self.client: Any = None
        self.experiment = ""
        self.parent: str | None = None
        self.child: str | None = None
        self.part: str | None = None
        self.name = ""
        self.title = ""
        self.working = True

    def begin(self, name: str, settings: Mapping[str, Any]) -> None:
        """Open the parent run; the settings are its parameters."""
        self._try(self._begin, name, settings)

    def stage_begins(self, title: str, tags: Mapping[str, str]) -> None:
        """Open a nested run."""
        self._try(self._stage_begins, title, tags)

    def part_begins(self, title: str) -> None:
        """Open a run nested in that of the stage."""
        self._try(self._part_begins, title)

    def part_ends(self, *, well: bool) -> None:
        """Close it."""
        self._try(self._part_ends, well)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Send figures to the run of the part, or of the stage."""
        self._try(self._log, self.part or self.child or self.parent, metrics, step)

    def stage_ends(self, artifact: Artifact | None) -> None:
        """Close the nested run with its summary."""
        self._try(self._stage_ends, artifact)

    def end(self, files: Mapping[str, Path], *, well: bool) -> None:
        """Close the parent run; small files are kept with it."""
        self._try(self._end, files, well)

    def _try(self, action: Any, *arguments: Any) -> None:
        if not self.working:
            return
        try:
            action(*arguments)
        except Exception as error:  # noqa: BLE001 - a seam: tracking must never stop a run
            self.working = False
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            logger.warning("MLflow cannot be reached and is left alone for this run: %s", reason)

    def _begin(self, name: str, settings: Mapping[str, Any]) -> None:
        # a dead server would otherwise hold every call for minutes
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        logging.getLogger("mlflow").setLevel(logging.ERROR)  # where it was imported before
        with self._alone():
            self._open_database()
        from mlflow.entities import Param  # noqa: PLC0415

        self.name = name
        self.parent = self._open(name, {})
        params = [Param(key, str(value)[:PARAM_LIMIT]) for key, value in settings.items()]
        for first in range(0, len(params), AT_ONCE):
            self.client.log_batch(self.parent, params=params[first : first + AT_ONCE])

    def _alone(self) -> AbstractContextManager[None]:
        """Keep other processes from making the same database: two that do both fail, or one of them."""
        database = Path(self.uri.removeprefix(SQLITE))
        return locked(database.with_name(f".{database.name}.lock"), WAIT_S) if self.is_file else nullcontext()

    def _open_database(self) -> None:
        from mlflow.tracking import MlflowClient  # noqa: PLC0415 - heavy, and only where it is wanted

        location = PORTABLE if self.is_file else None
        if location:
            from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # noqa: PLC0415

            SqlAlchemyStore(self.uri, location)  # a client would note the current folder in a new database
        self.client = MlflowClient(self.uri)
        found = self.client.get_experiment_by_name(self.config.experiment)
        self.experiment = (
            found.experiment_id if found else self.client.create_experiment(self.config.experiment, location)
        )

    def _open(self, name: str, tags: Mapping[str, str]) -> str:
        run = self.client.create_run(self.experiment, tags={"mlflow.runName": name, **tags}, run_name=name)
        return str(run.info.run_id)

    def _stage_begins(self, title: str, tags: Mapping[str, str]) -> None:
        self.title = title
        self.child = self._open(f"{self.name} {title}", {"mlflow.parentRunId": str(self.parent), **tags})

    def _part_begins(self, title: str) -> None:
        self.part = self._open(
            f"{self.name} {self.title} {title}", {"mlflow.parentRunId": str(self.child), "part": title}
        )

    def _part_ends(self, well: bool) -> None:  # noqa: FBT001 - called by _try
        self.client.set_terminated(self.part, "FINISHED" if well else "FAILED")
        self.part = None

    def _log(self, run: str, metrics: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric  # noqa: PLC0415

        now = int(time.time() * 1000)
        self.client.log_batch(run, [Metric(_key(k), float(v), now, step) for k, v in metrics.items()])

    def _stage_ends(self, artifact: Artifact | None) -> None:
        if artifact is not None:
            self.client.set_tag(self.child, "fingerprint", artifact.fingerprint)
            numbers = {k: v for k, v in artifact.summary.items() if isinstance(v, int | float)}
            self._log(str(self.child), numbers, 0)
            self._log(str(self.parent), {f"{self.title}.{k}": v for k, v in numbers.items()}, 0)
        self.client.set_terminated(self.child, "FINISHED" if artifact else "FAILED")
        self.child = None

    def _end(self, files: Mapping[str, Path], well: bool) -> None:  # noqa: FBT001 - called by _try
        for folder, path in files.items():
            if self.is_file:
                self._copy(path, self.artifacts / str(self.parent) / "artifacts" / folder)
            elif path.is_dir():
                self.client.log_artifacts(self.parent, str(path), folder)
            elif path.is_file():
                self.client.log_artifact(self.parent, str(path), folder or None)
        self.client.set_terminated(self.parent, "FINISHED" if well else "FAILED")

    def _copy(self, path: Path, into: Path) -> None:
        """Put what is kept where a server looks for it that is started with --artifacts-destination."""
        if path.is_dir():
            shutil.copytree(path, into, dirs_exist_ok=True)
        elif path.is_file():
            into.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, into)


def _key(name: str) -> str:
    """Return a metric name that MLflow takes."""
    return "".join(c if c.isalnum() or c in "_-./ " else "_" for c in name)


def open_tracker(config: TrackingConfig, store: Path) -> Tracker:
    """Return the tracker that the settings ask for."""
    return NullTracker() if config.kind == "none" else MlflowTracker(config, store)
