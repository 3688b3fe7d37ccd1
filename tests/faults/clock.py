"""The one clock of a simulated installation: nobody waits for it."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

BEGIN = datetime(2026, 11, 22, 3, tzinfo=UTC).timestamp()


class Clock:
    """Epoch seconds that pass only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = BEGIN

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    async def async_sleep(self, seconds: float) -> None:
        self.now += seconds

    @property
    def date(self) -> datetime:
        return datetime.fromtimestamp(self.now, UTC)

    def as_time_module(self) -> Any:
        return SimpleNamespace(
            time=self.time,
            time_ns=lambda: int(self.now * 1e9),
            sleep=self.sleep,
            perf_counter=self.time,
            monotonic=self.time,
        )

    def as_asyncio_module(self) -> Any:
        return SimpleNamespace(sleep=self.async_sleep)
