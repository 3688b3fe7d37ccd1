"""What all List* operations share: filters, sorting and pages."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Any

from local_sagemaker.state.store import Order, Record, Selection
from local_sagemaker.wire.errors import validation

_DEFAULT_RESULTS = 10

#: Members of a request that neither select nor order.
_NOT_BOUND = frozenset({"MaxResults", "NextToken"})

SortKey = Callable[[Record], Any]

_COLUMNS: dict[str, Order] = {
    "Name": "name",
    "CreationTime": "created",
    "LastModifiedTime": "modified",
    "Status": "status",
}
_SORT_KEYS: dict[str, SortKey] = {
    "Name": lambda record: record.name,
    "CreationTime": lambda record: record.created,
    "LastModifiedTime": lambda record: record.modified,
    "Status": lambda record: record.status or "",
}
# Bounds are inclusive; AWS's documentation leaves it open.
_FILTERS = {
    "NameContains": "INSTR(LOWER(name), LOWER(?)) > 0",
    "StatusEquals": "status = ?",
    "CreationTimeAfter": "created >= ?",
    "CreationTimeBefore": "created <= ?",
    "LastModifiedTimeAfter": "modified >= ?",
    "LastModifiedTimeBefore": "modified <= ?",
}


def page(
    records: Iterable[Record],
    request: dict[str, Any],
    *,
    member: str,
    summary: Callable[[Record], dict[str, Any]],
    sort_keys: dict[str, SortKey] | None = None,
    default_order: str = "Descending",
    default_sort: str = "CreationTime",
) -> dict[str, Any]:
    """One page of a List* answer: `{member: [summary, …], "NextToken": …}`.

    Understands NameContains, StatusEquals, CreationTime and LastModifiedTime bounds, SortBy, SortOrder, MaxResults and
    NextToken. A token holds the position and what it is a position in: the list, the selection and its order. With
    another one it is refused; MaxResults may change from page to page, as on AWS (Airflow asks for 100, then for what
    it still wants). Straight out of the store (`platform.store.list(…)`) a page costs the same for ten records and for
    ten thousand, and the pages together show each record once, whatever is created or deleted in between; `sort_keys`
    of an operation's own are applied to all records, in memory.
    """
    request = {"SortBy": default_sort, "SortOrder": default_order, **request}
    sort, descending = request["SortBy"], request["SortOrder"] == "Descending"
    limit, at = request.get("MaxResults", _DEFAULT_RESULTS), place(request, member)
    if isinstance(records, Selection) and sort not in (sort_keys or {}):
        chosen = _filtered(records, request).page(
            order=_COLUMNS[sort], descending=descending, after=at, limit=limit + 1
        )
        more = [_value(chosen[limit - 1], sort), chosen[limit - 1].row] if len(chosen) > limit else None
        shown = chosen[:limit]
    else:
        chosen = [record for record in records if _matches(record, request)]
        chosen.sort(key=(_SORT_KEYS | (sort_keys or {}))[sort], reverse=False)
        if descending:
            chosen.reverse()
        start = at[1] if at else 0
        shown = chosen[start : start + limit]
        more = ["", start + limit] if start + limit < len(chosen) else None
    answer: dict[str, Any] = {member: [summary(record) for record in shown]}
    return answer | ({"NextToken": token(request, member, more)} if more else {})


def _filtered(records: Selection, request: dict[str, Any]) -> Selection:
    for name, condition in _FILTERS.items():
        if name in request:
            records = records.where(condition, request[name])
    return records


def _matches(record: Record, request: dict[str, Any]) -> bool:
    return (
        request.get("NameContains", "").lower() in record.name.lower()
        and request.get("StatusEquals", record.status) == record.status
        and request.get("CreationTimeAfter", 0) <= record.created <= request.get("CreationTimeBefore", float("inf"))
        and request.get("LastModifiedTimeAfter", 0)
        <= record.modified
        <= request.get("LastModifiedTimeBefore", float("inf"))
    )


def _value(record: Record, sort: str) -> Any:
    return _SORT_KEYS[sort](record)


def token(request: dict[str, Any], member: str, at: list[Any]) -> str:
    """Where a page ends: the value that it is sorted by and the row, or a number of records."""
    return base64.urlsafe_b64encode(json.dumps([*at, _question(request, member)]).encode()).decode()


def place(request: dict[str, Any], member: str) -> tuple[Any, int] | None:
    """What `token` was given for the page before. Raises a ValidationException for the token of another list."""
    if "NextToken" not in request:
        return None
    try:
        value, position, question = json.loads(base64.b64decode(request["NextToken"], altchars=b"-_", validate=True))
        if not isinstance(value, str | float | int) or not 0 <= int(position) < 2**62:
            raise ValueError(value)
    except (ValueError, TypeError, RecursionError):
        raise validation("Invalid NextToken: it is not one that this service gave out") from None
    if question != _question(request, member):
        raise validation("Invalid NextToken: it belongs to another list, to one with other filters or in another order")
    return value, int(position)


def _question(request: dict[str, Any], member: str) -> str:
    """`member`, where the answer stands, tells operations apart that are asked alike."""
    asked = {key: value for key, value in request.items() if key not in _NOT_BOUND}
    question = json.dumps([member, asked], sort_keys=True)
    return hashlib.sha256(question.encode()).hexdigest()[:16]
