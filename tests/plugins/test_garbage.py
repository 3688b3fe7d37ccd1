"""Only what nothing can reach is deleted, and a sync after it finds everything or brings it again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from retraining.dataset.garbage import Busy, Collector
from retraining.dataset.sources.memory import memory_key
from retraining.dataset.sync import sync_dataset
from retraining.dataset.versions.kept import NoVersion, Versions
from retraining.plan import Plan
from retraining.promotion.champion import ChampionUnusable
from tests.plugins.task_run import IMAGE, ROLE, start_job
from tests.plugins.test_sync import keys, picture, write_classes

PLUGINS = Path(__file__).parents[2] / "plugins"
LATER = datetime.now(UTC) + timedelta(days=30)


class Data:
    """A source of which a version after the other lies in the bucket."""

    def __init__(self, s3: Any, sagemaker: Any, plan: Plan, folder: Path) -> None:
        self.s3, self.sagemaker, self.plan, self.folder, self.shade = s3, sagemaker, plan, folder, 1000
        write_classes(folder, {"cat": 12, "dog": 12})

    @property
    def bucket(self) -> str:
        return self.plan.environment.bucket

    def sync(self) -> str:
        return sync_dataset(self.plan, self.s3).version.fingerprint

    def week(self) -> str:
        """A few images instead of the oldest."""
        for label in ("cat", "dog"):
            next(iter(sorted((self.folder / label).iterdir()))).unlink()
            (self.folder / label / f"{self.shade}.png").write_bytes(picture(self.shade))
            self.shade += 1
        return self.sync()

    def collector(self, newest: int = 1, days: float = 7) -> Collector:
        older_than = timedelta(days=days)
        return Collector(s3=self.s3, sagemaker=self.sagemaker, plan=self.plan, newest=newest, older_than=older_than)

    def collect(self, newest: int = 1) -> int:
        collector = self.collector(newest)
        return collector.delete(collector.find(LATER))

    def promote(self, key: str, fingerprint: str) -> None:
        document = {name: "x" for name in ("run_name", "model", "endpoint_config")} | {"classes": ["cat", "dog"]}
        document |= {"run_name": key.rpartition("/")[2].removesuffix(".json")} | {
            "ingredients": {"dataset": fingerprint}
        }
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=json.dumps(document).encode())

    def require_whole(self) -> set[str]:
        """Fingerprints of the versions there, each of which names only objects that have the bytes of their names."""
        versions = Versions(s3=self.s3, plan=self.plan)
        for kept in versions.all():
            for name in versions.images(kept.fingerprint):
                body = self.s3.get_object(Bucket=self.bucket, Key=f"{self.plan.images_key}{name}")["Body"].read()
                assert hashlib.sha256(body).hexdigest().startswith(name.rpartition("/")[2].removesuffix(".png"))
        return {kept.fingerprint for kept in versions.all()}


@pytest.fixture
def data(s3: Any, bucket: str, sagemaker: Any, make_plan: Callable[..., Plan], tmp_path: Path) -> Data:
    name, folder = f"gc{uuid4().hex[:6]}", tmp_path / "in"
    return Data(s3, sagemaker, make_plan(bucket, name=name, source=str(folder)), folder)


def test_only_what_nothing_reaches_goes(data: Data) -> None:
    oldest, champion, former, registered, *_, newest = [data.sync(), *(data.week() for _ in range(5))]
    data.promote(data.plan.champion_key, champion)
    data.promote(data.plan.past_champion_key("a-run"), former)
    group = data.plan.model_package_group
    data.sagemaker.create_model_package_group(ModelPackageGroupName=group)
    container = {"Image": "x.dkr.ecr.us-east-1.amazonaws.com/y:1", "ModelDataUrl": data.plan.uri("m.tar.gz")}
    data.sagemaker.create_model_package(
        ModelPackageGroupName=group,
        InferenceSpecification={
            "Containers": [container], "SupportedContentTypes": ["image/png"], "SupportedResponseMIMETypes": ["a/b"],
        },
        CustomerMetadataProperties={"run_name": "b-run", "dataset": registered},
    )  # fmt: skip
    garbage = data.collector().find(LATER)
    assert garbage.kept[champion] == "of the champion, champion"
    assert garbage.kept.keys() >= {champion, former, registered, newest}
    assert oldest in garbage.versions
    assert data.collector().delete(garbage) == len(list(garbage.keys)) > 0
    assert data.require_whole() == garbage.kept.keys()


def test_looking_deletes_nothing(data: Data) -> None:
    data.sync()
    data.week()
    before = keys(data.s3, data.bucket)
    assert data.collector().find(LATER).versions
    assert keys(data.s3, data.bucket) == before


def test_what_is_young_stays(data: Data) -> None:
    data.sync()
    data.week()
    garbage = data.collector().find(datetime.now(UTC))
    assert not list(garbage.keys)
    assert any("which is young" in why for why in garbage.kept.values())


def test_the_version_that_a_source_came_back_to_stays(data: Data, tmp_path: Path) -> None:
    first = data.sync()
    shutil.copytree(data.folder, tmp_path / "before")
    for _ in range(3):
        data.week()
    shutil.rmtree(data.folder)
    (tmp_path / "before").rename(data.folder)
    assert data.sync() == first
    data.collect()
    assert first in data.require_whole()


def test_a_sync_after_it_uploads_nothing(data: Data) -> None:
    data.sync()
    fingerprint = data.week()
    assert data.collect()
    again = sync_dataset(data.plan, data.s3)
    assert (again.version.fingerprint, again.uploaded) == (fingerprint, 0)


def test_shards_go_and_stay_with_their_version(
    s3: Any, sagemaker: Any, bucket: str, make_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    name, source = f"gc{uuid4().hex[:6]}", str(tmp_path / "in")
    data = Data(s3, sagemaker, make_plan(bucket, name=name, source=source, sync={"shards": "File"}), tmp_path / "in")
    first, second = data.sync(), data.week()
    shards = {version: {key for key in keys(s3, bucket) if f"{version}/shards/" in key} for version in (first, second)}
    assert all(len(keys_of) == 6 for keys_of in shards.values())
    garbage = data.collector().find(LATER)
    assert shards[first] <= set(garbage.documents)
    assert garbage.size_bytes > sum(s3.head_object(Bucket=bucket, Key=key)["ContentLength"] for key in shards[first])
    data.collect()
    assert {key for key in keys(s3, bucket) if "/shards/" in key} == shards[second]
    assert sync_dataset(data.plan, s3).uploaded == 0


def test_a_deleted_version_can_be_synced_again(data: Data, tmp_path: Path) -> None:
    first = data.sync()
    shutil.copytree(data.folder, tmp_path / "before")
    data.week()
    data.collect()
    shutil.rmtree(data.folder)
    (tmp_path / "before").rename(data.folder)
    assert data.sync() == first
    assert first in data.require_whole()


def test_memories_of_other_sources_are_forgotten_with_it(
    data: Data, make_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    """Else the next sync of that source would take for stored what is gone."""
    write_classes(tmp_path / "other", {"cat": 5, "dog": 15})
    other = make_plan(data.bucket, name=data.plan.recipe.name, source=str(tmp_path / "other"))
    (tmp_path / "other" / "cat" / "new.png").write_bytes(picture(5000))
    fingerprint = sync_dataset(other, data.s3).version.fingerprint
    time.sleep(1.1)  # S3 tells whole seconds, and the newest stays
    data.sync()
    data.collect()
    assert memory_key(other.root, other.recipe.source) not in keys(data.s3, data.bucket)
    assert sync_dataset(other, data.s3).version.fingerprint == fingerprint
    data.require_whole()


def test_memories_of_sources_that_left_go(data: Data, make_plan: Callable[..., Plan], tmp_path: Path) -> None:
    """A dated export each week, or a presigned address, is a source of its own; its memory and thumbs are large."""
    data.sync()
    for week in range(3):
        shutil.copytree(data.folder, tmp_path / f"export{week}")
        sync_dataset(
            make_plan(data.bucket, name=data.plan.recipe.name, source=str(tmp_path / f"export{week}")), data.s3
        )
    seen = {key for key in keys(data.s3, data.bucket) if "/data/seen/" in key}
    assert len(seen) == 8
    time.sleep(1.1)  # S3 tells whole seconds
    data.collect()
    own = memory_key(data.plan.root, data.plan.recipe.source)
    left = {key for key in keys(data.s3, data.bucket) if "/data/seen/" in key}
    assert {key.partition(".")[0] for key in left} == {own.partition(".")[0]}
    data.require_whole()


@pytest.mark.parametrize("after", [0, 1, 2, 5])
def test_one_that_dies_leaves_whole_versions(data: Data, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data.sync()
    for _ in range(4):
        newest = data.week()
    monkeypatch.setattr("retraining.dataset.garbage.AT_ONCE", 3)
    collector, calls = data.collector(), 0

    def dies(**_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise ConnectionError("killed")

    data.s3.meta.events.register("before-call.s3.DeleteObjects", dies, unique_id="dies")
    try:
        with pytest.raises(ConnectionError):
            collector.delete(collector.find(LATER))
    finally:
        data.s3.meta.events.unregister("before-call.s3.DeleteObjects", unique_id="dies")
    assert newest in data.require_whole()
    data.collect()
    left = data.require_whole()
    assert newest in left and len(left) <= 2  # S3 tells whole seconds, so that another may be as new
    stored = {key for key in keys(data.s3, data.bucket) if key.startswith(data.plan.images_key)}
    versions = Versions(s3=data.s3, plan=data.plan)
    assert stored == {f"{data.plan.images_key}{name}" for fingerprint in left for name in versions.images(fingerprint)}


def test_a_job_at_work_stops_it(data: Data) -> None:
    name = f"{data.plan.run_name}-train"
    start_job(data.sagemaker, data.s3, name, data.bucket)
    with pytest.raises(Busy, match=f"Job {name} is at work"):
        data.collector().find(LATER)
    data.sagemaker.stop_training_job(TrainingJobName=name)


def test_a_processing_job_at_work_stops_it(data: Data) -> None:
    name = f"{data.plan.run_name}-rules"
    cluster = {"InstanceCount": 1, "InstanceType": "ml.t3.medium", "VolumeSizeInGB": 1}
    data.sagemaker.create_processing_job(
        ProcessingJobName=name,
        RoleArn=ROLE,
        AppSpecification={"ImageUri": IMAGE, "ContainerEntrypoint": ["sleep", "300"]},
        ProcessingResources={"ClusterConfig": cluster},
    )
    with pytest.raises(Busy, match=f"Job {name} is at work"):
        data.collector().find(LATER)
    data.sagemaker.stop_processing_job(ProcessingJobName=name)


def test_a_job_of_another_recipe_stops_nothing(data: Data) -> None:
    name = f"{data.plan.recipe.name}-x-261121-030000-a1b2c-train"
    start_job(data.sagemaker, data.s3, name, data.bucket)
    data.collector().find(LATER)
    data.sagemaker.stop_training_job(TrainingJobName=name)


def test_a_broken_pointer_stops_it(data: Data) -> None:
    data.sync()
    data.s3.put_object(Bucket=data.bucket, Key=data.plan.champion_key, Body=b"{")
    with pytest.raises(ChampionUnusable):
        data.collector().find(LATER)


def test_an_unknown_version_is_told_with_the_known(data: Data) -> None:
    known = data.sync()
    with pytest.raises(NoVersion, match=f"the newest versions are: {known}"):
        Versions(s3=data.s3, plan=data.plan).manifests("0" * 20)


# --- at a terminal --------------------------------------------------------------------------------------------------


@pytest.fixture
def ask(data: Data, s3_endpoint: str, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """python -m retraining.dataset … about the data's recipe, with the variables of a shell."""
    (tmp_path / "dags/recipes").mkdir(parents=True)
    (tmp_path / "dags/recipes/one.yaml").write_text(
        f"name: {data.plan.recipe.name}\nsource: {data.folder}\nhyperparameters: {{}}\n"
        "tuning: {ranges: {lr: {type: continuous, min: 0.001, max: 0.1}}}\n"
    )
    environment = os.environ | {
        "PYTHONPATH": str(PLUGINS), "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags"),
        "RETRAINING_ENVIRONMENT": "local", "RETRAINING_BUCKET": data.bucket, "RETRAINING_ROLE_ARN": ROLE,
    }  # fmt: skip

    def asked(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "retraining.dataset", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)

    return asked


def test_a_terminal_syncs_compares_and_collects(
    data: Data, ask: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    name = data.plan.recipe.name
    done = ask("sync", name)
    assert done.returncode == 0, done.stderr
    assert "| cat |" in done.stdout and "24 files read, 29 objects uploaded" in done.stdout
    first = Versions(s3=data.s3, plan=data.plan).current()
    assert first is not None
    second = data.week()
    done = ask("diff", name, first)
    assert done.returncode == 1, done.stderr
    assert f"From {first} to {second}:\n2 added (cat 1, dog 1)\n2 removed (cat 1, dog 1)" in done.stdout
    assert (same := ask("diff", name, second, second)).returncode == 0 and "no image is other" in same.stdout
    assert "there is no champion's version; name one. Versions, the newest first" in ask("diff", name).stderr
    looked = ask("gc", name, "--newest", "1", "--days", "0")
    assert looked.returncode == 0 and "Nothing was deleted. --yes deletes it" in looked.stdout, looked.stderr
    assert "objects deleted" in ask("gc", name, "--newest", "1", "--days", "0", "--yes").stdout
    assert second in data.require_whole()


def test_a_terminal_tells_what_it_refuses(ask: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    assert (done := ask("gc", "nobody")).returncode == 2 and "there is no recipe 'nobody'" in done.stderr
    assert (done := ask("gc", "one", "--newest", "0")).returncode == 2 and "at least the newest" in done.stderr
    assert (done := ask("gc", "one", "--days", "-1")).returncode == 2 and "from 0 to 36,500" in done.stderr
