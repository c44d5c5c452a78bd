"""What goes out to many: one value in the making for everybody who waits, and a line that holds nothing back."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, TypeVar

from aiohttp import web

T = TypeVar("T")

PATIENCE: Final = 10.0
"""Seconds without a sign of life after which a browser is given up."""
SEND_BUFFER: Final = 32 << 10
"""Bytes that the system may hold back for a slow viewer, who would otherwise watch the past."""


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


class Line:
    """The connection to one browser, kept from holding back what would be old when it arrives."""

    def __init__(self, request: web.Request) -> None:
        if request.transport is None:
            raise ConnectionResetError("The browser has gone.")
        self._transport = request.transport
        self._loop = asyncio.get_running_loop()
        self._moved = self._loop.time()
        plug = self._transport.get_extra_info("socket")
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self._plug = select.poll()
        self._plug.register(plug, select.POLLOUT)

    def free(self) -> bool:
        """Whether all that was sent is on its way. Raises ConnectionResetError when patience is over."""
        # Below an encrypted transport lies another, of which nobody tells: while it holds anything, the socket is full.
        if not self._transport.get_write_buffer_size() and self._plug.poll(0):
            self._moved = self._loop.time()
            return True
        if self._loop.time() - self._moved > PATIENCE:
            raise ConnectionResetError("The browser does not take what it is sent.")
        return False
