"""What may be asked of the car while its daemon runs: load, choose, start, trim, calibrate, paint."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from pathlib import Path

import numpy as np
import pytest

from calibration import store as calibration_store
from calibration.calibration import DEFAULT, Calibration, Channel
from drivers.rig import Fittings, Lamp
from drivers.signals import Action, ActuatorCommand, Frame
from inference.package import ModelPackage, PackageError
from inference.policy import Policy
from sim_stub.rig import SimLights
from tests.conftest import Jump
from tests.vehicle.bench import REST, Bench, Steady, driving
from tests.vehicle.making import make_store
from vehicle import tail
from vehicle.car import EVENTS, Car, Refusal
from vehicle.gate import DriveMode
from vehicle.models import ModelStore
from vehicle.settings import Settings


def test_loading_while_driving_stops_first_and_the_loops_run_on(jump: Jump, store: ModelStore) -> None:
    async def load() -> None:
        loop = asyncio.get_running_loop()
        bench_of: list[Bench] = []
        seen_inside: list[tuple[bool, str | None]] = []

        def opened(package: ModelPackage) -> Policy:
            if bench_of:
                inside = asyncio.run_coroutine_threadsafe(_look(bench_of[0]), loop).result()
                seen_inside.append(inside)
            return Steady()

        async with driving(store, opened) as bench:
            assert bench.moving()
            bench_of.append(bench)
            await bench.car.load("two")
            assert seen_inside == [(False, "two")]
            assert not bench.car.engaged
            assert "loaded" in str(bench.car.stopped_because)
            assert bench.car.snapshot().model == "two"
            assert store.active == "two"
            bench.car.start()
            await asyncio.sleep(0.5)
            assert bench.moving()

    async def _look(bench: Bench) -> tuple[bool, str | None]:
        with pytest.raises(Refusal, match="still being loaded"):
            bench.car.start()
        return bench.car.engaged, bench.car.snapshot().loading

    jump(load())


async def test_of_two_loads_at_once_the_newest_wins(store: ModelStore) -> None:
    gate = threading.Event()

    def opened(package: ModelPackage) -> Policy:
        gate.wait()
        return Steady()

    car = Car(Settings(), store, DEFAULT, open_policy=opened)
    first, second = asyncio.create_task(car.load("one")), asyncio.create_task(car.load("two"))
    await asyncio.sleep(0)
    gate.set()
    await second
    with pytest.raises(Refusal, match="overtaken"):
        await first
    assert car.snapshot().model == "two"
    assert car.snapshot().loading is None
    car.close()


async def test_a_model_that_cannot_be_loaded_leaves_the_old_one(store: ModelStore) -> None:
    def opened(package: ModelPackage) -> Policy:
        if package.name == "two":
            raise RuntimeError("no such graph")
        return Steady()

    car = Car(Settings(), store, DEFAULT, open_policy=opened)
    await car.load("one")
    with pytest.raises(PackageError, match="no such graph"):
        await car.load("two")
    assert (car.snapshot().model, car.snapshot().loading, store.active) == ("one", None, "one")
    assert any("no such graph" in event.text for event in car.events if event.level == logging.ERROR)
    with pytest.raises(Refusal, match="is loaded"):
        await car.remove("one")
    car.close()


async def test_a_model_drives_although_the_disk_does_not_remember_it(store: ModelStore) -> None:
    car = Car(Settings(), store, DEFAULT, open_policy=lambda _: Steady())
    (store.root / "active").mkdir()
    await car.load("one")
    assert car.snapshot().model == "one"
    assert any("will not be remembered" in event.text for event in car.events)
    car.close()


def test_the_speed_limit_scales_the_throttle_alone(jump: Jump, store: ModelStore) -> None:
    async def limit() -> None:
        async with driving(store, Steady(Action(0.5, 0.8))) as bench:
            bench.car.limit_speed(0.5)
            await asyncio.sleep(0.5)
            assert bench.car.snapshot().applied == Action(0.5, 0.4)
            for wrong in (-0.1, 1.1, math.nan):
                with pytest.raises(Refusal, match=r"0\.\.1"):
                    bench.car.limit_speed(wrong)

    jump(limit())


def test_a_change_of_mode_stops_and_the_hand_s_wish_dies_with_its_silence(jump: Jump, store: ModelStore) -> None:
    async def change() -> None:
        async with driving(store, Steady()) as bench:
            car = bench.car
            car.select(DriveMode.MANUAL)
            await asyncio.sleep(0.1)
            assert not bench.moving()
            car.start()
            await asyncio.sleep(0.5)
            assert not bench.moving()
            car.steer(0.0, 1.0)
            now = asyncio.get_running_loop().time()
            await asyncio.sleep(0.1)
            assert bench.moving()
            await asyncio.sleep(1)
            assert now < bench.last_moving() <= now + 0.5
            with pytest.raises(Refusal, match=r"-1\.\.1"):
                car.steer(math.nan, 0.0)

    jump(change())


async def test_a_start_without_a_model_or_a_picture_is_refused(store: ModelStore) -> None:
    car = Car(Settings(), store, DEFAULT, open_policy=lambda _: Steady())
    with pytest.raises(Refusal, match="No model"):
        car.start()
    await car.load("one")
    with pytest.raises(Refusal, match="sees nothing"):
        car.start()
    assert not car.engaged
    car.close()


async def test_two_cameras_make_one_observation_only_when_they_saw_the_same_moment(tmp_path: Path) -> None:
    store = make_store(tmp_path, one=("STEREO_CAMERAS",))
    car = Car(Settings(), store, DEFAULT, Fittings(cameras=2), open_policy=lambda _: Steady())
    await car.load("one")
    image = np.zeros((2, 2, 3), np.uint8)
    car.saw(0, Frame(1.0, image))
    assert car.observations.value is None
    car.saw(1, Frame(1.05, image))
    both = car.observations.value
    assert both is not None
    assert [frame.t for frame in both.frames] == [1.0, 1.05]
    assert both.t == 1.0
    car.saw(0, Frame(2.0, image))
    assert car.observations.value is both
    car.saw(0, Frame(1.5, image))
    assert car.frames[0].value is not None
    assert car.frames[0].value.t == 2.0
    car.close()


async def test_the_log_of_events_is_bounded(store: ModelStore) -> None:
    car = Car(Settings(), store, DEFAULT)
    for _ in range(EVENTS):
        car.select(DriveMode.MANUAL)
        car.select(DriveMode.AUTONOMOUS)
    assert len(car.events) == EVENTS
    car.close()


def test_a_trim_holds_one_wire_for_a_moment_and_silence_puts_it_to_rest(jump: Jump, store: ModelStore) -> None:
    async def trim() -> None:
        async with driving(store, Steady(), start=False) as bench:
            car = bench.car
            car.select(DriveMode.CALIBRATION)
            car.start()
            for wire, units, wanted in (
                ("steering", 12.0, ActuatorCommand(1_620_000, REST.throttle_ns)),
                ("steering", -50.0, ActuatorCommand(1_000_000, REST.throttle_ns)),
                ("throttle", 50.0, ActuatorCommand(REST.steering_ns, 1_725_000)),
                ("throttle", -12.0, REST),
            ):
                car.trim(wire, units)
                await asyncio.sleep(0.1)
                latest = bench.rig.tape.latest()
                assert latest is not None
                assert latest.command == wanted
                await asyncio.sleep(0.4)
                latest = bench.rig.tape.latest()
                assert latest is not None
                assert latest.command == REST
            with pytest.raises(Refusal, match=r"A throttle value must lie in -50\.\.50, not 51"):
                car.trim("throttle", 51)
            car.trim("steering", 30)
            car.stop()
            await asyncio.sleep(0.05)
            assert not bench.moving()
            assert bench.rig.tape.latest().command == REST  # type: ignore[union-attr]

    jump(trim())


def test_a_trim_in_another_mode_moves_nothing(jump: Jump, store: ModelStore) -> None:
    async def trim() -> None:
        async with driving(store, Steady(), start=False) as bench:
            bench.car.select(DriveMode.MANUAL)
            bench.car.start()
            bench.car.trim("throttle", 40)
            await asyncio.sleep(0.2)
            assert {pulse.command for pulse in bench.pulses()} == {REST}

    jump(trim())


def test_a_calibration_is_stored_and_driven_with(jump: Jump, store: ModelStore) -> None:
    fresh = Calibration(Channel(1_100_000, 1_500_000, 1_800_000, 1), DEFAULT.throttle)

    async def calibrate() -> None:
        async with driving(store, Steady(Action(0.5, 0.5))) as bench:
            with pytest.raises(Refusal, match="Stop the car"):
                await bench.car.calibrate(fresh)
            bench.car.stop()
            await bench.car.calibrate(fresh)
            bench.car.start()
            await asyncio.sleep(0.5)
            latest = bench.rig.tape.latest()
            assert latest is not None
            assert latest.command == fresh.command(Action(0.5, 0.5))

    jump(calibrate())
    assert calibration_store.load(store.root / "calibration.json").calibration == fresh


def test_the_tail_light_shows_its_colour_and_remembers_it(jump: Jump, store: ModelStore) -> None:
    async def paint() -> None:
        async with driving(store, Steady(), start=False) as bench:
            lights = bench.rig.rig.lights
            assert isinstance(lights, SimLights)
            assert lights.shown[Lamp.TAIL] == (0, 0, 255)
            await bench.car.paint((255, 130, 0))
            await asyncio.sleep(0.01)
            assert lights.shown[Lamp.TAIL] == (255, 130, 0)

    jump(paint())
    assert tail.load(store.root / "led_values.json") == (255, 130, 0)


async def test_a_car_without_lights_refuses_a_colour(store: ModelStore) -> None:
    car = Car(Settings(), store, DEFAULT)
    with pytest.raises(Refusal, match="no tail light"):
        await car.paint((1, 2, 3))
    car.close()


@pytest.mark.parametrize("text", [b"", b"{", b'{"Led Values": 3}', b'{"Led Values": {"red_pwm": 1e999}}', b"[" * 10000])
def test_a_damaged_colour_is_the_default(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "led_values.json").write_bytes(text)
    assert tail.load(tmp_path / "led_values.json") == tail.DEFAULT
