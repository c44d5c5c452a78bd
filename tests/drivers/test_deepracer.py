"""The stock car's rig keeps the contract of every rig, on a tree of files of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from drivers.deepracer import open_rig
from drivers.i2c import Bus
from drivers.rig import DeviceError, Fittings, Lamp, Options, Rig
from drivers.signals import ActuatorCommand
from tests.drivers.film import FilmCamera
from tests.drivers.i2c_model import Bytes, Wire
from tests.drivers.rig_contract import REST, RigContract, Run, Switch
from tests.drivers.rplidar import Model
from tests.drivers.sysfs_tree import Tree


class TestDeepRacer(RigContract):
    @pytest.fixture
    def tree(self, tmp_path: Path) -> Tree:
        return Tree(tmp_path)

    @pytest.fixture
    def film(self, tree: Tree) -> FilmCamera:
        (tree.root / "dev").mkdir()
        return FilmCamera(tree.root)

    @pytest.fixture
    def rig(self, tree: Tree, film: FilmCamera, run: Run) -> Iterator[Rig]:
        """As opened, but that its camera is a film's, its bus a model's, and no system is asked for the network."""
        gauge = Wire({0x3F: Bytes({0x03: 0xCB})})

        def bus(path: Path) -> Bus:
            assert path == tree.root / "dev/i2c-9"
            return gauge.open()

        lidar = Model(lambda _: 2.0)
        (tree.root / "dev/ttyUSB0").symlink_to(lidar.path)
        options = Options(lidar="/dev/ttyUSB0")
        rig = replace(open_rig(options, tree.root, bus), cameras=film.cameras(options), network=None, wireless=None)
        yield rig
        run(rig.close())
        lidar.unplug()

    @pytest.fixture
    def break_cameras(self, film: FilmCamera) -> Switch:
        def switch(broken: bool) -> None:
            film.broken = broken

        return switch

    @pytest.fixture
    def jam_wires(self, tree: Tree) -> Switch:
        return lambda jammed: tree.jam(0, jammed)

    @pytest.fixture
    def on_the_wires(self, tree: Tree) -> Callable[[], ActuatorCommand | None]:
        return tree.command


async def test_a_car_with_nothing_plugged_in_is_opened_and_every_device_says_what_it_lacks(tmp_path: Path) -> None:
    rig = open_rig(Options(), tmp_path)
    assert rig.fittings == Fittings("DeepRacer", cameras=2, lidar=True, battery=True, lights=True)
    assert rig.battery is not None
    assert rig.lights is not None
    actuators = rig.wires.open()
    said = []
    acts: tuple[Callable[[], None], ...] = (lambda: actuators.apply(REST), actuators.release)
    for act in acts:
        with pytest.raises(DeviceError) as fault:
            act()
        said.append(str(fault.value))
    shows = (partial(rig.lights.show, lamp, (255, 0, 0)) for lamp in Lamp)
    assert rig.lidar is not None
    reads: list[Callable[[], Coroutine[object, object, object]]] = [rig.battery.read, rig.lidar.read, *shows]
    for read in [*reads, *(camera.read for camera in rig.cameras)]:
        with pytest.raises(DeviceError) as fault:
            await asyncio.wait_for(read(), 5)
        said.append(str(fault.value))
    assert all(sentence.endswith(".") for sentence in said)
    await rig.close()


def test_options_that_make_no_sense_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"no battery gauge 'fuel'; name .*\.$"):
        open_rig(Options(gauge="fuel"), tmp_path)
    assert open_rig(Options(gauge="none"), tmp_path).battery is None
