"""Nobody meets a serious barrier on a page: axe-core looks at every state, in both themes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.browser import chromium
from tests.page.served import STATES, served

AXE = Path(__file__).parent / "axe"
LOOK = """async () => (await axe.run(document, {resultTypes: ["violations"]})).violations
    .filter(found => ["serious", "critical"].includes(found.impact))
    .map(found => `${found.id}: ${found.nodes.slice(0, 3).map(node => node.html.slice(0, 160)).join(" | ")}`)"""


def test_axe_is_what_was_published() -> None:
    digest = hashlib.sha256((AXE / "axe.min.js").read_bytes()).hexdigest()
    assert digest in (AXE / "VENDOR.txt").read_text()


@pytest.fixture(scope="module")
def pages() -> Any:
    """(address, a browser): every state of every page."""
    with served() as address, chromium() as browser:
        yield address, browser


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_has_a_serious_barrier(pages: Any, theme: str) -> None:
    address, browser = pages
    found: dict[str, list[str]] = {}
    for state in (*STATES, "weeks", "models", "try", "try?state=hostile"):
        page = browser.page(color_scheme=theme, viewport={"width": 1280, "height": 900})
        page.goto(f"{address}/{state}" if state not in STATES else f"{address}/run?state={state}")
        page.wait_for_selector("h1")
        page.evaluate("() => document.querySelectorAll('details').forEach(part => { part.open = true; })")
        page.evaluate((AXE / "axe.min.js").read_text())
        found[state] = page.evaluate(LOOK)
        page.close()
    assert found == {state: [] for state in found}


@pytest.mark.slow
def test_a_row_of_the_heat_map_leads_to_its_numbers(pages: Any) -> None:
    address, browser = pages
    page = browser.page(viewport={"width": 1280, "height": 900})
    page.goto(f"{address}/run?state=many")
    numbers = page.locator("#taken-3")
    assert not numbers.is_visible()
    page.locator('.heat a[href="#taken-3"] text').click()
    numbers.wait_for(state="visible")
    assert "003." in numbers.inner_text()
    page.close()
