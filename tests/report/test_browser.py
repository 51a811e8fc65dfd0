"""The report in a real browser: a click on a case opens it, slices scroll, tables sort, and nothing is asked for."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from segpipe.report.pdf import browser

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the extra dev")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(browser() is None, reason="needs a browser")]

FLAGS = ("--disable-gpu", "--no-sandbox", "--disable-background-networking", "--disable-component-update")


@dataclass
class Open:
    """A report that lies open, and what went on behind it."""

    tab: object
    errors: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=browser(), args=list(FLAGS))
        yield running
        running.close()


@pytest.fixture
def opened(chromium, page: str, tmp_path: Path) -> Iterator[Open]:
    yield from laid_open(chromium, page, tmp_path, width=1366)


def laid_open(chromium, page: str, folder: Path, width: int, **how: object) -> Iterator[Open]:
    file = folder / "report.html"
    file.write_text(page, encoding="utf-8")
    context = chromium.new_context(viewport={"width": width, "height": 800}, **how)
    tab = context.new_page()
    found = Open(tab)
    tab.on("console", lambda said: found.errors.append(said.text) if said.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: found.errors.append(str(error)))
    tab.on("request", lambda request: found.asked.append(request.url))
    tab.goto(file.as_uri())
    yield found
    context.close()
    others = [url for url in found.asked if url != file.as_uri() and not url.startswith(("data:", "blob:"))]
    assert others == []
    assert found.errors == []


def status(tab) -> str:
    return tab.locator(".viewer .status").inner_text()


def picture(tab, index: int = 2) -> str:
    return tab.evaluate(f"document.querySelectorAll('.viewer canvas')[{index}].toDataURL()")


def test_a_click_on_a_case_opens_its_slices(opened: Open) -> None:
    tab = opened.tab
    tab.wait_for_function("document.querySelector('.viewer .status').textContent.startsWith('Slices')")
    chosen = tab.locator(".viewer select")
    names = chosen.locator("option").all_inner_texts()
    first, before = chosen.input_value(), picture(tab)
    other = next(name for index, name in enumerate(names) if str(index) != first)
    tab.locator(".sortable tbody tr", has_text=other.split(" (")[0]).first.locator("td").first.click()
    tab.wait_for_function("before => document.querySelectorAll('.viewer canvas')[2].toDataURL() !== before", arg=before)
    assert names[int(chosen.input_value())] == other
    top = tab.evaluate("document.querySelector('.viewer').parentElement.getBoundingClientRect().top")
    assert abs(top) < 200


def test_the_wheel_scrolls_through_slices(opened: Open) -> None:
    tab = opened.tab
    tab.wait_for_function("document.querySelector('.viewer .status').textContent.startsWith('Slices')")
    canvas = tab.locator(".viewer canvas").nth(2)
    canvas.scroll_into_view_if_needed()
    before, seen = status(tab), picture(tab)
    canvas.hover()
    tab.mouse.wheel(0, 100)
    tab.wait_for_function("before => document.querySelector('.viewer .status').textContent !== before", arg=before)
    assert picture(tab) != seen
    tab.mouse.wheel(0, -100)
    tab.wait_for_function("before => document.querySelector('.viewer .status').textContent === before", arg=before)
    assert picture(tab) == seen


def test_a_click_on_a_header_sorts_by_that_column_and_another_turns_it_round(opened: Open) -> None:
    table = opened.tab.locator(".sortable").first
    header = table.locator("thead th").nth(1)
    header.click()
    column = "td:nth-child(2), th:nth-child(2)"

    def values() -> list[float]:
        texts = table.locator("tbody tr").locator(column).all_inner_texts()
        return [float(text.replace("\u2212", "-")) for text in texts if text.strip() not in ("", "\u2013")]

    assert len(values()) > 1
    assert values() == sorted(values())
    assert header.get_attribute("aria-sort") == "ascending"
    header.press("Enter")
    assert values() == sorted(values(), reverse=True)


def test_a_click_on_a_dot_opens_its_case(opened: Open) -> None:
    tab = opened.tab
    tab.wait_for_function("document.querySelector('.viewer .status').textContent.startsWith('Slices')")
    held = json.loads(tab.locator("#volumes-data").text_content())["cases"]
    first = held[int(tab.locator(".viewer select").input_value())]["c"]
    dot = tab.locator(f"circle[data-c]:not([data-c='{first}'])").first
    wanted = dot.get_attribute("data-c")
    dot.click(force=True)
    assert str(held[int(tab.locator(".viewer select").input_value())]["c"]) == wanted


def test_pointing_at_a_row_marks_its_case_in_every_chart(opened: Open) -> None:
    tab = opened.tab
    row = tab.locator(".sortable tbody tr").nth(1)
    row.hover()
    marked = tab.locator("circle.hit")
    assert marked.count() >= 8
    assert {dot.get_attribute("data-c") for dot in marked.all()} == {row.get_attribute("data-c")}


def test_sliders_cut_along_every_axis_and_each_plane_is_drawn(opened: Open) -> None:
    tab = opened.tab
    tab.wait_for_function("document.querySelector('.viewer .status').textContent.startsWith('Slices')")
    for axis in range(3):
        tab.locator(".axis input").nth(axis).fill("0")
        assert status(tab).removeprefix("Slices ").split(" / ")[axis] == "1"
    drawn = tab.evaluate("[...document.querySelectorAll('.viewer canvas')].map((one) => one.width * one.height > 1000)")
    assert drawn == [True] * 3


@pytest.mark.parametrize("width", [1920, 1366, 800])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_window(chromium, page: str, tmp_path: Path, width: int, scheme: str) -> None:
    for found in laid_open(chromium, page, tmp_path, width, color_scheme=scheme):
        assert found.tab.evaluate("document.documentElement.scrollWidth") <= width


def test_with_scripts_off_the_tables_and_pictures_are_there(chromium, page: str, tmp_path: Path) -> None:
    for found in laid_open(chromium, page, tmp_path, 1366, java_script_enabled=False):
        assert found.tab.locator(".sortable tbody tr").count() > 1
        assert found.tab.locator("figure img, figure svg").count() > 3
        assert not found.tab.locator(".viewer").is_visible()
