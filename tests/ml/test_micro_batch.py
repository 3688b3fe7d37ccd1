"""MicroBatch between threads."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from server.micro_batch import MicroBatch
from tests.waiting import PATIENCE_S, wait_until


class Model:
    """Doubles numbers; the first call waits for `gate`, so that a queue forms behind it. Notes every call."""

    def __init__(self, **limits):
        self.calls, self.gate = [], threading.Event()
        self.batch = MicroBatch(self.one, self.many, **limits)

    def one(self, request):
        self.calls.append([request])
        if len(self.calls) == 1:
            assert self.gate.wait(PATIENCE_S)
        return double(request)

    def many(self, requests):
        self.calls.append(requests)
        return [outcome_of(request) for request in requests]

    def answers(self, first, *others, sizes=None):
        """What `first` gets, then what each of `others` gets, which come in that order while it is computed."""
        with ThreadPoolExecutor(len(others) + 1) as threads:
            futures = [threads.submit(self.batch.predict, first)]
            wait_until(lambda: self.calls, every_s=0.001)
            for number, request in enumerate(others):
                futures.append(threads.submit(self.batch.predict, request, sizes[number] if sizes else 0))
                wait_until(lambda: len(self.batch.queue) == number + 1, every_s=0.001)  # noqa: B023, it ends before the next
            self.gate.set()
            return [future.exception(PATIENCE_S) or future.result() for future in futures]


def double(request):
    if not isinstance(request, int):
        raise TypeError(f"{request!r} is no number")
    return 2 * request


def outcome_of(request):
    try:
        return double(request)
    except TypeError as error:
        return error


def test_who_finds_the_model_free_computes_alone():
    model = Model()
    model.gate.set()
    assert [model.batch.predict(number) for number in (1, 2, 3)] == [2, 4, 6]
    assert model.calls == [[1], [2], [3]]


def test_who_waited_is_computed_together():
    model = Model()
    assert model.answers(1, 2, 3, 4) == [2, 4, 6, 8]
    assert model.calls == [[1], [2, 3, 4]]


def test_a_batch_is_bounded_in_number():
    model = Model(max_requests=2)
    assert model.answers(1, 2, 3, 4) == [2, 4, 6, 8]
    assert model.calls == [[1], [2, 3], [4]]


def test_a_batch_is_bounded_in_bytes_but_for_one_that_is_larger_alone():
    model = Model(max_bytes=10)
    assert model.answers(1, 2, 3, 4, 5, sizes=[99, 6, 4, 1]) == [2, 4, 6, 8, 10]
    assert model.calls == [[1], [2], [3, 4], [5]]


def test_an_error_goes_to_the_request_that_caused_it():
    model = Model()
    first, good, bad, other = model.answers(1, 2, "x", 4)
    assert (first, good, other) == (2, 4, 8)
    assert isinstance(bad, TypeError) and "'x' is no number" in str(bad)


def test_a_batch_that_fails_as_a_whole_is_computed_one_by_one():
    model = Model()
    model.batch.predict_many = lambda requests: [double(request) for request in requests]
    first, good, bad = model.answers(1, 2, "x")
    assert (first, good) == (2, 4)
    assert isinstance(bad, TypeError)
    assert model.calls == [[1], [2], ["x"]]


@pytest.mark.parametrize(("returned", "said"), [([1], "not 1 results"), ((1, 2), "not tuple"), (None, "not NoneType")])
def test_a_batch_function_that_miscounts_is_told_so(returned, said):
    model = Model()
    model.batch.predict_many = lambda requests: returned
    _, *wrong = model.answers(1, 2, 3)
    assert all(isinstance(error, TypeError) and said in str(error) for error in wrong)


def test_not_even_a_model_that_exits_leaves_others_waiting():
    model = Model()

    def leave(*_):
        raise SystemExit(3)

    model.batch.predict_many = leave
    _, *others = model.answers(1, 2, 3)
    assert others == [4, 6]
    model.batch.predict_one = leave
    with pytest.raises(SystemExit):
        model.batch.predict(1)
    model.batch.predict_one = double
    assert model.batch.predict(1) == 2


def test_many_threads_get_each_their_own():
    model = Model(max_requests=3)
    model.gate.set()
    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(model.batch.predict, range(2000))) == [2 * number for number in range(2000)]
    assert sorted(number for call in model.calls for number in call) == list(range(2000))
    assert max(len(call) for call in model.calls) <= 3
