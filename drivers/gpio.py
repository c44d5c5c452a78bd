"""Output lines of a GPIO chip: by its character device, or by the old sysfs files where only those can be had."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Protocol

import gpiod
from gpiod.line import Direction, Value

from drivers import kernel
from drivers.rig import DeviceError

STOCK_CHIP: Final = "INT3452:00"
"""The first GPIO chip of the stock car's processor.

It has 78 lines. Older kernels numbered them up to 511, hence from 434 on, newer ones number them from 512 on: the stock
car's 436 and 514 are the same line of this chip, its third.
"""
STOCK_BASES: Final = (434, 512)


class Held(Protocol):
    """Lines that the kernel has lent to this process."""

    def set_values(self, values: dict[int | str, Value]) -> None: ...
    def release(self) -> None: ...


def _request(device: str, values: dict[int | str, Value]) -> Held:
    config: dict[Iterable[int | str] | int | str, gpiod.LineSettings | None] = {
        line: gpiod.LineSettings(direction=Direction.OUTPUT, output_value=value) for line, value in values.items()
    }
    return gpiod.request_lines(device, config, consumer="hotlap")


class Outputs:
    """Some lines of the stock car's GPIO chip that belong together; `device` names them in errors."""

    def __init__(
        self,
        device: str,
        lines: tuple[int, ...],
        root: Path = Path("/"),
        request: Callable[[str, dict[int | str, Value]], Held] = _request,
    ) -> None:
        self._device, self._lines, self._root, self._request = device, lines, root, request
        self._held: Held | None = None

    def write(self, *levels: bool) -> None:
        """Drive the lines, in their order: True is high. Raises DeviceError."""
        values = dict(zip(self._lines, levels, strict=True))
        try:
            self._by_device(values)
        except OSError as fault:
            self.close()
            try:
                for line, level in values.items():
                    self._by_files(line, level)
            except OSError as error:
                raise DeviceError(kernel.refusal(self._device, fault if self._chip() else error)) from error

    def close(self) -> None:
        """Give the lines back; they keep their levels. May be called twice."""
        held, self._held = self._held, None
        if held is not None:
            held.release()

    def _chip(self) -> Path | None:
        found = kernel.find(self._root / "sys/bus/gpio/devices", STOCK_CHIP)
        return self._root / "dev" / found.name if found is not None else None

    def _by_device(self, levels: dict[int, bool]) -> None:
        values: dict[int | str, Value] = {
            line: Value.ACTIVE if level else Value.INACTIVE for line, level in levels.items()
        }
        if self._held is None:
            chip = self._chip()
            if chip is None:
                raise FileNotFoundError(errno.ENOENT, f"there is no GPIO chip {STOCK_CHIP}")
            try:
                self._held = self._request(str(chip), values)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(chip)) from error
        self._held.set_values(values)

    def _by_files(self, line: int, level: bool) -> None:
        folder = self._root / "sys/class/gpio"
        base = next((base for base in STOCK_BASES if (folder / f"gpiochip{base}").exists()), None)
        if base is None:
            raise FileNotFoundError(errno.ENOENT, f"there is no gpiochip{STOCK_BASES[0]} nor gpiochip{STOCK_BASES[1]}")
        gpio = kernel.export(folder, f"gpio{base + line}", base + line)
        if (gpio / "direction").read_text().strip() != "out":
            kernel.write(gpio / "direction", "high" if level else "low")
        kernel.put(gpio / "value", int(level))
