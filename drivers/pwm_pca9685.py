"""Servo and speed controller by a PCA9685, the PWM chip of a Pi's servo hat, over I2C.

By smbus2: the chip's own library, adafruit-circuitpython-pca9685, brings Blinka and its guessing at the board into the
governor's process. Register numbers and the 500 us are those of NXP's data sheet, revision 4.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Final

from drivers.i2c import Device, OpenBus, open_bus
from drivers.pwm_sysfs import MOTOR, SERVO
from drivers.rig import DeviceError
from drivers.signals import ActuatorCommand

ADDRESS: Final = 0x40
MODE1, MODE2, LED0, PRESCALE = 0x00, 0x01, 0x06, 0xFE
RESTART, AUTO_INCREMENT, SLEEP = 0x80, 0x20, 0x10
TOTEM_POLE: Final = 0x04
FULL_OFF: Final = 0x10
FIFTY_HERTZ: Final = 121
"""The prescaler nearest to 50 Hz for the chip's 25 MHz clock; all sixteen channels share it."""
TICK_NS: Final = (FIFTY_HERTZ + 1) * 40
WAKE: Final = 0.0005
"""Seconds that the oscillator needs."""


class Chip:
    """A PCA9685. Raises DeviceError whenever the chip does not do, or does not read back, what it was told."""

    def __init__(self, open_bus: OpenBus) -> None:
        self._device = Device("PWM chip", ADDRESS, open_bus)

    def drive(self, first: int, *pulses_ns: int) -> None:
        """Pulses on the channels from `first` on. A chip that is not set up is, and wakes only with them in place."""
        ready = self._ready()
        if not ready:
            self._lay_down()
        registers = b"".join(_registers(pulse) for pulse in pulses_ns)
        self._device.write(LED0 + 4 * first, *registers)
        self._prove(LED0 + 4 * first, registers)
        if not ready:
            self._wake()

    def light(self, channel: int, pulse_ns: int) -> None:
        """As drive, for one channel, but the chip is left as it is: setting it up is for whoever holds the wires."""
        for place, byte in enumerate(_registers(pulse_ns)):
            self._device.write(LED0 + 4 * channel + place, byte)

    def stop(self, *channels: int) -> None:
        """No pulses on these channels, whatever state the chip is in: each is tried, then the first fault is raised."""
        faults = []
        for channel in channels:
            off = LED0 + 4 * channel + 3
            try:
                self._device.write(off, FULL_OFF)
                self._prove(off, bytes([FULL_OFF]))
            except DeviceError as fault:
                faults.append(fault)
        if faults:
            raise faults[0]

    def _ready(self) -> bool:
        mode, prescale = self._device.read(MODE1)[0], self._device.read(PRESCALE)[0]
        return mode & ~RESTART == AUTO_INCREMENT and prescale == FIFTY_HERTZ

    def _lay_down(self) -> None:
        self._device.write(MODE1, AUTO_INCREMENT | SLEEP)  # and no longer to listen to the address of all
        if self._device.read(PRESCALE)[0] != FIFTY_HERTZ:
            self._device.write(PRESCALE, FIFTY_HERTZ)
            self._prove(PRESCALE, bytes([FIFTY_HERTZ]))
        self._device.write(MODE2, TOTEM_POLE)
        self._prove(MODE2, bytes([TOTEM_POLE]))

    def _wake(self) -> None:
        self._device.write(MODE1, AUTO_INCREMENT)
        time.sleep(WAKE)
        self._device.write(MODE1, AUTO_INCREMENT | RESTART)
        mode = self._device.read(MODE1)[0]
        if mode & ~RESTART != AUTO_INCREMENT:
            raise _mute(MODE1, AUTO_INCREMENT, mode)

    def _prove(self, register: int, wanted: bytes) -> None:
        found = self._device.read(register, len(wanted))
        if found != wanted:
            raise _mute(register, int.from_bytes(wanted), int.from_bytes(found))


def _mute(register: int, wanted: int, found: int) -> DeviceError:
    return DeviceError(
        f"The PWM chip does not keep what it is told (register {register:#04x}: {found:#x}, not {wanted:#x}); "
        "check its plug and its power."
    )


def _registers(pulse_ns: int) -> bytes:
    """ON at the start of the period, OFF after the pulse; each 12 bits, low byte first."""
    ticks = min(round(pulse_ns / TICK_NS), 4095)
    return bytes([0, 0, ticks & 0xFF, ticks >> 8]) if ticks > 0 else bytes([0, 0, 0, FULL_OFF])


class Pca9685Wires:
    """The Actuators of a car with a PCA9685. An absent chip is looked for again at every command."""

    def __init__(self, open_bus: OpenBus) -> None:
        self._chip = Chip(open_bus)

    def apply(self, command: ActuatorCommand) -> None:
        self._chip.drive(MOTOR, command.throttle_ns, command.steering_ns)

    def release(self) -> None:
        self._chip.stop(MOTOR, SERVO)


def open_wires(bus: str = "/dev/i2c-1") -> Pca9685Wires:
    """The opener that a Pi's rig names in its Wires."""
    return Pca9685Wires(partial(open_bus, Path(bus), brisk=True))
