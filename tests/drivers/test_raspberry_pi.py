"""A Pi's rig keeps the contract of every rig, on an I2C bus of the test's own and on the kernel's PWM files."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from calibration.calibration import DEFAULT
from drivers.i2c import Bus
from drivers.raspberry_pi import open_rig
from drivers.rig import DeviceError, Fittings, Lamp, Options, Rig, Wires
from drivers.signals import ActuatorCommand
from tests.drivers.film import FilmCamera
from tests.drivers.i2c_model import SHELF, TICK_NS, Pca9685Model, Wire, Words
from tests.drivers.rig_contract import ASIDE, REST, RigContract, Run, Switch
from tests.drivers.rpicam import RpicamVid
from tests.drivers.sysfs_tree import PI_DEVICE, Tree
from tests.drivers.test_camera import until


class PiContract(RigContract):
    @pytest.fixture
    def film(self, tmp_path: Path) -> FilmCamera:
        (tmp_path / "dev").mkdir()
        return FilmCamera(tmp_path)

    @pytest.fixture
    def break_cameras(self, film: FilmCamera) -> Switch:
        def switch(broken: bool) -> None:
            film.broken = broken

        return switch


class TestPiWithPca9685(PiContract):
    @pytest.fixture
    def chip(self) -> Pca9685Model:
        return Pca9685Model()

    @pytest.fixture
    def wire(self, chip: Pca9685Model) -> Wire:
        return Wire({0x40: chip, 0x45: Words({0x00: 0x399F, 0x02: 1910 << 3})})

    @pytest.fixture
    def rig(self, tmp_path: Path, wire: Wire, film: FilmCamera, run: Run) -> Iterator[Rig]:
        """As opened, but that its camera is a film's, its bus a model's, and no system is asked for the network."""

        def bus(path: Path) -> Bus:
            assert path == tmp_path / "dev/i2c-1"
            return wire.open()

        options = Options(gauge="ina219@0x45")
        rig = open_rig(options, tmp_path, bus)
        assert rig.wires == Wires("drivers.pwm_pca9685:open_wires", (str(tmp_path / "dev/i2c-1"),))
        SHELF.wires["pi"] = wire
        wires = Wires("tests.drivers.i2c_model:open_wires", ("pi",))
        rig = replace(rig, cameras=film.cameras(options), wires=wires, lidar=None, network=None, wireless=None)
        yield rig
        run(rig.close())

    @pytest.fixture
    def jam_wires(self, wire: Wire) -> Switch:
        def switch(jammed: bool) -> None:
            wire.stuck = jammed

        return switch

    @pytest.fixture
    def on_the_wires(self, chip: Pca9685Model) -> Callable[[], ActuatorCommand | None]:
        def read() -> ActuatorCommand | None:
            """Which of the contract's two commands it is: the chip itself knows pulses only to 5 us."""
            throttle, steering = chip.pulse(0), chip.pulse(1)
            if throttle is None and steering is None:
                return None
            commands = (REST, ASIDE)
            return next(c for c in commands if [steering, throttle] == [ticks(c.steering_ns), ticks(c.throttle_ns)])

        return read


def ticks(pulse_ns: int) -> int:
    return round(pulse_ns / TICK_NS)


class TestPiWithTheKernelS(PiContract):
    @pytest.fixture
    def tree(self, tmp_path: Path) -> Tree:
        return Tree(tmp_path, PI_DEVICE)

    @pytest.fixture
    def rig(self, tree: Tree, film: FilmCamera, run: Run) -> Iterator[Rig]:
        options = Options()
        rig = replace(
            open_rig(options, tree.root), cameras=film.cameras(options), lidar=None, network=None, wireless=None
        )
        yield rig
        run(rig.close())

    @pytest.fixture
    def jam_wires(self, tree: Tree) -> Switch:
        return lambda jammed: tree.jam(1, jammed)

    @pytest.fixture
    def on_the_wires(self, tree: Tree) -> Callable[[], ActuatorCommand | None]:
        def read() -> ActuatorCommand | None:
            if not (tree.read(0, "enable") and tree.read(1, "enable")):
                return None
            return ActuatorCommand(tree.read(1, "duty_cycle"), tree.read(0, "duty_cycle"))

        return read


class TestPiWithRibbonCable(TestPiWithTheKernelS):
    """Its camera is read from libcamera's program."""

    @pytest.fixture
    def program(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RpicamVid:
        program = RpicamVid(tmp_path / "bin")
        monkeypatch.setenv("PATH", program.put_on(os.environ["PATH"]))
        return program

    @pytest.fixture
    def rig(self, tree: Tree, program: RpicamVid, run: Run) -> Iterator[Rig]:
        rig = replace(open_rig(Options("csi:0"), tree.root), lidar=None, network=None, wireless=None)
        yield rig
        run(rig.close())
        assert program.left == []

    @pytest.fixture
    def break_cameras(self, program: RpicamVid) -> Switch:
        def switch(broken: bool) -> None:
            program.does("no camera" if broken else "film")
            if broken:
                os.kill(program.started[-1], signal.SIGKILL)
                until(lambda: all(thread.name != "The camera" for thread in threading.enumerate()))

        return switch


async def test_a_pi_with_nothing_plugged_in_is_opened_and_every_device_says_what_it_lacks(tmp_path: Path) -> None:
    rig = open_rig(Options(gauge="ina226"), tmp_path)
    assert rig.fittings == Fittings("Raspberry Pi", cameras=2, lidar=True, battery=True, lights=True)
    assert rig.battery is not None
    assert rig.lights is not None
    actuators = rig.wires.open()
    with pytest.raises(DeviceError, match=r"PWM chip .*i2c-1: No such file.*\.$"):
        actuators.apply(DEFAULT.command(DEFAULT.action(REST)))
    with pytest.raises(DeviceError, match=r"PWM chip .*i2c-1: No such file.*\.$"):
        await rig.lights.show(Lamp.TAIL, (255, 0, 0))
    with pytest.raises(DeviceError, match=r"INA226 .*i2c-1: No such file.*\.$"):
        await rig.battery.read()
    await rig.lights.show(Lamp.POWER, (255, 0, 0))  # it has none, which is no fault
    await rig.close()
    assert open_rig(Options(), tmp_path).battery is None, "a Pi has no gauge of its own"
