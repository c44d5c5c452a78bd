"""The LiDAR: an RPLIDAR A1 on a serial port.

The bytes are parsed here: with one in a thousand flipped, lost or doubled on a pseudo-terminal, the package `rplidar`
0.9.2 broke off its scan 34 times in 78 turns and passed on 27 damaged ones; this parser passed on 78 sound ones.
"""

from __future__ import annotations

import contextlib
import errno
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import serial
from numpy.typing import NDArray

from drivers.lookout import Lookout, Shift
from drivers.rig import Absent, DeviceError, Options
from drivers.signals import LidarScan

BAUD: Final = 115200
USB_ID: Final = ("10c4", "ea60")
"""The CP2102 on the sensor's USB adapter."""
DIRECTIONS: Final = 360
OPENING: Final = 0.8
"""Seconds that its port may take to be opened."""
SPIN_UP: Final = 3.0
"""Seconds until the first turn must be there: its motor needs two of them."""
STANDSTILL: Final = 0.8
"""Seconds from one turn to the next after which the sensor is taken to stand still."""
ANSWER: Final = 0.35
"""Seconds that the sensor may take for an answer; it is asked twice."""
FEWEST: Final = 90
"""Measurements in a whole turn: at 2000 a second, ten turns a second have 200."""
FARTHEST_OFF_DEG: Final = 45.0
"""A measurement's angle from where an even turn has it; one that lies farther off was damaged on the way."""
MOST_UNSOUND: Final = 0.1
"""Share of such measurements in a whole turn; two turns run into one, or half a one, have more."""
WIDEST_GAP_DEG: Final = 15.0
"""Between two measurements of a whole turn. The sensor itself leaves gaps of 9 degrees beside what is very near."""

_NODE: Final = 5
_WINDOW: Final = 8
_STOP, _RESET, _SCAN, _INFO, _HEALTH = (bytes((0xA5, command)) for command in (0x25, 0x40, 0x20, 0x50, 0x52))
_INFO_FOLLOWS: Final = bytes.fromhex("A5 5A 14 00 00 00 04")
_HEALTH_FOLLOWS: Final = bytes.fromhex("A5 5A 03 00 00 00 06")
_PROTECTION_STOP: Final = 2


class Turns:
    """Cuts the sensor's bytes into whole turns, whatever the bytes are.

    A measurement is five bytes: S, not S and six bits of quality; one, and the angle in 1/64 degree (15 bits); the
    distance in 1/4 mm (16 bits), 0 for no answer. S begins a turn. That is three bits to check by, so of the five
    ways to cut the stream the one is taken by which most of the next measurements pass.
    """

    def __init__(self) -> None:
        self.sound = 0
        """Bytes so far that were part of a measurement."""
        self._bytes = b""
        self._angles: list[int] = []
        self._distances: list[int] = []
        self._begun = False

    def feed(self, data: bytes) -> Iterator[NDArray[np.float32]]:
        """The turns, as LidarScan has them, that these bytes complete. Damaged ones are left out."""
        self._bytes += data
        stream = self._bytes
        octets = np.frombuffer(stream, np.uint8)
        passes = ((octets[:-2] ^ octets[:-2] >> 1) & octets[1:-1] & (octets[2:] <= 180) & 1).tolist()
        at = 0
        while at + (_WINDOW + 1) * _NODE + 2 <= len(stream):
            certain = passes[at] and passes[at + _NODE] and not stream[at] & 1
            if not certain and (shift := _best_cut(passes, at)):
                at += shift + _NODE  # what lies across the seam is damaged
                continue
            if passes[at]:
                self.sound += _NODE
                if stream[at] & 1:
                    yield from self._complete()
                self._angles.append((stream[at + 1] >> 1) + (stream[at + 2] << 7))
                self._distances.append(stream[at + 3] + (stream[at + 4] << 8))
            at += _NODE
        self._bytes = stream[at:]

    def _complete(self) -> Iterator[NDArray[np.float32]]:
        if self._begun and len(self._angles) >= FEWEST:
            ranges = _spread(np.array(self._angles) / 64, np.array(self._distances) / 4000)
            if ranges is not None:
                yield ranges
        self._begun = True
        self._angles.clear()
        self._distances.clear()


def _best_cut(passes: list[int], at: int) -> int:
    """By how many bytes to move on; 0 where no other cut is better than the present one."""
    window = _WINDOW * _NODE
    return max(range(_NODE), key=lambda shift: sum(passes[at + shift : at + shift + window : _NODE]))


def _spread(angles: NDArray[np.float64], distances: NDArray[np.float64]) -> NDArray[np.float32] | None:
    """The ranges of one turn, each direction that of the nearest measurement; None if part of the turn is missing.

    `angles` are degrees clockwise, in the order of measuring; `distances` metres, 0 for no answer.
    """
    count, half = len(angles), len(angles) // 2
    angles = angles.copy()
    angles[:half][angles[:half] > 270] -= 360
    angles[half:][angles[half:] < 90] += 360
    place, answered = np.arange(count), distances > 0
    sound = abs(angles - place * (360 / count)) < FARTHEST_OFF_DEG
    if (answered & ~sound).mean() > MOST_UNSOUND:
        return None
    # The angle of a measurement without an answer is worth nothing: it lies evenly between its neighbours'.
    kept = sound | ~answered
    angles, distances, place, answered = angles[kept], distances[kept], place[kept], answered[kept]
    known = np.r_[-1, place[answered], count]
    angles = np.interp(place, known, np.r_[-360 / count, angles[answered], 360]) % 360
    order = np.argsort(angles)
    angles, distances = angles[order], np.where(answered, distances, np.inf)[order]
    angles, distances = np.r_[angles[-1] - 360, angles, angles[0] + 360], np.r_[distances[-1], distances, distances[0]]
    if np.diff(angles).max() > WIDEST_GAP_DEG:
        return None
    # Clockwise from its own mark, as the sensor counts, is pi - angle to the stock car's driver and its models.
    wanted = 360 - np.arange(DIRECTIONS) * (360 / DIRECTIONS)
    nearest = np.searchsorted((angles[1:] + angles[:-1]) / 2, wanted % 360)
    return distances[nearest].astype(np.float32)


def find_port(root: Path = Path("/")) -> Path | None:
    """The serial port of the one RPLIDAR's adapter below `root`, None if there is none. Raises DeviceError."""
    ports = [
        root / "dev" / tty.name
        for tty in sorted((root / "sys/class/tty").glob("ttyUSB*"))
        if any(_usb_id(folder) == USB_ID for folder in tty.resolve().parents)
    ]
    if len(ports) > 1:
        names = " and ".join(port.name for port in ports)
        raise DeviceError(f"{names} may each be the LiDAR; name its port in the settings, or unplug the other.")
    return ports[0] if ports else None


def _usb_id(folder: Path) -> tuple[str, str] | None:
    try:
        return (folder / "idVendor").read_text().strip(), (folder / "idProduct").read_text().strip()
    except (OSError, ValueError):
        return None


def open_port(path: Path) -> serial.Serial:
    """The port as the sensor needs it. Raises OSError."""
    port = serial.Serial(baudrate=BAUD, timeout=0.1, write_timeout=0.5, exclusive=True)
    port.dtr = False  # the motor turns while this wire is low
    port.port = str(path)
    port.open()
    return port


class Rplidar:
    """An RPLIDAR A1, found anew whenever it was lost. It turns from the first read() on and until it is closed."""

    def __init__(
        self, port: str = "", root: Path = Path("/"), connect: Callable[[Path], serial.Serial] = open_port
    ) -> None:
        """`port` is its path, "" to find it by its adapter; `connect` raises OSError."""
        self._port, self._root, self._connect = port, root, connect
        self._lookout = Lookout("The LiDAR", self._keep, OPENING)

    async def read(self) -> LidarScan:
        """The next whole turn, float32[360]; `t` is when its last byte came.

        Raises DeviceError: within a second of what is wrong, but for a head that does not begin to turn, which is given
        SPIN_UP; and Absent when no port is named and none is found.
        """
        return await self._lookout.read()

    async def close(self) -> None:
        await self._lookout.close()

    def _keep(self, shift: Shift[LidarScan]) -> None:
        path = self._root / self._port.lstrip("/") if self._port else find_port(self._root)
        if path is None:
            raise Absent("The LiDAR is not found; plug in its USB cable.")
        try:
            port = self._connect(path)
        except OSError as error:
            raise DeviceError(_why_not_opened(path, error)) from error
        try:
            shift.alive()
            _greet(port, shift)
            _listen(port, shift)
        except DeviceError:
            raise
        except (OSError, termios.error) as error:
            raise DeviceError("The LiDAR was unplugged; plug in its USB cable again.") from error
        finally:
            _let_go(port)


def open_lidar(options: Options, root: Path = Path("/")) -> Rplidar:
    """The car's LiDAR: the one that the options name, or the one that is found, now or later."""
    return Rplidar(options.lidar, root)


def _why_not_opened(path: Path, error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"The LiDAR's port {path} is forbidden to this user; add the user to the group dialout."
    if error.errno in (errno.EAGAIN, errno.EBUSY):
        return f"The LiDAR's port {path} is in use by another program; stop that one."
    if error.errno in (errno.ENOENT, errno.ENXIO, errno.ENODEV):
        return f"The LiDAR's port {path} is not there; plug in its USB cable."
    return f"The LiDAR's port {path} cannot be opened ({error}); unplug it and plug it in again."


def _greet(port: serial.Serial, shift: Shift[LidarScan]) -> None:
    """See that it is an RPLIDAR and well. Raises DeviceError."""
    port.write(_STOP)
    until = time.monotonic() + ANSWER / 2
    while _hear(port, shift) and time.monotonic() < until:
        pass
    _ask(port, shift, _INFO, _INFO_FOLLOWS)
    status, low, high = _ask(port, shift, _HEALTH, _HEALTH_FOLLOWS)
    if status == _PROTECTION_STOP:
        port.write(_RESET)
        raise DeviceError(
            f"The LiDAR reports its fault {low + 256 * high} and was reset; if it does so again, replace it."
        )


def _ask(port: serial.Serial, shift: Shift[LidarScan], question: bytes, follows: bytes) -> bytes:
    """The answer to `question`, which comes after the bytes `follows`. Raises DeviceError."""
    heard = b""
    for _ in range(2):
        port.write(question)
        until = time.monotonic() + ANSWER
        while time.monotonic() < until and not shift.relieved:
            heard += _hear(port, shift)
            _, found, answer = heard.partition(follows)
            if found and len(answer) >= follows[2]:
                return answer[: follows[2]]
    if heard:
        raise DeviceError(f"The LiDAR sends only garbage; see that its port is that of an RPLIDAR A1 ({BAUD} baud).")
    raise DeviceError("The LiDAR does not answer; check the cable between sensor and adapter.")


def _listen(port: serial.Serial, shift: Shift[LidarScan]) -> None:
    port.write(_SCAN)
    turns = Turns()
    heard, limit = 0, time.monotonic() + SPIN_UP
    while not shift.relieved:
        data = _hear(port, shift)
        now = time.monotonic()
        heard += len(data)
        for ranges in turns.feed(data):
            shift.report(LidarScan(now, ranges))
            heard, turns.sound, limit = 0, 0, now + STANDSTILL
        if now > limit:
            if turns.sound < heard / 2:
                raise DeviceError(f"The LiDAR sends only garbage; check its cable ({BAUD} baud).")
            raise DeviceError("The LiDAR does not turn; see that nothing holds its head, and check its cable.")


def _hear(port: serial.Serial, shift: Shift[LidarScan]) -> bytes:
    data: bytes = port.read(max(1, port.in_waiting))
    shift.alive()
    return data


def _let_go(port: serial.Serial) -> None:
    """Stop the measuring and the motor, and close, as far as the port is still there."""
    with contextlib.suppress(OSError, termios.error):
        port.write(_STOP)
    with contextlib.suppress(OSError):
        port.dtr = True
    with contextlib.suppress(OSError, termios.error):
        handle = port.fd or -1
        attributes = termios.tcgetattr(handle)
        attributes[2] &= ~termios.HUPCL  # else closing would start the motor again
        termios.tcsetattr(handle, termios.TCSANOW, attributes)
    port.close()
