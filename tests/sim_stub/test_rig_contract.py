"""The simulated rig keeps the contract of every rig."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from drivers.rig import DeviceError, Lamp, Rig
from drivers.signals import ActuatorCommand
from sim_stub import track
from sim_stub.clock import JumpingLoop
from sim_stub.rig import SimLights, SimRig
from sim_stub.rules import RaceType, Rules
from sim_stub.view import STEREO
from sim_stub.wires import Tape, open_wires
from sim_stub.world import World
from tests.drivers.rig_contract import REST, RigContract, Run, Switch


class TestSimRig(RigContract):
    @pytest.fixture
    def runner(self) -> Iterator[asyncio.Runner]:
        with asyncio.Runner(loop_factory=JumpingLoop) as runner:
            yield runner

    @pytest.fixture
    def car(self, tmp_path: Path, runner: asyncio.Runner) -> SimRig:
        wires = tmp_path / "wires"
        rules = Rules(race_type=RaceType.OBJECT_AVOIDANCE)
        world = World(track.load("reinvent_base"), Tape(wires), runner.get_loop().time(), rules=rules)
        return SimRig(world, wires, STEREO, has_lidar=True)

    @pytest.fixture
    def rig(self, car: SimRig) -> Rig:
        return car.rig

    @pytest.fixture
    def break_cameras(self, car: SimRig) -> Switch:
        def switch(broken: bool) -> None:
            car.faults.camera_gone = broken

        return switch

    @pytest.fixture
    def jam_wires(self, car: SimRig) -> Switch:
        def switch(jammed: bool) -> None:
            car.tape.jammed = jammed

        return switch

    @pytest.fixture
    def on_the_wires(self, car: SimRig) -> Callable[[], ActuatorCommand | None]:
        def read() -> ActuatorCommand | None:
            pulse = car.tape.latest()
            return pulse.command if pulse is not None and pulse.live else None

        return read

    # The switches that only a simulated rig has.

    def test_the_camera_keeps_its_rate(self, rig: Rig, run: Run) -> None:
        async def look() -> list[float]:
            return [(await rig.cameras[0].read()).t for _ in range(31)]

        times = run(look())
        assert times[-1] - times[0] == pytest.approx(1.0)

    def test_lost_pictures_leave_gaps(self, car: SimRig, run: Run) -> None:
        async def look() -> list[float]:
            return [(await car.rig.cameras[0].read()).t for _ in range(21)]

        car.faults.drop_every = 3
        times = run(look())
        assert times[-1] - times[0] == pytest.approx(1.0)

    def test_a_frozen_camera_is_silent(self, car: SimRig, run: Run) -> None:
        car.faults.camera_frozen = True
        with pytest.raises(TimeoutError):
            run(asyncio.wait_for(car.rig.cameras[0].read(), 30))
        car.faults.camera_frozen = False
        assert run(car.rig.cameras[0].read()).image.any()

    def test_the_left_camera_sees_a_near_thing_further_to_the_right(self, car: SimRig, run: Run) -> None:
        left, right = (run(camera.read()).image.astype(int) for camera in car.rig.cameras)
        assert left.shape == right.shape == (120, 160, 3)
        shifts = [np.abs(left[90:, 40:120] - np.roll(right, shift, axis=1)[90:, 40:120]).mean() for shift in range(40)]
        # Row 105 looks at ground about 0.25 m ahead: 0.06 m of baseline are some 25 pixels there.
        assert 15 <= int(np.argmin(shifts)) <= 35

    def test_the_lidar_sees_walls_and_boxes_and_turns_ten_times_a_second(self, car: SimRig, run: Run) -> None:
        assert car.rig.lidar is not None
        scans = [run(car.rig.lidar.read()) for _ in range(3)]
        assert np.diff([scan.t for scan in scans]) == pytest.approx([0.1, 0.1])
        x_low, y_low, _, y_high = car.world.track.field
        x, y, yaw = car.world.state[0, :3].tolist()
        assert yaw == pytest.approx(0.0, abs=0.01)
        # The last box stands a metre behind the start; without it the wall would be the first thing there.
        assert 0.5 < scans[0].ranges[180] < 1.2 < x + 0.02913 - x_low
        assert scans[0].ranges[90] == pytest.approx(y_high - y, abs=0.05)
        assert scans[0].ranges[270] == pytest.approx(y - y_low, abs=0.05)

    def test_an_unplugged_lidar_says_so(self, car: SimRig, run: Run) -> None:
        car.faults.lidar_gone = True
        assert car.rig.lidar is not None
        with pytest.raises(DeviceError, match="LiDAR is unplugged"):
            run(car.rig.lidar.read())

    @pytest.mark.parametrize("charge", [0.25, 0.0, None])
    def test_the_battery_shows_what_it_is_set_to(self, car: SimRig, run: Run, charge: float | None) -> None:
        car.faults.battery = charge
        assert car.rig.battery is not None
        assert run(car.rig.battery.read()) == charge

    def test_a_lamp_remembers_its_colour(self, rig: Rig, run: Run) -> None:
        assert isinstance(rig.lights, SimLights)
        run(rig.lights.show(Lamp.TAIL, (1, 2, 3)))
        assert rig.lights.shown == {Lamp.TAIL: (1, 2, 3)}

    def test_somebody_beside_the_track_sees_the_car_on_the_road(self, car: SimRig, run: Run) -> None:
        async def look() -> tuple[float, float]:
            return car.standing().position

        outline, place = car.outline(), run(look())
        assert outline.name == "reinvent_base"
        assert len(outline.centre) == len(outline.inner) == len(outline.outer)
        assert min(math.dist(place, point) for point in outline.centre) < 0.3


def test_wires_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"The simulated wires .*none/wires cannot be opened: No such file"):
        open_wires(str(tmp_path / "none" / "wires"))


def test_whoever_opens_the_wires_later_releases_what_was_on_them(tmp_path: Path) -> None:
    open_wires(str(tmp_path / "wires")).apply(REST)
    open_wires(str(tmp_path / "wires")).release()
    pulse = Tape(tmp_path / "wires").latest()
    assert pulse is not None
    assert (pulse.command, pulse.live) == (REST, False)
