from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from webui.shared import Shared


class Counting:
    """Makes 1, 2, 3 ... when `go` is set, and counts."""

    def __init__(self) -> None:
        self.begun = 0
        self.go = asyncio.Event()

    async def __call__(self) -> int:
        self.begun += 1
        await self.go.wait()
        return self.begun


async def test_each_value_is_made_once_for_all_who_wait() -> None:
    counting = Counting()
    shared = Shared(counting)
    readers = [asyncio.ensure_future(anext(shared)) for _ in range(5)]
    await asyncio.sleep(0)
    counting.go.set()
    assert await asyncio.gather(*readers) == [1] * 5
    assert counting.begun == 1
    assert await anext(shared) == 2


async def test_nothing_is_made_while_nobody_waits() -> None:
    counting = Counting()
    shared = Shared(counting)
    reader = asyncio.ensure_future(anext(shared))
    await asyncio.sleep(0)
    reader.cancel()
    with suppress(asyncio.CancelledError):
        await reader
    counting.go.set()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert await anext(shared) == 2


async def test_a_reader_that_leaves_takes_nothing_from_the_others() -> None:
    counting = Counting()
    shared = Shared(counting)
    leaving, staying = asyncio.ensure_future(anext(shared)), asyncio.ensure_future(anext(shared))
    await asyncio.sleep(0)
    leaving.cancel()
    counting.go.set()
    assert await staying == 1
    assert counting.begun == 1


async def test_what_the_making_raises_reaches_the_readers_and_the_next_one_tries_again() -> None:
    tries = iter([1, 2])

    async def make() -> int:
        if (attempt := next(tries)) == 1:
            raise ValueError("no")
        return attempt

    shared = Shared(make)
    with pytest.raises(ValueError, match="no"):
        await anext(shared)
    assert await anext(shared) == 2


async def test_closing_ends_every_reader() -> None:
    shared = Shared(Counting())

    async def read() -> list[int]:
        return [value async for value in shared]

    readers = [asyncio.ensure_future(read()) for _ in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await shared.close()
    assert await asyncio.gather(*readers) == [[], [], []]
    assert [value async for value in shared] == []
