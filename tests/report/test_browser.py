"""The page as a browser takes it: small, fast, alive, and silent towards the network."""

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from report_artifacts import Made, many
from report_reading import Reader

from segpipe.report.settings import ReportConfig

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


def test_a_thousand_cases_stay_small_and_fast(tmp_path: Path) -> None:
    made = many(tmp_path, 1000)
    began = time.perf_counter()
    text = made.report()
    assert time.perf_counter() - began < 15
    assert len(Reader(text).table("Case")) == 1000
    assert len(text.encode()) < 3_000_000


def test_sixty_cases_with_pictures_stay_under_three_megabytes(page: str, whole: Made) -> None:
    config = ReportConfig.model_validate({"montage_cases": {"worst": 60}, "margin_mm": 50})
    assert len(whole.report(config).encode()) < 3_000_000
    assert len(page.encode()) < 400_000


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
      setTimeout(() => {
        const rows = () => [...document.querySelectorAll(".sortable tbody tr")].map((row) => row.cells[0].textContent);
        const header = document.querySelector(".sortable thead th");
        header.click(); const up = rows().join(); header.click();
        const row = document.querySelector(".sortable tbody tr");
        row.dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
        const slider = document.querySelector(".axis input");
        slider.value = 0; slider.dispatchEvent(new Event("input"));
        const out = document.createElement("pre");
        out.id = "seen";
        out.textContent = JSON.stringify({
          up, down: rows().join(),
          hit: document.querySelectorAll("circle.hit").length,
          hidden: document.querySelector(".viewer").hidden,
          status: document.querySelector(".status").textContent,
          canvases: [...document.querySelectorAll("canvas")].map((c) => c.width * c.height > 1000),
          fetched: performance.getEntriesByType("resource").map((e) => e.name).filter((n) => !n.startsWith("data:")),
        });
        document.body.append(out);
      }, 1500);
    """
    digest = base64.b64encode(hashlib.sha256(steps.encode()).digest()).decode()
    copy = page.replace("script-src &#39;", f"script-src &#39;sha256-{digest}&#39; &#39;", 1)
    assert copy != page
    (tmp_path / "page.html").write_text(copy.replace("</head>", f"<script>{steps}</script></head>", 1))
    command = [
        str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=6000", "--dump-dom", f"file://{tmp_path / 'page.html'}",
    ]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert "VIOLATION" not in dom.replace(steps, "")
    assert "ERROR " not in dom.replace(steps, "")
    seen = json.loads(html.unescape(re.findall(r'<pre id="seen">(.*?)</pre>', dom)[0]))
    assert seen["up"].split(",") == sorted(seen["up"].split(","))
    assert seen["down"].split(",") == seen["up"].split(",")[::-1]
    assert seen["hit"] >= 8
    assert not seen["hidden"]
    assert seen["status"].startswith("Slices 1 / ")
    assert seen["canvases"] == [True] * 3
    assert seen["fetched"] == []
