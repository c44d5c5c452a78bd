"""A stock car's sysfs in a temporary folder: the files and links that the drivers touch, as far as plain files go."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from drivers.signals import ActuatorCommand

PWM_DEVICE = "pci0000:00/0000:00:17.0/i2c_designware.0/i2c-0/0-0040/pwm"
PI_DEVICE = "platform/soc/fe804000.i2c/i2c-1/1-0040/pwm"
CHANNELS = 5


class Tree:
    """The root folder of a car with its PWM chip (all channels exported), GPIO lines and I2C buses."""

    def __init__(self, root: Path, device: str = PWM_DEVICE, number: int = 3, base: int = 434) -> None:
        self.root, self.base = root, base
        self.chip = self._link("class/pwm", f"pwmchip{number}", device)
        (self.chip / "export").write_text("")
        for channel in range(CHANNELS):
            self.channel(channel)
        other = self._link("class/pwm", f"pwmchip{number - 1}", "platform/other.pwm/pwm")
        (other / "export").write_text("")
        self._link("class/i2c-dev", "i2c-9", "pci0000:00/0000:00:17.3/i2c_designware.3/i2c-9/i2c-dev")
        self.gpio = root / "sys/class/gpio"
        (self.gpio / f"gpiochip{base}").mkdir(parents=True)
        (self.gpio / "export").write_text("")
        for line in (2, 3, 9, 11, 12, 13, 14, 16, 23, 24):
            (self.gpio / f"gpio{base + line}").mkdir()
            (self.gpio / f"gpio{base + line}/direction").write_text("in\n")
            (self.gpio / f"gpio{base + line}/value").write_text("1\n")

    def channel(self, number: int, period: int = 0, duty: int = 0, enable: int = 0) -> Path:
        """That channel's folder, with these in its files."""
        folder = self.chip / f"pwm{number}"
        folder.mkdir(exist_ok=True)
        for name, value in (("period", period), ("duty_cycle", duty), ("enable", enable)):
            (folder / name).write_text(f"{value}\n")
        return folder

    def read(self, channel: int, name: str) -> int:
        return int((self.chip / f"pwm{channel}" / name).read_text())

    def level(self, line: int) -> int:
        return int((self.gpio / f"gpio{self.base + line}/value").read_text())

    def command(self) -> ActuatorCommand | None:
        """What the wires carry: None unless both channels are enabled at 50 Hz, and the speed controller is, too.

        Raises ValueError while a file is being written.
        """
        live = [self.read(n, "enable") == 1 and self.read(n, "period") == 20_000_000 for n in (0, 1)]
        if self.level(2) != 0 or not all(live):
            assert not any(live), "half of the wires are live"
            return None
        return ActuatorCommand(steering_ns=self.read(1, "duty_cycle"), throttle_ns=self.read(0, "duty_cycle"))

    def jam(self, channel: int, jammed: bool, name: str = "duty_cycle") -> None:
        """Every write to that file fails, until it is mended."""
        path = self.chip / f"pwm{channel}" / name
        if jammed:
            path.unlink()
            path.mkdir()
        else:
            path.rmdir()
            path.write_text("0\n")

    def _link(self, place: str, name: str, device: str) -> Path:
        folder = self.root / "sys/devices" / device / name
        folder.mkdir(parents=True)
        link = self.root / "sys" / place / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"../../devices/{device}/{name}")
        return folder


@contextlib.contextmanager
def without_permission(root: Path, file: Path) -> Iterator[None]:
    """This process may read the tree, but not write the file; not even if it runs as root."""
    privileged = os.geteuid() == 0
    mode = file.stat().st_mode
    root.chmod(0o755)
    file.chmod(0o444)
    if privileged:
        os.seteuid(65534)
    try:
        yield
    finally:
        if privileged:
            os.seteuid(0)
        file.chmod(mode)
