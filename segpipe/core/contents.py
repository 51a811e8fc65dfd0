"""What a finished folder holds, file by file: the SHA-256 of each, in the format of ``sha256sum``."""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from segpipe.core.atomic import write_text
from segpipe.core.errors import ArtifactError
from segpipe.core.fingerprint import file_sha256

SUMS = "SHA256SUMS"
"""The list of a folder. ``sha256sum -c SHA256SUMS`` reads it too, where there is no segpipe."""
LINE = re.compile(r"(\\?)([0-9a-f]{64}) [ *](.+)")
ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r"}

Sums = Mapping[str, str]
"""Path relative to the folder, with slashes -> SHA-256."""


def files_in(folder: Path) -> Iterator[str]:
    """Yield the path of every file of a folder, relative to it and with slashes, sorted."""
    yield from sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def sums_of(
    folder: Path, names: Sequence[str], earlier: Sequence[Path] = (), advance: Callable[[int], None] = lambda done: None
) -> Sums:
    """Return the SHA-256 of files of a folder.

    A file that is another name of one in an earlier folder, as prepared cases that did not change are, is not read
    again: it has the hash that stands in that folder's list.

    Args:
        folder: Where they lie.
        names: Their paths, relative to it.
        earlier: Finished folders of the same kind.
        advance: Told of every file.
    """
    known = list(_lists_of(earlier))
    found = {}
    for name in names:
        path = folder / name
        twins = (sums[name] for other, sums in known if name in sums and _same(path, other / name))
        found[name] = next(twins, "") or file_sha256(path)
        advance(1)
    return found


def _lists_of(folders: Sequence[Path]) -> Iterator[tuple[Path, Sums]]:
    for folder in folders:
        with contextlib.suppress(ArtifactError):  # made before hashes were kept, or damaged since
            yield folder, read_sums(folder)


def _same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:
        return False


def write_sums(folder: Path, sums: Sums) -> str:
    """Write the list into its folder; return its own SHA-256, which stands for all that the folder holds."""
    write_text(folder / SUMS, "".join(_line(name, sha256) for name, sha256 in sorted(sums.items())))
    return file_sha256(folder / SUMS)


def _line(name: str, sha256: str) -> str:
    escaped = "".join(ESCAPES.get(letter, letter) for letter in name)
    return f"{'' if escaped == name else chr(92)}{sha256}  {escaped}\n"


def read_sums(folder: Path) -> Sums:
    """Return what ``write_sums`` wrote.

    Raises:
        ArtifactError: The list is missing or damaged.
    """
    try:
        lines = (folder / SUMS).read_bytes().decode().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{folder / SUMS}: cannot be read ({error}). Run 'segpipe verify'.") from error
    sums = {}
    for line in filter(None, lines):
        if (match := LINE.fullmatch(line)) is None:
            raise ArtifactError(f"{folder / SUMS}: is damaged ('{line[:80]}'). Run 'segpipe verify'.")
        escaped, sha256, name = match.groups()
        sums[_unescaped(name) if escaped else name] = sha256
    return sums


def _unescaped(name: str) -> str:
    plain = {written: letter for letter, written in ESCAPES.items()}
    return re.sub(r"\\[\\nr]", lambda found: plain[found[0]], name)
