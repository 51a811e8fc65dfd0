"""The page as a browser takes it: small, fast, alive, and silent towards the network."""

import base64
import hashlib
import html
import json
import re
import subprocess
import time
from pathlib import Path

import pytest
from report_artifacts import Made, many
from report_reading import Reader

from segpipe.report.gallery import room_of_each
from segpipe.report.pdf import browser
from segpipe.report.settings import MontageCases, ReportConfig

BROWSER = browser()


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


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs a browser")
def test_a_browser_runs_the_page_and_asks_nobody(whole: Made, page: str, tmp_path: Path) -> None:
    """Sorting, marking and the viewer work, and the policy was never broken.

    The steps of a reader are done by a second script, which the copy's policy is told of.
    """
    steps = """
      const say = (text) => document.body.append(text);
      addEventListener("securitypolicyviolation", (event) => say("VIOLATION " + event.violatedDirective));
      addEventListener("error", (event) => say("ERROR " + event.message));
      addEventListener("unhandledrejection", (event) => say("ERROR " + event.reason));
      const tick = (ms) => new Promise((done) => setTimeout(done, ms));
      addEventListener("load", () => setTimeout(async () => {
        const rows = () => [...document.querySelectorAll(".sortable tbody tr")].map((row) => row.cells[0].textContent);
        const header = document.querySelector(".sortable thead th");
        header.click(); const up = rows().join(); header.click();
        const row = document.querySelector(".sortable tbody tr");
        row.dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
        const slider = document.querySelector(".axis input");
        slider.value = 0; slider.dispatchEvent(new Event("input"));
        const status = document.querySelector(".status").textContent;
        const clicked = document.querySelectorAll(".sortable tbody tr")[1];
        clicked.cells[2].click();
        await tick(500);
        const select = document.querySelector(".viewer select");
        const opened = select.selectedOptions[0].textContent;
        const top = document.getElementById("viewer").getBoundingClientRect().top;
        const shots = [document.querySelectorAll("canvas")[2].toDataURL()];
        const slices = [document.querySelector(".status").textContent];
        document.querySelectorAll("canvas")[2].dispatchEvent(new WheelEvent("wheel", { deltaY: 1, cancelable: true }));
        slices.push(document.querySelector(".status").textContent);
        shots.push(document.querySelectorAll("canvas")[2].toDataURL());
        const dot = document.querySelector("circle[data-c]");
        dot.dispatchEvent(new MouseEvent("click", { bubbles: true }));
        await tick(500);
        const held = JSON.parse(document.getElementById("volumes-data").textContent);
        const out = document.createElement("pre");
        out.id = "seen";
        out.textContent = JSON.stringify({
          up, down: rows().join(),
          hit: document.querySelectorAll("circle.hit").length,
          hidden: document.querySelector(".viewer").hidden,
          status, opened, clicked: clicked.cells[0].textContent, top, slices, redrawn: shots[0] !== shots[1],
          dot: [dot.dataset.c, String(held.cases[select.value].c)],
          canvases: [...document.querySelectorAll("canvas")].map((c) => c.width * c.height > 1000),
          fetched: performance.getEntriesByType("resource").map((e) => e.name).filter((n) => !n.startsWith("data:")),
        });
        document.body.append(out);
      }, 1500));
    """
    digest = base64.b64encode(hashlib.sha256(steps.encode()).digest()).decode()
    copy = page.replace("script-src &#39;", f"script-src &#39;sha256-{digest}&#39; &#39;", 1)
    assert copy != page
    (tmp_path / "page.html").write_text(copy.replace("</head>", f"<script>{steps}</script></head>", 1))
    command = [
        str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=15000", "--enable-logging=stderr", "--host-resolver-rules=MAP * ~NOTFOUND",
        "--dump-dom", f"file://{tmp_path / 'page.html'}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    dom = done.stdout
    assert "CONSOLE" not in done.stderr, done.stderr
    assert "VIOLATION" not in dom.replace(steps, "")
    assert "ERROR " not in dom.replace(steps, "")
    seen = json.loads(html.unescape(re.findall(r'<pre id="seen">(.*?)</pre>', dom)[0]))
    assert seen["up"].split(",") == sorted(seen["up"].split(","))
    assert seen["down"].split(",") == seen["up"].split(",")[::-1]
    assert seen["hit"] >= 8
    assert not seen["hidden"]
    assert seen["status"].startswith("Slices 1 / ")
    assert seen["opened"].split(" ")[0] == seen["clicked"]
    assert -2 < seen["top"] < 200
    before, after = (said.split(" / ") for said in seen["slices"])
    assert (before[:2], int(before[2]) + 1) == (after[:2], int(after[2]))
    assert seen["redrawn"]
    assert seen["dot"][0] == seen["dot"][1]
    assert seen["canvases"] == [True] * 3
    assert seen["fetched"] == []
