"""CloudWatch metrics: put, listed and read. Alarms are in `alarms`.

Metric math, Metrics Insights, anomaly detection, dashboards and other accounts are not covered; a request that needs
them is refused in words.
"""

from __future__ import annotations

import base64
import json
import math
import time
from collections.abc import Iterator
from typing import Any

from botocore.utils import parse_timestamp

from local_sagemaker.state.metrics import Metric, MetricStore, Point
from local_sagemaker.state.statistics import LARGEST, Statistics, is_statistic
from local_sagemaker.wire.errors import ApiError

_MAX_DATUMS = 1000
_MAX_VALUES = 150
_MAX_STATISTICS_DATAPOINTS = 1440
_MAX_DATA_DATAPOINTS = 100_800
_LISTED = 500
_OLDEST_S = 14 * 86_400
_NEWEST_S = 2 * 3600
_SHORT_PERIODS = frozenset({1, 5, 10, 20, 30})


def put_metric_data(request: dict[str, Any], *, metrics: MetricStore) -> dict[str, Any]:
    """All data of a request are kept, or none; what is answered is on disk."""
    if "EntityMetricData" in request:
        raise invalid("EntityMetricData: local_sagemaker does not keep entities; put the data as MetricData.")
    if request["Namespace"].startswith("AWS/"):
        # AWS refuses it too; here it would let a client pretend an endpoint's errors.
        raise invalid(f"The value {request['Namespace']} for parameter Namespace is invalid: AWS/ is reserved.")
    data = request.get("MetricData", [])
    if not 1 <= len(data) <= _MAX_DATUMS:
        raise invalid(f"The parameter MetricData must have from 1 to {_MAX_DATUMS} members, it has {len(data)}.")
    namespace = request["Namespace"]
    checked = [
        (metric_of({"Namespace": namespace, **datum}), _statistics(datum), _timestamp(datum), _resolution(datum), datum)
        for datum in data
    ]
    for metric, statistics, timestamp, resolution_s, datum in checked:
        metrics.put_statistics(metric, statistics, datum.get("Unit", "None"), timestamp, resolution_s)
    metrics.flush()
    return {}


def get_metric_statistics(request: dict[str, Any], *, metrics: MetricStore) -> dict[str, Any]:
    """One datapoint per period and unit. AWS returns them in no order; here they are sorted by time."""
    names = [*request.get("Statistics", []), *request.get("ExtendedStatistics", [])]
    if not names:
        raise ApiError("MissingParameter", "The parameter Statistics or ExtendedStatistics must be given.")
    _check_statistics(names)
    start, end, period = *_span(request), request["Period"]
    check_period(period)
    if (end - start) / period > _MAX_STATISTICS_DATAPOINTS:
        raise ApiError(
            "InvalidParameterCombination",
            f"You have requested up to {math.ceil((end - start) / period)} datapoints, which exceeds the limit of "
            f"{_MAX_STATISTICS_DATAPOINTS}. You may reduce the datapoints requested by increasing Period, or "
            "decreasing the time range.",
        )
    points = metrics.read(metric_of(request), start, end, period, request.get("Unit"))
    return {"Label": request["MetricName"], "Datapoints": [_datapoint(point, names) for point in points]}


def get_metric_data(request: dict[str, Any], *, metrics: MetricStore) -> dict[str, Any]:
    """MetricStat queries; everything is in one answer, so there is never a NextToken."""
    start, end = _span(request)
    queries = request["MetricDataQueries"]
    if not 1 <= len(queries) <= 500:
        raise invalid(f"The parameter MetricDataQueries must have from 1 to 500 members, it has {len(queries)}.")
    ids = [query["Id"] for query in queries]
    if len(set(ids)) != len(ids):
        raise invalid(f"The parameter MetricDataQueries has an Id twice: {', '.join(ids)}.")
    for query in queries:
        _check_query(query, start, end)
    shown = [query for query in queries if query.get("ReturnData", True)]
    newest_first = request.get("ScanBy", "TimestampDescending") == "TimestampDescending"
    limit = request.get("MaxDatapoints", _MAX_DATA_DATAPOINTS)
    return {"MetricDataResults": [_series(metrics, query, start, end, newest_first, limit) for query in shown]}


def list_metrics(request: dict[str, Any], *, metrics: MetricStore) -> dict[str, Any]:
    since = time.time() - 3 * 3600 if request.get("RecentlyActive") else 0.0
    found = [metric for metric in metrics.metrics(since=since) if _matches(metric, request)]
    start = position(request)
    answer: dict[str, Any] = {"Metrics": [_described(metric) for metric in found[start : start + _LISTED]]}
    if start + _LISTED < len(found):
        answer["NextToken"] = token(start + _LISTED)
    return answer


# -- what alarms need too -------------------------------------------------------------------------------------------


def invalid(message: str) -> ApiError:
    return ApiError("InvalidParameterValue", message)


def metric_of(request: dict[str, Any]) -> Metric:
    """Raises InvalidParameterValue for a dimension that is there twice."""
    dimensions = request.get("Dimensions", [])
    by_name = {item["Name"]: item["Value"] for item in dimensions}
    if len(by_name) != len(dimensions):
        raise invalid("The parameter Dimensions has a name twice: " + ", ".join(item["Name"] for item in dimensions))
    return Metric.of(request["Namespace"], request["MetricName"], by_name)


def check_period(period: int, *, short: frozenset[int] = _SHORT_PERIODS) -> None:
    if period not in short and (period % 60 or not 60 <= period <= 86_400):
        raise invalid(
            f"The value {period} for parameter Period is invalid. It must be "
            f"{', '.join(map(str, sorted(short)))} or a multiple of 60 up to 86400 (seconds)."
        )


def moment(value: Any, name: str) -> float:
    """Epoch seconds of a timestamp as any of the protocols sends it."""
    try:
        seconds = float(value) if isinstance(value, int | float) else parse_timestamp(value).timestamp()
    except (ValueError, OverflowError):
        seconds = math.nan
    if not 0 <= seconds < 2**40:
        raise invalid(f"The value {value!r:.40} for parameter {name} is no timestamp.")
    return seconds


def token(start: int) -> str:
    return base64.urlsafe_b64encode(json.dumps(start).encode()).decode()


def position(request: dict[str, Any]) -> int:
    """Where the page that a NextToken asks for starts. Raises InvalidNextToken."""
    text = request.get("NextToken")
    if text is None:
        return 0
    try:
        start = json.loads(base64.b64decode(text, altchars=b"-_", validate=True))
    except ValueError:
        start = None
    if not isinstance(start, int) or start < 0:
        raise ApiError("InvalidNextToken", "The NextToken is not one that this service gave out.")
    return start


# -- putting --------------------------------------------------------------------------------------------------------


def _statistics(datum: dict[str, Any]) -> Statistics:
    name = datum["MetricName"]
    if sum(member in datum for member in ("Value", "StatisticValues", "Values")) != 1:
        raise ApiError(
            "InvalidParameterCombination",
            f"The datum of metric '{name}' must have exactly one of Value, Values and StatisticValues.",
        )
    if given := datum.get("StatisticValues"):
        count, total, low, high = (given[key] for key in ("SampleCount", "Sum", "Minimum", "Maximum"))
        _check_numbers(name, [count, total, low, high])
        if count <= 0 or low > high:
            raise invalid(f"The StatisticValues of metric '{name}' have no samples, or a Minimum above the Maximum.")
        return Statistics.of_set(count, total, low, high)
    values = datum.get("Values", [datum.get("Value")])
    counts = datum.get("Counts", [1.0] * len(values))
    if not 1 <= len(values) <= _MAX_VALUES or len(counts) != len(values) or min(counts) <= 0:
        raise invalid(
            f"The metric '{name}' must have from 1 to {_MAX_VALUES} Values and as many positive Counts; "
            f"it has {len(values)} and {len(counts)}."
        )
    _check_numbers(name, [*values, *counts])
    statistics = Statistics()
    for value, count in zip(values, counts, strict=True):
        statistics.add(float(value), float(count))
    return statistics


def _check_numbers(name: str, numbers: list[float]) -> None:
    for number in numbers:
        if not abs(number) <= LARGEST:  # also true for NaN
            raise invalid(f"The value {number} of metric '{name}' is not within -2^360 and 2^360.")


def _timestamp(datum: dict[str, Any]) -> float | None:
    if "Timestamp" not in datum:
        return None
    seconds, now = moment(datum["Timestamp"], "Timestamp"), time.time()
    if not now - _OLDEST_S <= seconds <= now + _NEWEST_S:
        raise invalid(
            f"The Timestamp of metric '{datum['MetricName']}' is {seconds}; it must be at most two weeks ago and at "
            "most two hours ahead."
        )
    return seconds


def _resolution(datum: dict[str, Any]) -> int:
    seconds: int = datum.get("StorageResolution", 60)
    if seconds not in (1, 60):
        raise invalid(f"The value {seconds} for parameter StorageResolution is invalid; it must be 1 or 60.")
    return seconds


# -- reading --------------------------------------------------------------------------------------------------------


def _span(request: dict[str, Any]) -> tuple[float, float]:
    start, end = moment(request["StartTime"], "StartTime"), moment(request["EndTime"], "EndTime")
    if start >= end:
        raise invalid("The parameter StartTime must be less than the parameter EndTime.")
    return start, end


def _check_statistics(names: list[str]) -> None:
    for name in names:
        if not is_statistic(name):
            raise invalid(
                f"The statistic '{name}' is not implemented by local_sagemaker; SampleCount, Average, Sum, Minimum, "
                "Maximum and percentiles (p0 to p100) are."
            )


def _datapoint(point: Point, names: list[str]) -> dict[str, Any]:
    values = {name: value for name in names if (value := point.statistics.statistic(name)) is not None}
    answer: dict[str, Any] = {"Timestamp": point.start, "Unit": point.unit}
    answer |= {name: value for name, value in values.items() if not name.startswith("p")}
    percentiles = {name: value for name, value in values.items() if name.startswith("p")}
    return answer | ({"ExtendedStatistics": percentiles} if percentiles else {})


def _check_query(query: dict[str, Any], start: float, end: float) -> None:
    if "Expression" in query or "MetricStat" not in query:
        raise ApiError(
            "ValidationError",
            f"The query '{query['Id']}' has an Expression; local_sagemaker implements MetricStat queries only. "
            "Ask for the metrics themselves and compute from them.",
        )
    stat = query["MetricStat"]
    _check_statistics([stat["Stat"]])
    check_period(stat["Period"])
    if (end - start) / stat["Period"] > _MAX_DATA_DATAPOINTS:
        raise invalid(f"The query '{query['Id']}' asks for more than {_MAX_DATA_DATAPOINTS} datapoints.")
    if not {"Namespace", "MetricName"} <= stat["Metric"].keys():
        raise ApiError("MissingParameter", f"The Metric of query '{query['Id']}' needs Namespace and MetricName.")


def _series(
    metrics: MetricStore, query: dict[str, Any], start: float, end: float, newest_first: bool, limit: int
) -> dict[str, Any]:
    stat = query["MetricStat"]
    points = metrics.read(metric_of(stat["Metric"]), start, end, stat["Period"], stat.get("Unit"))
    values = list(_values(points, stat["Stat"]))
    if newest_first:
        values.reverse()
    return {
        "Id": query["Id"],
        "Label": query.get("Label", stat["Metric"]["MetricName"]),
        "Timestamps": [at for at, _ in values[:limit]],
        "Values": [value for _, value in values[:limit]],
        "StatusCode": "Complete" if len(values) <= limit else "PartialData",
    }


def _values(points: list[Point], statistic: str) -> Iterator[tuple[int, float]]:
    """Points of several units in one period are one: the query names no unit."""
    periods: dict[int, Statistics] = {}
    for point in points:
        periods.setdefault(point.start, Statistics()).merge(point.statistics)
    for start, statistics in periods.items():
        value = statistics.statistic(statistic)
        if value is not None:
            yield start, value


def _matches(metric: Metric, request: dict[str, Any]) -> bool:
    dimensions = dict(metric.dimensions)
    return (
        request.get("Namespace", metric.namespace) == metric.namespace
        and request.get("MetricName", metric.name) == metric.name
        and all(
            item["Name"] in dimensions and item.get("Value", dimensions[item["Name"]]) == dimensions[item["Name"]]
            for item in request.get("Dimensions", [])
        )
    )


def _described(metric: Metric) -> dict[str, Any]:
    return {
        "Namespace": metric.namespace,
        "MetricName": metric.name,
        "Dimensions": [{"Name": name, "Value": value} for name, value in metric.dimensions],
    }
