"""The table of scores on disk."""

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.core.errors import ArtifactError
from segpipe.score.table import Row, error_row, read_scores, scored_rows, write_scores

texts = st.text(st.characters(codec="utf-8"), min_size=1)


def test_the_file_is_plain_and_tidy(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    write_scores(path, [Row("a", "organ", "dice", 1 / 3), Row("a", "organ", "hd95_mm", math.nan, status="missed")])
    assert path.read_text() == (
        "case,label,metric,value,part,status\na,organ,dice,0.3333333333333333,test,\na,organ,hd95_mm,nan,test,missed\n"
    )


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.builds(Row, texts, texts, st.just("dice"), st.floats(), st.sampled_from(["test", "out_of_fold"])))
)
def test_whatever_is_written_comes_back(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> None:
    path = tmp_path_factory.mktemp("table") / "scores.csv"
    write_scores(path, rows)
    assert repr(read_scores(path)) == repr(rows)


def test_a_failed_case_keeps_its_message(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    rows = [
        error_row("b", 'shape (3, 4),\n"not" (4, 3)'),
        Row("a", "organ", "dice", 0.5),
        error_row("c", "7", "out_of_fold"),
    ]
    write_scores(path, rows)
    assert read_scores(path) == rows
    assert [row.failed for row in rows] == [True, False, True]


def test_an_empty_table_is_a_header(tmp_path: Path) -> None:
    write_scores(tmp_path / "scores.csv", [])
    assert read_scores(tmp_path / "scores.csv") == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "begins with"),
        ("case;label;metric;value;part;status\n", "begins with"),
        ("case,label,metric,value\n", "begins with"),
        ("case,label,metric,value,part,status\na,organ,dice\n", "line 2: 3 fields"),
        ("case,label,metric,value,part,status\na,organ,dice,0.5,test,\na,organ,dice,good,test,\n", "line 3: 'good'"),
        ("case,label,metric,value,part,status\na,organ,dice,,test,\n", "line 2: ''"),
    ],
)
def test_a_damaged_table_says_where(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "scores.csv"
    path.write_text(text)
    with pytest.raises(ArtifactError, match=said):
        read_scores(path)


def test_a_table_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_bytes("case,label,metric,value,part,status\nmüller,organ,dice,1,test,\n".encode("latin-1"))
    with pytest.raises(ArtifactError, match="UTF-8"):
        read_scores(path)


def test_a_missing_table_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="missing"):
        read_scores(tmp_path / "scores.csv")


def test_each_row_tells_how_its_structure_fared() -> None:
    volumes = {"a": (2.0, 1.0), "b": (2.0, 0.0), "c": (0.0, 1.0), "d": (0.0, 0.0)}
    scores: dict[tuple[str, str], float] = {}
    for label, (reference, predicted) in volumes.items():
        scores |= {(label, "vol_ref_mm3"): reference, (label, "vol_pred_mm3"): predicted}
    rows = scored_rows("case", scores)
    assert [row.status for row in rows[::2]] == ["scored", "missed", "hallucinated", "absent"]
    assert [row.status for row in rows[1::2]] == ["scored", "missed", "hallucinated", "absent"]
