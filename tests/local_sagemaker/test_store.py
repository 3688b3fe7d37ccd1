"""The state: durable, of one writer, quick to list, and never lost in silence."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import botocore.exceptions
import pytest

from local_sagemaker.operations import listing
from local_sagemaker.state.store import AlreadyExistsError, Record, Store
from tests.local_sagemaker.harness import REPOSITORY, Server
from tests.object_store import KEY_ID, SECRET, free_ports
from tests.waiting import PATIENCE_S


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "state.db")
    yield opened
    opened.close()


def fill(store: Store, count: int) -> None:
    for number in range(count):
        store.insert(
            "training-job", f"job-{number:05}", {"CreationTime": number // 3, "TrainingJobStatus": "Completed"}
        )


def names(store: Store, **request: object) -> list[str]:
    """Over all pages."""
    found: list[str] = []
    while True:
        page = listing.page(
            store.list("training-job"), request, member="Jobs", summary=lambda record: {"n": record.name}
        )
        found += [job["n"] for job in page["Jobs"]]
        if "NextToken" not in page:
            return found
        request = request | {"NextToken": page["NextToken"]}


def test_updates_from_many_threads_are_all_kept(store: Store) -> None:
    store.insert("training-job", "counter", {"n": 0})

    def count() -> None:
        for _ in range(25):
            store.update("training-job", "counter", lambda record: record.describe.update(n=record.describe["n"] + 1))

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (store.get("training-job", "counter") or Record).describe["n"] == 200  # type: ignore[index]


def test_failed_change_undoes_everything_it_did(store: Store) -> None:
    store.insert("group", "g", {"versions": 0})

    def change(record: Record) -> None:
        record.describe["versions"] = 1
        store.insert("version", "g/1", {})
        assert store.get("version", "g/1"), "what a change did is visible to it"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.update("group", "g", change)
    assert store.get("version", "g/1") is None
    assert store.list("group")[0].describe == {"versions": 0}
    store.insert("version", "g/1", {})  # and the next one is free to


def test_one_of_two_inserts_of_a_name_wins(store: Store) -> None:
    store.insert("model", "m", {})
    with pytest.raises(AlreadyExistsError):
        store.insert("model", "m", {})
    assert len(store.list("model")) == 1


def test_reader_does_not_wait_for_a_writer(store: Store) -> None:
    store.insert("model", "m", {"old": True})
    inside, done = threading.Event(), threading.Event()

    def change(record: Record) -> None:
        inside.set()
        done.wait(PATIENCE_S)

    writer = threading.Thread(target=store.update, args=("model", "m", change))
    writer.start()
    assert inside.wait(PATIENCE_S)
    assert (store.get("model", "m") or Record).describe == {"old": True}
    done.set()
    writer.join()


@pytest.mark.parametrize("order", ["Ascending", "Descending"])
@pytest.mark.parametrize("sort", ["Name", "CreationTime", "Status"])
def test_pages_show_each_record_once(store: Store, sort: str, order: str) -> None:
    fill(store, 47)
    assert sorted(names(store, SortBy=sort, SortOrder=order, MaxResults=5)) == [f"job-{n:05}" for n in range(47)]


def test_pages_of_the_store_are_those_of_a_list(store: Store) -> None:
    fill(store, 30)
    for request in (
        {"NameContains": "OB-0001", "SortBy": "Name", "SortOrder": "Ascending"},
        {"CreationTimeAfter": 2, "CreationTimeBefore": 5, "SortBy": "CreationTime", "MaxResults": 4},
        {"StatusEquals": "Failed"},
    ):
        in_memory = listing.page(
            list(store.list("training-job")), request, member="Jobs", summary=lambda record: {"n": record.name}
        )
        in_sql = listing.page(store.list("training-job"), request, member="Jobs", summary=lambda r: {"n": r.name})
        assert in_sql["Jobs"] == in_memory["Jobs"]
        assert ("NextToken" in in_sql) == ("NextToken" in in_memory)


def test_pages_move_on_while_records_come_and_go(store: Store) -> None:
    fill(store, 20)
    request: dict[str, object] = {"MaxResults": 5}
    first = listing.page(store.list("training-job"), request, member="Jobs", summary=lambda r: {"n": r.name})
    store.insert("training-job", "newest", {"CreationTime": 99})
    store.delete("training-job", first["Jobs"][0]["n"])
    rest = names(store, **request, NextToken=first["NextToken"])
    assert [job["n"] for job in first["Jobs"]] + rest == [f"job-{n:05}" for n in reversed(range(20))]


def test_listing_parses_no_record_that_it_does_not_show(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes a page cost the same however many jobs there are, and however long their metric series."""
    fill(store, 300)
    parsed: list[str] = []
    loads = json.loads
    monkeypatch.setattr("local_sagemaker.state.store.json.loads", lambda text: parsed.append(text) or loads(text))
    listing.page(store.list("training-job"), {}, member="Jobs", summary=lambda record: {"s": record.status})
    assert len(parsed) == 10


@pytest.mark.parametrize("token", ["x", "", "bnVsbA==", "WzEsMl0=", "W251bGwsIDEsICJ4Il0=", "é"])
def test_token_that_was_never_given_is_refused(store: Store, token: str) -> None:
    with pytest.raises(Exception, match="Invalid NextToken"):
        names(store, NextToken=token)


@pytest.mark.parametrize("name", ["state.db", "logs.db", "metrics.db"])
def test_corrupted_state_is_refused_and_kept(tmp_path: Path, images: Path, name: str) -> None:
    content = b"SQLite format 3\0" + b"broken" * 2000
    (tmp_path / name).write_bytes(content)
    result = start_in(tmp_path, images)
    assert result.returncode == 2
    assert name in result.stderr
    assert "move it away" in result.stderr
    assert "Traceback" not in result.stderr
    assert (tmp_path / name).read_bytes() == content


def test_second_server_on_a_folder_says_who_holds_it(make_server: Callable[..., Server], images: Path) -> None:
    first = make_server()
    assert first.process
    result = start_in(first.root, images)
    assert result.returncode == 2
    assert f"process {first.process.pid}" in result.stderr
    assert first.url in result.stderr
    assert first.answers()


def start_in(root: Path, images: Path) -> subprocess.CompletedProcess[str]:
    """A server that is expected to refuse."""
    command = [sys.executable, "-m", "local_sagemaker", "--root", str(root), "--images", str(images)]
    return subprocess.run(
        [*command, "--port", str(free_ports(1)[0])],
        cwd=REPOSITORY,
        env={"PATH": "/usr/bin:/bin", "AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def test_full_disk_is_an_error_and_passes(make_server: Callable[..., Server]) -> None:
    """A file size limit stands in for the full disk: SQLite sees a failed write in both."""
    server = make_server()
    assert server.process
    create = server.sagemaker.create_model_package_group
    kept, refused = [], ""
    limits = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    size = (server.root / "state.db-wal").stat().st_size
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size + 30_000, limits[1]))
    for number in range(100):
        try:
            create(ModelPackageGroupName=f"group-{number}")
            kept.append(f"group-{number}")
        except botocore.exceptions.ClientError as error:
            refused = str(error)
            break
    assert "ServiceUnavailable" in refused
    assert "Make room" in refused
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, limits)
    create(ModelPackageGroupName="after")
    server.stop()
    server.start()
    for name in [*kept, "after"]:
        server.sagemaker.describe_model_package_group(ModelPackageGroupName=name)
    assert kept
    with pytest.raises(botocore.exceptions.ClientError, match="does not exist"):
        server.sagemaker.describe_model_package_group(ModelPackageGroupName=f"group-{len(kept)}")
