"""A reward function at work: in a box that it cannot leave, called with rows, answering with numbers or with an error.

A RewardError is for the person who wrote the function: one sentence, the line, and the parameters of the call.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import select
import subprocess
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cloud_trainer.box import FAILED, LENGTH, MOST_REWARD, MOST_TEXT, OVERRUN, REFUSED, REPLY, REQUEST, REWARDS
from cloud_trainer.confine import Confinement, Way, confinement
from sim_stub.parameters import COLUMN, OBJECT, PAIRS, SCALARS, Waypoints, as_dict, width

Rows: TypeAlias = NDArray[np.float64]

WAYS: Final[tuple[Way, ...]] = ("bubblewrap", "landlock", "trusted")
"""From the strongest."""
MEMORY: Final = 512 << 20
PATIENCE: Final = 15.0
"""Seconds that starting a box, and importing what its function imports, may take."""
GRACE: Final = 0.25
"""Seconds that the box has to say where it was when its time was up."""
MOST_SHOWN: Final = 300
"""Characters of a stranger's text in a message."""


class RewardError(Exception):
    """A reward function failed, broke a limit, or cannot be confined here; the message is one sentence.

    `line`: of the user's file, counted from 1. `params`: what the function was told at the failed call. Or None.
    """

    def __init__(self, message: str, line: int | None = None, params: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.line = line
        self.params = params


class Box:
    """A box's process and the pipes to it: confined, perhaps with modules loaded, waiting for its task.

    `load`: names of modules to import, where they are installed. Raises RewardError.
    """

    def __init__(self, how: Confinement, memory: int, load: Sequence[str] = ()) -> None:
        self.way: Final = how.way
        try:
            self._process = subprocess.Popen(
                how.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=how.environment,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise RewardError(f"The reward function's process did not start: {error.strerror}.") from error
        assert self._process.stdin
        assert self._process.stdout
        assert self._process.stderr
        self._pipes = (self._process.stdin, self._process.stdout, self._process.stderr)
        self._in, self._out, self._said = (pipe.fileno() for pipe in self._pipes)
        for pipe in (self._in, self._out, self._said):
            os.set_blocking(pipe, False)
        self._writable, self._readable = select.poll(), select.poll()
        self._writable.register(self._in, select.POLLOUT)
        self._readable.register(self._out, select.POLLIN)
        orders = marshal.dumps(how.orders(memory, os.getpid(), load))
        with contextlib.suppress(TimeoutError):  # a pipe takes this much at once
            self.write(LENGTH.pack(len(orders)) + orders, time.monotonic())

    @property
    def pid(self) -> int:
        """Of the process or, in bubblewrap, of its ancestor."""
        return self._process.pid

    def write(self, data: bytes, deadline: float) -> None:
        """All of it, or as much as somebody is there to read. Raises TimeoutError."""
        rest = memoryview(data)
        with contextlib.suppress(BrokenPipeError):  # it may have said why
            while rest:
                try:
                    rest = rest[os.write(self._in, rest) :]
                except BlockingIOError:
                    _wait(self._writable, deadline)

    def read(self, least: int, most: int, deadline: float) -> bytes:
        """Between `least` and `most` bytes. Raises TimeoutError, EOFError."""
        data = b""
        while len(data) < least:
            _wait(self._readable, deadline)
            more = os.read(self._out, most - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def last_words(self, starting: bool) -> str:
        """What became of a process that answers no more."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE)
        code = self._process.poll()
        # bubblewrap tells of a signal as a shell does.
        signal = None if code is None else -code if code < 0 else code - 128 if code > 128 else None
        did = "closed its answers" if code is None else f"died of signal {signal}" if signal else "ended by itself"
        with contextlib.suppress(OSError):
            if starting and (said := os.read(self._said, MOST_TEXT)):
                did += f", saying {printable(said)!r}"
        return did

    def close(self) -> None:
        """Kill it and wait for its end. May be called twice."""
        if self._pipes[1].closed:
            return
        self._process.kill()
        self._process.wait()
        # Whom bubblewrap leaves behind dies a moment later, and with it the last that could write here.
        self._readable.modify(self._out, 0)
        self._readable.poll(1000)
        for pipe in self._pipes:
            pipe.close()


class RewardWorker:
    """A reward function in a process of its own: call it with rows, close it in the end (or use `with`).

    An exception, or a result that is no reward, fails one batch. What breaks the box itself (out of time, died, forged
    answers) ends it, and every later call says so. The same source, rows in the same batches, and seed give the same
    rewards. Not for several threads at once; and the thread that makes it must live as long: the kernel ends the box
    with it.

    `waypoints`, and for rows with is_reversed `reversed_waypoints` (default: the same). `seconds`: wall time for a
    batch, and for running the file once at the start. `memory`: bytes of address space. `trust`: where nothing confines
    it, run it all the same, as a plain child with limits. `box`: one that stands ready, used up by this; its own memory
    and way count. Raises RewardError.
    """

    def __init__(
        self,
        source: str,
        waypoints: Waypoints,
        track_length: float,
        *,
        reversed_waypoints: Waypoints | None = None,
        objects: int = 0,
        trust: bool = False,
        seed: int = 0,
        seconds: float = 2.0,
        memory: int = MEMORY,
        ways: Sequence[Way] = WAYS,
        box: Box | None = None,
    ) -> None:
        self._waypoints = [(float(x), float(y)) for x, y in waypoints]
        back = waypoints if reversed_waypoints is None else reversed_waypoints
        self._back = [(float(x), float(y)) for x, y in back]
        self._track_length = float(track_length)
        self._objects, self._seconds = objects, seconds
        self._serial = 0
        self._over: str | None = None
        self._box = Box(choose(ways, trust), memory) if box is None else box
        self.way: Final = self._box.way
        task = {
            "source": source.encode(errors="replace").decode(),
            "seed": seed,
            "seconds": seconds,
            "waypoints": self._waypoints,
            "reversed_waypoints": self._back,
            "track_length": self._track_length,
            "scalars": [(name, kind.__name__) for name, kind in SCALARS],
            "pairs": list(PAIRS),
            "object": [(name, kind.__name__) for name, kind in OBJECT],
        }
        order = marshal.dumps(task)
        try:
            self._exchange(LENGTH.pack(len(order)) + order, None)
        except BaseException:
            self.close()
            raise

    def __call__(self, rows: Rows) -> Rows:
        """The rewards, float64[b], finite and at most 1e5 either way, of rows float64[b, width(objects)]."""
        if rows.ndim != 2 or rows.shape[1] != width(self._objects):
            raise ValueError(f"rows have the shape {rows.shape}, not (b, {width(self._objects)})")
        return self.rewards(rows, self._objects)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill the box and wait for its end. May be called twice."""
        self._over = self._over or "The reward function's process was closed."
        self._box.close()

    def rewards(self, rows: Rows, objects: int) -> Rows:
        """The same for another number of objects: rows are float64[b, width(objects)]."""
        if self._over is not None:
            raise RewardError(self._over)
        self._serial += 1
        data = REQUEST.pack(self._serial, len(rows), objects) + np.ascontiguousarray(rows, "<f8").tobytes()
        rewards = np.frombuffer(self._exchange(data, rows), "<f8").astype(np.float64)
        # The box has looked at them; but whatever is in it may speak for it.
        if not (np.abs(rewards) <= MOST_REWARD).all():
            raise self._end("sent numbers that are no rewards")
        return rewards

    def _exchange(self, data: bytes, rows: Rows | None) -> bytes:
        """Send one message and read its answer. Nothing of what comes back is believed: sizes are fixed or capped."""
        deadline = time.monotonic() + GRACE + (PATIENCE if rows is None else self._seconds)
        calls = 0 if rows is None else len(rows)
        try:
            self._box.write(data, deadline)
            answer = self._box.read(REPLY.size, REPLY.size + 8 * calls, deadline)
            serial, kind, row, line, size = REPLY.unpack(answer[: REPLY.size])
            fits = size == 8 * calls if kind == REWARDS else kind <= REFUSED and size <= MOST_TEXT and row <= calls
            left = REPLY.size + size - len(answer)
            if serial != self._serial or not fits or left < 0:
                raise self._end("sent an answer that nobody asked for")
            answer += self._box.read(left, left, deadline)
        except TimeoutError:
            raise self._slow(calls, None, None) from None
        except EOFError:
            raise self._end(self._box.last_words(starting=rows is None)) from None
        if kind == REWARDS:
            return answer[REPLY.size :]
        params = None
        if rows is not None and row < calls:
            route = self._back if rows[row, COLUMN["is_reversed"]] else self._waypoints
            params = as_dict(rows[row], route, self._track_length)
        if kind == OVERRUN:
            raise self._slow(calls, line or None, params)
        where = f" in line {line}" if line else ""
        text = f"{printable(answer[REPLY.size :])}."
        if kind == FAILED:
            raise RewardError(f"reward_function failed{where}: {text}", line or None, params)
        raise RewardError(f"The reward function cannot start{where}: {text}", line or None)

    def _slow(self, calls: int, line: int | None, params: dict[str, Any] | None) -> RewardError:
        what = f"{calls} calls" if calls else "its start"
        where = f" in line {line}" if line else ""
        error = self._end(f"took longer than {self._seconds:g} s{where} for {what}")
        error.line, error.params = line, params
        return error

    def _end(self, did: str) -> RewardError:
        """End the box, which `did` something; the error that says so, now and at every later call."""
        self._over = f"The reward function's process {did}, and was ended."
        self.close()
        return RewardError(self._over)


def printable(data: bytes) -> str:
    """A stranger's text on one short line that no terminal obeys."""
    text = data.decode(errors="replace")[:MOST_SHOWN]
    return "".join(character if character.isprintable() else " " for character in text).strip().rstrip(".")


def _wait(ready: select.poll, deadline: float) -> None:
    """Until a pipe is ready. Raises TimeoutError."""
    left = deadline - time.monotonic()
    if left <= 0 or not ready.poll(1000 * left):
        raise TimeoutError


def choose(ways: Sequence[Way], trust: bool) -> Confinement:
    """The first way that works here. Raises RewardError."""
    reasons = []
    for way in ways:
        if way == "trusted" and not trust:
            continue
        found = confinement(way)
        if isinstance(found, Confinement):
            return found
        reasons.append(found)
    raise RewardError(f"Nothing here can confine a reward function: {'; '.join(reasons)}.")
