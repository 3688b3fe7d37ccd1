"""What all List* operations share: filters, sorting and pages."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable
from typing import Any

from local_sagemaker.state.store import Record
from local_sagemaker.wire.errors import validation

_DEFAULT_RESULTS = 10

SortKey = Callable[[Record], Any]

_SORT_KEYS: dict[str, SortKey] = {
    "Name": lambda record: record.name,
    "CreationTime": lambda record: record.created,
    "LastModifiedTime": lambda record: record.modified,
    "Status": lambda record: record.status or "",
}


def page(
    records: Iterable[Record],
    request: dict[str, Any],
    *,
    member: str,
    summary: Callable[[Record], dict[str, Any]],
    sort_keys: dict[str, SortKey] | None = None,
    default_order: str = "Descending",
) -> dict[str, Any]:
    """One page of a List* answer: `{member: [summary, …], "NextToken": …}`.

    Understands NameContains, StatusEquals, CreationTime and LastModifiedTime bounds, SortBy, SortOrder, MaxResults and
    NextToken. A token holds the position and the request it belongs to; with another request it is refused.
    """
    keys = _SORT_KEYS | (sort_keys or {})
    chosen = [record for record in records if _matches(record, request)]
    chosen.sort(key=keys[request.get("SortBy", "CreationTime")])
    if request.get("SortOrder", default_order) == "Descending":
        chosen.reverse()
    start = _position(request)
    stop = start + request.get("MaxResults", _DEFAULT_RESULTS)
    answer: dict[str, Any] = {member: [summary(record) for record in chosen[start:stop]]}
    if stop < len(chosen):
        answer["NextToken"] = _token(request, stop)
    return answer


def _matches(record: Record, request: dict[str, Any]) -> bool:
    return (
        request.get("NameContains", "").lower() in record.name.lower()
        and request.get("StatusEquals", record.status) == record.status
        and request.get("CreationTimeAfter", 0) <= record.created <= request.get("CreationTimeBefore", float("inf"))
        and request.get("LastModifiedTimeAfter", 0)
        <= record.modified
        <= request.get("LastModifiedTimeBefore", float("inf"))
    )


def _question(request: dict[str, Any]) -> str:
    return json.dumps({key: value for key, value in request.items() if key != "NextToken"}, sort_keys=True)


def _token(request: dict[str, Any], position: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([position, _question(request)]).encode()).decode()


def _position(request: dict[str, Any]) -> int:
    if "NextToken" not in request:
        return 0
    try:
        position, question = json.loads(base64.urlsafe_b64decode(request["NextToken"]))
    except ValueError:
        raise validation("Invalid NextToken: it is not one that this service gave out") from None
    if question != _question(request):
        raise validation("Invalid NextToken: it belongs to a request with other parameters")
    return int(position)
