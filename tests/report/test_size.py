"""The page is small, made fast, and keeps to its room however many cases there are."""

import re
import time
from pathlib import Path

import pytest
from report_artifacts import Made, many
from report_reading import Reader

from segpipe.report.gallery import room_of_each
from segpipe.report.settings import MontageCases, ReportConfig


def test_a_thousand_cases_stay_small_and_fast(tmp_path: Path) -> None:
    made = many(tmp_path, 1000)
    began = time.process_time()
    text = made.report()
    assert time.process_time() - began < 15
    assert len(Reader(text).table("Case")) == 1000
    assert len(text.encode()) < 3_000_000


def test_sixty_cases_stay_under_three_megabytes_with_each_to_be_leafed_through(tmp_path: Path) -> None:
    text = many(tmp_path, 60, drawn=True).report(ReportConfig(margin_mm=50))
    assert len(Reader(text).table("Case")) == 60
    assert text.count('"oriented": true') == 60
    assert len(text.encode()) < 3_000_000


def test_a_small_page_is_small(page: str) -> None:
    assert len(page.encode()) < 500_000


@pytest.mark.parametrize(("cases", "most"), [(1, 1.6), (60, 1.6), (250, 6.5), (2000, 10.0)])
def test_the_viewer_keeps_to_its_room(cases: int, most: float) -> None:
    assert room_of_each(cases, 10.0) * cases <= most * 1_000_000 + 1
    assert room_of_each(cases, 0.5) * cases <= 500_001


def test_only_the_worst_are_leafed_through_where_there_are_more_than_wanted(whole: Made) -> None:
    text = whole.report(ReportConfig(viewer_cases=2, montage_cases=MontageCases(worst=1, median=0, best=0)))
    rows = re.findall(r'<tr data-c="(\d+)"><th class="l" scope="row">(<a href="[^"]+">)?', text)
    assert [link for _, link in rows] == [f'<a href="#picture-{rows[0][0]}">', '<a href="#viewer">', "", "", "", ""]
    assert "2 of 6 cases are here, the worst" in text
