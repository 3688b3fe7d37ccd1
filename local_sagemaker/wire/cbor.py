"""CBOR as Smithy's RPC v2 protocol uses it (RFC 8949; smithy.io, "Smithy RPC v2 CBOR protocol").

Read: every definite and indefinite item, floats of all sizes, tag 1 (epoch seconds, given as a plain number); other
tags are refused before anything is made of them. Written, by a shape of botocore's model: doubles, timestamps tagged.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import cbor2

from local_sagemaker.wire.errors import ApiError

_EPOCH_SECONDS = 1
_MAX_DEPTH = 64


def loads(data: bytes) -> Any:
    """Raises a SerializationException for what is not one complete CBOR item."""
    stream = io.BytesIO(data)
    decoder = cbor2.CBORDecoder(stream, semantic_decoders=_Tags(), max_depth=_MAX_DEPTH)
    try:
        value = _plain(decoder.decode())
    except (cbor2.CBORDecodeError, _RefusedError) as error:
        raise _malformed(str(error.__cause__ or error)) from None
    if stream.tell() != len(data):
        raise _malformed(f"the item ends at byte {stream.tell()} of {len(data)}")
    return value


class _RefusedError(Exception):
    """A CBOR item that no request of AWS holds."""


class _Tags(Mapping[int, Callable[[Any, bool], Any]]):
    """What reads each tag. cbor2's own readers build decimals, patterns and shared values, of any stranger's choice."""

    def __getitem__(self, tag: int) -> Callable[[Any, bool], Any]:
        def read(value: Any, immutable: bool) -> Any:
            if tag != _EPOCH_SECONDS or isinstance(value, bool) or not isinstance(value, int | float):
                raise _RefusedError(f"tag {tag} with {type(value).__name__}; only timestamps have a tag")
            return value

        return read

    def __iter__(self) -> Iterator[int]:
        return iter((_EPOCH_SECONDS,))

    def __len__(self) -> int:
        return 1


def _plain(value: Any) -> Any:
    """Without the entries of maps that are null; raises _RefusedError for what JSON has no word for but bytes."""
    match value:
        case dict():
            if not all(isinstance(key, str) for key in value):
                raise _RefusedError("a map key that is not text")
            entries = ((key, _plain(item)) for key, item in value.items())
            return {key: item for key, item in entries if item is not None}
        case list():
            return [_plain(item) for item in value]
        case cbor2.undefined:
            return None
        case None | bool() | int() | float() | str() | bytes():
            return value
        case _:
            raise _RefusedError(f"a value of type {type(value).__name__}")


def dumps(value: Any, shape: Any) -> bytes:
    """`value` as what botocore's `shape` says it is; None is left out of structures."""
    return cbor2.dumps(_shaped(value, shape))


def error(code: str, message: str) -> bytes:
    """The body of an error response."""
    return cbor2.dumps({"__type": code, "message": message})


def _shaped(value: Any, shape: Any) -> Any:
    match shape.type_name:
        case "structure":
            entries = value.items()
            return {key: _shaped(item, shape.members[key]) for key, item in entries if item is not None}
        case "list":
            return [_shaped(item, shape.member) for item in value]
        case "map":
            return {key: _shaped(item, shape.value) for key, item in value.items()}
        case "double" | "float":
            return float(value)
        case "timestamp":
            return cbor2.CBORTag(_EPOCH_SECONDS, float(value))
        case _:
            return value


def _malformed(problem: str) -> ApiError:
    return ApiError("SerializationException", f"the request body is not CBOR: {problem}")
