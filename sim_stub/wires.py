"""The simulated wires: a strip of shared memory in a file, on which every pulse leaves its time.

The governor writes it, as it would write a pulse-width chip; the world reads it, and knows exactly when which pulse
came. It is small, so that the governor's process stays small.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from drivers.rig import DeviceError
from drivers.signals import ActuatorCommand

_HEAD: Final = struct.Struct("=Q?")
_ENTRY: Final = struct.Struct("=dqq?")
_FIRST: Final = 16
LENGTH: Final = 1024
"""Pulses remembered: ten seconds and more of them."""
SIZE: Final = _FIRST + LENGTH * _ENTRY.size


@dataclass(frozen=True, slots=True)
class Pulse:
    """What was on the wires from `t` on; `live` is False once they were released."""

    t: float
    command: ActuatorCommand
    live: bool


class Tape:
    """One strip. Any number of processes may read it; one writes."""

    def __init__(self, path: Path) -> None:
        """Opens the strip, and makes it where there is none. Raises OSError."""
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(handle).st_size < SIZE:
                os.truncate(handle, SIZE)
            self._memory = mmap.mmap(handle, SIZE)
        finally:
            os.close(handle)

    @property
    def jammed(self) -> bool:
        """A fault switch: True makes every write fail."""
        return bool(_HEAD.unpack_from(self._memory)[1])

    @jammed.setter
    def jammed(self, jammed: bool) -> None:
        self._memory[8] = jammed

    def write(self, pulse: Pulse) -> None:
        count, _ = _HEAD.unpack_from(self._memory)
        command = pulse.command
        at = _FIRST + count % LENGTH * _ENTRY.size
        _ENTRY.pack_into(self._memory, at, pulse.t, command.steering_ns, command.throttle_ns, pulse.live)
        self._memory[:8] = (count + 1).to_bytes(8, "little")

    def read(self, since: int) -> tuple[int, list[Pulse]]:
        """How many pulses were ever written, and those after the first `since`, as far as they are remembered."""
        count, _ = _HEAD.unpack_from(self._memory)
        return count, [self._entry(place) for place in range(max(since, count - LENGTH // 2), count)]

    def latest(self) -> Pulse | None:
        count, _ = _HEAD.unpack_from(self._memory)
        return self._entry(count - 1) if count else None

    def _entry(self, place: int) -> Pulse:
        at = _FIRST + place % LENGTH * _ENTRY.size
        t, steering_ns, throttle_ns, live = _ENTRY.unpack_from(self._memory, at)
        return Pulse(t, ActuatorCommand(steering_ns, throttle_ns), live)


class SimActuators:
    """Servo and speed controller at the end of a tape."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        latest = tape.latest()
        self._command = latest.command if latest else ActuatorCommand(0, 0)

    def apply(self, command: ActuatorCommand) -> None:
        if self._tape.jammed:
            raise DeviceError("The simulated wires are jammed.")
        self._command = command
        self._tape.write(Pulse(_now(), command, live=True))

    def release(self) -> None:
        self._tape.write(Pulse(_now(), self._command, live=False))


def open_wires(path: str) -> SimActuators:
    """The opener that a simulated rig names in its Wires."""
    try:
        return SimActuators(Tape(Path(path)))
    except OSError as error:
        raise DeviceError(f"The simulated wires {path} cannot be opened: {error.strerror}.") from error


def _now() -> float:
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return time.monotonic()
