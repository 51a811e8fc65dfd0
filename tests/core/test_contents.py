"""The list of a folder's hashes: read by us and by sha256sum, whatever files are called."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segpipe.core import contents
from segpipe.core.contents import SUMS, files_in, read_sums, sums_of, write_sums
from segpipe.core.errors import ArtifactError
from segpipe.core.fingerprint import file_sha256

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=30)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(st.sets(NAMES, max_size=4))
def test_any_name_comes_back(tmp_path_factory: pytest.TempPathFactory, names: set[str]) -> None:
    folder = tmp_path_factory.mktemp("sums")
    sums = {name: f"{number:064x}" for number, name in enumerate(sorted(names))}
    assert write_sums(folder, sums) == file_sha256(folder / SUMS)
    assert read_sums(folder) == sums


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_sha256sum_reads_the_list(tmp_path: Path) -> None:
    for name in ("a.txt", "deep/er/b c.txt", "back\\slash", "two\nlines"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    write_sums(tmp_path, sums_of(tmp_path, list(files_in(tmp_path))))
    check = ["sha256sum", "--check", "--strict", "--quiet", SUMS]
    assert subprocess.run(check, cwd=tmp_path, check=False).returncode == 0
    (tmp_path / "deep/er/b c.txt").write_text("other")
    assert subprocess.run(check, cwd=tmp_path, check=False, capture_output=True).returncode == 1


def test_a_linked_file_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
    (old / "same.npy").write_bytes(b"large")
    write_sums(old, sums_of(old, ["same.npy"]))
    os.link(old / "same.npy", new / "same.npy")
    (new / "other.npy").write_bytes(b"small")
    read: list[str] = []

    def counted(path: Path) -> str:
        read.append(path.name)
        return file_sha256(path)

    monkeypatch.setattr(contents, "file_sha256", counted)
    found = sums_of(new, ["other.npy", "same.npy"], [tmp_path / "nowhere", old])
    assert read == ["other.npy"]
    assert found["same.npy"] == file_sha256(old / "same.npy")


@pytest.mark.parametrize("content", [b"\xff", b"abc  file\n", b"0" * 63 + b"  file\n"], ids=["bytes", "short", "63"])
def test_a_damaged_list_is_told_of(tmp_path: Path, content: bytes) -> None:
    (tmp_path / SUMS).write_bytes(content)
    with pytest.raises(ArtifactError, match="SHA256SUMS"):
        read_sums(tmp_path)
