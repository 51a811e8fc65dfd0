"""Find or make: what exists is finished, what failed is resumed."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from segpipe.core.atomic import locked
from segpipe.core.contents import SUMS
from segpipe.core.errors import DataError, LockedError
from segpipe.core.parallel import SerialExecutor
from segpipe.core.section import Place, Section
from segpipe.core.stage import Artifact, Inputs, Stage, Summary, Workspace
from segpipe.core.store import RECEIPT, Store, read_receipt


class Settings(Section):
    """Of a toy."""

    size: int = 3
    where: Place = Path("/data")


@contextlib.contextmanager
def no_progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    yield lambda done: None


def tools(path: Path) -> Workspace:
    return Workspace(path, SerialExecutor(), lambda metrics, step: None, no_progress)


@dataclass
class Toy:
    """Writes one file a unit of size, skips those that lie there, and fails when told to."""

    fails_at: int | None = None
    written: list[str] = field(default_factory=list)
    earlier: tuple[Path, ...] = ()

    def __call__(self, settings: Settings, inputs: Inputs, work: Workspace) -> Summary:
        self.earlier = work.earlier
        for index in range(settings.size):
            path = work.path / f"{index}.txt"
            if path.exists():
                continue
            if index == self.fails_at:
                raise DataError(f"{path.name}: is bad.")
            path.write_text(f"{index}")
            self.written.append(path.name)
        return {"files": settings.size}


def stage_of(toy: Toy, **changes: Any) -> Stage[Settings]:
    return Stage("toy", Settings, toy, **changes)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "work")


NOTHING = Inputs({})


def test_what_was_made_is_found_and_not_made_again(store: Store) -> None:
    toy = Toy()
    made = store.make(stage_of(toy), Settings(), NOTHING, tools)
    again = store.make(stage_of(toy), Settings(), NOTHING, tools)
    assert made == again
    assert toy.written == ["0.txt", "1.txt", "2.txt"]
    assert made.path == store.root / "toy" / made.fingerprint
    assert sorted(path.name for path in made.path.iterdir()) == ["0.txt", "1.txt", "2.txt", SUMS, RECEIPT]
    assert [path.name for path in (store.root / "toy").iterdir()] == [made.fingerprint]  # no lock, no partial


def test_the_receipt_says_what_made_it(store: Store) -> None:
    above = Inputs({"ingest": Artifact("ingest", "abcd", Path("/nowhere"), {})})
    made = store.make(stage_of(Toy(), version=4), Settings(size=1), above, tools)
    receipt = read_receipt(made.path)
    assert receipt["stage"] == "toy"
    assert receipt["fingerprint"] == made.fingerprint
    assert receipt["version"] == 4
    assert receipt["settings"] == {"size": 1, "where": "/data"}
    assert receipt["inputs"] == {"ingest": "abcd"}
    assert receipt["summary"] == {"files": 1}
    assert receipt["made"]["seconds"] >= 0
    assert receipt["made"]["cpu_seconds"] >= 0


def test_the_receipt_counts_the_processors_seconds_of_children_too(store: Store) -> None:
    def busy(settings: Settings, inputs: Inputs, work: Workspace) -> dict[str, int]:
        subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.3: pass"], check=True)
        return {}

    made = store.make(Stage("busy", Settings, busy), Settings(), NOTHING, tools)
    assert 0.3 <= read_receipt(made.path)["made"]["cpu_seconds"] < 10


def test_the_name_depends_on_settings_version_inputs_identity_and_stage_but_not_on_places(store: Store) -> None:
    stage = stage_of(Toy())
    names = [
        store.name(stage, Settings(), {}),
        store.name(stage, Settings(size=4), {}),
        store.name(stage, Settings(), {"ingest": "a"}),
        store.name(stage, Settings(), {"ingest": "b"}),
        store.name(stage, Settings(), {"other": "a"}),
        store.name(stage_of(Toy(), version=2), Settings(), {}),
        store.name(stage_of(Toy(), identity=lambda settings: [["a.nii", 3, 5]]), Settings(), {}),
        store.name(Stage("other", Settings, Toy()), Settings(), {}),
    ]
    assert len(set(names)) == len(names)
    assert names[0] == store.name(stage_of(Toy()), Settings(where=Path("/moved")), {})
    assert names[0] == Store(Path("/another/root")).name(stage, Settings(), {})
    assert store.name(stage, Settings(), {"a": "1", "b": "2"}) == store.name(stage, Settings(), {"b": "2", "a": "1"})


def test_a_stage_that_fails_keeps_what_is_done_and_goes_on_from_there(store: Store) -> None:
    toy = Toy(fails_at=2)
    with pytest.raises(DataError, match=r"2\.txt"):
        store.make(stage_of(toy), Settings(), NOTHING, tools)
    assert store.find("toy", store.name(stage_of(toy), Settings(), {})) is None
    assert list(store.all("toy")) == []
    toy.fails_at = None
    made = store.make(stage_of(toy), Settings(), NOTHING, tools)
    assert toy.written == ["0.txt", "1.txt", "2.txt"]  # the first two were not written twice
    assert made.summary == {"files": 3}


def test_other_settings_do_not_go_on_from_somebody_elses_half(store: Store) -> None:
    with pytest.raises(DataError):
        store.make(stage_of(Toy(fails_at=1)), Settings(), NOTHING, tools)
    other = Toy()
    store.make(stage_of(other), Settings(size=2), NOTHING, tools)
    assert other.written == ["0.txt", "1.txt"]


@pytest.mark.parametrize(
    "receipt",
    [b"", b"{", b'{"summary": {', b"\xff\xfe", b"[]", b"null", b"3", None],
    ids=["empty", "brace", "cut", "binary", "list", "null", "number", "absent"],
)
def test_a_damaged_receipt_means_not_finished_and_the_thing_is_made_anew(store: Store, receipt: bytes | None) -> None:
    made = store.make(stage_of(Toy()), Settings(), NOTHING, tools)
    (made.path / "stale.txt").write_text("from before")
    (made.path / RECEIPT).unlink()
    if receipt is not None:
        (made.path / RECEIPT).write_bytes(receipt)
    assert store.find("toy", made.fingerprint) is None
    assert list(store.all("toy")) == []
    toy = Toy()
    again = store.make(stage_of(toy), Settings(), NOTHING, tools)
    assert len(toy.written) == 3
    assert not (again.path / "stale.txt").exists()
    assert store.find("toy", made.fingerprint) == again


def test_a_folder_that_was_not_renamed_yet_is_not_finished_even_with_a_receipt(store: Store) -> None:
    made = store.make(stage_of(Toy()), Settings(), NOTHING, tools)
    made.path.rename(made.path.with_name(f"{made.fingerprint}.partial"))
    assert list(store.all("toy")) == []
    toy = Toy()
    assert store.make(stage_of(toy), Settings(), NOTHING, tools).path.is_dir()
    assert toy.written == []


def test_earlier_artifacts_are_handed_over_newest_first_and_finished_ones_only(store: Store) -> None:
    made = []
    for when, size in enumerate((1, 2, 3), start=1):
        artifact = store.make(stage_of(Toy()), Settings(size=size), NOTHING, tools)
        os.utime(artifact.path / RECEIPT, (when * 100, when * 100))
        made.append(artifact.path)
    with pytest.raises(DataError):
        store.make(stage_of(Toy(fails_at=0)), Settings(size=9), NOTHING, tools)
    toy = Toy()
    store.make(stage_of(toy), Settings(size=4), NOTHING, tools)
    assert toy.earlier == tuple(reversed(made))


def test_two_makers_of_one_thing_do_not_meet(store: Store) -> None:
    name = store.name(stage_of(Toy()), Settings(), {})
    toy = Toy()
    with locked(store.root / "toy" / f"{name}.lock"), pytest.raises(LockedError, match=str(os.getpid())):
        store.make(stage_of(toy), Settings(), NOTHING, tools)
    assert toy.written == []
    assert store.make(stage_of(toy), Settings(), NOTHING, tools).summary == {"files": 3}


def test_what_another_made_while_we_came_to_the_door_is_taken(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = store.make(stage_of(Toy()), Settings(), NOTHING, tools)
    answers = iter([None, made])
    monkeypatch.setattr(Store, "find", lambda self, stage, name: next(answers))
    toy = Toy()
    assert store.make(stage_of(toy), Settings(), NOTHING, tools) is made
    assert toy.written == []


def test_a_summary_with_no_number_in_it_is_refused_before_the_folder_takes_its_name(store: Store) -> None:
    def run(settings: Settings, inputs: Inputs, work: Workspace) -> Summary:
        return {"dice": float("nan")}

    with pytest.raises(ValueError, match="JSON"):
        store.make(Stage("toy", Settings, run), Settings(), NOTHING, tools)
    assert list(store.all("toy")) == []


def test_a_receipt_is_json_that_people_can_read(store: Store) -> None:
    made = store.make(stage_of(Toy()), Settings(), NOTHING, tools)
    text = (made.path / RECEIPT).read_text()
    assert json.loads(text) == read_receipt(made.path)
    assert len(text.splitlines()) > 5
