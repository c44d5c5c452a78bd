"""A Raspberry Pi car's devices: a PCA9685 on the I2C bus of the pins, driven by the kernel or by us."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from drivers import kernel
from drivers.battery import open_gauge
from drivers.camera import open_cameras
from drivers.i2c import Bus, open_bus
from drivers.lidar import open_lidar
from drivers.lights import CarLights, pca9685_tail, sysfs_tail
from drivers.network_manager import NetworkManager
from drivers.pwm_sysfs import PI
from drivers.rig import Lamp, Options, Rig, Wires
from drivers.system import System


def open_rig(options: Options, root: Path = Path("/"), bus: Callable[[Path], Bus] = open_bus) -> Rig:
    """The devices of a Raspberry Pi with a servo hat; `root`, `bus` and errors as in drivers.deepracer.

    Where the kernel has the PWM chip (overlay i2c-pwm-pca9685a) it is driven through the kernel, else directly. There
    is a battery gauge only if the options name one, and of the lamps only the tail light: what is wired to a Pi's other
    pins nobody knows, and a lamp's level on a pin of a serial line would be a fault of ours.
    """
    pins = root / "dev/i2c-1"
    open_pins = partial(bus, pins)
    if kernel.find(root / "sys/class/pwm", PI) is not None:
        wires = Wires("drivers.pwm_sysfs:open_wires", (str(root), PI))
        tail = sysfs_tail(PI, root)
    else:
        wires = Wires("drivers.pwm_pca9685:open_wires", (str(pins),))
        tail = pca9685_tail(open_pins)
    network = NetworkManager()
    return Rig(
        name="Raspberry Pi",
        cameras=open_cameras(options, root),
        wires=wires,
        lidar=open_lidar(options, root),
        battery=open_gauge(options.gauge, open_pins, None),
        lights=CarLights({Lamp.TAIL: tail}),
        network=network,
        wireless=network,
        system=System(),
        drives=True,
    )
