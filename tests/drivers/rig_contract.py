"""What every Rig must do, simulated or real: inherit RigContract, fill `rig`, and what of the hooks the rig can do.

Only pulses at rest are put on the wires, so that the contract may run on a car that stands on the table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from itertools import pairwise
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
import pytest

from calibration.calibration import DEFAULT
from drivers.rig import Camera, DeviceError, Lamp, Lidar, Rig
from drivers.signals import NEUTRAL, Action, ActuatorCommand, Frame

T = TypeVar("T")

PATIENCE = 5.0
"""Seconds, on the loop's clock, that a device may take for anything."""
STALE = 0.25
"""Seconds that a picture may have been under way when it is handed out."""
REST = DEFAULT.command(NEUTRAL)
ASIDE = DEFAULT.command(Action(0.1, 0.0))

Switch: TypeAlias = Callable[[bool], None]
"""True breaks a device, False mends it."""


class Run(Protocol):
    def __call__(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to the end on the loop that this rig lives on; always the same one. Raises TimeoutError."""
        ...


class RigContract:
    @pytest.fixture
    def runner(self) -> Iterator[asyncio.Runner]:
        """The loop that the rig lives on; a simulated one may jump."""
        with asyncio.Runner() as runner:
            yield runner

    @pytest.fixture
    def run(self, runner: asyncio.Runner) -> Run:
        def run(work: Coroutine[Any, Any, T]) -> T:
            return runner.run(asyncio.wait_for(work, 10 * PATIENCE))

        return run

    @pytest.fixture
    def rig(self) -> Rig:
        """To be filled."""
        raise NotImplementedError

    @pytest.fixture
    def break_cameras(self) -> Switch:
        return pytest.skip("these cameras cannot be broken")

    @pytest.fixture
    def jam_wires(self) -> Switch:
        return pytest.skip("these wires cannot be jammed")

    @pytest.fixture
    def on_the_wires(self) -> Callable[[], ActuatorCommand | None]:
        """What the wires carry now; None when they are released."""
        return pytest.skip("these wires cannot be read back")

    # Cameras and LiDAR

    def test_a_rig_sees_and_has_a_name(self, rig: Rig) -> None:
        assert rig.name
        assert rig.cameras

    def test_pictures_are_blue_green_red_bytes_row_by_row(self, rig: Rig, run: Run) -> None:
        for camera in rig.cameras:
            image = run(camera.read()).image
            assert image.dtype == np.uint8
            assert image.ndim == 3
            assert image.shape[2] == 3
            assert image.size
            assert image.flags.c_contiguous

    def test_every_picture_is_newer_and_bears_the_loop_s_time(self, rig: Rig, run: Run) -> None:
        async def look(camera: Camera) -> tuple[float, list[float], float]:
            clock = asyncio.get_running_loop().time
            return clock(), [(await camera.read()).t for _ in range(10)], clock()

        for camera in rig.cameras:
            before, times, after = run(look(camera))
            assert before - STALE <= times[0]
            assert times[-1] <= after
            assert all(one < next_one for one, next_one in pairwise(times))

    def test_a_picture_is_not_drawn_over_by_the_next(self, rig: Rig, run: Run) -> None:
        first = run(rig.cameras[0].read())
        copy = first.image.copy()
        for _ in range(3):
            run(rig.cameras[0].read())
        assert (first.image == copy).all()

    def test_whoever_was_away_gets_the_newest_and_no_queue(self, rig: Rig, run: Run) -> None:
        async def late(device: Camera | Lidar) -> float:
            await device.read()
            await asyncio.sleep(1.0)
            first = await device.read()
            age = asyncio.get_running_loop().time() - first.t
            assert (await device.read()).t > first.t
            return age

        devices: list[Camera | Lidar] = [*rig.cameras]
        if rig.lidar is not None:
            devices.append(rig.lidar)
        assert max(run(late(device)) for device in devices) <= STALE

    def test_reading_can_be_given_up_and_taken_up_again(self, rig: Rig, run: Run) -> None:
        async def impatient() -> Frame:
            reading = asyncio.create_task(rig.cameras[0].read())
            await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait([reading])
            return await rig.cameras[0].read()

        assert run(impatient()).image.size

    def test_scans_are_ranges_in_metres(self, rig: Rig, run: Run) -> None:
        if rig.lidar is None:
            pytest.skip("this rig has no LiDAR")
        first, second = run(rig.lidar.read()), run(rig.lidar.read())
        assert first.t < second.t
        for scan in (first, second):
            assert scan.ranges.dtype == np.float32
            assert scan.ranges.ndim == 1
            assert scan.ranges.size
            assert (scan.ranges >= 0).all()  # inf where nothing answered, and never NaN

    def test_closing_twice_is_once_too_often_and_no_fault(self, rig: Rig, run: Run) -> None:
        async def close() -> int:
            await rig.cameras[0].read()
            return len([await rig.close() for _ in range(2)])  # type: ignore[func-returns-value]

        assert run(close()) == 2

    def test_a_broken_camera_says_so_and_works_again_when_mended(
        self, rig: Rig, run: Run, break_cameras: Switch
    ) -> None:
        for camera in rig.cameras:
            before = run(camera.read())
            break_cameras(True)
            with pytest.raises(DeviceError) as fault:
                run(camera.read())
            assert isinstance(fault.value, OSError)
            assert str(fault.value).endswith(".")
            break_cameras(False)
            assert run(camera.read()).t > before.t

    # Wires

    def test_wires_are_opened_by_their_address(self, rig: Rig) -> None:
        actuators = rig.wires.open()
        actuators.apply(REST)
        actuators.apply(ASIDE)
        actuators.release()
        assert all(isinstance(argument, str) for argument in rig.wires.arguments)

    def test_released_wires_may_be_released_and_used_again(self, rig: Rig) -> None:
        actuators = rig.wires.open()
        for _ in range(2):
            actuators.apply(REST)
            for _ in range(2):
                actuators.release()
        assert rig.wires.open() is not actuators

    def test_wires_may_be_released_before_anything_was_applied(
        self, rig: Rig, on_the_wires: Callable[[], ActuatorCommand | None]
    ) -> None:
        rig.wires.open().release()
        assert on_the_wires() is None

    def test_what_is_applied_is_on_the_wires_until_it_is_released(
        self, rig: Rig, on_the_wires: Callable[[], ActuatorCommand | None]
    ) -> None:
        actuators = rig.wires.open()
        for _ in range(2):
            for command in (REST, ASIDE):
                actuators.apply(command)
                assert on_the_wires() == command
            actuators.release()
            assert on_the_wires() is None

    def test_jammed_wires_say_so_and_work_again_when_mended(self, rig: Rig, jam_wires: Switch) -> None:
        actuators = rig.wires.open()
        jam_wires(True)
        with pytest.raises(DeviceError) as fault:
            actuators.apply(REST)
        assert str(fault.value).endswith(".")
        jam_wires(False)
        actuators.apply(REST)
        actuators.release()

    # All the rest

    def test_the_battery_is_a_part_of_full_or_not_there(self, rig: Rig, run: Run) -> None:
        if rig.battery is None:
            pytest.skip("this rig has no gauge")
        charge = run(rig.battery.read())
        assert charge is None or 0 <= charge <= 1

    def test_every_lamp_shows_every_colour(self, rig: Rig, run: Run) -> None:
        if rig.lights is None:
            pytest.skip("this rig has no lights")
        shown = set()
        for lamp in Lamp:
            for colour in ((255, 255, 255), (1, 128, 254), (0, 0, 0)):
                run(rig.lights.show(lamp, colour))
                shown.add((lamp, colour))
        assert len(shown) == 3 * len(Lamp)

    def test_addresses_are_text(self, rig: Rig, run: Run) -> None:
        if rig.network is None:
            pytest.skip("this rig has no network")
        addresses = run(rig.network.addresses())
        assert isinstance(addresses, list)
        assert all(type(address) is str and address for address in addresses)
