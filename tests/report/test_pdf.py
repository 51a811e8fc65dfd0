"""The PDF: the whole report on paper, printed by a browser; without one a line says so and the page is there."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from report_artifacts import Made, silent

from segpipe.core.errors import MachineError
from segpipe.core.parallel import SerialExecutor
from segpipe.core.stage import Inputs, Workspace
from segpipe.report import pdf
from segpipe.report.pdf import browser, print_page
from segpipe.report.settings import ReportConfig
from segpipe.stages import report


def run_report(made: Made, out: Path) -> list[str]:
    said: list[str] = []
    work = Workspace(out, SerialExecutor(), lambda metrics, step: None, silent, tell=said.append)
    report.run(report.Settings(ingest=made.source, report=ReportConfig()), Inputs(made.artifacts), work)
    return said


@pytest.mark.slow
@pytest.mark.skipif(browser() is None, reason="needs a browser")
def test_the_report_is_printed_with_everything_unfolded(whole: Made, tmp_path: Path) -> None:
    assert run_report(whole, tmp_path) == []
    printed = (tmp_path / "report.pdf").read_bytes()
    assert printed.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) >= 6
    assert str(Path.home()).encode() not in printed
    if shutil.which("pdftotext"):
        text = subprocess.run(["pdftotext", "-layout", tmp_path / "report.pdf", "-"], capture_output=True, check=True)
        for said in (b"What was asked", b"Sensitivity", b"Limitations", b"CLAIM 2024", b"ab" * 32):
            assert said in text.stdout, said
        assert b"Slice viewer" not in text.stdout


def test_without_a_browser_one_line_says_so_and_the_page_is_there(
    whole: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pdf, "browser", lambda: None)
    (said,) = run_report(whole, tmp_path)
    assert said.startswith("no report.pdf: there is no Chromium, Chrome or Edge on this machine. Install one,")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["claim.csv", "claim.md", "report.html"]


def test_a_browser_that_fails_is_told_of_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "browser", lambda: shutil.which("false"))
    with pytest.raises(MachineError, match="did not print"):
        print_page("<p>", tmp_path / "report.pdf")
    assert list(tmp_path.iterdir()) == []


def test_an_installed_browser_makes_another_report(monkeypatch: pytest.MonkeyPatch, whole: Made) -> None:
    with_pdf = report.Settings(ingest=whole.source, report=ReportConfig())
    without = report.Settings(ingest=whole.source, report=ReportConfig(pdf=False))
    names = []
    for found in (None, "/usr/bin/chromium"):
        monkeypatch.setattr(report, "browser", lambda found=found: found)
        names.append([whole.store.name(report.STAGE, settings, {}) for settings in (with_pdf, without)])
    assert names[0][0] != names[1][0]
    assert names[0][1] == names[1][1]
