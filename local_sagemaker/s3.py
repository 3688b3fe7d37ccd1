"""Between S3 and folders: channels in, artifacts out. Objects are compared and counted as sets, never by list order."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import itertools
import json
import os
import posixpath
import re
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import boto3
import boto3.exceptions
import botocore.config
import botocore.exceptions

from local_sagemaker.failures import InternalFailureError, JobFailedError
from local_sagemaker.object_cache import Fetched, Listed, ObjectCache
from local_sagemaker.sandbox import left_file
from local_sagemaker.settings import Settings

# Small objects are latency-bound: 16 threads reach about what the store can give on two cores.
TRANSFER_THREADS = 16

# A manifest is read into memory: its bytes, and its commas, of which a list has nearly as many as entries.
_MAX_MANIFEST_BYTES = 256 * 2**20
_MAX_MANIFEST_ENTRIES = 5_000_000

# What is smaller is uploaded in one request.
_PART_BYTES = 8 * 2**20

#: What one DeleteObjects takes.
_DELETE_BATCH = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Object:
    bucket: str
    key: str
    relative: str
    """Path below the channel's folder."""
    size_bytes: int = dataclasses.field(default=0, compare=False)
    """0 where a listing did not tell it."""
    etag: str = dataclasses.field(default="", compare=False)
    """What this very content is called; empty where a listing did not tell it."""

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


# The two https forms that SageMaker takes too: s3.<region>.amazonaws.com/bucket and bucket.s3.<region>.amazonaws.com.
_HTTPS = re.compile(r"https://(?:(?P<bucket>[^/]+?)\.)?s3[.-](?:[a-z0-9-]+\.)?amazonaws\.com(?:\.cn)?/(?P<path>.*)")


# As clients take them; S3 itself is stricter with new ones.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_ADDRESS = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+")
_MAX_KEY_BYTES = 1024


def split_uri(uri: str) -> tuple[str, str]:
    """`s3://bucket/key` (or its https form) → (bucket, key); raises JobFailedError for anything else."""
    scheme, _, rest = uri.partition("://")
    if match := _HTTPS.fullmatch(uri):
        scheme, rest = "s3", "/".join(part for part in (match["bucket"], match["path"]) if part is not None)
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise JobFailedError(f"ClientError: '{uri:.300}' is not an S3 URI; it must look like s3://bucket/key")
    if not _BUCKET.fullmatch(bucket) or ".." in bucket or _ADDRESS.fullmatch(bucket):
        raise JobFailedError(
            f"ClientError: '{uri:.300}': '{bucket:.80}' is no name of a bucket, which has letters, digits, dots and "
            "hyphens, and is no address"
        )
    if len(key.encode(errors="replace")) > _MAX_KEY_BYTES:
        raise JobFailedError(f"ClientError: '{uri:.300}…': the key has more than {_MAX_KEY_BYTES} bytes")
    return bucket, key


def problem(uri: str) -> str | None:
    """What keeps a text from being an S3 URI, for a request that is refused."""
    try:
        split_uri(uri)
    except JobFailedError as error:
        return str(error).removeprefix("ClientError: ")
    return None


def join(uri: str, *parts: str) -> str:
    return "/".join([uri.rstrip("/"), *parts])


def relative_path(prefix: str, key: str) -> str:
    """Where an object of an S3Prefix lands below the channel's folder.

    `data/` and `data` give `a/1.png` for `data/a/1.png`; the prefix `data/img` also matches `data/img1.png`, which
    keeps its name; a prefix that is the whole key gives the file's name.
    """
    if key == prefix:
        return posixpath.basename(key)
    folder = prefix if prefix.endswith("/") else f"{prefix}/"
    if not prefix or key.startswith(folder):
        return key[len(folder) :] if prefix else key
    return key[len(posixpath.dirname(prefix)) :].lstrip("/")


def manifest(body: bytes, uri: str) -> tuple[str, list[str]]:
    """The prefix that a ManifestFile names, and the keys below it. Raises JobFailedError, which calls it `uri`."""
    problem = f"ClientError: manifest {uri} must be a JSON list of {{'prefix': 's3://…'}} and the keys below it"
    if body.count(b",") > _MAX_MANIFEST_ENTRIES:
        raise JobFailedError(
            f"ClientError: manifest {uri} has more than {_MAX_MANIFEST_ENTRIES} entries; name a prefix instead"
        )
    try:
        entries = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise JobFailedError(f"{problem}: {error}") from error
    if not isinstance(entries, list) or not entries or not isinstance(entries[0], dict):
        raise JobFailedError(problem)
    head, *keys = entries
    if not isinstance(head.get("prefix"), str) or not all(isinstance(key, str) and key for key in keys):
        raise JobFailedError(problem)
    return head["prefix"], keys


_DOWNLOADED_AT_ONCE = 64


class ObjectStore:
    """S3 as the jobs need it. Any thread may call any method (boto3 clients are thread-safe)."""

    def __init__(self, settings: Settings) -> None:
        self._cache = ObjectCache(settings.root / "objects")
        self._client = boto3.client(
            "s3",
            region_name=settings.region,
            endpoint_url=settings.s3_endpoint,
            aws_access_key_id=settings.access_key_id,
            aws_secret_access_key=settings.secret_access_key,
            config=botocore.config.Config(
                max_pool_connections=2 * TRANSFER_THREADS, retries={"mode": "standard", "max_attempts": 5}
            ),
        )

    def objects(self, s3_data_type: str, uri: str, stopped: Callable[[], bool] = lambda: False) -> list[Object]:
        """The objects of an S3DataSource (S3Prefix or ManifestFile), folder markers left out.

        Raises JobFailedError when there are none, or the manifest is not one. `stopped`, asked now and then, ends the
        listing of a prefix early: perhaps before there was any.
        """
        with _download_of(uri):
            found = self._manifest(uri, stopped) if s3_data_type == "ManifestFile" else self._prefix(uri, stopped)
        if not found and not stopped():
            raise JobFailedError(f'ClientError: No S3 objects found under S3 URL "{uri}" given in input data source')
        return found

    def below(self, uri: str, stopped: Callable[[], bool] = lambda: False) -> list[Object]:
        """The objects of a folder, perhaps none: unlike a prefix, `s3://b/run` does not take `s3://b/run2/…` in."""
        with _download_of(uri):
            return self._prefix(uri.rstrip("/") + "/", stopped)

    def nothing_under(self, uri: str) -> str | None:
        """For a prefix that certainly has no objects what S3 says of it, perhaps nothing; None for every other one."""
        bucket, prefix = split_uri(uri)
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        try:
            return None if any(page.get("Contents") for page in pages) else ""
        except botocore.exceptions.ClientError as error:
            said = error.response["Error"]
            return said["Message"] if said["Code"] in ("NoSuchBucket", "AccessDenied") else None
        except botocore.exceptions.BotoCoreError:  # a store that does not answer
            return None

    def require_bucket(self, uri: str) -> None:
        """Raises JobFailedError when the bucket that a job is to write to is not there or not ours."""
        bucket, _ = split_uri(uri)
        with _upload_to(uri):
            self._client.head_bucket(Bucket=bucket)

    def _prefix(self, uri: str, stopped: Callable[[], bool]) -> list[Object]:
        bucket, prefix = split_uri(uri)
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [
            Object(bucket, item["Key"], relative_path(prefix, item["Key"]), item["Size"], item["ETag"])
            for page in itertools.takewhile(lambda page: not stopped(), pages)
            for item in page.get("Contents", [])
            if not item["Key"].endswith("/")
        ]

    def _manifest(self, uri: str, stopped: Callable[[], bool]) -> list[Object]:
        head, keys = manifest(self.read(uri, _MAX_MANIFEST_BYTES), uri)
        if not keys:
            return self._prefix(head, stopped)
        bucket, prefix = split_uri(head)
        # Prefix and entry are joined as texts. Folder markers, which any listing of a bucket has, are no files.
        named = [Object(bucket, prefix + key, key.lstrip("/")) for key in dict.fromkeys(keys) if key[-1] != "/"]
        return list({item.key: item for item in named}.values())

    def read(self, uri: str, most_bytes: int) -> bytes:
        """A whole object. Raises JobFailedError for a larger one, which would fill the memory."""
        bucket, key = split_uri(uri)
        answer = self._client.get_object(Bucket=bucket, Key=key)
        with contextlib.closing(answer["Body"]) as body:
            if answer["ContentLength"] > most_bytes:
                raise JobFailedError(
                    f"ClientError: {uri} has {answer['ContentLength']} bytes; at most {most_bytes} are read"
                )
            return bytes(body.read())

    def write(self, uri: str, body: bytes, content_type: str = "application/octet-stream") -> None:
        bucket, key = split_uri(uri)
        self._client.put_object(Bucket=bucket, Key=key, Body=body, ContentType=content_type)

    def stream(self, uri: str) -> tuple[int, Generator[bytes, None, None]]:
        """Size and bytes of an object, a chunk at a time; closing the generator gives up the rest."""
        bucket, key = split_uri(uri)
        answer = self._client.get_object(Bucket=bucket, Key=key)

        def chunks() -> Generator[bytes, None, None]:
            with contextlib.closing(answer["Body"]) as body:
                yield from body.iter_chunks(2**20)

        return int(answer["ContentLength"]), chunks()

    def write_file(self, file: IO[bytes], uri: str, content_type: str = "application/octet-stream") -> None:
        """Upload a file; a large one in parts, of which none is left when that fails. Raises JobFailedError."""
        bucket, key = split_uri(uri)
        large = file.seek(0, os.SEEK_END) >= _PART_BYTES
        file.seek(0)
        with _upload_to(uri):
            if large:
                self._client.upload_fileobj(file, bucket, key, ExtraArgs={"ContentType": content_type})
            else:
                self.write(uri, file.read(), content_type)

    def size(self, uri: str) -> int:
        """Bytes of one object. Raises JobFailedError when there is none."""
        bucket, key = split_uri(uri)
        try:
            return int(self._client.head_object(Bucket=bucket, Key=key)["ContentLength"])
        except botocore.exceptions.ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                raise JobFailedError(f'ClientError: No S3 objects found under S3 URL "{uri}"') from error
            raise JobFailedError(f"ClientError: Data download failed: {uri}: {error}") from error

    def content_type(self, uri: str) -> str:
        bucket, key = split_uri(uri)
        answer = self._client.head_object(Bucket=bucket, Key=key)
        return str(answer.get("ContentType") or "application/octet-stream")

    def exists(self, uri: str) -> bool:
        bucket, key = split_uri(uri)
        try:
            self._client.head_object(Bucket=bucket, Key=key)
        except botocore.exceptions.ClientError:
            return False
        return True

    def download(self, objects: Sequence[Object], folder: Path, stopped: Callable[[], bool] = lambda: False) -> int:
        """Fetch objects to their relative paths below `folder`; returns the number of bytes.

        `stopped`, asked now and then, ends it between two objects, and within a large one.
        """
        for item in objects:
            _inside(folder, item)

        def fetch(item: Object, path: Path) -> Fetched:
            answer = self._client.get_object(Bucket=item.bucket, Key=item.key)
            with path.open("wb") as file, contextlib.closing(answer["Body"]) as body:
                for chunk in itertools.takewhile(lambda _: not stopped(), body.iter_chunks(2**20)):
                    file.write(chunk)
                return Fetched(file.tell(), str(answer.get("ETag", "")))

        def bring(item: Object, path: Path) -> int:
            with _download_of(item.uri):
                path.parent.mkdir(parents=True, exist_ok=True)
                if not item.etag:
                    return fetch(item, path).size_bytes
                listed = Listed(item.bucket, item.key, item.etag, item.size_bytes)
                return self._cache.bring(listed, path, lambda path: fetch(item, path))

        size_bytes = 0
        with concurrent.futures.ThreadPoolExecutor(TRANSFER_THREADS) as pool:
            for start in range(0, len(objects), _DOWNLOADED_AT_ONCE):
                if stopped():
                    break
                part = objects[start : start + _DOWNLOADED_AT_ONCE]
                size_bytes += sum(pool.map(lambda item: bring(item, _inside(folder, item)), part))
        return size_bytes

    def upload_file(self, path: Path, uri: str) -> None:
        """Raises FileNotFoundError for what is no file, or none any more: a job may put a pipe where one was."""
        bucket, key = split_uri(uri)
        with open(path, "rb", opener=left_file.opener) as file, _upload_to(uri):
            self._client.upload_fileobj(file, bucket, key)

    def delete(self, uris: Iterable[str]) -> None:
        """Delete objects; one that is not there is no problem."""
        by_bucket: dict[str, list[str]] = {}
        for uri in uris:
            bucket, key = split_uri(uri)
            by_bucket.setdefault(bucket, []).append(key)
        for bucket, keys in by_bucket.items():
            for start in range(0, len(keys), _DELETE_BATCH):
                batch = [{"Key": key} for key in keys[start : start + _DELETE_BATCH]]
                with _upload_to(f"s3://{bucket}"):
                    self._client.delete_objects(Bucket=bucket, Delete={"Objects": batch, "Quiet": True})

    def upload_files(self, folder: Path, relative: Iterable[str], uri: str) -> list[str]:
        """Upload some files of a folder to the same relative keys below `uri`; returns those that were still there."""

        def upload(name: str) -> str | None:
            try:
                self.upload_file(folder / name, join(uri, name))
            except FileNotFoundError:  # its job has renamed or removed it meanwhile
                return None
            return name

        with concurrent.futures.ThreadPoolExecutor(TRANSFER_THREADS) as pool:
            return [name for name in pool.map(upload, relative) if name is not None]


class Mirror:
    """One folder's files, copied to a prefix as they change; `sync` is called now and then, and once at the end."""

    def __init__(self, objects: ObjectStore, folder: Path, uri: str, *, ignored: str | None = None) -> None:
        """What lies in a folder named `ignored` is left out."""
        self._objects = objects
        self._folder = folder
        self._uri = uri
        self._ignored = ignored
        self._seen: dict[str, tuple[int, int]] = {}

    def sync(self, *, settled_s: float = 0.0) -> None:
        """Upload what has changed since the last call and not within the last `settled_s` seconds.

        While a job runs, a second of rest tells its files from those it is writing or about to rename.
        """
        latest_ns = time.time_ns() - int(settled_s * 1e9)
        changed = {
            name: (size, mtime_ns)
            for name, (size, mtime_ns) in walk(self._folder)
            if self._seen.get(name) != (size, mtime_ns)
            and mtime_ns <= latest_ns
            and self._ignored not in Path(name).parts
        }
        uploaded = self._objects.upload_files(self._folder, changed, self._uri)
        self._seen |= {name: changed[name] for name in uploaded}


@contextlib.contextmanager
def _download_of(uri: str) -> Iterator[None]:
    """Tell what went wrong with `uri` as a job's FailureReason does."""
    try:
        yield
    except botocore.exceptions.ClientError as error:
        raise JobFailedError(f"ClientError: Data download failed: {uri}: {error}") from error
    except botocore.exceptions.ParamValidationError as error:  # what was asked for cannot be asked
        raise JobFailedError(f"ClientError: Data download failed: {uri}: {error}") from error
    except botocore.exceptions.BotoCoreError as error:
        raise InternalFailureError(
            f"InternalServerError: the object store does not answer for {uri}: {error}"
        ) from error
    except OSError as error:
        raise JobFailedError(
            f"ClientError: Data download failed: {uri} cannot be written as a file: {error.strerror}"
        ) from error


@contextlib.contextmanager
def _upload_to(uri: str) -> Iterator[None]:
    try:
        yield
    except (botocore.exceptions.ClientError, boto3.exceptions.S3UploadFailedError) as error:
        raise JobFailedError(f"ClientError: Data upload failed: {uri}: {error}") from error
    except botocore.exceptions.ParamValidationError as error:
        raise JobFailedError(f"ClientError: Data upload failed: {uri}: {error}") from error
    except botocore.exceptions.BotoCoreError as error:
        raise InternalFailureError(
            f"InternalServerError: the object store does not answer for {uri}: {error}"
        ) from error


def walk(folder: Path) -> list[tuple[str, tuple[int, int]]]:
    """Relative path and (size, mtime ns) of each regular file; links are not followed, nor a folder that is one."""
    found: list[tuple[str, tuple[int, int]]] = []
    if folder.is_symlink():
        return found
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            try:
                stat = path.lstat()
            except FileNotFoundError:  # a job's temporary file, gone again
                continue
            if not path.is_symlink() and path.is_file():
                found.append((str(path.relative_to(folder)), (stat.st_size, stat.st_mtime_ns)))
    return found


def _inside(folder: Path, item: Object) -> Path:
    path = Path(os.path.normpath(folder / item.relative))
    if not path.is_relative_to(folder) or "\0" in item.relative:
        raise JobFailedError(f"ClientError: object {item.uri} would be written outside its channel; rename the key")
    return path


def data_source(channel: dict[str, Any]) -> tuple[str, str]:
    """(S3DataType, S3Uri) of a Channel or TransformInput."""
    source = channel["DataSource"].get("S3DataSource")
    if source is None:
        raise JobFailedError("ClientError: only S3DataSource inputs run here; EFS and FSx file systems do not exist")
    return source["S3DataType"], source["S3Uri"]
