"""One device on an I2C bus: registers read and written, tried again twice when disturbed, refusals in words."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol, TypeAlias, TypeVar

from smbus2 import SMBus

from drivers import kernel
from drivers.rig import DeviceError

T = TypeVar("T")

PASSING: Final = (errno.EREMOTEIO, errno.EIO)
"""A transfer that was disturbed is worth a second and a third try; one that timed out is not: the bus is stuck."""
_SET_TIMEOUT: Final = 0x0702


class Bus(Protocol):
    """What of smbus2.SMBus is used."""

    def read_byte_data(self, i2c_addr: int, register: int) -> int: ...
    def write_byte_data(self, i2c_addr: int, register: int, value: int) -> None: ...
    def read_i2c_block_data(self, i2c_addr: int, register: int, length: int) -> list[int]: ...
    def write_i2c_block_data(self, i2c_addr: int, register: int, data: Sequence[int]) -> None: ...
    def close(self) -> None: ...


OpenBus: TypeAlias = Callable[[], Bus]
"""Raises OSError when there is no such bus."""


def open_bus(path: Path, brisk: bool = False) -> Bus:
    """The bus of a /dev/i2c-N. Raises OSError.

    On a `brisk` one a stuck line costs 30 ms and not the kernel's second: for whoever has a beat of 20 ms to keep.
    """
    bus = SMBus()
    try:
        bus.open(str(path))
        if brisk and bus.fd is not None:
            fcntl.ioctl(bus.fd, _SET_TIMEOUT, 3)
    except OSError as error:
        bus.close()
        raise OSError(error.errno, error.strerror, str(path)) from error
    return bus


class Device:
    """The device at `address`; `name` is for errors. The bus is opened at the first word, and again after a failure."""

    def __init__(self, name: str, address: int, open_bus: OpenBus) -> None:
        self._name, self._address, self._open_bus = name, address, open_bus
        self._bus: Bus | None = None

    def read(self, register: int, length: int = 1) -> bytes:
        """Raises DeviceError."""

        def exchange(bus: Bus) -> bytes:
            if length == 1:
                return bytes([bus.read_byte_data(self._address, register)])
            data = bytes(bus.read_i2c_block_data(self._address, register, length))
            if len(data) != length:
                raise OSError(errno.EIO, f"it sent {len(data)} bytes instead of {length}")
            return data

        return self._converse(exchange)

    def write(self, register: int, *data: int) -> None:
        """Raises DeviceError."""

        def exchange(bus: Bus) -> None:
            if len(data) == 1:
                bus.write_byte_data(self._address, register, data[0])
            else:
                bus.write_i2c_block_data(self._address, register, data)

        self._converse(exchange)

    def _converse(self, exchange: Callable[[Bus], T]) -> T:
        try:
            return kernel.again(lambda: exchange(self._opened()), PASSING)
        except OSError as error:
            bus, self._bus = self._bus, None
            if bus is not None:
                bus.close()
            raise DeviceError(kernel.refusal(f"{self._name} (I2C address {self._address:#04x})", error)) from error

    def _opened(self) -> Bus:
        if self._bus is None:
            self._bus = self._open_bus()
        return self._bus
