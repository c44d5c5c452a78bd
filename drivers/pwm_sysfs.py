"""Servo and speed controller by the kernel's PWM files: the stock car, or a Pi whose kernel drives the PWM chip.

`python -m drivers.pwm_sysfs release [ROOT]` takes the drive off the wires when nobody else is left to do it.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from drivers import kernel
from drivers.gpio import Outputs
from drivers.rig import DeviceError
from drivers.signals import ActuatorCommand

PERIOD_NS: Final = 20_000_000
STEP_NS: Final = 5_000
"""A chip of 12 bits may read back a pulse that is off by one of its steps, 20 ms / 4096."""
STOCK: Final = "0000:00:17.0"
"""The PCI device behind which the stock car's PWM chip sits."""
PI: Final = "i2c-1"
"""The I2C bus on a Pi's pins."""
MOTOR, SERVO = 0, 1
TAIL: Final = (2, 3, 4)
"""Channels; those of the tail light are red, green and blue."""
_NAMES: Final = ("speed controller", "servo", "tail light", "tail light", "tail light")
GATE: Final = 2
"""The GPIO line that enables the stock car's speed controller, when it is low."""


def find_chip(root: Path, through: str) -> Path | None:
    """The PWM chip below `root` behind the device `through`; on a DeepRacer, failing that, the only one that there is.

    So the stock car does it, but that it takes the first of several, which may light the screen. None without one.
    """
    folder = root / "sys/class/pwm"
    chip = kernel.find(folder, through)
    if chip is None and through == STOCK:
        chips = list(folder.glob("pwmchip*"))
        chip = chips[0] if [each.name for each in chips] == ["pwmchip0"] else None
    return chip


class Channel:
    """One output of the PWM chip that sits behind the device `through`.

    Looked for anew at every call, since a chip may come back under another number.
    """

    def __init__(self, number: int, through: str = STOCK, root: Path = Path("/")) -> None:
        self._number, self._through, self._root = number, through, root

    def drive(self, pulse_ns: int) -> None:
        """Send pulses of that length every 20 ms; they are in place, read back, before the output is enabled.

        Raises DeviceError.
        """
        self._do(lambda: self._drive(pulse_ns))

    def stop(self) -> None:
        """No pulses any more. Raises DeviceError."""
        self._do(self._stop)

    def _do(self, work: Callable[[], None]) -> None:
        try:
            kernel.again(work, (errno.EREMOTEIO,))  # after a time-out, which has cost a second, no other is risked
        except DeviceError:
            raise
        except OSError as error:
            raise DeviceError(kernel.refusal(f"{_NAMES[self._number]} (PWM channel {self._number})", error)) from error

    def _stop(self) -> None:
        folder = self._chip() / f"pwm{self._number}"
        if folder.exists():
            try:
                kernel.put(folder / "enable", 0)
            except OSError as error:
                if error.errno != errno.ETIMEDOUT:
                    kernel.put(folder / "duty_cycle", 0)
                raise
            kernel.put(folder / "duty_cycle", 0)

    def _drive(self, pulse_ns: int) -> None:
        folder = kernel.export(self._chip(), f"pwm{self._number}", self._number)
        if kernel.read(folder / "period") != PERIOD_NS:
            if kernel.read(folder / "enable"):
                kernel.put(folder / "enable", 0)
            if kernel.read(folder / "duty_cycle") > PERIOD_NS:  # the kernel takes no period shorter than the pulse
                kernel.put(folder / "duty_cycle", 0)
            kernel.put(folder / "period", PERIOD_NS, STEP_NS)
        kernel.put(folder / "duty_cycle", pulse_ns, STEP_NS)
        if kernel.read(folder / "enable") != 1:
            kernel.put(folder / "enable", 1)

    def _chip(self) -> Path:
        chip = find_chip(self._root, self._through)
        if chip is None or not chip.exists():
            raise DeviceError(
                f"There is no PWM chip behind {self._through}; check that its driver is loaded and its plug sits."
            )
        return chip


class SysfsWires:
    """The Actuators of a car whose kernel drives the PWM chip.

    A chip that is absent is looked for again at every command, so that nothing need be restarted when it comes.
    """

    def __init__(self, motor: Channel, servo: Channel, gate: Outputs | None) -> None:
        self._motor, self._servo, self._gate = motor, servo, gate

    def apply(self, command: ActuatorCommand) -> None:
        self._motor.drive(command.throttle_ns)
        self._servo.drive(command.steering_ns)
        if self._gate is not None:
            self._gate.write(False)

    def release(self) -> None:
        """Disables the speed controller and stops the pulses: as much of it as works. Raises the first DeviceError."""
        faults = []
        for step in (self._shut, self._motor.stop, self._servo.stop):
            try:
                step()
            except DeviceError as fault:
                faults.append(fault)
        if faults:
            raise faults[0]

    def _shut(self) -> None:
        if self._gate is not None:
            self._gate.write(True)
            self._gate.close()


def open_wires(root: str = "/", through: str = STOCK) -> SysfsWires:
    """The opener: `root` is where sys/ and dev/ are. Only the stock car has a gate before its speed controller."""
    folder = Path(root)
    gate = Outputs("speed controller's enable line", (GATE,), folder) if through == STOCK else None
    return SysfsWires(Channel(MOTOR, through, folder), Channel(SERVO, through, folder), gate)


def main(arguments: list[str]) -> int:
    if not 1 <= len(arguments) <= 2 or arguments[0] != "release":
        print("usage: python -m drivers.pwm_sysfs release [ROOT]", file=sys.stderr)
        return 2
    root = Path(arguments[1] if len(arguments) > 1 else "/")
    chips = [through for through in (STOCK, PI) if kernel.find(root / "sys/class/pwm", through) is not None]
    try:
        open_wires(str(root), *chips[:1]).release()
    except DeviceError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
