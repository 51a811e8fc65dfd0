"""Names that stay the same for the same thing, here and elsewhere."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.core.fingerprint import canonical, file_sha256, fingerprint, listing

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


def reordered(value: object) -> object:
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return [reordered(item) for item in value] if isinstance(value, list) else value


def test_a_fingerprint_is_sixteen_digits_of_sha256_over_the_canonical_text() -> None:
    value = {"b": [1, 2.5, None], "a": {"y": True, "x": "ö"}}
    assert canonical(value) == '{"a":{"x":"\\u00f6","y":true},"b":[1,2.5,null]}'
    assert fingerprint(value) == "6e07ef4112811ccf"


@settings(max_examples=60, deadline=None)
@given(plain)
def test_the_order_of_keys_does_not_count(value: object) -> None:
    assert fingerprint(value) == fingerprint(reordered(value))


@settings(max_examples=60, deadline=None)
@given(plain, plain)
def test_other_values_have_other_names(a: object, b: object) -> None:
    assert (canonical(a) == canonical(b)) == (fingerprint(a) == fingerprint(b))
    assert fingerprint([a]) != fingerprint([a, a])


def test_the_order_of_a_list_does_count() -> None:
    assert fingerprint([1, 2]) != fingerprint([2, 1])


def test_another_process_with_another_hash_seed_gives_the_same_name() -> None:
    script = "from segpipe.core.fingerprint import fingerprint; print(fingerprint({'b': 1, 'a': [{'z': 1, 'y': 2}]}))"
    found = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONHASHSEED": "77"}, capture_output=True, check=True
    )
    assert found.stdout.decode().strip() == fingerprint({"a": [{"y": 2, "z": 1}], "b": 1})


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), {1, 2}, Path("x")])
def test_what_has_no_one_json_text_has_no_name(bad: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        fingerprint({"a": bad})


def test_a_files_hash_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def files_in(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def test_a_listing_does_not_know_where_it_lies_nor_in_which_order_it_was_asked(tmp_path: Path) -> None:
    here = tmp_path / "here"
    for name in ("b/2.nii", "a/1.nii", "a/b/3.nii"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(name)
    there = tmp_path / "else" / "where"
    shutil.copytree(here, there)  # copies times too
    paths = files_in(here)
    first = listing(here, paths)
    assert [row[0] for row in first] == ["a/1.nii", "a/b/3.nii", "b/2.nii"]
    assert first == listing(here, paths[::-1] + paths) == listing(there, files_in(there))


def test_files_beside_the_root_are_listed_alike_wherever_both_lie(tmp_path: Path) -> None:
    rows = []
    for labels in ("aaa", "zzz"):
        root, other = tmp_path / labels / "images", tmp_path / labels / f"{labels}-labels"
        for path in (root / "1.nii", other / "2.nii"):
            path.parent.mkdir(parents=True)
            path.write_text("x")
            os.utime(path, (1, 1))
        rows.append(listing(root, [root / "1.nii", other / "2.nii"]))
    assert rows[0] == rows[1]


def test_a_listing_sees_change_of_size_of_time_and_absence(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("one")
    os.utime(path, ns=(5, 5))
    seen = [listing(tmp_path, [path])]
    assert seen[0] == [["a", 3, 5]]
    os.utime(path, ns=(5, 6))
    seen.append(listing(tmp_path, [path]))
    path.write_text("longer")
    os.utime(path, ns=(5, 6))
    seen.append(listing(tmp_path, [path]))
    path.unlink()
    seen.append(listing(tmp_path, [path]))
    assert seen[-1] == [["a", -1, -1]]
    assert len({fingerprint(rows) for rows in seen}) == 4
