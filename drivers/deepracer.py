"""The stock car's devices, by its own names and numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from drivers.battery import open_stock_gauge
from drivers.camera import open_cameras
from drivers.i2c import Bus, open_bus
from drivers.lidar import open_lidar
from drivers.lights import CarLights, status_lamps, sysfs_tail
from drivers.network_manager import NetworkManager
from drivers.pwm_sysfs import STOCK
from drivers.rig import Lamp, Options, Rig, Wires
from drivers.system import System


def open_rig(options: Options, root: Path = Path("/"), bus: Callable[[Path], Bus] = open_bus) -> Rig:
    """The devices of an AWS DeepRacer; `root` is where its sys/ and dev/ are, and `bus` opens an I2C bus there.

    Raises DeviceError only for options that make no sense: a device that is absent says so when it is used.
    """
    network = NetworkManager()
    return Rig(
        name="DeepRacer",
        cameras=open_cameras(options, root),
        wires=Wires("drivers.pwm_sysfs:open_wires", (str(root), STOCK)),
        lidar=open_lidar(options, root),
        battery=open_stock_gauge(options.gauge, root, bus),
        lights=CarLights({**status_lamps(root), Lamp.TAIL: sysfs_tail(STOCK, root)}),
        network=network,
        wireless=network,
        system=System(),
        drives=True,
    )
