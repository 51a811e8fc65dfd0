"""Times as people say them, no clock of our own; hashes and machines as they are."""

import re

import pytest
from report_artifacts import Made
from report_reading import Reader

from segpipe.core.fingerprint import file_sha256
from segpipe.report.provenance import duration, moment
from segpipe.verify.folders import STATED


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0.4\N{NARROW NO-BREAK SPACE}s"), (75, "1 min 15 s"), (7384.2, "2 h 3 min"), (None, "\N{EN DASH}")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_moments() -> None:
    assert moment("2026-11-23T18:44:05+00:00") == "2026-11-23 18:44 UTC"
    assert moment(None) == ""


def test_every_hash_that_the_page_states_is_that_of_the_file(whole: Made, page: str) -> None:
    stated = dict(STATED.findall(page))
    assert {name.split("/")[0] for name in stated} == {"ingest", "preprocess", "train", "infer", "evaluate"}
    for name, sha256 in stated.items():
        assert file_sha256(whole.store.root / name) == sha256


def test_machine_and_libraries_are_told_and_no_host(page: str) -> None:
    text = Reader(page).text
    assert "logical processors" in text
    assert "no graphics card used" in text
    assert re.search(r"torch \d+\.\d+", text)
