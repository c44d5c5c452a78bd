"""act: the loop that alone touches the wires, and the small process it runs in.

The process holds the gate, the calibration and the actuators and nothing else: no second thread, no network, no
model, no log on a disk. Whatever becomes of the daemon is only silence to it, and silence is neutral.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Final, NoReturn, TypeAlias

from calibration.calibration import Calibration
from drivers.rig import Actuators, DeviceError, Wires
from drivers.signals import NEUTRAL
from vehicle.gate import Proposal, choose
from vehicle.mailbox import Mailbox, Orders, Report

PERIOD: Final = 0.020
"""Seconds between ticks: one period of the servo's pulse."""
PRIORITY: Final = 50
FAREWELL: Final = 0.3
"""Seconds that a governor may take to put the wires to rest and end."""
FEED: Final = 0.2
"""Seconds between two signs of life for the watchdog."""
BACK_OFF: Final = 0.25
"""Seconds from a command that the wires did not take to the next one."""
LONGEST_CALL: Final = 10.0
"""Seconds that the governor may sleep inside one call to its wires: a kernel that waits for a stuck bus takes some."""

log = logging.getLogger(__name__)


class GovernorLost(RuntimeError):
    """The governor ended or stands still: there is nobody left to hold the wires, and the daemon must end."""


class Act:
    """One tick: take the newest orders, let the gate choose, put the pulses on the wires, report."""

    def __init__(
        self, mailbox: Mailbox, actuators: Actuators, clock: Callable[[], float], realtime: bool = False
    ) -> None:
        orders = mailbox.orders()
        if orders is None:
            raise GovernorLost("The governor was started without orders.")
        self._mailbox, self._actuators, self._clock, self._realtime = mailbox, actuators, clock, realtime
        self._orders: Orders = orders
        self._ticks = 0
        self._fed = -FEED
        self._failure, self._retry_at = "", 0.0
        self._latest: Proposal | None = None

    def tick(self, due: float | None = None) -> None:
        """Act now; `due` is when this tick should have been, None for one that the doorbell asked for.

        After a command that the wires did not take they are released, once, and tried again at rest BACK_OFF later.
        """
        now = self._clock()
        self._orders = orders = self._mailbox.orders() or self._orders
        action = NEUTRAL if self._failure else choose(orders.mode, orders.engaged, orders.proposals, now)
        tries = not self._failure or now >= self._retry_at
        if tries:
            self._failure = self._do(partial(self._actuators.apply, orders.calibration.command(action)))
        applied = NEUTRAL if self._failure else action
        wish = orders.proposals.get(orders.mode)
        latency = None
        if wish is not None and wish != self._latest and wish.action is applied:
            latency = self._clock() - wish.t
        self._latest = wish
        self._ticks += 1
        late = None if due is None else max(0.0, now - due)
        self._mailbox.file(Report(now, self._ticks, applied, self._failure, self._realtime), late, latency)
        if now - self._fed >= FEED:
            self._fed = now
            notify_systemd("WATCHDOG=1")
        if tries and self._failure:
            self._do(self._actuators.release)
            self._retry_at = self._clock() + BACK_OFF

    def _do(self, work: Callable[[], None]) -> str:
        """Why the wires did not take it; empty when they did."""
        self._mailbox.enter(self._clock())
        try:
            work()
        except DeviceError as error:
            return str(error) or repr(error)
        finally:
            self._mailbox.leave()
        return ""

    def rest(self) -> None:
        """Neutral, then nothing at all, on the wires; as much of it as works."""
        with contextlib.suppress(Exception):
            self._actuators.apply(self._orders.calibration.command(NEUTRAL))
        with contextlib.suppress(Exception):
            self._actuators.release()


def waiting(mailbox: Mailbox, now: float) -> float:
    """Seconds that the governor has slept inside one call to its wires, as in a kernel whose bus is stuck; else 0.

    One that was stopped, that spins or that is gone does not sleep.
    """
    inside = mailbox.inside()
    if inside is None:
        return 0.0
    since, pid = inside
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
    except OSError:
        return 0.0
    return now - since if state in ("D", "S") else 0.0


class Doorbell:
    """Wakes the governor for a new wish, so that it need not wait for the next tick."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def ring(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_write(self.fd, 1)

    def close(self) -> None:
        os.close(self.fd)


Actor: TypeAlias = Callable[[Wires, Mailbox, Doorbell], Coroutine[object, object, None]]
"""Runs act until it is cancelled, and leaves the wires at rest. Raises GovernorLost when act ends by itself."""


async def in_own_process(wires: Wires, mailbox: Mailbox, doorbell: Doorbell) -> None:
    """act as a car runs it: in a process that lives exactly as long as this coroutine, or as this process."""
    lifeline, held = os.pipe()
    fds = (mailbox.fd, doorbell.fd, lifeline)
    command = [sys.executable, "-m", "vehicle.governor", *map(str, fds), wires.opener, *wires.arguments]
    try:
        child = await asyncio.create_subprocess_exec(*command, pass_fds=fds, stdin=asyncio.subprocess.DEVNULL)
    except BaseException:
        os.close(held)
        raise
    finally:
        os.close(lifeline)
    try:
        status = await child.wait()
        report = mailbox.report()
        reason = f" Its last fault: {report.failure}" if report is not None and report.failure else ""
        raise GovernorLost(
            f"The governor ended by itself with status {status}; the car cannot be driven without it.{reason}"
        )
    finally:
        os.close(held)
        await asyncio.shield(_farewell(child, wires, mailbox))


async def _farewell(child: asyncio.subprocess.Process, wires: Wires, mailbox: Mailbox) -> None:
    try:
        async with asyncio.timeout(FAREWELL):
            await child.wait()
    except TimeoutError:
        log.error("The governor did not end; it is killed and the wires are released without it")
        child.kill()
        await child.wait()
    orders = mailbox.orders()
    if child.returncode and orders is not None:
        with contextlib.suppress(DeviceError):
            release(wires, orders.calibration)


async def in_this_loop(wires: Wires, mailbox: Mailbox, doorbell: Doorbell) -> None:
    """act for a loop whose clock jumps, where no second process could follow."""
    loop = asyncio.get_running_loop()
    act = Act(mailbox, wires.open(), loop.time)
    rung = asyncio.Event()

    def ring() -> None:
        os.eventfd_read(doorbell.fd)
        rung.set()

    loop.add_reader(doorbell.fd, ring)
    try:
        for due in _ticks(loop.time):
            act.tick(due)
            rung.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due + PERIOD):
                    await rung.wait()
                act.tick()
            await asyncio.sleep(max(0.0, due + PERIOD - loop.time()))
    finally:
        loop.remove_reader(doorbell.fd)
        act.rest()


def release(wires: Wires, calibration: Calibration) -> None:
    """Put the wires to rest when no governor is left to do it. Raises DeviceError."""
    actuators = wires.open()
    try:
        actuators.apply(calibration.command(NEUTRAL))
    finally:
        actuators.release()


def main(arguments: list[str]) -> int:
    """The governor's process: MAILBOX-FD DOORBELL-FD LIFELINE-FD OPENER [ARGUMENT...]."""
    mailbox_fd, doorbell, lifeline = map(int, arguments[:3])
    wires = Wires(arguments[3], tuple(arguments[4:]))
    realtime = _ask_for_realtime()
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the daemon decides when to end
    mailbox = Mailbox(mailbox_fd)
    try:
        act = Act(mailbox, wires.open(), time.monotonic, realtime)
    except (DeviceError, GovernorLost) as error:
        mailbox.file(Report(time.monotonic(), 0, NEUTRAL, str(error), realtime), None, None)
        return 1
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        for due in _ticks(time.monotonic):
            act.tick(due)
            ears = [lifeline, doorbell]
            while (left := due + PERIOD - time.monotonic()) > 0:
                heard, _, _ = select.select(ears, [], [], left)
                if lifeline in heard:
                    return 0
                if doorbell in heard:
                    os.eventfd_read(doorbell)
                    act.tick()
                    ears = [lifeline]  # one extra tick a period: a daemon gone mad cannot keep the governor spinning
    finally:
        act.rest()
    return 0


def _ticks(clock: Callable[[], float]) -> Iterator[float]:
    """Due times a period apart; those that have passed unused are left out."""
    due = clock()
    while True:
        yield due
        due += PERIOD * max(1, int((clock() - due) / PERIOD))


def _ask_for_realtime() -> bool:
    """Real-time scheduling and locked memory, where this user is permitted them; else at least short turns."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except PermissionError:
        _ask_for_short_turns()
        return False
    lock_all = 3
    ctypes.CDLL(None).mlockall(lock_all)
    return True


def _ask_for_short_turns() -> None:
    """Tell the ordinary scheduler that 0.1 ms at a time will do: it then lets us run sooner (Linux 6.12)."""
    call = {"x86_64": 314, "aarch64": 274}.get(os.uname().machine)
    if call is not None:
        turn_ns = 100_000
        attributes = struct.pack("=IIQiIQQQ", 48, os.SCHED_OTHER, 0, 0, 0, turn_ns, 0, 0)
        ctypes.CDLL(None).syscall(call, 0, attributes, 0)


def _leave(*_: object) -> NoReturn:
    sys.exit(0)


def notify_systemd(message: str) -> None:
    """Tell the service manager, when there is one. Not by systemd-python: Type=notify has to work without it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as post:
            post.sendto(message.encode(), address.replace("@", "\0", 1))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
