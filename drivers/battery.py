"""The charge of the drive battery: the stock car's gauge, or an INA219 or INA226 that a Pi's owner has added."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Final

from drivers import kernel
from drivers.blocking import Blocking
from drivers.i2c import Bus, Device, OpenBus, open_bus
from drivers.rig import Battery, DeviceError

PATIENCE: Final = 0.5
"""Seconds that a gauge may take to answer."""
LOW: Final = 3 / 11
"""Below this charge the battery must be changed soon: between levels of the stock gauge."""
LOCKED: Final = (
    "No drive battery is connected, or it has locked itself after a deep discharge: plug it in and switch the drive "
    "train on, and if two beeps do not come, use the unlock cable."
)
"""What to tell people while a gauge reads None: the manual's advice."""

STOCK_BUS: Final = "0000:00:17.3"
"""The PCI device that is the I2C bus of the stock car's gauge."""
STOCK_LEVELS: Final = (0x8C, 0xB4, 0xC0, 0xC3, 0xC5, 0xC8, 0xCB, 0xCF, 0xD3, 0xD9, 0xE0, 0xEC)
"""The least byte of each level, 0 to 11; below the first there is no battery."""
NOBODY: Final = 0xFF
"""What is read from a bus on which nobody speaks: no charge, although the stock car takes it for a full one."""

CELL_CHARGE: Final = (
    (3.27, 0.00), (3.61, 0.05), (3.69, 0.10), (3.73, 0.20), (3.77, 0.30), (3.80, 0.40), (3.84, 0.50), (3.87, 0.60),
    (3.95, 0.70), (4.02, 0.80), (4.11, 0.90), (4.20, 1.00),
)  # fmt: skip
"""Volts of a lithium-polymer cell at rest, and its charge: the usual table of battery makers (Ampow's, abridged)."""
CELLS: Final = 2
UNCONNECTED, LEAST, MOST = 1.0, 5.0, 8.8
"""Volts: below the first nothing is connected; two cells have no less than the second and no more than the third."""


def stock_charge(byte: int) -> float | None:
    """0..1 in steps of 1/11 for the stock gauge's byte; None when it says that no battery is connected."""
    if byte == NOBODY:
        raise DeviceError("The battery gauge reads 0xff, as a bus does on which nobody speaks; check its plug.")
    level = sum(byte >= least for least in STOCK_LEVELS) - 1
    return level / (len(STOCK_LEVELS) - 1) if level >= 0 else None


def lipo_charge(volts: float) -> float | None:
    """An estimate, 0..1, for two cells in series; None when nothing is connected. Raises DeviceError for nonsense.

    The voltage sags while the car drives, so that the estimate is then too low.
    """
    if volts < UNCONNECTED:
        return None
    if not LEAST <= volts <= MOST:
        raise DeviceError(f"The battery gauge reads {volts:.2f} V, which no battery of two cells has; check its wires.")
    cell = volts / CELLS
    for (low, charge), (high, more) in pairwise(CELL_CHARGE):
        if cell < high:
            return charge + (more - charge) * max(0.0, cell - low) / (high - low)
    return 1.0


class Gauge:
    """A Battery whose reading may block for ever."""

    def __init__(self, reading: Callable[[], float | None], patience: float = PATIENCE) -> None:
        self._reading = reading
        self._blocking = Blocking("battery gauge", patience)

    async def read(self) -> float | None:
        return await self._blocking.ask(self._reading)


def stock_gauge(open_bus: OpenBus, patience: float = PATIENCE) -> Battery:
    device = Device("battery gauge", 0x3F, open_bus)
    return Gauge(lambda: stock_charge(device.read(0x03)[0]), patience)


def ina219(open_bus: OpenBus, address: int) -> Battery:
    """Texas Instruments' INA219: register 2 is the voltage in steps of 4 mV, above three bits of state."""
    device = Device("battery gauge INA219", address, open_bus)

    def reading() -> float | None:
        if not device.read(0x00, 2)[1] & 0b010:
            raise DeviceError("The battery gauge INA219 is set not to measure the voltage; switch the car off and on.")
        return lipo_charge((_word(device, 0x02) >> 3) * 0.004)

    return Gauge(reading)


def ina226(open_bus: OpenBus, address: int) -> Battery:
    """Texas Instruments' INA226: register 2 is the voltage in steps of 1.25 mV, register 0xFE holds "TI"."""
    device = Device("battery gauge INA226", address, open_bus)

    def reading() -> float | None:
        if _word(device, 0xFE) != 0x5449:
            raise DeviceError(f"What answers at I2C address {address:#04x} is no INA226; name the right gauge.")
        return lipo_charge(_word(device, 0x02) * 0.00125)

    return Gauge(reading)


def _word(device: Device, register: int) -> int:
    return int.from_bytes(device.read(register, 2))


def open_gauge(wish: str, open_bus: OpenBus, own: Battery | None) -> Battery | None:
    """The gauge that Options.gauge names: `own` when it is empty. Raises DeviceError when there is no such kind."""
    if not wish:
        return own
    if wish == "none":
        return None
    parts = re.fullmatch(r"(ina219|ina226)(?:@0x(4[0-9a-f]))?", wish)
    if parts is None:
        raise DeviceError(f"There is no battery gauge {wish!r}; name ina219 or ina226, perhaps with @0x45, or none.")
    kind = ina219 if parts[1] == "ina219" else ina226
    return kind(open_bus, int(parts[2] or "41", 16))


def open_stock_gauge(wish: str, root: Path, bus: Callable[[Path], Bus] = open_bus) -> Battery | None:
    """As open_gauge, on a stock car, whose bus is looked for anew whenever it was lost."""

    def found() -> Bus:
        link = kernel.find(root / "sys/class/i2c-dev", STOCK_BUS)
        return bus(root / "dev" / (link.name if link is not None else "i2c-7"))

    return open_gauge(wish, found, stock_gauge(found))
