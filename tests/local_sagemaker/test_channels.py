"""Input channels: what each host finds in its folders."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from local_sagemaker import s3
from local_sagemaker.failures import JobFailedError
from local_sagemaker.jobs import channels
from local_sagemaker.jobs.cluster import Host
from local_sagemaker.jobs.opt_ml import OptMl
from local_sagemaker.s3 import Object, ObjectStore
from local_sagemaker.settings import Settings
from tests.local_sagemaker.harness import BUCKET, Server, training_request
from tests.local_sagemaker.test_training import archive, run
from tests.object_store import KEY_ID, SECRET

LIST = """
import json, os, pathlib
data = pathlib.Path(os.environ["SM_INPUT_DIR"], "data")
files = {str(path.relative_to(data)): path.read_text() for path in sorted(data.rglob("*")) if path.is_file()}
config = json.loads(pathlib.Path(os.environ["SM_INPUT_CONFIG_DIR"], "inputdataconfig.json").read_text())
found = {"files": files, "config": config}
pathlib.Path(os.environ["SM_MODEL_DIR"], os.environ["SM_CURRENT_HOST"]).write_text(json.dumps(found))
"""


def objects(count: int) -> list[Object]:
    return [Object("b", f"data/{number:04}.txt", f"{number:04}.txt") for number in range(count)]


@pytest.mark.parametrize("count", [0, 1, 3, 100])
@pytest.mark.parametrize("hosts", [1, 2, 3, 7])
def test_every_object_is_on_exactly_one_host(count: int, hosts: int) -> None:
    parts = channels.shards(objects(count), hosts)
    assert sorted(item.key for part in parts for item in part) == [item.key for item in objects(count)]
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_shards_do_not_depend_on_the_order_of_the_listing() -> None:
    assert channels.shards(objects(20)[::-1], 3) == channels.shards(objects(20), 3)


def test_shuffle_seed_deals_the_objects_out_anew() -> None:
    assert channels.shards(objects(20), 3, seed=1) == channels.shards(objects(20)[::-1], 3, seed=1)
    assert channels.shards(objects(20), 3, seed=1) != channels.shards(objects(20), 3, seed=2)


@pytest.fixture
def store(tmp_path: Path, s3_endpoint: str) -> ObjectStore:
    settings = Settings(root=tmp_path / "root", access_key_id=KEY_ID, secret_access_key=SECRET, s3_endpoint=s3_endpoint)
    return ObjectStore(settings)


def test_stop_is_heard_within_a_large_object_and_within_a_listing(store: ObjectStore, tmp_path: Path) -> None:
    uri = f"s3://{BUCKET}/stopped/large"
    store.write(uri, bytes(30 * 2**20))
    asked = itertools.count()
    (found,) = store.objects("S3Prefix", uri)
    assert store.download([found], tmp_path, lambda: next(asked) > 3) < 10 * 2**20
    assert store.objects("S3Prefix", uri, lambda: True) == []


def test_stop_is_heard_within_a_manifest(store: ObjectStore, tmp_path: Path) -> None:
    """Its rows may be a million."""
    prefix = f"s3://{BUCKET}/rows"
    for number in range(200):
        store.write(f"{prefix}/{number}", b"x")
    store.write(f"{prefix}.manifest", json.dumps([{"prefix": f"{prefix}/"}, *map(str, range(200))]).encode())
    source = {"S3DataType": "ManifestFile", "S3Uri": f"{prefix}.manifest"}
    channel = {"ChannelName": "train", "DataSource": {"S3DataSource": source}}
    folders, asked = OptMl(tmp_path / "opt/ml"), itertools.count()
    channels.fetch(
        store, channel, [(Host(name="algo-1", instance_type="ml.m5.large"), folders)], lambda: next(asked) > 70
    )
    assert 0 < len(list(folders.channel("train").iterdir())) < 150


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b" " * 1001, "has 1001 bytes; at most 1000 are read"),
        (b'[{"prefix": "s3://b/"}' + b",[]" * 100 + b"]", "has more than 99 entries"),
    ],
)
def test_manifest_without_end_is_refused_before_it_is_parsed(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, body: bytes, said: str
) -> None:
    monkeypatch.setattr(s3, "_MAX_MANIFEST_BYTES", 1000)
    monkeypatch.setattr(s3, "_MAX_MANIFEST_ENTRIES", 99)
    store.write(f"s3://{BUCKET}/long.manifest", body)
    with pytest.raises(JobFailedError, match=said):
        store.objects("ManifestFile", f"s3://{BUCKET}/long.manifest")


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/a/b",
        "https://s3.us-east-1.amazonaws.com/bucket/a/b",
        "https://s3.amazonaws.com/bucket/a/b",
        "https://bucket.s3.eu-west-1.amazonaws.com/a/b",
    ],
)
def test_every_form_of_an_s3_uri_is_read(uri: str) -> None:
    assert s3.split_uri(uri) == ("bucket", "a/b")


@pytest.mark.parametrize(
    ("prefix", "key", "relative"),
    [
        ("data/", "data/a/1.png", "a/1.png"),
        ("data", "data/a/1.png", "a/1.png"),
        ("data/img", "data/img1.png", "img1.png"),
        ("data/img", "data/img/1.png", "1.png"),
        ("data/dataset.json", "data/dataset.json", "dataset.json"),
        ("", "a/1.png", "a/1.png"),
    ],
)
def test_object_lands_where_sagemaker_puts_it(prefix: str, key: str, relative: str) -> None:
    assert s3.relative_path(prefix, key) == relative


def source(name: str, uri: str, kind: str = "S3Prefix", **more: Any) -> dict[str, Any]:
    s3_source = {"S3DataType": kind, "S3Uri": f"s3://{BUCKET}/{uri}"} | more
    return {"ChannelName": name, "DataSource": {"S3DataSource": s3_source}}


@pytest.fixture(scope="module")
def found(server: Server) -> dict[str, dict[str, Any]]:
    """What two hosts found: one job with every kind of channel."""
    for number in range(5):
        server.s3.put_object(Bucket=BUCKET, Key=f"channels/{number}.txt", Body=str(number).encode())
    manifest = [{"prefix": f"s3://{BUCKET}/channels/"}, "1.txt", "3.txt", "1.txt"]
    server.s3.put_object(Bucket=BUCKET, Key="channels.manifest", Body=json.dumps(manifest).encode())
    request = training_request(server, "channels", LIST)
    request["ResourceConfig"]["InstanceCount"] = 2
    request["InputDataConfig"] = [
        source("all", "channels/") | {"ContentType": "text/plain"},
        source("shard", "channels/", S3DataDistributionType="ShardedByS3Key") | {"InputMode": "FastFile"},
        source("listed", "channels.manifest", "ManifestFile"),
        source("one-each", "channels.manifest", "ManifestFile", S3DataDistributionType="ShardedByS3Key"),
    ]
    job = run(server, request)
    assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]
    tar = archive(server, job["ModelArtifacts"]["S3ModelArtifacts"])
    return {name: json.load(tar.extractfile(name)) for name in sorted(tar.getnames())}  # type: ignore[arg-type]


def names(found: dict[str, Any], channel: str) -> list[str]:
    return [path.removeprefix(f"{channel}/") for path in found["files"] if path.startswith(f"{channel}/")]


def test_replicated_channel_is_whole_on_every_host(found: dict[str, dict[str, Any]]) -> None:
    for host in found.values():
        assert names(host, "all") == [f"{number}.txt" for number in range(5)]


def test_sharded_channel_is_dealt_out_among_the_hosts(found: dict[str, dict[str, Any]]) -> None:
    assert names(found["algo-1"], "shard") == ["0.txt", "2.txt", "4.txt"]
    assert names(found["algo-2"], "shard") == ["1.txt", "3.txt"]


def test_manifest_channel_comes_with_its_manifest(found: dict[str, dict[str, Any]]) -> None:
    for host in found.values():
        assert names(host, "listed") == ["1.txt", "3.txt"]
        assert json.loads(host["files"]["listed-manifest"]) == [
            {"prefix": f"s3://{BUCKET}/channels/"},
            "1.txt",
            "3.txt",
        ]
    assert [names(host, "one-each") for host in found.values()] == [["1.txt"], ["3.txt"]]


def test_script_is_told_how_its_channels_came(found: dict[str, dict[str, Any]]) -> None:
    config = found["algo-1"]["config"]
    assert config["all"] == {
        "ContentType": "text/plain",
        "TrainingInputMode": "File",
        "S3DistributionType": "FullyReplicated",
        "RecordWrapperType": "None",
    }
    assert config["shard"]["TrainingInputMode"] == "FastFile"
    assert config["shard"]["S3DistributionType"] == "ShardedByS3Key"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["clash/a", "clash/a/b"], "cannot be written as a file"),
        (["clash/../../../outside"], "outside its channel"),
    ],
    ids=["file-and-folder", "parent"],
)
def test_key_that_is_no_file_name_fails_the_job_in_words(server: Server, keys: list[str], said: str) -> None:
    prefix = f"clash{abs(hash(said + keys[0]))}"
    keys = [key.replace("clash", prefix, 1) for key in keys]
    manifest = [{"prefix": f"s3://{BUCKET}/"}, *keys]
    for key in keys:
        if ".." not in key:
            server.s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    server.s3.put_object(Bucket=BUCKET, Key=f"{prefix}.manifest", Body=json.dumps(manifest).encode())
    request = training_request(server, prefix, "print(1)")
    request["InputDataConfig"] = [source("train", f"{prefix}.manifest", "ManifestFile")]
    job = run(server, request)
    assert job["FailureReason"].startswith("ClientError: ")
    assert said in job["FailureReason"]


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'["a"]', b'[{"prefix": 3}]', b"\xff", b'[{"prefix": "s3://b/"}, 3]']
)
def test_broken_manifest_is_named(server: Server, body: bytes) -> None:
    key = f"broken{abs(hash(body))}"
    server.s3.put_object(Bucket=BUCKET, Key=key, Body=body)
    request = training_request(server, key, "print(1)")
    request["InputDataConfig"] = [source("train", key, "ManifestFile")]
    assert f"ClientError: manifest s3://{BUCKET}/{key} must be" in run(server, request)["FailureReason"]
