from datetime import UTC, datetime

from stack.dag_runs import error_in, import_complaint

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_the_exception_of_a_log_is_quoted_without_its_traceback() -> None:
    events = [
        {
            "event": "Task failed",
            "level": "error",
            "error_detail": [{"exc_type": "ValueError", "exc_value": "no images"}],
        },
        {"event": "Pushing xcom", "level": "info"},
    ]
    assert error_in(events) == "no images"


def test_without_an_exception_the_last_error_counts() -> None:
    assert error_in([{"event": "gone", "level": "error"}, {"event": "bye", "level": "info"}]) == "gone"
    assert error_in([]) == "it left no error message"


def test_an_old_or_foreign_import_error_does_not_stop_a_run() -> None:
    def error(filename: str, hour: int) -> dict:
        at = NOON.replace(hour=hour).isoformat()
        return {"filename": filename, "timestamp": at, "stack_trace": "SyntaxError: oops"}

    assert import_complaint([error("recipe_errors.py", 13), error("retrain_classifier.py", 11)], NOON) is None
    assert "SyntaxError: oops" in (import_complaint([error("retrain_classifier.py", 13)], NOON) or "")
