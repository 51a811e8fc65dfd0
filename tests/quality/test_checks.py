"""The table of checks: what is written comes back, whatever the words."""

import math
from pathlib import Path

import pytest

from segpipe.core.errors import ArtifactError
from segpipe.quality.checks import Check, read_checks, values_of, write_checks

ODD = 'noise 9 SD above "usual", and\n blur; 5 µm'


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    given = {"b": [Check("scan", 0.1 + 0.2, ODD), Check("shape", math.inf)], "a": [Check("scan", -1e-300)]}
    write_checks(tmp_path / "checks.csv", given)
    found = read_checks(tmp_path / "checks.csv")
    assert list(found) == ["a", "b"]
    assert found["a"] == given["a"]
    assert found["b"] == [Check("scan", 0.1 + 0.2, " ".join(ODD.split())), Check("shape", math.inf)]


def test_a_line_ends_a_row_and_nothing_else_does(tmp_path: Path) -> None:
    write_checks(tmp_path / "checks.csv", {"a": [Check("scan", 1.0, ODD)]})
    assert (tmp_path / "checks.csv").read_text().splitlines()[0] == "case,check,value,words"
    assert len((tmp_path / "checks.csv").read_bytes().splitlines()) == 2


def test_values_of_one_check_are_those_that_are_defined(tmp_path: Path) -> None:
    checks = {"a": [Check("x", 1.0), Check("y", 2.0)], "b": [Check("x", math.nan)], "c": [Check("y", 3.0)]}
    assert values_of(checks, "x") == {"a": 1.0}
    assert values_of(checks, "y") == {"a": 2.0, "c": 3.0}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("case,value\n", "begins with"),
        ("case,check,value,words\na,scan,much,\n", "line 2"),
        ("case,check,value,words\na,scan\n", "line 2"),
    ],
)
def test_a_damaged_table_is_named(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "checks.csv").write_text(text)
    with pytest.raises(ArtifactError, match=rf"checks\.csv.*{told}"):
        read_checks(tmp_path / "checks.csv")


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"checks\.csv.*Run infer again"):
        read_checks(tmp_path / "checks.csv")
