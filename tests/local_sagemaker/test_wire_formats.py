"""CBOR and the Query protocol, held against botocore's own writers and readers, and against nonsense."""

from __future__ import annotations

import datetime
import random
from typing import Any

import botocore.parsers
import botocore.serialize
import cbor2
import pytest

from local_sagemaker.wire import cbor, query, service_model
from local_sagemaker.wire.errors import ApiError
from local_sagemaker.wire.protocol import Call

MOMENT = 1_795_233_600
ALARM = {
    "AlarmName": "a <b> & c", "ActionsEnabled": True, "AlarmActions": [], "Dimensions": [{"Name": "ü", "Value": "1"}],
    "Period": 70_000, "Threshold": -2.5, "StateUpdatedTimestamp": MOMENT + 0.5, "EvaluationPeriods": 5_000_000_000,
}  # fmt: skip
REQUEST: dict[str, Any] = {
    "Namespace": "N", "StrictEntityValidation": False,
    "MetricData": [
        {"MetricName": "m" * 300, "Value": -1.5, "Dimensions": [{"Name": "a.b", "Value": "=&"}]},
        {"MetricName": "n", "Values": [1.0, float(2**70)], "Counts": [1.0, 2.0], "Timestamp": MOMENT},
    ],
}  # fmt: skip


def model(operation: str) -> Any:
    return service_model.operation("cloudwatch", operation)


def serialized(protocol: str) -> Any:
    """REQUEST as botocore sends it."""
    moment = datetime.datetime.fromtimestamp(MOMENT, datetime.UTC)
    first, second = REQUEST["MetricData"]
    request = REQUEST | {"MetricData": [first, second | {"Timestamp": moment}]}
    serializer = botocore.serialize.create_serializer(protocol, include_validation=False)
    return serializer.serialize_to_request(request, model("PutMetricData"))["body"]


def parsed(protocol: str, body: bytes, headers: dict[str, str]) -> dict[str, Any]:
    """A DescribeAlarms response as botocore reads it."""
    response = {"body": body, "headers": headers, "status_code": 200}
    answer = botocore.parsers.create_parser(protocol).parse(response, model("DescribeAlarms").output_shape)
    return dict(answer)


def test_cbor_is_read_as_botocore_writes_it() -> None:
    assert cbor.loads(serialized("smithy-rpc-v2-cbor")) == REQUEST


def test_forms_are_read_as_botocore_writes_them() -> None:
    form = {key: str(value) for key, value in serialized("query").items()}
    first, second = REQUEST["MetricData"]
    expected = REQUEST | {"MetricData": [first, second | {"Timestamp": "2026-11-21T04:00:00Z"}]}
    assert query.parse(form, model("PutMetricData").input_shape) == expected


@pytest.mark.parametrize("protocol", ["smithy-rpc-v2-cbor", "query"])
def test_botocore_reads_what_is_written(protocol: str) -> None:
    operation, answer = model("DescribeAlarms"), {"MetricAlarms": [ALARM], "CompositeAlarms": [], "NextToken": None}
    if protocol == "query":
        result = parsed(protocol, query.answer(operation, answer, "id").encode(), {})
    else:
        result = parsed(protocol, cbor.dumps(answer, operation.output_shape), {"smithy-protocol": "rpc-v2-cbor"})
    (alarm,) = result["MetricAlarms"]
    assert alarm.pop("StateUpdatedTimestamp").timestamp() == MOMENT + 0.5
    assert alarm == {key: value for key, value in ALARM.items() if key != "StateUpdatedTimestamp"}
    assert result["CompositeAlarms"] == []
    assert "NextToken" not in result


@pytest.mark.parametrize(
    ("data", "value"),
    [  # RFC 8949, appendix A
        ("1bffffffffffffffff", 2**64 - 1), ("3903e7", -1000), ("f93c00", 1.0), ("fa47c35000", 100_000.0),
        ("fbc010666666666666", -4.1), ("f97c00", float("inf")), ("f5", True), ("f6", None),
        ("c11a514b67b0", 1363896240), ("5f42010243030405ff", b"\1\2\3\4\5"),
        ("7f657374726561646d696e67ff", "streaming"), ("9f018202039f0405ffff", [1, [2, 3], [4, 5]]),
        ("bf61610161629f0203ffff", {"a": 1, "b": [2, 3]}),
    ],
)  # fmt: skip
def test_every_form_of_an_item_is_read(data: str, value: Any) -> None:
    assert cbor.loads(bytes.fromhex(data)) == value


@pytest.mark.parametrize(
    "data",
    [
        "",
        "ff",
        "18",
        "1c00",
        "a101",
        "a10102",
        "bf6161ff",
        "7f42ff",
        "61ff",
        "c001",
        "9b7fffffffffffffff",
        "0000",
        "f0",
    ],
)
def test_what_is_not_cbor_is_refused(data: str) -> None:
    with pytest.raises(ApiError, match="not CBOR"):
        cbor.loads(bytes.fromhex(data))


def test_deep_nesting_is_refused() -> None:
    for head in (b"\x81", b"\x9f", b"\xa1\x61a", b"\xc1"):  # lists of both lengths, maps, tags
        with pytest.raises(ApiError, match=r"nesting depth \(64\)|only timestamps"):
            cbor.loads(head * 100_000 + b"\x00")


@pytest.mark.parametrize("tag", [0, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 256, 258, 260, 999, 55799])
def test_no_tag_but_timestamps_is_read(tag: int) -> None:
    """Of these a reader makes numbers of any size, patterns, or a value that holds itself."""
    for content in ([10**9, 5], "(a+)+$", b"\xff" * 64, 0):
        with pytest.raises(ApiError, match=f"tag {tag} with"):
            cbor.loads(cbor2.dumps({"Namespace": cbor2.CBORTag(tag, content)}))


def test_broken_bodies_end_in_an_error_or_a_value() -> None:
    whole, chance = serialized("smithy-rpc-v2-cbor"), random.Random(7)
    refused = 0
    for _ in range(3000):
        body = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            body[chance.randrange(len(body))] = chance.randrange(256)
        try:
            cbor.loads(bytes(body[: chance.randint(1, len(body))]))
        except ApiError:
            refused += 1
    assert refused > 1000


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"Dimensions.member.x.Name": "n"}, "does not fit"),
        ({"Dimensions": "text"}, "does not fit"),
        ({"Dimensions.member.1": "text"}, "does not fit"),
        ({"Namespace": "n", "Namespace.member.1": "m"}, "does not fit"),
        ({"Period": "often"}, "'often' at 'Period' is no integer"),
    ],
)
def test_form_that_cannot_be_a_request_is_refused(form: dict[str, str], message: str) -> None:
    with pytest.raises(ApiError, match=message):
        query.parse(form, model("GetMetricStatistics").input_shape)


def test_xml_holds_only_what_xml_can() -> None:
    answer = {"MetricAlarms": [{"AlarmDescription": "bell \x07 and \x00, tab \t"}]}
    (alarm,) = parsed("query", query.answer(model("DescribeAlarms"), answer, "id").encode(), {})["MetricAlarms"]
    assert alarm["AlarmDescription"] == "bell \ufffd and \ufffd, tab \t"


@pytest.mark.parametrize("style", ["json", "cbor", "query"])
def test_no_answer_holds_nan_or_infinity(style: str) -> None:
    call = Call(service="cloudwatch", operation="GetMetricStatistics", request={}, style=style)
    points = [{"Sum": float("nan"), "Average": 1.5}, {"Sum": float("inf"), "Maximum": float("-inf")}]
    clean = [{"Average": 1.5}, {}]
    answers = [bytes(call.response({"Label": "m", "Datapoints": given}).body) for given in (points, clean)]
    assert len(answers[0]) == len(answers[1])  # but for the id of the request, they are the same
