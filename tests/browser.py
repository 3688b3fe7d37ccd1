"""Debian's Chromium, as a person would look at a page with it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.waiting import PATIENCE_S

if TYPE_CHECKING:
    from playwright.sync_api import Browser as Process
    from playwright.sync_api import Page

CHROMIUM = "/usr/bin/chromium"
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")


class Browser:
    """`said` is what the consoles and dialogs of all its pages said, `asked` the addresses that they fetched."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.said: list[str] = []
        self.asked: list[str] = []

    def page(self, **options: Any) -> Page:
        """A new page, in a profile of its own; the options are those of Playwright's Browser.new_page()."""
        page = self._process.new_page(**options)
        page.set_default_timeout(PATIENCE_S * 1000)
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("dialog", lambda dialog: self.said.append(dialog.message))
        page.on("request", lambda request: self.asked.append(request.url))
        return page


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser for the time of a test or a file, which is skipped where it is not installed."""
    if not Path(CHROMIUM).exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        process = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET), timeout=PATIENCE_S * 1000)
        yield Browser(process)
        process.close()
