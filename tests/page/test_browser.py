"""In a real browser every state of the report is quiet: no error, no request to another host, in both themes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.page.served import STATES, served
from tests.waiting import PATIENCE_S

CHROMIUM = "/usr/bin/chromium"


@pytest.mark.slow
def test_every_state_is_shown_in_both_themes_without_a_word_on_the_console() -> None:
    if not Path(CHROMIUM).exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    from playwright.sync_api import sync_playwright

    said: list[str] = []
    asked: set[str] = set()
    kept = os.environ.get("PAGE_PICTURES")
    with served() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        backgrounds = set()
        for theme in ("light", "dark"):
            page = browser.new_page(color_scheme=theme, viewport={"width": 1280, "height": 900})
            page.set_default_timeout(PATIENCE_S * 1000)
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("dialog", lambda dialog: said.append(dialog.message))
            page.on("request", lambda request: asked.add(request.url.split("/")[2]))
            for state in (*STATES, "weeks", "models"):
                page.goto(f"{address}/{state}" if state not in STATES else f"{address}/run?state={state}")
                page.wait_for_selector("h1")
                page.set_viewport_size({"width": 420, "height": 900})
                assert page.evaluate("document.documentElement.scrollWidth") <= 420, state
                page.set_viewport_size({"width": 1280, "height": 900})
                backgrounds.add((theme, page.evaluate("getComputedStyle(document.body).backgroundColor")))
                if kept:
                    page.screenshot(path=f"{kept}/{state}-{theme}.png", full_page=state != "many")
        page = browser.new_page(color_scheme="light")
        page.goto(f"{address}/around")
        page.frames[1].wait_for_selector("html.dark h1")
        page.evaluate("document.documentElement.classList.remove('dark')")
        page.frames[1].wait_for_selector("html:not(.dark) h1")
        browser.close()
    assert len(backgrounds) == 2
    assert asked == {address.removeprefix("http://")}
    assert said == []
