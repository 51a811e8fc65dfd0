"""Whole or absent: what a reader may find under a final name, whatever happens to the writer."""

import contextlib
import errno
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segpipe.core import atomic
from segpipe.core.atomic import locked, replacing, write_array, write_bytes, write_json, write_text
from segpipe.core.errors import Exit, LockedError, MachineError

OLD, NEW = b"old" * 10, b"new" * 10
Usage = namedtuple("Usage", "total used free")


def start(script: str, *arguments: Path) -> subprocess.Popen[str]:
    """Start another Python that runs ``script``; it says 'ready' when it is where we want it."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=20)
    assert process.stdout is not None
    process.stdout.close()


def raising(number: int) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_what_is_written_is_there_whole_and_nothing_else(tmp_path: Path) -> None:
    write_bytes(tmp_path / "deep" / "er" / "a.bin", NEW)
    assert (tmp_path / "deep" / "er" / "a.bin").read_bytes() == NEW
    assert [path.name for path in (tmp_path / "deep" / "er").iterdir()] == ["a.bin"]


def test_a_writer_that_raises_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(OLD)

    def write_and_fail() -> None:
        with replacing(path) as temporary:
            temporary.write_bytes(NEW)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    assert path.read_bytes() == OLD
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(OLD)
    with replacing(path) as temporary:
        temporary.write_bytes(NEW)
        assert path.read_bytes() == OLD
    assert path.read_bytes() == NEW


def test_the_temporary_name_keeps_the_suffixes_and_the_folder(tmp_path: Path) -> None:
    with replacing(tmp_path / "scan.nii.gz") as temporary:
        assert temporary.name.endswith(".nii.gz")
        assert temporary.parent == tmp_path
        temporary.write_bytes(b"")


def test_the_file_is_synced_before_it_takes_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = tmp_path / "a.bin", []
    monkeypatch.setattr(os, "fsync", lambda number: seen.append((os.fstat(number).st_size, path.exists())))
    write_bytes(path, NEW)
    assert seen == [(len(NEW), False)]


def test_a_process_killed_in_mid_write_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    script = """
        import sys, time
        from pathlib import Path
        from segpipe.core.atomic import replacing
        with replacing(Path(sys.argv[1])) as temporary, temporary.open("wb") as stream:
            stream.write(b"half")
            stream.flush()
            print("ready", flush=True)
            time.sleep(60)
    """
    fresh, known = tmp_path / "fresh.bin", tmp_path / "known.bin"
    known.write_bytes(OLD)
    for path in (fresh, known):
        kill(start(script, path))
    assert not fresh.exists()
    assert known.read_bytes() == OLD
    write_bytes(fresh, NEW)  # what the dead one left behind is in nobody's way
    assert fresh.read_bytes() == NEW


@pytest.mark.parametrize("where", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_line_with_path_and_free_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, number: int
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(OLD)
    monkeypatch.setattr(atomic.shutil, "disk_usage", lambda _: Usage(2**40, 2**40, 3 * 2**20))
    if where == "fsync":
        monkeypatch.setattr(os, "fsync", raising(number))
    else:
        monkeypatch.setattr(Path, "replace", raising(number))
    with pytest.raises(MachineError, match="disk is full") as caught:
        write_bytes(path, NEW)
    assert str(path) in str(caught.value)
    assert "3 MiB free" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.code is Exit.ENVIRONMENT
    assert path.read_bytes() == OLD
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_too_full_for_a_folder_is_one_line_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "mkdir", raising(errno.ENOSPC))
    with pytest.raises(MachineError, match="disk is full"):
        write_bytes(tmp_path / "not" / "there" / "a.bin", NEW)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_bytes(path, NEW),
        lambda path: write_json(path, {"a": 1}),
        lambda path: write_array(path, np.arange(100_000.0)),
        lambda path: write_array(path, np.zeros((300, 400), order="F")),
    ],
    ids=["bytes", "json", "array", "fortran_array"],
)
def test_every_writer_tells_a_really_full_disk(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / "a.npy"
    (tmp_path / f".{os.getpid()}.tmp.{path.name}").symlink_to("/dev/full")
    with pytest.raises(MachineError, match="disk is full"):
        write(path)
    assert list(tmp_path.iterdir()) == []


def test_an_array_that_finds_no_room_half_way_fails_with_the_systems_own_reason(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match="too large") as caught:
            write_array(tmp_path / "a.npy", np.zeros(1_000_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG  # a full disk is told the same way, by its number
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_folder_that_may_not_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(Path, "write_bytes", raising(number))
    with pytest.raises(MachineError, match=r"a\.bin: may not be written .*-o") as caught:
        write_bytes(tmp_path / "a.bin", NEW)
    assert caught.value.code is Exit.ENVIRONMENT


def test_any_other_trouble_of_the_disk_comes_through_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", raising(errno.EIO))
    with pytest.raises(OSError, match="Input/output") as caught:
        write_bytes(tmp_path / "a.bin", NEW)
    assert caught.value.errno == errno.EIO


def test_text_is_utf_8_with_line_ends_as_given(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "Größe\r\nñ\n")
    assert (tmp_path / "a.txt").read_bytes() == "Größe\r\nñ\n".encode()


def test_json_comes_back_equal_with_number_lists_on_one_line(tmp_path: Path) -> None:
    value = {
        "affine": [[1.5, 0.0], [0.0, -2.0]],
        "Größe": "a, [1,   2]",
        "none": None,
        "empty": [],
        "text": ["x", "[1]"],
    }
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == value
    assert "[ 1.5, 0.0 ]" in text
    assert text.endswith("}\n")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), object()])
def test_json_refuses_what_json_has_no_word_for_and_keeps_the_old_file(tmp_path: Path, bad: object) -> None:
    write_json(tmp_path / "a.json", {"old": 1})
    with pytest.raises((ValueError, TypeError)):
        write_json(tmp_path / "a.json", {"new": bad})
    assert json.loads((tmp_path / "a.json").read_text()) == {"old": 1}


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24.0).reshape(2, 3, 4),
        np.asfortranarray(np.arange(12, dtype=np.uint16).reshape(3, 4)),
        np.zeros((0, 4), np.int32),
        np.float32(3)[None][:, None],
    ],
    ids=["c", "fortran", "empty", "one"],
)
def test_arrays_come_back_with_values_and_type(tmp_path: Path, array: np.ndarray[Any, Any]) -> None:
    write_array(tmp_path / "a.npy", array)
    back = np.load(tmp_path / "a.npy", mmap_mode="r" if array.size else None)
    assert back.dtype == array.dtype
    assert np.array_equal(back, array)


def test_an_array_of_objects_is_refused_since_reading_it_would_run_code(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pickle"):
        write_array(tmp_path / "a.npy", np.array([{}], object))
    assert list(tmp_path.iterdir()) == []


HOLDER = """
    import sys, time
    from pathlib import Path
    from segpipe.core.atomic import locked
    with locked(Path(sys.argv[1])):
        print("ready", flush=True)
        time.sleep(60)
"""


def test_a_lock_names_its_holder_and_is_free_when_that_is_killed(tmp_path: Path) -> None:
    lock = tmp_path / "thing.lock"
    holder = start(HOLDER, lock)
    try:
        with pytest.raises(LockedError, match=rf"process {holder.pid} on \S+ since 2\d\d\d-") as caught, locked(lock):
            pytest.fail("two hold one lock")
        assert caught.value.code is Exit.LOCKED
        assert str(tmp_path) in str(caught.value)
        assert "\n" not in str(caught.value)
    finally:
        kill(holder)
    with locked(lock):
        assert f"process {os.getpid()} " in lock.read_text()
        assert str(holder.pid) not in lock.read_text().split(" on ")[0].split()


def test_a_lock_is_free_after_use_even_when_the_work_failed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "a.lock"):
        raise ZeroDivisionError
    with locked(tmp_path / "a.lock"), locked(tmp_path / "b.lock"):
        pass


def test_a_lock_is_waited_for_as_long_as_was_said(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    with contextlib.ExitStack() as held:
        held.enter_context(locked(lock))
        with pytest.raises(LockedError), locked(lock, wait_s=0.1):
            pytest.fail("two hold one lock")
        threading.Timer(0.2, held.pop_all().close).start()
        with locked(lock, wait_s=60):
            assert lock.read_text().startswith("process ")
    assert lock.read_text() == ""


def test_one_process_does_not_take_its_own_lock_twice(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "a.lock"),
        pytest.raises(LockedError, match=str(os.getpid())),
        locked(tmp_path / "a.lock"),
    ):
        pytest.fail("taken twice")


def test_a_lock_where_nothing_may_be_written_is_the_machines_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "mkdir", raising(errno.EROFS))
    with pytest.raises(MachineError, match="may not be written"), locked(tmp_path / "store" / "a.lock"):
        pytest.fail("locked")
