"""The memory that daemon and governor share: orders one way, the report the other; the newest counts, nothing queues.

Each half is written by one side only and carries a checksum, so that a half-written one is recognised and the one
before it stays in force.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from calibration.calibration import Calibration, CalibrationError, Channel
from drivers.signals import Action
from vehicle.gate import DriveMode, Proposal

MODES: Final = tuple(DriveMode)
_CHECK: Final = struct.Struct("=I")
_ORDERS: Final = struct.Struct("=B?" + "?ddd" * len(MODES) + "qqqb" * 2)
_REPORT: Final = struct.Struct("=dQdd?201p")
_ACCESS: Final = struct.Struct("=dq")
_ORDERS_AT, _REPORT_AT, _ACCESS_AT, _SAMPLES_AT, SIZE = 0, 256, 496, 512, 512 + 16 * 512
SAMPLES: Final = 512


@dataclass(frozen=True, slots=True)
class Orders:
    """All that the governor is told."""

    mode: DriveMode
    engaged: bool
    proposals: Mapping[DriveMode, Proposal]
    calibration: Calibration


@dataclass(frozen=True, slots=True)
class Report:
    """What the governor did in its latest tick, at `t`; `failure` says why the wires did not take it, if they did not.

    A failure arrives cut to 200 bytes of UTF-8.
    """

    t: float
    ticks: int
    applied: Action
    failure: str
    realtime: bool


class Mailbox:
    """One mapped piece of anonymous memory, known to both processes by its file descriptor."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._memory = mmap.mmap(fd, SIZE)
        self._samples = memoryview(self._memory)[_SAMPLES_AT:].cast("d")

    @classmethod
    def create(cls) -> Mailbox:
        fd = os.memfd_create("hotlap-mailbox")
        os.truncate(fd, SIZE)
        return cls(fd)

    def close(self) -> None:
        self._samples.release()
        self._memory.close()
        os.close(self.fd)

    def post(self, orders: Orders) -> None:
        """Daemon: replace the orders."""
        proposals = []
        for mode in MODES:
            wish = orders.proposals.get(mode)
            proposals += [True, wish.action.steering, wish.action.throttle, wish.t] if wish else [False, 0.0, 0.0, 0.0]
        channels = [
            figure
            for c in (orders.calibration.steering, orders.calibration.throttle)
            for figure in (c.min_ns, c.mid_ns, c.max_ns, c.polarity)
        ]
        self._put(_ORDERS_AT, _ORDERS.pack(MODES.index(orders.mode), orders.engaged, *proposals, *channels))

    def orders(self) -> Orders | None:
        """Governor: the orders, or None while there are none, or half of them, or senseless ones."""
        data = self._get(_ORDERS_AT, _ORDERS)
        if data is None:
            return None
        mode, engaged, *rest = data
        proposals = {}
        for place, at in enumerate(range(0, 4 * len(MODES), 4)):
            there, steering, throttle, t = rest[at : at + 4]
            if there:
                proposals[MODES[place]] = Proposal(Action(steering, throttle), t)
        figures = rest[4 * len(MODES) :]
        try:
            calibration = Calibration(Channel(*figures[:4]), Channel(*figures[4:]))
            return Orders(MODES[mode], engaged, proposals, calibration)
        except (CalibrationError, IndexError):
            return None

    def file(self, report: Report, late: float | None, latency: float | None) -> None:
        """Governor: replace the report, and note how late this tick was and how old a new wish was when applied (s).

        None where there is no such thing: a tick that the doorbell asked for is never late.
        """
        place = report.ticks % SAMPLES
        self._samples[2 * place] = -1.0 if late is None else late
        self._samples[2 * place + 1] = -1.0 if latency is None else latency
        applied = report.applied
        failure = report.failure.encode(errors="replace")
        data = (report.t, report.ticks, applied.steering, applied.throttle, report.realtime, failure)
        self._put(_REPORT_AT, _REPORT.pack(*data))

    def report(self) -> Report | None:
        """Daemon: the latest report, or None while there is none."""
        data = self._get(_REPORT_AT, _REPORT)
        if data is None:
            return None
        t, ticks, steering, throttle, realtime, failure = data
        # Only its last character can be cut in half.
        return Report(t, ticks, Action(steering, throttle), failure.decode(errors="ignore"), realtime)

    def enter(self, t: float) -> None:
        """Governor: from `t` on this process is inside a call to its wires, which may not return soon."""
        _ACCESS.pack_into(self._memory, _ACCESS_AT, t, os.getpid())

    def leave(self) -> None:
        """Governor: it has returned."""
        _ACCESS.pack_into(self._memory, _ACCESS_AT, 0.0, 0)

    def inside(self) -> tuple[float, int] | None:
        """Daemon: since when the governor has been inside a call to its wires, and its process; None when it is not."""
        since, pid = _ACCESS.unpack_from(self._memory, _ACCESS_AT)
        return (since, pid) if pid else None

    def samples(self, ticks: int, since: int) -> tuple[list[float], list[float]]:
        """Daemon: lateness and latencies (s) of the ticks after tick `since` up to tick `ticks`, at most SAMPLES."""
        places = [tick % SAMPLES for tick in range(max(since, ticks - SAMPLES) + 1, ticks + 1)]
        columns = ([self._samples[2 * place + column] for place in places] for column in (0, 1))
        late, latencies = ([seconds for seconds in column if seconds >= 0] for column in columns)
        return late, latencies

    def _put(self, at: int, data: bytes) -> None:
        end = at + _CHECK.size + len(data)
        self._memory[at:end] = _CHECK.pack(zlib.crc32(data)) + data

    def _get(self, at: int, form: struct.Struct) -> tuple[Any, ...] | None:
        data = self._memory[at : at + _CHECK.size + form.size]
        (check,) = _CHECK.unpack_from(data)
        payload = data[_CHECK.size :]
        return form.unpack(payload) if check and check == zlib.crc32(payload) else None
