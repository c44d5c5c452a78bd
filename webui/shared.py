"""Shared: one value in the making, for everybody who waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """An endless stream for any number of readers: `async for value in shared`.

    However many wait, each value is made once; while nobody waits, none is. A slow reader misses some, and nobody
    waits for it. What the making raises reaches those who wait; the next reader has it tried again.
    """

    def __init__(self, make: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._make = make
        self._coming: asyncio.Task[T] | None = None
        self._waiting = 0
        self._closed = False

    def __aiter__(self) -> Shared[T]:
        return self

    async def __anext__(self) -> T:
        if self._closed:
            raise StopAsyncIteration
        if self._coming is None or self._coming.done():
            self._coming = asyncio.create_task(self._make())
        coming = self._coming
        self._waiting += 1
        try:
            return await asyncio.shield(coming)
        except asyncio.CancelledError:
            if self._closed:
                raise StopAsyncIteration from None
            if self._waiting == 1 and coming is self._coming:
                coming.cancel()
                self._coming = None
            raise
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """Ends every reader's loop."""
        self._closed = True
        if self._coming is not None:
            self._coming.cancel()
            await asyncio.wait([self._coming])
