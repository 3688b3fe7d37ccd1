"""Where a training's tensors lie: a folder, or a prefix in S3 (through boto3, where that is installed).

Both have the same four questions: which index files, is there an end marker, how large is a file, and its bytes.
    collections/000000000/<worker>_collections.json       which tensors belong to which collection
    index/<step // 1000, 9 digits>/<step, 12 digits>_<worker>.json
    events/<step, 12 digits>/<step, 12 digits>_<worker>.tfevents
    training_job_end.ts                                   the last to be written, by the platform or by smdebug
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO, Any

    from botocore.exceptions import ClientError

END_MARKER = "training_job_end.ts"


def tensor_files(place: Folder | Bucket | Path | str) -> Folder | Bucket:
    """The files at a folder or s3:// URI, which need not exist yet. ValueError if S3 cannot be read from here."""
    if isinstance(place, Folder | Bucket):
        return place
    if str(place).startswith("s3://"):
        return Bucket(str(place))
    return Folder(place)


def open_file(path: str, flags: int) -> int:
    """A training may leave a pipe where a file is looked for, and whoever opens one waits for who writes to it."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise FileNotFoundError(f"{path} is no file")


class Folder:
    def __init__(self, path: Path | str, known_as: str | None = None) -> None:
        self.path, self.known_as = Path(path), known_as or str(path)

    def __str__(self) -> str:
        return self.known_as

    def list(self, folder: str) -> list[str]:
        """The names in a folder ("" is the outermost); none if it does not exist."""
        try:
            return os.listdir(self.path / folder)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """Bytes of a file. FileNotFoundError if it is not there; fewer bytes than asked for where it ends early."""
        with open(self.path / name, "rb", opener=open_file) as file:
            file.seek(start)
            return file.read() if length is None else file.read(length)

    def size(self, name: str) -> int:
        """In bytes; -1 if there is no such file."""
        try:
            return os.stat(self.path / name).st_size
        except (FileNotFoundError, NotADirectoryError):
            return -1

    def ended_at(self) -> float | None:
        """When the end marker was written, in epoch seconds; None before that."""
        try:
            return os.stat(self.path / END_MARKER).st_mtime
        except (FileNotFoundError, NotADirectoryError):
            return None


class Bucket:
    """The same over S3. The client is boto3's own default, so endpoint and credentials come from the environment."""

    def __init__(self, uri: str) -> None:
        try:
            import boto3
            from botocore.exceptions import ClientError
        except ImportError as error:
            raise ValueError(
                f"'{uri}' can only be read with boto3, which is not installed: pip install boto3"
            ) from error
        self.bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        self.prefix = prefix.rstrip("/") + "/" if prefix else ""
        self.client, self.refused = boto3.client("s3"), ClientError

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def list(self, folder: str) -> list[str]:
        prefix, names = self.prefix + (folder and f"{folder}/"), []
        pages = self.client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self.bucket, Prefix=prefix, Delimiter="/"):
            names += [entry["Key"][len(prefix) :] for entry in page.get("Contents", [])]
            names += [entry["Prefix"][len(prefix) :].rstrip("/") for entry in page.get("CommonPrefixes", [])]
        return [name for name in names if name]

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        if length == 0:
            return b""
        span = {} if length is None else {"Range": f"bytes={start}-{start + length - 1}"}
        try:
            body: bytes = self.client.get_object(Bucket=self.bucket, Key=self.prefix + name, **span)["Body"].read()
        except self.refused as error:
            raise self.explained(error, name) from error
        return body

    def open(self, name: str) -> contextlib.closing[IO[bytes]]:
        """A file to be read from its beginning, once."""
        try:
            return contextlib.closing(self.client.get_object(Bucket=self.bucket, Key=self.prefix + name)["Body"])
        except self.refused as error:
            raise self.explained(error, name) from error

    def walk(self, folder: str) -> Iterator[str]:
        """The names of all files below a folder."""
        for page in self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=f"{self.prefix}{folder}/"
        ):
            for entry in page.get("Contents", []):
                if not entry["Key"].endswith("/"):
                    yield entry["Key"][len(self.prefix) :]

    def size(self, name: str) -> int:
        found = self.head(name)
        return -1 if found is None else found["ContentLength"]

    def ended_at(self) -> float | None:
        found = self.head(END_MARKER)
        return None if found is None else float(found["LastModified"].timestamp())

    def head(self, name: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self.client.head_object(Bucket=self.bucket, Key=self.prefix + name)
        except self.refused as error:
            if isinstance(missing := self.explained(error, name), FileNotFoundError):
                return None
            raise missing from error
        return found

    def explained(self, error: ClientError, name: str) -> OSError:
        code = error.response["Error"]["Code"]
        kind = FileNotFoundError if code in ("404", "NoSuchKey", "NotFound") else OSError
        return kind(f"S3 answers {code} for s3://{self.bucket}/{self.prefix}{name}")
