"""Large requests are carried out one after the other, and nobody else waits for them."""

from __future__ import annotations

import asyncio

import pytest

from local_sagemaker.wire.large_requests import LARGE_BYTES, LargeRequests

LARGE, SMALL = b"x" * (LARGE_BYTES + 1), b"x" * LARGE_BYTES


async def most_at_once(headers: dict[str, str], body: bytes, *, failing: bool = False) -> int:
    """Of eight requests, each of which takes a while."""
    requests, inside, most = LargeRequests(), 0, 0

    async def carry_out() -> None:
        nonlocal inside, most
        async with requests.turn(headers, body):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.01)
            inside -= 1
            if failing:
                raise OSError

    await asyncio.gather(*(carry_out() for _ in range(8)), return_exceptions=True)
    return most


@pytest.mark.parametrize(("headers", "body"), [({}, LARGE), ({"content-encoding": "gzip"}, b"small")])
def test_large_requests_take_turns(headers: dict[str, str], body: bytes) -> None:
    assert asyncio.run(most_at_once(headers, body)) == 1


def test_small_requests_never_wait() -> None:
    assert asyncio.run(most_at_once({}, SMALL)) == 8


def test_a_failed_large_request_ends_its_turn() -> None:
    assert asyncio.run(most_at_once({}, LARGE, failing=True)) == 1


def test_who_gives_up_waiting_holds_nobody_up() -> None:
    async def three() -> None:
        requests, first_may_end = LargeRequests(), asyncio.Event()

        async def wait_for(event: asyncio.Event) -> None:
            async with requests.turn({}, LARGE):
                await event.wait()

        first = asyncio.create_task(wait_for(first_may_end))
        await asyncio.sleep(0)
        gone = asyncio.create_task(wait_for(asyncio.Event()))
        await asyncio.sleep(0)
        gone.cancel()
        first_may_end.set()
        await first
        async with asyncio.timeout(5), requests.turn({}, LARGE):
            pass

    asyncio.run(three())
