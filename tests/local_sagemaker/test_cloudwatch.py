"""CloudWatch: metrics put and read, alarms that follow them, in every protocol its clients have spoken."""

from __future__ import annotations

import datetime
import gzip
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
import botocore.loaders
import botocore.session
import pytest

from local_sagemaker.wire import service_model
from tests.local_sagemaker.harness import Server, error
from tests.local_sagemaker.serving import unique
from tests.object_store import CLIENT
from tests.waiting import wait_until

PROTOCOLS = ("smithy-rpc-v2-cbor", "json", "query")


@pytest.fixture(scope="module", params=PROTOCOLS)
def cloudwatch(request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return client(server, request.param, tmp_path_factory.mktemp("models"))


def client(server: Server, protocol: str, folder: Path) -> Any:
    """A boto3 client as old or as new as its protocol: this botocore with a model that prefers it."""
    model = botocore.loaders.create_loader().load_service_model("cloudwatch", "service-2")
    model["metadata"] |= {"protocol": protocol, "protocols": [protocol]}
    path = folder / "cloudwatch/2010-08-01"
    path.mkdir(parents=True)
    (path / "service-2.json").write_text(json.dumps(model))
    session = botocore.session.Session()
    session.get_component("data_loader").search_paths.insert(0, str(folder))
    made = boto3.Session(botocore_session=session).client("cloudwatch", endpoint_url=server.url, **CLIENT)
    assert made.meta.service_model.resolved_protocol == protocol
    if protocol == "json":
        made.meta.events.register("before-parse.cloudwatch.*", check_response)
    return made


def check_response(operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
    """Every answer is held against the service model, in the one protocol whose body needs no decoding."""
    if response_dict["status_code"] == 200 and operation_model.output_shape is not None:
        content = json.loads(response_dict["body"])
        assert service_model.check_response("cloudwatch", operation_model.name, content) == []


def put(cloudwatch: Any, name: str, *values: float, **members: Any) -> None:
    data = [{"MetricName": name, "Value": value, "StorageResolution": 1, **members} for value in values]
    cloudwatch.put_metric_data(Namespace="Test", MetricData=data)


def alarm_on(cloudwatch: Any, metric: str, **changes: Any) -> str:
    """An alarm when the sum of a metric in ten seconds is above 2."""
    name = unique("alarm")
    request = {
        "AlarmName": name, "Namespace": "Test", "MetricName": metric, "Statistic": "Sum", "Period": 10,
        "EvaluationPeriods": 1, "Threshold": 2.0, "ComparisonOperator": "GreaterThanThreshold",
    }  # fmt: skip
    cloudwatch.put_metric_alarm(**(request | changes))
    return name


def wait_state(cloudwatch: Any, alarm: str, state: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def reached() -> bool:
        found.update(cloudwatch.describe_alarms(AlarmNames=[alarm])["MetricAlarms"][0])
        return bool(found["StateValue"] == state)

    wait_until(reached, lambda: str(found), every_s=0.1)
    return found


def span() -> dict[str, Any]:
    now = datetime.datetime.now(datetime.UTC)
    return {"StartTime": now - datetime.timedelta(hours=1), "EndTime": now + datetime.timedelta(hours=1)}


# -- metrics ----------------------------------------------------------------------------------------------------------


def test_metrics_are_listed_and_read_in_every_protocol(cloudwatch: Any) -> None:
    name = unique("latency")
    dimensions = [{"Name": "Endpoint", "Value": "e<1>&"}, {"Name": "Variant", "Value": "ü"}]
    at = datetime.datetime.now(datetime.UTC).replace(microsecond=0) - datetime.timedelta(minutes=5)
    put(cloudwatch, name, 1, 2.5, 6, Dimensions=dimensions, Unit="Milliseconds", Timestamp=at)
    (metric,) = cloudwatch.list_metrics(Namespace="Test", MetricName=name)["Metrics"]
    assert metric == {"Namespace": "Test", "MetricName": name, "Dimensions": dimensions}
    assert cloudwatch.list_metrics(Dimensions=[{"Name": "Variant", "Value": "other"}])["Metrics"] == []
    answer = cloudwatch.get_metric_statistics(
        Namespace="Test", MetricName=name, Dimensions=dimensions, Period=60, **span(),
        Statistics=["SampleCount", "Average", "Sum", "Minimum", "Maximum"], ExtendedStatistics=["p50", "p90"],
    )  # fmt: skip
    (point,) = answer["Datapoints"]
    assert point["Timestamp"] == at.replace(second=0)
    statistics = ("SampleCount", "Average", "Sum", "Minimum", "Maximum")
    assert [point[key] for key in statistics] == [3.0, pytest.approx(9.5 / 3), 9.5, 1.0, 6.0]
    assert point["ExtendedStatistics"] == {"p50": 2.5, "p90": 6.0}
    assert point["Unit"] == "Milliseconds"
    assert answer["Label"] == name


def test_metric_data_answers_several_queries(cloudwatch: Any) -> None:
    name = unique("m")
    now = datetime.datetime.now(datetime.UTC)
    for minutes, value in ((3, 1.0), (2, 5.0)):
        put(cloudwatch, name, value, Timestamp=now - datetime.timedelta(minutes=minutes))
    metric = {"Namespace": "Test", "MetricName": name}
    queries = [
        {"Id": "a", "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Sum"}},
        {"Id": "b", "MetricStat": {"Metric": metric, "Period": 3600, "Stat": "p100"}, "Label": "largest"},
        {"Id": "c", "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Sum"}, "ReturnData": False},
    ]
    answer = cloudwatch.get_metric_data(MetricDataQueries=queries, ScanBy="TimestampAscending", **span())
    first, second = answer["MetricDataResults"]
    assert (first["Values"], first["StatusCode"], len(first["Timestamps"])) == ([1.0, 5.0], "Complete", 2)
    assert (second["Label"], max(second["Values"])) == ("largest", 5.0)
    newest = cloudwatch.get_metric_data(MetricDataQueries=queries[:1], **span())["MetricDataResults"][0]
    assert newest["Values"] == [5.0, 1.0]
    math = [{"Id": "e", "Expression": "a * 2"}]
    assert "MetricStat queries only" in error(
        lambda: cloudwatch.get_metric_data(MetricDataQueries=math, **span())
    )["Message"]  # fmt: skip


def test_values_with_counts_and_sets_are_what_they_stand_for(cloudwatch: Any) -> None:
    name = unique("m")
    cloudwatch.put_metric_data(
        Namespace="Test",
        MetricData=[
            {"MetricName": name, "Values": [1.0, 3.0], "Counts": [3.0, 1.0]},
            {"MetricName": name, "StatisticValues": {"SampleCount": 2, "Sum": 10, "Minimum": 4, "Maximum": 6}},
        ],
    )
    (point,) = cloudwatch.get_metric_statistics(
        Namespace="Test", MetricName=name, Period=3600, Statistics=["SampleCount", "Sum", "Maximum"],
        ExtendedStatistics=["p50"], **span(),
    )["Datapoints"]  # fmt: skip
    assert (point["SampleCount"], point["Sum"], point["Maximum"]) == (6.0, 16.0, 6.0)
    assert "ExtendedStatistics" not in point  # the set's values are not known


def test_large_requests_come_compressed(cloudwatch: Any) -> None:
    name = unique("m")
    seen: list[str] = []
    cloudwatch.meta.events.register(
        "before-send.cloudwatch.PutMetricData",
        lambda request, **_: seen.append(request.headers.get("Content-Encoding", b"")),
        unique_id="watch",
    )
    put(cloudwatch, name, *range(400))
    cloudwatch.meta.events.unregister("before-send.cloudwatch.PutMetricData", unique_id="watch")
    assert seen[-1] in (b"gzip", "gzip")
    (point,) = cloudwatch.get_metric_statistics(
        Namespace="Test", MetricName=name, Period=3600, Statistics=["SampleCount"], **span()
    )["Datapoints"]
    assert point["SampleCount"] == 400


def test_bomb_of_zeros_is_refused(server: Server) -> None:
    cloudwatch = server.client("cloudwatch")

    def compress(request: Any, **_: Any) -> None:
        request.data, request.headers["Content-Encoding"] = gzip.compress(bytes(2**25)), "gzip"

    cloudwatch.meta.events.register("request-created.cloudwatch.ListMetrics", compress)
    assert "unpacks to more than" in error(cloudwatch.list_metrics)["Message"]


@pytest.mark.parametrize(
    ("datum", "code"),
    [
        ({"MetricName": "m"}, "InvalidParameterCombination"),
        ({"MetricName": "m", "Value": float("nan")}, "SerializationException"),
        ({"MetricName": "m", "Value": 1e300}, "InvalidParameterValue"),
        ({"MetricName": "m", "Value": 1, "Timestamp": 5}, "InvalidParameterValue"),
        ({"MetricName": "m", "Value": 1, "StorageResolution": 7}, "InvalidParameterValue"),
        ({"MetricName": "m", "Values": [1, 2], "Counts": [1]}, "InvalidParameterValue"),
        ({"MetricName": "m", "Value": 1, "Unit": "Furlongs"}, "ValidationError"),
        ({"MetricName": "m", "Value": 1, "Dimensions": [{"Name": "a", "Value": "1"}] * 2}, "InvalidParameterValue"),
    ],
)
def test_bad_datum_is_refused_and_nothing_of_it_kept(cloudwatch: Any, datum: dict[str, Any], code: str) -> None:
    good = unique("m")
    data = [{"MetricName": good, "Value": 1}, datum]
    assert error(lambda: cloudwatch.put_metric_data(Namespace="Test", MetricData=data))["Code"] == code
    assert cloudwatch.list_metrics(MetricName=good)["Metrics"] == []


def test_amazons_namespaces_are_reserved(cloudwatch: Any) -> None:
    data = [{"MetricName": "Invocations", "Value": 1}]
    answer = error(lambda: cloudwatch.put_metric_data(Namespace="AWS/SageMaker", MetricData=data))
    assert answer["Code"] == "InvalidParameterValue"


# -- alarms -----------------------------------------------------------------------------------------------------------


def test_alarm_follows_its_metric(cloudwatch: Any) -> None:
    metric = unique("errors")
    alarm = alarm_on(cloudwatch, metric, AlarmDescription="too many <errors>")
    assert wait_state(cloudwatch, alarm, "INSUFFICIENT_DATA")["AlarmArn"].endswith(f":alarm:{alarm}")
    put(cloudwatch, metric, 1, 1, 1)
    found = wait_state(cloudwatch, alarm, "ALARM")
    assert "greater than the threshold (2.0)" in found["StateReason"]
    assert json.loads(found["StateReasonData"])["recentDatapoints"] == [3.0]
    assert found["AlarmDescription"] == "too many <errors>"
    assert found["StateUpdatedTimestamp"] >= found["AlarmConfigurationUpdatedTimestamp"]
    history = cloudwatch.describe_alarm_history(AlarmName=alarm, HistoryItemType="StateUpdate")["AlarmHistoryItems"]
    assert history[0]["HistorySummary"] == "Alarm updated from INSUFFICIENT_DATA to ALARM"


def test_alarms_are_found_by_name_prefix_state_and_page(cloudwatch: Any) -> None:
    prefix = unique("fleet")
    for letter in "cab":
        alarm_on(cloudwatch, "m", AlarmName=f"{prefix}-{letter}")
    paginator = cloudwatch.get_paginator("describe_alarms")
    pages = list(paginator.paginate(AlarmNamePrefix=prefix, PaginationConfig={"PageSize": 2}))
    assert [[alarm["AlarmName"][-1] for alarm in page["MetricAlarms"]] for page in pages] == [["a", "b"], ["c"]]
    cloudwatch.set_alarm_state(AlarmName=f"{prefix}-b", StateValue="ALARM", StateReason="a test")
    (found,) = cloudwatch.describe_alarms(AlarmNamePrefix=prefix, StateValue="ALARM")["MetricAlarms"]
    assert (found["AlarmName"], found["StateReason"]) == (f"{prefix}-b", "a test")
    assert cloudwatch.describe_alarms(AlarmNamePrefix="nothing")["MetricAlarms"] == []
    assert len(cloudwatch.describe_alarms_for_metric(Namespace="Test", MetricName="m")["MetricAlarms"]) >= 3
    cloudwatch.get_waiter("alarm_exists").wait(AlarmNames=[f"{prefix}-a"])


def test_actions_are_switched_and_alarms_deleted(cloudwatch: Any) -> None:
    alarm = alarm_on(cloudwatch, "m")
    cloudwatch.disable_alarm_actions(AlarmNames=[alarm])
    assert wait_state(cloudwatch, alarm, "INSUFFICIENT_DATA")["ActionsEnabled"] is False
    cloudwatch.enable_alarm_actions(AlarmNames=[alarm])
    assert wait_state(cloudwatch, alarm, "INSUFFICIENT_DATA")["ActionsEnabled"] is True
    assert error(lambda: cloudwatch.delete_alarms(AlarmNames=[alarm, "no such"]))["Code"] == "ResourceNotFound"
    assert cloudwatch.describe_alarms(AlarmNames=[alarm])["MetricAlarms"] == []
    with pytest.raises(cloudwatch.exceptions.ResourceNotFound):
        cloudwatch.set_alarm_state(AlarmName=alarm, StateValue="OK", StateReason="it is gone")


def test_changed_alarm_keeps_its_state(cloudwatch: Any) -> None:
    alarm = alarm_on(cloudwatch, "m", Period=60)
    cloudwatch.set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="a test")
    alarm_on(cloudwatch, "m", AlarmName=alarm, Period=60, TreatMissingData="ignore", Threshold=7.0)
    (found,) = cloudwatch.describe_alarms(AlarmNames=[alarm])["MetricAlarms"]
    assert (found["StateValue"], found["Threshold"]) == ("ALARM", 7.0)


def test_state_set_by_hand_gives_way_to_the_data(server: Server) -> None:
    cloudwatch = server.client("cloudwatch")
    alarm = alarm_on(cloudwatch, unique("m"), TreatMissingData="notBreaching")
    wait_state(cloudwatch, alarm, "OK")
    cloudwatch.set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="a test")
    wait_state(cloudwatch, alarm, "ALARM")
    wait_state(cloudwatch, alarm, "OK")


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"Period": 15}, "InvalidParameterValue", "Period"),
        ({"Period": 60, "EvaluationPeriods": 2000}, "ValidationError", "must be <= 86400"),
        ({"EvaluationPeriods": 2, "DatapointsToAlarm": 3}, "ValidationError", "DatapointsToAlarm"),
        ({"Statistic": None, "ExtendedStatistic": "p101"}, "ValidationError", "percentile"),
        ({"ExtendedStatistic": "p99"}, "ValidationError", "Exactly one"),
        ({"TreatMissingData": "hope"}, "ValidationError", "TreatMissingData"),
        ({"ComparisonOperator": "LessThanLowerThreshold"}, "ValidationError", "anomaly"),
        ({"ComparisonOperator": "Near"}, "ValidationError", "enum value set"),
        ({"MetricName": None}, "MissingParameter", "MetricName"),
        ({"Metrics": [{"Id": "e", "Expression": "1"}]}, "ValidationError", "metric math"),
    ],
)
def test_bad_alarm_is_refused_in_words(cloudwatch: Any, changes: dict[str, Any], code: str, message: str) -> None:
    request = {
        "AlarmName": "bad", "Namespace": "Test", "MetricName": "m", "Statistic": "Sum", "Period": 10,
        "EvaluationPeriods": 1, "Threshold": 2.0, "ComparisonOperator": "GreaterThanThreshold",
    }  # fmt: skip
    call = {key: value for key, value in (request | changes).items() if value is not None}
    answer = error(lambda: cloudwatch.put_metric_alarm(**call))
    assert answer["Code"] == code
    assert message in answer["Message"]


def test_killed_server_has_lost_no_metric_and_no_alarm(make_server: Callable[..., Server]) -> None:
    server = make_server()
    cloudwatch = server.client("cloudwatch")
    metric = unique("errors")
    alarm = alarm_on(cloudwatch, metric, Period=3600)
    put(cloudwatch, metric, 1, 2)
    wait_state(cloudwatch, alarm, "ALARM")
    server.stop(signal.SIGKILL)
    server.start()
    found = wait_state(cloudwatch, alarm, "ALARM")
    assert found["StateReasonData"]
    (point,) = cloudwatch.get_metric_statistics(
        Namespace="Test", MetricName=metric, Period=3600, Statistics=["Sum"], **span()
    )["Datapoints"]
    assert point["Sum"] == 3.0
