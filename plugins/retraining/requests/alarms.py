"""The CloudWatch alarms that a run makes for its own update of an endpoint: which metric, of which fleet, how much.

While a deployment is going on, SageMaker publishes an endpoint's metrics also by EndpointConfigName, so that the fleet
of the new configuration is watched alone (developer guide, "Auto-rollback configuration and monitoring").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Request = dict[str, Any]

PERIOD_SECONDS = 60
GOLDEN = "golden"
# A rate is an average: each request counts as 0 or 1.
RATES = {
    "max_5xx_percent": ("5xx", "Invocation5XXErrors"),
    "max_4xx_percent": ("4xx", "Invocation4XXErrors"),
    "max_model_error_percent": ("model-errors", "InvocationModelErrors"),
}
LATENCY = "max_latency_ratio"


def alarm_name(config: str, what: str) -> str:
    """Of the update to an endpoint configuration, whose name is the run's own."""
    return f"{config}-{what}"


def alarms(
    endpoint: str,
    config: str,
    bounds: Mapping[str, float],
    champion_latency_us: float | None,
    tags: Sequence[Mapping[str, str]],
) -> Iterator[Request]:
    """PutMetricAlarm for each bound of the recipe, and for golden images that are answered wrongly.

    `champion_latency_us`: the average ModelLatency of what serves, in microseconds; None, where nobody knows, makes no
    alarm for the latency. (A percentile would need 100 requests a minute to the new model, before CloudWatch judges.)
    """
    fleet = {"EndpointName": endpoint, "VariantName": "AllTraffic", "EndpointConfigName": config}
    common = {
        "Dimensions": [{"Name": name, "Value": value} for name, value in fleet.items()],
        "Namespace": "AWS/SageMaker",
        "Period": PERIOD_SECONDS,
        "EvaluationPeriods": 1,
        "Statistic": "Average",
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",
        "Tags": list(tags),
    }
    for bound, (what, metric) in RATES.items():
        if bound in bounds:
            yield common | {
                "AlarmName": alarm_name(config, what),
                "AlarmDescription": f"More than {bounds[bound]:g} % of the requests to the new model: {metric}.",
                "MetricName": metric,
                "Threshold": bounds[bound] / 100,
            }
    if LATENCY in bounds and champion_latency_us is not None:
        yield common | {
            "AlarmName": alarm_name(config, "latency"),
            "AlarmDescription": f"The new model takes more than {bounds[LATENCY]:g} times as long as the champion.",
            "MetricName": "ModelLatency",
            "Threshold": bounds[LATENCY] * champion_latency_us,
        }
    # No data ever come for it: the run itself sets it off, and it stays so.
    yield common | {
        "AlarmName": alarm_name(config, GOLDEN),
        "AlarmDescription": "The new model answered a golden image wrongly.",
        "Namespace": "Retraining",
        "MetricName": "WrongAnswers",
        "Statistic": "Sum",
        "Threshold": 0.0,
        "TreatMissingData": "ignore",
    }
