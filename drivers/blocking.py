"""Calls that may block for ever: one at a time, each in a thread that nobody waits for, not even at the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

from drivers.rig import DeviceError

T = TypeVar("T")


class Blocking:
    """The calls to one device, which is given `patience` seconds for each.

    A call that does not come back keeps its one thread; until it does, every other is refused. The threads are daemons:
    those of asyncio.to_thread would keep the process from ending.
    """

    def __init__(self, device: str, patience: float) -> None:
        self._device, self._patience = device, patience
        self._pending: Future[object] | None = None

    async def ask(self, work: Callable[[], T], discard: Callable[[T], object] | None = None) -> T:
        """What `work` returns or raises, without holding up the loop. Raises DeviceError when that takes too long.

        An earlier call that is not back yet gets its patience, too.
        A result that nobody waits for any more goes to `discard`, which may close it; in any thread.
        """
        if self._pending is not None and self._busy():
            await self._wait(self._pending, None)
        return await self._wait(self._start(work), discard)

    async def _wait(self, pending: Future[T], discard: Callable[[T], object] | None) -> T:
        answer = asyncio.wrap_future(pending)
        try:
            done, _ = await asyncio.wait([answer], timeout=self._patience)
            if not done:
                raise self._mute()
        except BaseException:
            answer.cancel()
            if discard is not None:
                pending.add_done_callback(partial(_discard, discard))
            raise
        return answer.result()

    def _busy(self) -> bool:
        return self._pending is not None and not self._pending.done()

    def _start(self, work: Callable[[], T]) -> Future[T]:
        answer: Future[T] = Future()
        answer.set_running_or_notify_cancel()

        def run() -> None:
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001 - it is raised again where the answer is waited for
                answer.set_exception(error)
            else:
                answer.set_result(result)

        self._pending = answer  # type: ignore[assignment]
        threading.Thread(target=run, name=self._device, daemon=True).start()
        return answer

    def _mute(self) -> DeviceError:
        return DeviceError(f"The {self._device} has not answered for {self._patience:g} s; switch the car off and on.")


def _discard(discard: Callable[[T], object], late: Future[T]) -> None:
    if late.exception() is None:
        discard(late.result())
