"""Lookout: a thread that holds one sensor, so that its newest value wins and nobody waits for one that hangs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

from drivers.rig import DeviceError

log = logging.getLogger(__name__)

T = TypeVar("T")

OPENING: Final = 3.0
"""Seconds that a sensor may take to be opened: a camera takes one or two."""
PATIENCE: Final = 0.9
"""Seconds that it may take for anything later; thereafter it hangs."""
MOST_HANGING: Final = 2
"""Threads that may hang at one time in a call that does not return; no further one is started then."""


class Shift(Generic[T]):
    """What a thread has in hand from opening its sensor to letting go of it."""

    def __init__(self, opening: float) -> None:
        self.relieved = False
        """True asks the thread to let go of its sensor and end."""
        self.ended = False
        self.fault = DeviceError()
        """Why it ended."""
        self.wake: Callable[[], object] = bool
        self.newest: deque[T] = deque(maxlen=1)
        self.deadline = time.monotonic() + opening

    def alive(self) -> None:
        """To be called whenever the sensor has let the thread go on."""
        self.deadline = time.monotonic() + PATIENCE

    def report(self, value: T) -> None:
        """Hand over a value; one that nobody fetched is forgotten."""
        self.alive()
        self.newest.append(value)
        self.wake()


class Lookout(Generic[T]):
    """Reads one sensor for one reader on an event loop."""

    def __init__(self, name: str, keep: Callable[[Shift[T]], None], opening: float = OPENING) -> None:
        """`name` begins a sentence. `keep` opens the sensor, reports its values until it is relieved, and lets go.

        It runs in a thread of its own, calls `alive` within `opening` seconds and then at least every PATIENCE seconds,
        and raises DeviceError.
        """
        self.name, self._keep, self._opening = name, keep, opening
        self._shift: Shift[T] | None = None
        self._hanging: list[Shift[T]] = []

    @property
    def hanging(self) -> int:
        """How many threads hang at the moment in a call that does not return."""
        self._hanging = [shift for shift in self._hanging if not shift.ended]
        return len(self._hanging)

    async def read(self) -> T:
        """The next value, newer than the last one returned. Raises DeviceError; a later call tries the sensor anew."""
        if self._shift is None:
            self._shift = self._begin()
        shift = self._shift
        with _woken_by(shift) as woken:
            while True:
                woken.clear()
                if shift.ended:
                    self._shift = None
                    if self.hanging:
                        raise DeviceError(f"{shift.fault} An earlier try to reach it still hangs.")
                    raise shift.fault
                if shift.newest:
                    return shift.newest.pop()
                left = shift.deadline - time.monotonic()
                if left <= 0:
                    self._leave_behind(shift)
                    raise DeviceError(self._hangs)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await woken.wait()

    async def close(self) -> None:
        """Let go of the sensor, unless it hangs. May be called twice."""
        shift = self._shift
        if shift is None:
            return
        shift.relieved = True
        with contextlib.suppress(TimeoutError), _woken_by(shift) as woken:
            async with asyncio.timeout(PATIENCE):
                while not shift.ended:
                    await woken.wait()
                    woken.clear()
        self._leave_behind(shift)

    @property
    def _hangs(self) -> str:
        return f"{self.name} hangs; unplug it and plug it in again."

    def _begin(self) -> Shift[T]:
        if self.hanging >= MOST_HANGING:
            raise DeviceError(self._hangs)
        shift = Shift[T](self._opening)
        threading.Thread(target=self._work, args=(shift,), name=self.name, daemon=True).start()
        return shift

    def _work(self, shift: Shift[T]) -> None:
        try:
            self._keep(shift)
            shift.fault = DeviceError(f"{self.name} was let go.")
        except DeviceError as error:
            shift.fault = error
        except Exception as error:
            # Foreign code: whatever it raises is a fault of its sensor and must not go unheard with the thread.
            log.exception("%s failed", self.name)
            shift.fault = DeviceError(f"{self.name} failed ({error}); unplug it and plug it in again.")
        finally:
            shift.ended = True
            shift.wake()

    def _leave_behind(self, shift: Shift[T]) -> None:
        shift.relieved = True
        self._shift = None
        self._hanging.append(shift)


@contextlib.contextmanager
def _woken_by(shift: Shift[T]) -> Iterator[asyncio.Event]:
    loop, woken = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed
            loop.call_soon_threadsafe(woken.set)

    shift.wake = wake
    try:
        yield woken
    finally:
        if shift.wake is wake:
            shift.wake = bool
