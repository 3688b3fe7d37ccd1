"""The gate that bounds what large pictures take of the memory together."""

import threading
import time

import pytest

from pictures.memory_gate import Full, MemoryGate
from tests.waiting import PATIENCE_S, wait_until


def entered(gate, size_bytes):
    """A thread that holds room until its event is set, and the event that says that it does."""
    inside, leave = threading.Event(), threading.Event()

    def hold():
        with gate.room(size_bytes):
            inside.set()
            leave.wait(PATIENCE_S)

    threading.Thread(target=hold, daemon=True).start()
    return inside, leave


def test_the_capacity_is_never_exceeded():
    gate, lock, held, most = MemoryGate(10, None), threading.Lock(), [0], [0]

    def work(size):
        with gate.room(size):
            with lock:
                held[0] += size
                most[0] = max(most[0], held[0])
            time.sleep(0.001)
            with lock:
                held[0] -= size

    threads = [threading.Thread(target=work, args=(1 + number % 6,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert 1 < most[0] <= 10 and gate.taken_bytes == 0 and not gate.queue


def test_what_is_larger_than_the_gate_goes_alone():
    gate = MemoryGate(10, wait_s=0.05)
    with gate.room(1000), pytest.raises(Full), gate.room(1):
        pass
    with gate.room(1):
        pass


def test_a_large_thing_is_not_overtaken():
    gate = MemoryGate(10, None)
    first_in, first_out = entered(gate, 5)
    assert first_in.wait(PATIENCE_S)
    large_in, large_out = entered(gate, 8)
    wait_until(lambda: gate.queue, every_s=0.001)
    small_in, small_out = entered(gate, 1)
    assert not small_in.wait(0.1)
    first_out.set()
    assert large_in.wait(PATIENCE_S) and small_in.wait(PATIENCE_S)
    large_out.set(), small_out.set()


def test_who_gives_up_makes_way_for_the_next():
    gate = MemoryGate(10, wait_s=0.2)
    inside, leave = entered(gate, 5)
    assert inside.wait(PATIENCE_S)
    failed = []

    def too_large():
        try:
            with gate.room(8):
                pass
        except Full:
            failed.append(True)

    waiting = threading.Thread(target=too_large)
    waiting.start()
    wait_until(lambda: gate.queue, every_s=0.001)
    gate.wait_s = 30
    with gate.room(5):  # fits beside the first, once the large one no longer stands before it
        pass
    waiting.join(PATIENCE_S)
    leave.set()
    assert failed == [True]
