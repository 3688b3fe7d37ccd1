"""The pages for people: what they show, and to whom."""

from __future__ import annotations

import base64
import hashlib
import html
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from local_sagemaker import pages
from local_sagemaker.pages.html import tag
from local_sagemaker.settings import Settings
from local_sagemaker.state.logs import Logs
from local_sagemaker.state.store import Store
from tests.browser import chromium
from tests.local_sagemaker.harness import IMAGE, REPOSITORY, Server, training_request
from tests.object_store import KEY_ID, SECRET
from tests.waiting import PATIENCE_S


def get(server: Server, path: str, **headers: str) -> str:
    request = urllib.request.Request(server.url + path, headers={k.replace("_", "-"): v for k, v in headers.items()})
    with urllib.request.urlopen(request) as answer:
        return str(answer.read().decode())


@pytest.fixture(scope="module")
def job(server: Server) -> str:
    name = "on-a-page"
    server.sagemaker.create_training_job(**training_request(server, name, "print('<script>alert(1)</script>')"))
    server.wait(lambda: server.sagemaker.describe_training_job(TrainingJobName=name), "TrainingJobStatus")
    return name


def test_index_lists_the_jobs_with_links(server: Server, job: str) -> None:
    page = get(server, "/")
    assert f'href="/jobs/training/{job}"' in page
    assert "Completed" in page


def test_page_of_a_job_shows_its_log_as_text(server: Server, job: str) -> None:
    page = get(server, f"/jobs/training/{job}")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert page.count("<script>") == 1
    assert "TrainingJobArn" in page


def test_page_runs_its_own_script_and_no_other(server: Server, job: str) -> None:
    with urllib.request.urlopen(f"{server.url}/jobs/training/{job}") as answer:
        policy, page = answer.headers["Content-Security-Policy"], answer.read().decode()
    script = page.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy
    assert "default-src 'none'" in policy
    assert "http" not in policy


@pytest.mark.parametrize("text", ["<b>", '" onload="x', "</script>", "&lt;", "'"])
def test_no_text_becomes_html(text: str) -> None:
    element = str(tag("td", text, title=text))
    assert re.fullmatch(r'<td title="[^"<>]*">[^<>]*</td>', element)
    assert html.unescape(element.partition(">")[2].removesuffix("</td>")) == text


def test_every_kind_has_its_page(tmp_path: Path) -> None:
    """Straight from a store with one record of each, as bare as a record can be."""
    store, logs = Store(tmp_path / "state.db"), Logs(tmp_path / "logs.db")
    settings = Settings(root=tmp_path, access_key_id="k", secret_access_key="s")
    for word, kind in pages.KINDS.items():
        describe = (
            {"HyperParameterTuningJobConfig": {}, "HyperParameterTuningJobArn": "arn"} if word == "tuning" else {}
        )
        store.insert(kind.name, f"one/{word}", describe)
        assert f"one/{word}" in bytes(pages.job(store, logs, word, f"one/{word}").body).decode()
        assert f"one/{word}" in bytes(pages.listing(store, logs, word).body).decode()
    index = bytes(pages.index(store, settings, logs).body).decode()
    assert all(f'href="/jobs/{word}/one/{word}"' in index for word in pages.KINDS)
    store.close()
    logs.close()


def test_index_of_thousands_shows_the_newest_and_a_link(tmp_path: Path) -> None:
    store, logs = Store(tmp_path / "state.db"), Logs(tmp_path / "logs.db")
    settings = Settings(root=tmp_path, access_key_id="k", secret_access_key="s")
    for number in range(450):
        store.insert("model", f"m{number}", {"CreationTime": number})
    index = bytes(pages.index(store, settings, logs).body).decode()
    assert index.count("/jobs/model/m") < 20
    assert "all 450" in index
    shown = "".join(bytes(pages.listing(store, logs, "model", str(number)).body).decode() for number in (1, 2, 3))
    assert all(f'/jobs/model/m{number}"' in shown for number in range(450))
    store.close()
    logs.close()


@pytest.mark.slow
def test_page_changes_by_itself_without_being_loaded_anew(server: Server, job: str) -> None:
    """In a real browser, dark and light, with nothing on its console."""
    with chromium() as browser:
        page = browser.page(color_scheme="dark")
        page.goto(server.url)
        page.evaluate("document.body.dataset.loaded = 'once'")
        server.sagemaker.create_model_package_group(ModelPackageGroupName="seen")
        server.sagemaker.create_model_package(
            ModelPackageGroupName="seen",
            ModelPackageDescription="<img src=x onerror=alert(2)>",
            InferenceSpecification={"Containers": [{"Image": IMAGE, "ModelDataUrl": "s3://b/m.tar.gz"}]},
        )
        page.wait_for_selector("text=seen/1")
        assert page.evaluate("document.body.dataset.loaded") == "once"
        page.goto(f"{server.url}/jobs/training/{job}")
        assert page.inner_text("pre.log") == "<script>alert(1)</script>"
    assert browser.said == []


@pytest.mark.parametrize("path", ["/jobs/training/nobody", "/jobs/nothing/x", "/jobs/nothing", "/jobs/model?page=x"])
def test_missing_page_is_404(server: Server, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(server, path)
    assert caught.value.code == 404


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Sec_Fetch_Dest": "iframe"}])
def test_page_is_not_shown_to_other_sites(server: Server, headers: dict[str, str]) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(server, "/", **headers)
    assert caught.value.code == 403


def test_control_characters_are_shown_and_not_sent() -> None:
    assert tag("pre", "a\x1b[2J\0\tb\n", title="\x07") == '<pre title="␇">a␛[2J␀\tb\n</pre>'


def test_an_exposed_server_shows_its_pages_to_the_key_only(make_server: Any) -> None:
    server = make_server("--expose")
    for key in ("", "key:wrong", f"{KEY_ID}:", f"{KEY_ID}:{SECRET}x", ":"):
        given = {"Authorization": "Basic " + base64.b64encode(key.encode()).decode()} if key else {}
        for path in ("/", "/jobs/training", "/jobs/training/x"):
            with pytest.raises(urllib.error.HTTPError) as caught:
                get(server, path, **given)
            assert caught.value.code == 401 and caught.value.headers["WWW-Authenticate"].startswith("Basic ")
    key = base64.b64encode(f"{KEY_ID}:{SECRET}".encode()).decode()
    assert "Nothing yet" in get(server, "/", Authorization=f"Basic {key}")
    check = [sys.executable, str(REPOSITORY / "docker/healthcheck.py"), server.url + "/"]
    assert subprocess.run(check, timeout=PATIENCE_S).returncode == 0  # compose asks without a key


def test_no_page_shows_the_values_of_an_environment(server: Server) -> None:
    request = training_request(server, "with-secrets", "print('done')", Environment={"MY_TOKEN": "hunter2"})
    server.sagemaker.create_training_job(**request)
    page = get(server, "/jobs/training/with-secrets")
    assert "MY_TOKEN" in page and "hunter2" not in page
    described = server.sagemaker.describe_training_job(TrainingJobName="with-secrets")
    assert described["Environment"] == {"MY_TOKEN": "hunter2"}
