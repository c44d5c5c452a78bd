"""An event loop whose clock jumps to the next appointment whenever everybody waits: the daemon, faster than life."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class JumpingLoop(asyncio.SelectorEventLoop):
    """`time()` starts at 0 and stands still while anything runs, a thread of `run_in_executor` included.

    Give it to `asyncio.Runner(loop_factory=JumpingLoop)`. Use no second process under it: that one cannot jump.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._away = 0
        super().__init__(_JumpingSelector(self._jump))

    def time(self) -> float:
        return self._now

    def _jump(self, seconds: float) -> bool:
        if self._away:
            return False
        self._now += seconds
        return True

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self._away += 1
        future.add_done_callback(self._came_back)
        return future

    def _came_back(self, _: object) -> None:
        self._away -= 1


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, jump: Callable[[float], bool]) -> None:
        super().__init__()
        self._jump = jump

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and (timeout <= 0 or self._jump(timeout))):
            return ready
        return super().select(timeout if timeout is None else None)
