"""CloudWatch metric alarms: put, described, set by hand, deleted.

An alarm watches one statistic of one metric. Math expressions, anomaly detection, composite, log and PromQL alarms are
refused in words. Actions are kept and described, but nothing is notified.
"""

from __future__ import annotations

import json
from typing import Any

from local_sagemaker.operations.cloudwatch import check_period, metric_of, moment, position, token
from local_sagemaker.settings import Settings
from local_sagemaker.state import alarm_rule
from local_sagemaker.state.alarms import Alarms
from local_sagemaker.state.statistics import SIMPLE, is_statistic
from local_sagemaker.wire.errors import ApiError

_NOT_IMPLEMENTED = {
    "Metrics": "metric math and anomaly detection",
    "ThresholdMetricId": "anomaly detection",
    "EvaluationCriteria": "PromQL alarms",
    "EvaluationInterval": "PromQL alarms",
    "EvaluationWindow": "evaluation windows",
    "WarmUpConfiguration": "warm-up periods",
}
_NEEDED = ("MetricName", "Namespace", "Period", "EvaluationPeriods", "ComparisonOperator", "Threshold")
_TREATMENTS = frozenset({"breaching", "notBreaching", "ignore", "missing"})
_SMALL_SAMPLES = frozenset({"evaluate", "ignore"})
_ALARM_PERIODS = frozenset({10, 20, 30})
_LISTED = 50
_HISTORY_LISTED = 100


def put_metric_alarm(request: dict[str, Any], *, settings: Settings, alarms: Alarms) -> dict[str, Any]:
    """The answer comes with the alarm kept; it is judged a moment later."""
    for member, what in _NOT_IMPLEMENTED.items():
        if member in request:
            raise _problem(f"{member}: local_sagemaker does not implement {what}; alarm on one metric's statistic.")
    for member in _NEEDED:
        if member not in request:
            raise ApiError("MissingParameter", f"The parameter {member} is required for an alarm on one metric.")
    _check_statistic(request)
    _check_periods(request)
    if not alarm_rule.is_comparison(request["ComparisonOperator"]):
        raise _problem(
            f"ComparisonOperator {request['ComparisonOperator']} is for anomaly detection, which is not here."
        )
    _one_of(request, "TreatMissingData", _TREATMENTS)
    _one_of(request, "EvaluateLowSampleCountPercentile", _SMALL_SAMPLES)
    metric_of(request)
    name = request["AlarmName"]
    describe = {key: value for key, value in request.items() if key != "Tags"}
    describe["Threshold"] = float(request["Threshold"])
    defaults = {
        "ActionsEnabled": True, "OKActions": [], "AlarmActions": [], "InsufficientDataActions": [], "Dimensions": [],
    }  # fmt: skip
    alarms.put(defaults | describe | {"AlarmArn": _arn(settings, name)}, request.get("Tags", []))
    return {}


def describe_alarms(request: dict[str, Any], *, alarms: Alarms) -> dict[str, Any]:
    if "AlarmNames" in request and "AlarmNamePrefix" in request:
        raise ApiError("InvalidParameterCombination", "AlarmNames and AlarmNamePrefix cannot be used together.")
    if "MetricAlarm" not in request.get("AlarmTypes", ["MetricAlarm"]) or "ChildrenOfAlarmName" in request:
        return {"MetricAlarms": [], "CompositeAlarms": []}
    found = [record.describe for record in alarms.records() if _is_asked_for(record.describe, request)]
    return {"CompositeAlarms": []} | _page(request, "MetricAlarms", found, _LISTED)


def describe_alarms_for_metric(request: dict[str, Any], *, alarms: Alarms) -> dict[str, Any]:
    metric = metric_of(request)
    alike = ("Statistic", "ExtendedStatistic", "Period", "Unit")
    found = [
        alarm
        for alarm in (record.describe for record in alarms.records())
        if metric_of(alarm) == metric and all(alarm.get(key) == request[key] for key in alike if key in request)
    ]
    return {"MetricAlarms": found}


def delete_alarms(request: dict[str, Any], *, alarms: Alarms) -> dict[str, Any]:
    """Those that exist are deleted, also when others do not: then the answer is ResourceNotFound."""
    names = request["AlarmNames"]
    unknown = [name for name in names if alarms.get(name) is None]
    for name in names:
        alarms.delete(name)
    if unknown:
        raise _not_found(f"Alarms not found: {', '.join(unknown)}")
    return {}


def set_alarm_state(request: dict[str, Any], *, alarms: Alarms) -> dict[str, Any]:
    """It holds for one period, at most a minute; then the data decide again."""
    data = request.get("StateReasonData")
    if data is not None:
        try:
            json.loads(data)
        except ValueError:
            raise ApiError("InvalidFormat", "StateReasonData is not JSON.") from None
    try:
        alarms.set_state(request["AlarmName"], request["StateValue"], request["StateReason"], data)
    except KeyError:
        raise _not_found(f"Unknown alarm: {request['AlarmName']}") from None
    return {}


def enable_alarm_actions(request: dict[str, Any], *, alarms: Alarms) -> dict[str, Any]:
    return _set_actions(alarms, request["AlarmNames"], enabled=True)


def disable_alarm_actions(request: dict[str, Any], *, alarms: Alarms) -> dict[str, Any]:
    return _set_actions(alarms, request["AlarmNames"], enabled=False)


def describe_alarm_history(request: dict[str, Any], *, alarms: Alarms) -> dict[str, Any]:
    """The last hundred events of each alarm that exists; AWS keeps two weeks, also of deleted ones."""
    items = [
        item | {"AlarmName": record.name, "AlarmType": "MetricAlarm"}
        for record in alarms.records()
        if request.get("AlarmName", record.name) == record.name
        for item in record.internal["history"]
        if _is_in_question(item, request)
    ]
    newest_first = request.get("ScanBy", "TimestampDescending") == "TimestampDescending"
    items.sort(key=lambda item: item["Timestamp"], reverse=newest_first)
    return _page(request, "AlarmHistoryItems", items, _HISTORY_LISTED)


def list_tags_for_resource(request: dict[str, Any], *, alarms: Alarms) -> dict[str, Any]:
    name = request["ResourceARN"].rpartition(":alarm:")[2]
    record = next((record for record in alarms.records() if record.name == name), None)
    if record is None:
        raise _not_found(f"Unknown resource: {request['ResourceARN']}")
    return {"Tags": record.internal["tags"]}


def _check_statistic(request: dict[str, Any]) -> None:
    statistic = request.get("Statistic") or request.get("ExtendedStatistic")
    if statistic is None or ("Statistic" in request and "ExtendedStatistic" in request):
        raise _problem("Exactly one of Statistic and ExtendedStatistic must be given.")
    if not is_statistic(statistic) or ("ExtendedStatistic" in request and statistic in SIMPLE):
        raise _problem(f"The value {statistic} for parameter ExtendedStatistic is no percentile from p0 to p100.")


def _check_periods(request: dict[str, Any]) -> None:
    period, count = request["Period"], request["EvaluationPeriods"]
    check_period(period, short=_ALARM_PERIODS)
    longest = 86_400 if period < 3600 else 7 * 86_400
    if period * count > longest:
        raise _problem(
            f"Metrics cannot be checked across more than {longest // 86_400} day(s): "
            f"EvaluationPeriods * Period must be <= {longest}, it is {period * count}."
        )
    if request.get("DatapointsToAlarm", 1) > count:
        raise _problem(
            f"DatapointsToAlarm ({request['DatapointsToAlarm']}) must not be more than EvaluationPeriods ({count})."
        )


def _one_of(request: dict[str, Any], member: str, allowed: frozenset[str]) -> None:
    if member in request and request[member] not in allowed:
        raise _problem(
            f"The value {request[member]} is not supported for {member} parameter. Supported values are "
            f"[{', '.join(sorted(allowed))}]."
        )


def _is_asked_for(alarm: dict[str, Any], request: dict[str, Any]) -> bool:
    actions = [*alarm["OKActions"], *alarm["AlarmActions"], *alarm["InsufficientDataActions"]]
    return (
        alarm["AlarmName"] in (request.get("AlarmNames") or [alarm["AlarmName"]])
        and alarm["AlarmName"].startswith(request.get("AlarmNamePrefix", ""))
        and alarm["StateValue"] == request.get("StateValue", alarm["StateValue"])
        and ("ActionPrefix" not in request or any(action.startswith(request["ActionPrefix"]) for action in actions))
    )


def _is_in_question(item: dict[str, Any], request: dict[str, Any]) -> bool:
    start = moment(request["StartDate"], "StartDate") if "StartDate" in request else 0.0
    end = moment(request["EndDate"], "EndDate") if "EndDate" in request else float("inf")
    kind = request.get("HistoryItemType", item["HistoryItemType"])
    return start <= float(item["Timestamp"]) <= end and bool(kind == item["HistoryItemType"])


def _page(request: dict[str, Any], member: str, items: list[dict[str, Any]], size: int) -> dict[str, Any]:
    start = position(request)
    end = start + request.get("MaxRecords", size)
    return {member: items[start:end]} | ({"NextToken": token(end)} if end < len(items) else {})


def _set_actions(alarms: Alarms, names: list[str], *, enabled: bool) -> dict[str, Any]:
    """Names of no alarm are passed over, as on AWS."""
    for name in names:
        if alarms.get(name) is not None:
            alarms.set_actions_enabled(name, enabled)
    return {}


def _arn(settings: Settings, name: str) -> str:
    return f"arn:aws:cloudwatch:{settings.region}:{settings.account}:alarm:{name}"


def _problem(message: str) -> ApiError:
    return ApiError("ValidationError", message)


def _not_found(message: str) -> ApiError:
    return ApiError("ResourceNotFound", message, 404)
