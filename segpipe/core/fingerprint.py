"""Short stable names for settings and for file contents."""

import hashlib
import json
from pathlib import Path
from typing import Any

DIGITS = 16


def canonical(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint(value: Any) -> str:
    """Return 16 hexadecimal digits of SHA-256 over the canonical JSON of ``value``."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:DIGITS]


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def listing(root: Path, paths: list[Path]) -> list[list[str | int]]:
    """Return ``[relative path, bytes, time of change in ns]`` of each file, sorted; a missing one has -1."""
    rows: list[list[str | int]] = []
    for path in set(paths):
        try:
            status = path.stat()
            size, changed = status.st_size, status.st_mtime_ns
        except OSError:
            size, changed = -1, -1
        name = path.relative_to(root) if path.is_relative_to(root) else path.name
        rows.append([str(name), size, changed])
    return sorted(rows)  # by name: where the files lie does not count
