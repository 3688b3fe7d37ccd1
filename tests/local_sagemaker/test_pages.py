"""The pages for people: what they show, and to whom."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

from tests.local_sagemaker.harness import Server, training_request


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
    assert "<script" not in page
    assert "TrainingJobArn" in page


@pytest.mark.parametrize("path", ["/jobs/training/nobody", "/jobs/nothing/x"])
def test_missing_page_is_404(server: Server, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(server, path)
    assert caught.value.code == 404


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Sec_Fetch_Dest": "iframe"}])
def test_page_is_not_shown_to_other_sites(server: Server, headers: dict[str, str]) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(server, "/", **headers)
    assert caught.value.code == 403
