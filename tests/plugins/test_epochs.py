"""What a training's log tells of its epochs, whatever else it says."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from retraining.epochs import MAX_EPOCHS, epochs, read_epochs


def line(epoch: int, of: int = 9, loss: object = 0.5) -> str:
    return f"epoch={epoch}/{of} train:loss={loss} validation:accuracy=0.9 images_per_second=9.0"


def test_each_epoch_is_told_once_and_the_best_is_named() -> None:
    told = epochs(
        ["starts", line(1, loss=0.7), line(2), "epoch=x/y", line(2, loss=0.25), "best epoch=2/9 train:loss=1"]
    )
    assert told == {
        "of": 9,
        "ended": 2,
        "numbers": [1, 2],
        "best": 2,
        "metrics": {"train:loss": [0.7, 0.25], "validation:accuracy": [0.9, 0.9]},
    }


def test_a_log_without_epochs_tells_nothing() -> None:
    assert epochs([]) is None and epochs(["best epoch=1/2 train:loss=1", "hello"]) is None


@pytest.mark.parametrize("loss", ["nan", "inf", "1e999", "--", "<b>"])
def test_what_is_no_number_is_left_out(loss: str) -> None:
    told = epochs([line(1, loss=loss), line(2)])
    assert told and told["metrics"]["train:loss"] == [None, 0.5]


def test_a_training_of_any_length_is_told_in_few_points() -> None:
    told = epochs([*(line(n, 100_000) for n in range(1, 100_001)), "best epoch=777/100000 x"])
    assert told and len(told["numbers"]) <= MAX_EPOCHS + 2
    assert told["numbers"][-1] == 100_000 and 777 in told["numbers"]


class Log:
    """CloudWatch Logs with one stream of three pages."""

    pages = ([line(1)], [line(2)], [line(3), "best epoch=3/9 x"])

    def describe_log_streams(self, **request: Any) -> dict[str, Any]:
        if request["logStreamNamePrefix"] != "job/":
            raise ClientError({"Error": {"Code": "ResourceNotFoundException"}}, "DescribeLogStreams")
        return {"logStreams": [{"logStreamName": "job/algo-1"}]}

    def get_log_events(self, nextToken: str = "3", **request: Any) -> dict[str, Any]:
        before = max(0, int(nextToken) - 1)
        page = self.pages[before] if int(nextToken) else []
        return {"events": [{"message": text} for text in page], "nextBackwardToken": str(before)}


def test_a_long_log_is_read_from_its_end() -> None:
    whole, end = read_epochs(Log(), "job"), read_epochs(Log(), "job", pages=2)
    assert whole and (whole["job"], whole["numbers"], whole["best"]) == ("job", [1, 2, 3], 3)
    assert end and end["numbers"] == [2, 3]


def test_a_job_without_a_log_has_no_epochs() -> None:
    assert read_epochs(Log(), "another") is None
