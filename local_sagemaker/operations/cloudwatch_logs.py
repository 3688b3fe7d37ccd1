"""CloudWatch Logs as Airflow, boto3 and `aws logs tail` use it: reading, deleting, retention. Jobs alone write.

Tokens are readable here and opaque on AWS; a token of another call is refused.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from local_sagemaker.operations import filter_pattern
from local_sagemaker.settings import Settings
from local_sagemaker.state.logs import Logs
from local_sagemaker.wire.errors import ApiError

_MAX_EVENTS = 10_000
_MAX_GROUPS = _MAX_STREAMS = 50

#: GetLogEvents and FilterLogEvents answer with at most 1 MB, each event counted with 26 bytes beside its message.
_MAX_ANSWER_BYTES = 2**20
_EVENT_OVERHEAD_BYTES = 26


def describe_log_groups(request: dict[str, Any], *, settings: Settings, logs: Logs) -> dict[str, Any]:
    prefix, pattern = request.get("logGroupNamePrefix"), request.get("logGroupNamePattern")
    if prefix is not None and pattern is not None:
        raise _invalid("LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.")
    after = _decoded(request, 1)[0] if "nextToken" in request else ""
    groups = [
        group | {"arn": f"{arn}:*", "logGroupArn": arn, "metricFilterCount": 0, "logGroupClass": "STANDARD"}
        for group in logs.groups()
        for arn in [_arn(settings, group["logGroupName"])]
        if group["logGroupName"].startswith(prefix or "")
        and (pattern or "").lower() in group["logGroupName"].lower()
        and group["logGroupName"] > str(after)
    ]
    limit = request.get("limit", _MAX_GROUPS)
    more = [groups[limit - 1]["logGroupName"]] if len(groups) > limit else None
    return {"logGroups": groups[:limit]} | _next(more)


def describe_log_streams(request: dict[str, Any], *, settings: Settings, logs: Logs) -> dict[str, Any]:
    group, prefix = _group(logs, request), request.get("logStreamNamePrefix", "")
    by_time = request.get("orderBy") == "LastEventTime"
    if by_time and prefix:
        raise _invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")
    limit, after = request.get("limit", _MAX_STREAMS), None
    if "nextToken" in request:
        last, name = _decoded(request, 2)
        after = (int(last), str(name))
    streams = logs.streams(
        group,
        prefix=prefix,
        by_time=by_time,
        descending=request.get("descending", False),
        after=after,
        limit=limit + 1,
    )
    shown = [
        stream | {"arn": f"{_arn(settings, group)}:log-stream:{stream['logStreamName']}"} for stream in streams[:limit]
    ]
    more = [shown[-1]["lastEventTimestamp"], shown[-1]["logStreamName"]] if len(streams) > limit else None
    return {"logStreams": shown} | _next(more)


def get_log_events(request: dict[str, Any], *, logs: Logs) -> dict[str, Any]:
    """A token is a direction and a sequence number; at the end of a stream the same token comes back."""
    group, stream = _group(logs, request), request["logStreamName"]
    _check_stream(logs, group, stream)
    direction, position = _direction(request.get("nextToken"))
    newest = direction == "b" or (direction == "" and not request.get("startFromHead", False))
    # Counted before reading: what is written in between is read now or lies behind the token, never neither.
    count = logs.count(group, stream)
    events = logs.read(
        group,
        stream,
        start_seq=position if direction == "f" else 0,
        stop_seq=position if direction == "b" else None,
        start_ms=request.get("startTime", 0),
        end_ms=request.get("endTime"),
        limit=request.get("limit", _MAX_EVENTS),
        newest=newest,
    )
    events = _fitting(events, newest)
    if events:
        first, last = events[0]["seq"], events[-1]["seq"] + 1
    elif direction:
        first = last = position
    else:
        first = last = count if newest else 0
    return {
        "events": [_event(event) for event in events],
        "nextForwardToken": f"f/{last:020d}",
        "nextBackwardToken": f"b/{first:020d}",
    }


def filter_log_events(request: dict[str, Any], *, logs: Logs) -> dict[str, Any]:
    """Events of several streams by time. A page may be short, or empty, and still have a nextToken."""
    group = _group(logs, request)
    names, prefix = request.get("logStreamNames"), request.get("logStreamNamePrefix", "")
    if names is not None and prefix:
        raise _invalid("Cannot specify both logStreamNames and logStreamNamePrefix.")
    for name in names or []:
        _check_stream(logs, group, name)
    after = None
    if "nextToken" in request:
        timestamp, stream, seq = (int(number) for number in _decoded(request, 3))
        after = (timestamp, stream, seq)
    found = logs.search(
        group,
        names=names,
        prefix=prefix,
        start_ms=request.get("startTime", 0),
        end_ms=request["endTime"] + 1 if "endTime" in request else None,  # inclusive, unlike GetLogEvents
        matches=filter_pattern.matcher(request.get("filterPattern", "")),
        after=after,
        limit=request.get("limit", _MAX_EVENTS),
        max_bytes=_MAX_ANSWER_BYTES,
    )
    events = [
        {"logStreamName": event["logStreamName"], "eventId": f"{event['place'][1]:018d}{event['place'][2]:018d}"}
        | _event(event)
        for event in found.events
    ]
    return {"events": events, "searchedLogStreams": []} | _next(list(found.after) if found.after else None)


def delete_log_group(request: dict[str, Any], *, logs: Logs) -> dict[str, Any]:
    logs.delete(_group(logs, request))
    return {}


def delete_log_stream(request: dict[str, Any], *, logs: Logs) -> dict[str, Any]:
    group = _group(logs, request)
    _check_stream(logs, group, request["logStreamName"])
    logs.delete(group, request["logStreamName"])
    return {}


def put_retention_policy(request: dict[str, Any], *, logs: Logs) -> dict[str, Any]:
    """Older events are forgotten now and whenever the server starts."""
    days = request["retentionInDays"]
    if days not in _RETENTION_DAYS:
        raise _invalid(f"Invalid retentionInDays {days}; it must be one of {', '.join(map(str, _RETENTION_DAYS))}.")
    logs.retain(_group(logs, request), days)
    return {}


def delete_retention_policy(request: dict[str, Any], *, logs: Logs) -> dict[str, Any]:
    logs.retain(_group(logs, request), None)
    return {}


_RETENTION_DAYS = (
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
)  # fmt: skip


def _group(logs: Logs, request: dict[str, Any]) -> str:
    """The group's name, given as such or, in the newer member, as its ARN with or without `:*`."""
    identifier = request.get("logGroupIdentifier", "")
    if identifier and "logGroupName" in request:
        raise _invalid("LogGroup name and LogGroup identifier are mutually exclusive parameters.")
    group = str(request.get("logGroupName") or identifier.rpartition(":log-group:")[2].removesuffix(":*"))
    if not group:
        raise _invalid("Either logGroupName or logGroupIdentifier must be given.")
    if not logs.has_group(group):
        raise ApiError("ResourceNotFoundException", "The specified log group does not exist.")
    return group


def _check_stream(logs: Logs, group: str, stream: str) -> None:
    if not logs.has_stream(group, stream):
        raise ApiError("ResourceNotFoundException", "The specified log stream does not exist.")


def _fitting(events: list[dict[str, Any]], newest: bool) -> list[dict[str, Any]]:
    """As many events as an answer may hold: the first ones, or the last with `newest`."""
    room = _MAX_ANSWER_BYTES
    for number, event in enumerate(reversed(events) if newest else events):
        room -= len(event["message"].encode()) + _EVENT_OVERHEAD_BYTES
        if room < 0:
            return events[len(events) - number :] if newest else events[:number]
    return events


def _arn(settings: Settings, group: str) -> str:
    return f"arn:aws:logs:{settings.region}:{settings.account}:log-group:{group}"


def _event(event: dict[str, Any]) -> dict[str, Any]:
    return {"timestamp": event["timestamp"], "message": event["message"], "ingestionTime": event["timestamp"]}


def _direction(token: str | None) -> tuple[str, int]:
    if token is None:
        return "", 0
    direction, _, position = token.partition("/")
    if direction not in {"f", "b"} or not (position.isascii() and position.isdigit() and len(position) == 20):
        raise _invalid("The specified nextToken is invalid.")
    return direction, min(int(position), 2**62)


def _next(place: list[Any] | None) -> dict[str, Any]:
    return {"nextToken": base64.urlsafe_b64encode(json.dumps(place).encode()).decode()} if place else {}


def _decoded(request: dict[str, Any], length: int) -> list[Any]:
    try:
        place = json.loads(base64.b64decode(request["nextToken"], altchars=b"-_", validate=True))
        if not isinstance(place, list) or len(place) != length:
            raise ValueError(place)
        for item in place:
            if not isinstance(item, str) and not 0 <= int(item) < 2**62:
                raise ValueError(item)
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise _invalid("The specified nextToken is invalid.") from None
    return place


def _invalid(message: str) -> ApiError:
    return ApiError("InvalidParameterException", message)
