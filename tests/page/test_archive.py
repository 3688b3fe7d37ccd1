"""The report as one file asks for nothing outside of it, and tells the same as the page."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from retraining.page.airflow_runs import TaskRecord
from retraining.page.documents import Documents
from retraining.page.rendering import one_file, report
from tests.browser import chromium
from tests.page.runs import documents

HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(3)>', "</style><b>"]


def as_its_task_knows_it(run: Documents) -> Documents:
    """Without the times of tasks."""
    tasks = (TaskRecord(task_id=task.task_id, state=task.state, start=None, end=None) for task in run.record.tasks)
    return replace(run, record=replace(run.record, tasks=tuple(tasks)))


def test_a_file_asks_for_nothing() -> None:
    page = one_file(as_its_task_knows_it(documents(HOSTILE))).decode()
    assert not re.search(r"<script|<link|<iframe|https?://|url\(|@import", page)
    assert re.findall(r'<img src="(?!data:image/jpeg;base64,)', page) == []
    assert page.count("</style>") == 1


def test_a_file_tells_what_the_page_tells() -> None:
    run = documents([str(digit) for digit in range(10)])
    body = re.compile(rb"<main.*</main>", re.DOTALL)
    found, shown = body.search(one_file(run)), body.search(report(run))
    # A file has no server to ask.
    asking, asked = re.compile(rb'<details class="(foreign|strips)">.*?</details>\n', re.DOTALL), shown and shown[0]
    assert found and asked and found[0] == asking.sub(b"", asked) and len(asking.findall(asked)) == 2


def test_a_file_of_133_classes_can_be_sent_by_mail() -> None:
    assert len(one_file(documents([f"{number:03}.Some_breed" for number in range(133)]))) < 2 * 2**20


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_file_is_styled_and_quiet_in_a_browser(tmp_path: Path, theme: str) -> None:
    (tmp_path / "report.html").write_bytes(one_file(documents(HOSTILE)))
    with chromium() as browser:
        page = browser.page(color_scheme=theme)
        page.goto((tmp_path / "report.html").as_uri())
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 29, 45)"}[theme]
    assert browser.said == [] and {url.partition(":")[0] for url in browser.asked} <= {"file", "data"}
