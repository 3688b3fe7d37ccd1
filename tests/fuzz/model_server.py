"""What ml/ reads of strangers: bodies of requests, pictures, weights, saved tensors. In the interpreter of torch."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dataset.shards import read_shards
from debugger.tensors.records import CorruptTensors, RecordReader
from debugger.tensors.writer import event, record
from network import weights
from pictures.picture import BadImage, decode
from pictures.request import RequestError, read_request
from tests.fuzz.examples import PICTURE_WORDS, SIDE, pictures, safetensors
from tests.fuzz.target import Target
from tests.ml.packed import line, sample, tar, write_index


def read_picture(body: bytes) -> None:
    with contextlib.suppress(BadImage):
        decode(body, side=SIDE)


def read_body(kind: str) -> Callable[[bytes], None]:
    def read(body: bytes) -> None:
        try:
            read_request(body, kind).decoded(SIDE)
        except RequestError as error:
            if not 400 <= error.status_code < 500:
                raise

    return read


def read_weights(body: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        with contextlib.suppress(ValueError):
            weights.read(file.name)


def read_record(body: bytes) -> None:
    with contextlib.suppress(CorruptTensors):
        RecordReader().value(memoryview(body), "loss")


def read_shard(body: bytes) -> None:
    """As the only one of a channel whose index tells of just these bytes."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "train-000000.tar"
        path.write_bytes(body)
        write_index(path.parent, {"classes": ["a", "b"], "shardlist": [line(path, 2)]})
        with contextlib.suppress(ValueError):
            read_shards(path.parent, ["a", "b"])


def read_index(body: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "train-000000.tar"
        path.write_bytes(shards()[0])
        (path.parent / "index.json").write_bytes(body)
        with contextlib.suppress(ValueError):
            read_shards(path.parent, ["a", "b"])


# --- examples -------------------------------------------------------------------------------------------------------


def json_bodies() -> list[bytes]:
    text = base64.b64encode(pictures()[3]).decode()
    return [
        json.dumps(document).encode()
        for document in (
            {"image": text},
            {"instances": [{"image": text}, {"b64": text}]},
            {"url": "https://a.example/b"},
        )
    ]


def arrays() -> list[bytes]:
    made = []
    for array in (np.zeros((8, 8, 3), np.uint8), np.zeros((1, 3, 8, 8), np.float32), np.zeros((2, 8, 8, 3), np.uint8)):
        body = io.BytesIO()
        np.save(body, array)
        made.append(body.getvalue())
    return made


def records() -> list[bytes]:
    """As the project's own hook writes them."""
    arrays = (np.float32(1.5), np.zeros((2, 3), np.float16), np.arange(4))
    return [record(event("loss", np.asarray(array), 1, "TRAIN", 1)) for array in arrays]


def shards() -> list[bytes]:
    files = sample("0/0a1b.png", pictures()[3], 0) + sample("1/ffff.jpg", pictures()[0], 1)
    return [tar(files), tar(files[:2])]


def indexes() -> list[bytes]:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "train-000000.tar"
        path.write_bytes(shards()[0])
        write_index(path.parent, {"classes": ["a", "b"], "shardlist": [line(path, 2)]})
        return [(path.parent / "index.json").read_bytes()]


JSON_WORDS = (
    b'{"image":',
    b'"instances":[',
    b"null",
    b"1e999",
    b"NaN",
    b'"\\ud800"',
    b"[" * 300,
    b"====",
    b"\xff",
    b"\x00",
)
NPY_WORDS = (
    b"'descr': '|O'",
    b"'shape': (-1, 2**70)",
    b"'fortran_order': True",
    b"(" * 99,
    b"\x93NUMPY",
    b"<f8",
    b"\n",
)

TARGETS = (
    Target("picture_of_a_request", read_picture, pictures, PICTURE_WORDS),
    Target("request_of_pictures", read_body("application/json"), json_bodies, JSON_WORDS),
    Target("request_of_an_array", read_body("application/x-npy"), arrays, NPY_WORDS),
    Target(
        "weights_of_an_artifact",
        read_weights,
        lambda: [safetensors()],
        (b'"shape":', b"[-1]", b"1e999", b'"data_offsets":'),
    ),
    Target("shard_of_a_channel", read_shard, shards, (b"0/a.cls", b"ustar\x0000", b"\x80\xff", b"../", b"\x00" * 512)),
    Target(
        "index_of_shards", read_index, indexes, (b'"../x.tar"', b"1e999", b"null", b"[]", b'"classes":', b"[" * 300)
    ),
    Target("saved_tensor", read_record, records, (b"\x08\x01", b"\xff" * 9 + b"\x01")),
)
