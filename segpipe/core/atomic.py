"""Files that are whole or absent, and a lock on a folder."""

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import LockedError, MachineError

FULL = {errno.ENOSPC, errno.EDQUOT}
FLAT_LIST = re.compile(r"\[\n[^\[\]{}\"]*\]")
"""A list of numbers in indented JSON, easier to read on one line. No text holds a bare line end, so none matches."""
POLL_S = 0.05
REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is synced and takes its name.

    The temporary name keeps the suffixes, for writers that choose a format by them.

    Raises:
        MachineError: The disk is full, or the folder may not be written.
    """
    temporary = path.with_name(f".{os.getpid()}.tmp.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise _explained(error, path) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _explained(error: OSError, path: Path) -> Exception:
    if error.errno in FULL:
        there = next(folder for folder in path.absolute().parents if folder.is_dir())
        free = shutil.disk_usage(there).free
        return MachineError(
            f"{path}: the disk is full ({free / 2**20:.0f} MiB free). "
            "Free some space and run again: what was finished is kept."
        )
    if error.errno in REFUSED:
        return MachineError(f"{path}: may not be written ({error.strerror}). Choose another folder with -o.")
    return error


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 to ``path``, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a JSON value, indented for people; NaN is refused, since JSON has none."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, FLAT_LIST.sub(lambda found: " ".join(found[0].split()), text) + "\n")


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write a NumPy array as ``.npy``."""
    # "w+b": into a plain "wb" NumPy writes by itself, and its error on a full disk does not say so
    with replacing(path) as temporary, temporary.open("w+b") as stream:
        np.save(stream, array, allow_pickle=False)


@contextlib.contextmanager
def locked(path: Path, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock file ``path``; the system frees it when the process dies, however it dies.

    Args:
        path: Of the file, which stays, and is empty while nobody holds it.
        wait_s: For how many seconds another process is waited for.

    Raises:
        LockedError: Another process holds it; the text names process, host and start.
        MachineError: The folder may not be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = path.open("a+")
    except OSError as error:
        raise _explained(error, path) from error
    with opened as stream:
        deadline = time.monotonic() + wait_s
        while not _taken(stream):
            if time.monotonic() < deadline:
                time.sleep(POLL_S)
                continue
            stream.seek(0)
            holder = stream.read().strip() or "another process"
            raise LockedError(f"{path.parent} is in use by {holder}. Wait for it, or stop that process.")
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {socket.gethostname()} since {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
        stream.flush()
        try:
            yield
        finally:
            stream.truncate(0)


def _taken(stream: IO[str]) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
