"""CloudWatch Logs as Airflow, boto3 and `aws logs tail` read it. Nothing writes through the API."""

from __future__ import annotations

import base64
import json
from typing import Any

from local_sagemaker.platform import Platform
from local_sagemaker.wire.errors import ApiError

_MAX_EVENTS = 10_000


def describe_log_groups(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    prefix, pattern = request.get("logGroupNamePrefix", ""), request.get("logGroupNamePattern", "")
    groups = [
        group | {"arn": _arn(platform, group["logGroupName"]), "metricFilterCount": 0}
        for group in platform.logs.groups()
        if group["logGroupName"].startswith(prefix) and pattern.lower() in group["logGroupName"].lower()
    ]
    return _page(groups, request, "logGroups", request.get("limit", 50))


def describe_log_streams(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    group = _group(platform, request)
    streams = [
        stream | {"arn": f"{_arn(platform, group)}:log-stream:{stream['logStreamName']}"}
        for stream in platform.logs.streams(group)
        if stream["logStreamName"].startswith(request.get("logStreamNamePrefix", ""))
    ]
    if request.get("orderBy") == "LastEventTime":
        streams.sort(key=lambda stream: stream["lastEventTimestamp"])
    if request.get("descending"):
        streams.reverse()
    return _page(streams, request, "logStreams", request.get("limit", 50))


def get_log_events(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    """A token is a direction and a sequence number; at the end of a stream the same token comes back."""
    group, stream = _group(platform, request), request["logStreamName"]
    count = platform.logs.count(group, stream)
    if not any(item["logStreamName"] == stream for item in platform.logs.streams(group)):
        raise ApiError("ResourceNotFoundException", "The specified log stream does not exist.")
    direction, position = _token(request.get("nextToken"))
    newest = direction == "b" or (direction == "" and not request.get("startFromHead", False))
    events = platform.logs.read(
        group,
        stream,
        start_seq=position if direction == "f" else 0,
        stop_seq=position if direction == "b" else None,
        start_ms=request.get("startTime", 0),
        end_ms=request.get("endTime"),
        limit=request.get("limit", _MAX_EVENTS),
        newest=newest,
    )
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


def filter_log_events(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    """Events of several streams by time. `filterPattern` is understood as words that must all occur."""
    group = _group(platform, request)
    names = request.get("logStreamNames")
    prefix = request.get("logStreamNamePrefix", "")
    words = [word.strip('"') for word in request.get("filterPattern", "").split()]
    events = [
        {"logStreamName": name, "eventId": f"{name}/{event['seq']:020d}"} | _event(event)
        for name in (stream["logStreamName"] for stream in platform.logs.streams(group))
        if (name in names if names else name.startswith(prefix))
        for event in platform.logs.read(
            group, name, start_ms=request.get("startTime", 0), end_ms=request.get("endTime"), limit=100_000
        )
        if all(word in event["message"] for word in words)
    ]
    events.sort(key=lambda event: event["timestamp"])
    return _page(events, request, "events", request.get("limit", _MAX_EVENTS)) | {"searchedLogStreams": []}


def _group(platform: Platform, request: dict[str, Any]) -> str:
    group = request.get("logGroupName") or request.get("logGroupIdentifier", "").rpartition("log-group:")[2]
    if not any(item["logGroupName"] == group for item in platform.logs.groups()):
        raise ApiError("ResourceNotFoundException", "The specified log group does not exist.")
    return str(group)


def _arn(platform: Platform, group: str) -> str:
    return f"arn:aws:logs:{platform.settings.region}:{platform.settings.account}:log-group:{group}"


def _event(event: dict[str, Any]) -> dict[str, Any]:
    return {"timestamp": event["timestamp"], "message": event["message"], "ingestionTime": event["timestamp"]}


def _token(token: str | None) -> tuple[str, int]:
    if not token:
        return "", 0
    direction, _, position = token.partition("/")
    if direction not in {"f", "b"} or not position.isdigit():
        raise ApiError("InvalidParameterException", "The specified nextToken is invalid.")
    return direction, int(position)


def _page(items: list[dict[str, Any]], request: dict[str, Any], member: str, limit: int) -> dict[str, Any]:
    start = 0
    if token := request.get("nextToken"):
        try:
            start = int(json.loads(base64.urlsafe_b64decode(token)))
        except ValueError:
            raise ApiError("InvalidParameterException", "The specified nextToken is invalid.") from None
    answer: dict[str, Any] = {member: items[start : start + limit]}
    if start + limit < len(items):
        answer["nextToken"] = base64.urlsafe_b64encode(json.dumps(start + limit).encode()).decode()
    return answer
