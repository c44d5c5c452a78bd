"""I2C devices behind smbus2's interface: they check what they are told, and can be disturbed, stuck, unplugged."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from drivers.pwm_pca9685 import Pca9685Wires

T = TypeVar("T")

TICK_NS = 4880
"""25 MHz / 122: one step of a PCA9685 at 50 Hz."""


class Model(Protocol):
    def read(self, register: int, length: int) -> list[int]: ...
    def write(self, register: int, data: Sequence[int]) -> None: ...


@dataclass
class Wire:
    """Two lines, and what hangs on them."""

    devices: dict[int, Model]
    nacks: int = 0
    """So many of the next transfers are not acknowledged."""
    stuck: bool = False
    patience: float = 0.0
    """Seconds that a transfer on a stuck bus takes to time out."""
    gone: bool = False
    """The adapter is not there: its device file is missing, and open ones are dead."""
    short: bool = False
    """Block reads lose their last byte."""
    hold: threading.Event | None = None
    """Every transfer waits for it."""
    opened: int = 0
    closed: int = 0
    transfers: int = 0

    def open(self) -> FakeBus:
        if self.gone:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", "/dev/i2c-1")
        self.opened += 1
        return FakeBus(self)

    def transfer(self, address: int, work: Callable[[Model], T]) -> T:
        self.transfers += 1
        if self.hold is not None:
            self.hold.wait()
        if self.gone:
            raise OSError(errno.ENODEV, "No such device")
        if self.stuck:
            time.sleep(self.patience)
            raise OSError(errno.ETIMEDOUT, "Connection timed out")
        if self.nacks or address not in self.devices:
            self.nacks = max(0, self.nacks - 1)
            raise OSError(errno.EREMOTEIO, "Remote I/O error")
        return work(self.devices[address])


class FakeBus:
    """An open file of the bus, with the methods that smbus2.SMBus has."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._open = True

    def read_byte_data(self, i2c_addr: int, register: int) -> int:
        return self._transfer(i2c_addr, register, lambda model: model.read(register, 1)[0])

    def write_byte_data(self, i2c_addr: int, register: int, value: int) -> None:
        assert 0 <= value <= 255
        self._transfer(i2c_addr, register, lambda model: model.write(register, [value]))

    def read_i2c_block_data(self, i2c_addr: int, register: int, length: int) -> list[int]:
        assert 1 <= length <= 32
        length -= self._wire.short
        return self._transfer(i2c_addr, register, lambda model: model.read(register, length))

    def write_i2c_block_data(self, i2c_addr: int, register: int, data: Sequence[int]) -> None:
        assert 1 <= len(data) <= 32
        assert all(0 <= byte <= 255 for byte in data)
        self._transfer(i2c_addr, register, lambda model: model.write(register, data))

    def close(self) -> None:
        if self._open:
            self._open = False
            self._wire.closed += 1

    def _transfer(self, address: int, register: int, work: Callable[[Model], T]) -> T:
        assert self._open, "the bus is closed"
        assert 0x03 <= address <= 0x77
        assert 0 <= register <= 255
        return self._wire.transfer(address, work)


class Pca9685Model:
    """NXP's PWM chip as after power-on: asleep, no pulses, 200 Hz. `mute` registers keep what they hold."""

    def __init__(self) -> None:
        self.registers: dict[int, int] = {}
        self.mute: set[int] = set()
        self.sleeps = 0
        self.reset()

    def reset(self) -> None:
        self.registers = {0x00: 0x11, 0x01: 0x04, 0xFE: 0x1E}
        for channel in range(16):
            self._set(channel, (0, 0, 0, 0x10))
        self._pending = False

    def read(self, register: int, length: int) -> list[int]:
        return [self._read(place) for place in self._places(register, length)]

    def write(self, register: int, data: Sequence[int]) -> None:
        for place, byte in zip(self._places(register, len(data)), data, strict=True):
            if place not in self.mute:
                self._write(place, byte)

    def pulse(self, channel: int) -> int | None:
        """How many ticks long the pulses on that channel are at 50 Hz; None while there are none."""
        on_low, on_high, off_low, off_high = (self.registers[0x06 + 4 * channel + place] for place in range(4))
        if self.registers[0x00] & 0x10 or self._pending or off_high & 0x10:
            return None
        assert self.registers[0xFE] == 121, "not 50 Hz"
        assert on_low == on_high == 0
        return off_low | off_high << 8

    def _set(self, channel: int, registers: tuple[int, int, int, int]) -> None:
        for place, byte in enumerate(registers):
            self.registers[0x06 + 4 * channel + place] = byte

    def _places(self, register: int, length: int) -> list[int]:
        return [register + place if self.registers[0x00] & 0x20 else register for place in range(length)]

    def _read(self, register: int) -> int:
        assert register in self.registers, f"there is no register {register:#04x}"
        return self.registers[register] | (0x80 if register == 0x00 and self._pending else 0)

    def _write(self, register: int, byte: int) -> None:
        assert register in self.registers, f"there is no register {register:#04x}"
        asleep = bool(self.registers[0x00] & 0x10)
        if register == 0x00:
            if byte & 0x10 and not asleep:
                self._pending = True
                self.sleeps += 1
            if byte & 0x80 and not asleep:
                self._pending = False
            byte &= 0x7F
        elif register == 0xFE:
            assert asleep, "the prescaler can be written only while the chip sleeps"
        elif register >= 0x06 and register % 4 in (1, 3):
            assert byte <= 0x1F
        self.registers[register] = byte


@dataclass
class Bytes:
    """A device of 8-bit registers."""

    registers: dict[int, int]

    def read(self, register: int, length: int) -> list[int]:
        assert length == 1
        return [self.registers[register]]

    def write(self, register: int, data: Sequence[int]) -> None:
        raise AssertionError("this device is only read")


@dataclass
class Words:
    """A device of 16-bit registers, high byte first."""

    registers: dict[int, int]

    def read(self, register: int, length: int) -> list[int]:
        return list(self.registers[register].to_bytes(2))[:length]

    def write(self, register: int, data: Sequence[int]) -> None:
        raise AssertionError("this device is only read")


@dataclass
class Shelf:
    """The wires of this process, by name: what an opener that takes only text can find."""

    wires: dict[str, Wire] = field(default_factory=dict)


SHELF = Shelf()


def open_wires(name: str) -> Pca9685Wires:
    """The opener for Wires: a PCA9685 on the bus of that name."""
    return Pca9685Wires(lambda: SHELF.wires[name].open())
