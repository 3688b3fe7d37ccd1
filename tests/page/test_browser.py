"""In a real browser every state of the report is quiet: no error, no request to another host, in both themes."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.browser import chromium
from tests.page.served import STATES, served
from tests.waiting import wait_until


@pytest.mark.slow
def test_every_state_is_shown_in_both_themes_without_a_word_on_the_console() -> None:
    kept = os.environ.get("PAGE_PICTURES")
    with served() as address, chromium() as browser:
        backgrounds = set()
        for theme in ("light", "dark"):
            page = browser.page(color_scheme=theme, viewport={"width": 1280, "height": 900})
            for state in (*STATES, "weeks", "models", "try", "try?state=hostile", "try?state=none", "try?state=broken"):
                page.goto(f"{address}/{state}" if state not in STATES else f"{address}/run?state={state}")
                page.wait_for_selector("h1")
                page.set_viewport_size({"width": 420, "height": 900})
                assert page.evaluate("document.documentElement.scrollWidth") <= 420, state
                page.set_viewport_size({"width": 1280, "height": 900})
                backgrounds.add((theme, page.evaluate("getComputedStyle(document.body).backgroundColor")))
                if kept:
                    page.screenshot(
                        path=f"{kept}/{state.replace('?state=', '-')}-{theme}.png", full_page=state != "many"
                    )
        page = browser.page(color_scheme="light")
        page.goto(f"{address}/around")
        page.frames[1].wait_for_selector("html.dark h1")
        page.evaluate("document.documentElement.classList.remove('dark')")
        page.frames[1].wait_for_selector("html:not(.dark) h1")
    assert len(backgrounds) == 2
    assert {url.split("/")[2] for url in browser.asked} == {address.removeprefix("http://")}
    assert browser.said == []


@pytest.fixture(scope="module")
def opened() -> Any:
    """(a page of a browser, the server's address, the browser)."""
    with served() as address, chromium() as browser:
        yield browser.page(viewport={"width": 1180, "height": 820}), address, browser


@pytest.fixture
def trying(opened: Any) -> Any:
    """(a page to try a model, just loaded, and what its console says)."""
    page, address, browser = opened
    page.goto(f"{address}/try")
    browser.said.clear()
    return page, browser.said


@pytest.mark.slow
def test_a_test_image_is_answered_and_its_map_drawn(trying: Any) -> None:
    page, said = trying
    page.locator(".picks button").nth(3).focus()
    page.keyboard.press("Enter")
    page.locator("#told", has_text="the champion's model").wait_for()
    assert page.locator("#top li").all_inner_texts()[1].startswith("<b>bright</b>")
    assert "It is 3." in page.locator("#said").inner_text()
    page.locator("#look").click()
    page.locator("#map", has_text="Orange is what the answer dark hangs on").wait_for()
    assert said == []
    # Whether it is drawn where the model looked: in the middle, and not in the corners.
    middle, corner = page.evaluate(ORANGE)
    assert middle > 60 > 20 > corner


@pytest.mark.slow
def test_the_threshold_is_moved_by_keys(trying: Any) -> None:
    page, said = trying
    page.goto(page.url.replace("/try", "/run?state=promoted"))
    page.locator("#threshold").focus()
    line = page.locator("#threshold-at").get_attribute("d")
    page.keyboard.press("ArrowRight")
    page.locator("#threshold-says", has_text="at least 0.91 sure").wait_for()
    assert page.locator("#threshold-at").get_attribute("d") != line
    page.keyboard.press("Home")
    page.locator("#threshold-says", has_text="300 of 300 images (100 %)").wait_for()
    assert said == []


@pytest.mark.slow
def test_images_of_a_class_are_fetched_when_looked_at(trying: Any) -> None:
    page, said = trying
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(page.url.replace("/try", "/run?state=promoted"))
    page.locator("#threshold").wait_for()
    assert not any("/strip?" in url for url in asked)
    page.locator(".strips summary").focus()
    page.keyboard.press("Enter")
    first = page.locator(".strips img").first
    wait_until(lambda: first.evaluate("image => image.naturalWidth") == 12 * 102 - 6, lambda: "no strip is shown")
    assert len(page.locator(".strips img").all()) == 10 and said == []


@pytest.mark.slow
def test_a_live_page_waits_for_who_has_opened_something(opened: Any) -> None:
    _, address, browser = opened
    loaded: list[str] = []
    live = browser.page()
    live.on("domcontentloaded", lambda _: loaded.append(live.url))
    live.clock.install()
    live.goto(f"{address}/run?state=asks")
    live.clock.run_for(16_000)
    wait_until(lambda: live.title() and len(loaded) == 2, lambda: f"loaded {len(loaded)} times")
    live.locator(".strips summary").click()
    live.clock.run_for(40_000)
    assert live.title() and len(loaded) == 2
    live.close()


@pytest.mark.slow
@pytest.mark.parametrize(("path", "cells"), [("weeks", "td.outcome"), ("run?state=promoted", "td.rule")])
def test_no_word_is_broken_beside_airflows_grid(trying: Any, path: str, cells: str) -> None:
    page, _ = trying
    page.set_viewport_size({"width": 936, "height": 820})
    page.goto(page.url.replace("try", path))
    lines = page.evaluate(LINES, cells)
    page.set_viewport_size({"width": 1180, "height": 820})
    assert len(lines) >= 4 and set(lines) == {1}


LINES = """cells => [...document.querySelectorAll(cells)].map(cell => {
    const range = document.createRange();
    range.selectNodeContents(cell.firstChild);
    return new Set([...range.getClientRects()].map(line => line.top)).size;
})"""

ORANGE = """() => [[224, 224, 90], [20, 20, 20]].map(([x, y, size]) => {
    const pen = document.getElementById("seen").getContext("2d");
    const { data } = pen.getImageData(x - size / 2, y - size / 2, size, size);
    let most = 0;
    for (let at = 0; at < data.length; at += 4) most = Math.max(most, data[at] - data[at + 2]);
    return most;
})"""


@pytest.mark.slow
def test_a_dropped_file_that_is_no_picture_is_told_so(trying: Any) -> None:
    page, _ = trying
    page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": b"<script>"})
    page.locator("#state.bad", has_text="NOT_IMAGE").wait_for()
    assert not page.locator("#found").is_visible()


@pytest.mark.slow
def test_a_pasted_picture_is_sent(trying: Any) -> None:
    page, _ = trying
    page.evaluate(PASTE)
    page.locator("#said", has_text="dark 0.9000").wait_for()


PASTE = """async () => {
    const sheet = new OffscreenCanvas(40, 30);
    sheet.getContext("2d").fillRect(0, 0, 40, 30);
    const clipboardData = new DataTransfer();
    clipboardData.items.add(new File([await sheet.convertToBlob()], "a.png", { type: "image/png" }));
    document.dispatchEvent(new ClipboardEvent("paste", { clipboardData }));
}"""
