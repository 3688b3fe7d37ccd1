"""What was read once, kept in this process for a while: a bounded number, of which the longest unused leave first."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class Kept(Generic[T]):
    """At most `most` values, none older than `seconds`; safe among threads. Two that ask at once may both read."""

    most: int
    seconds: float
    clock: Callable[[], float] = time.monotonic
    _found: OrderedDict[Hashable, tuple[float, T]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, key: Hashable, read: Callable[[], T]) -> T:
        """What `read` told of this key, now or before; what it raises is not kept."""
        with self._lock:
            if (found := self._found.get(key)) and self.clock() - found[0] < self.seconds:
                self._found.move_to_end(key)
                return found[1]
        value = read()
        with self._lock:
            self._found[key] = (self.clock(), value)
            self._found.move_to_end(key)
            while len(self._found) > self.most:
                self._found.popitem(last=False)
        return value

    def forget(self) -> None:
        """All of them."""
        with self._lock:
            self._found.clear()
