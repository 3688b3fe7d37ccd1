from datetime import UTC, datetime

from stack.readiness import unhealthy_parts

STARTED = {"scheduler": 1_000.0, "dag-processor": 1_000.0, "triggerer": 1_000.0}


def health(**heartbeats: float) -> dict:
    parts = {
        name: {"status": "healthy", f"latest_{name}_heartbeat": datetime.fromtimestamp(at, UTC).isoformat()}
        for name, at in heartbeats.items()
    }
    return {"metadatabase": {"status": "healthy"}, **parts}


def test_all_parts_with_fresh_heartbeats_are_ready() -> None:
    assert unhealthy_parts(health(scheduler=1_001, dag_processor=1_001, triggerer=1_001), STARTED) is None


def test_a_heartbeat_of_the_previous_start_does_not_count() -> None:
    problem = unhealthy_parts(health(scheduler=990, dag_processor=1_001, triggerer=1_001), STARTED)
    assert problem == "scheduler is healthy, no heartbeat yet"


def test_a_missing_part_is_named() -> None:
    problem = unhealthy_parts(health(scheduler=1_001, dag_processor=1_001), STARTED)
    assert problem == "triggerer is not up, no heartbeat yet"
