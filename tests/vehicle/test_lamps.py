"""What the lamps tell of a real Car, and how a lamp that fails or hangs is survived."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from calibration.calibration import DEFAULT
from drivers.lights import BLUE, OFF, RED, YELLOW, CarLights, Connection, Light, lamps
from drivers.rig import DeviceError, Fittings, Lamp
from drivers.signals import NEUTRAL, Action, Frame, Observation
from drivers.wifi import Wifi, WrongPassword
from tests.air import KEY, Air
from tests.conftest import Jump
from tests.vehicle.making import make_store
from vehicle import daemon
from vehicle.car import Car, Refusal
from vehicle.gate import DriveMode
from vehicle.models import ModelStore
from vehicle.settings import Settings


class Still:
    def decide(self, observation: Observation) -> Action:
        return NEUTRAL


@dataclass
class Board:
    """Lights of which some may fail, or never answer."""

    failing: set[Lamp] = field(default_factory=set)
    hanging: set[Lamp] = field(default_factory=set)
    shown: dict[Lamp, tuple[int, int, int]] = field(default_factory=dict)
    changes: list[Lamp] = field(default_factory=list)

    async def show(self, lamp: Lamp, colour: tuple[int, int, int]) -> None:
        if lamp in self.failing:
            raise DeviceError(f"The {lamp.value} lamp does not obey.")
        if lamp in self.hanging:
            await asyncio.Event().wait()
        self.shown[lamp] = colour
        self.changes.append(lamp)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    front = ("FRONT_FACING_CAMERA",)
    return make_store(tmp_path, one=front, stereo=("STEREO_CAMERAS",), scanning=(*front, "LIDAR"))


@asynccontextmanager
async def glowing(store: ModelStore, lights: Board | CarLights) -> AsyncIterator[Car]:
    car = Car(Settings(), store, DEFAULT, Fittings(cameras=2, lidar=True, lights=True), open_policy=lambda _: Still())
    task = asyncio.create_task(daemon.glow(lights, car))
    try:
        await asyncio.sleep(0.1)
        yield car
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        car.close()


def test_a_lamp_that_fails_darkens_no_other_and_shines_again(jump: Jump, store: ModelStore) -> None:
    async def fail() -> None:
        board = Board(failing={Lamp.POWER})
        async with glowing(store, board) as car:
            assert set(board.shown) == {Lamp.WIFI, Lamp.VEHICLE, Lamp.TAIL}
            assert car.snapshot().faults == ("The power lamp does not obey.",)
            await car.paint((1, 2, 3))
            await asyncio.sleep(0.1)
            assert board.shown[Lamp.TAIL] == (1, 2, 3)
            board.failing.clear()
            await asyncio.sleep(0.5)
            assert board.shown[Lamp.POWER] == BLUE
            assert car.snapshot().faults == ()

    jump(fail())


def test_a_lamp_that_hangs_stops_no_other_from_blinking_and_is_a_fault_within_a_second(
    jump: Jump, store: ModelStore
) -> None:
    async def hang() -> None:
        board = Board(hanging={Lamp.TAIL})
        async with glowing(store, board) as car:
            car.receiving(True)
            await asyncio.sleep(1.0)
            assert board.changes.count(Lamp.POWER) >= 5
            assert car.snapshot().faults == ("The tail light has not answered for 0.7 s.",)

    jump(hang())


async def test_a_lamp_that_blocks_holds_up_neither_the_loop_nor_the_end(store: ModelStore) -> None:
    hold = threading.Event()

    def block(_: tuple[int, int, int]) -> None:
        hold.wait()

    lights = CarLights(dict.fromkeys(Lamp, block), patience=0.2)
    try:
        loop, longest = asyncio.get_running_loop(), 0.0
        async with glowing(store, lights) as car:
            end = loop.time() + 0.5
            while (before := loop.time()) < end:
                await asyncio.sleep(0.005)
                longest = max(longest, loop.time() - before)
            assert "power light has not answered for 0.2 s" in car.snapshot().faults[0]
        assert longest < 0.15
    finally:
        hold.set()


def test_at_the_end_the_lamps_tell_that_only_the_system_runs(jump: Jump, store: ModelStore) -> None:
    async def end() -> None:
        board = Board(failing={Lamp.VEHICLE})
        async with glowing(store, board) as car:
            car.connected(Connection.CONNECTED)
            await asyncio.sleep(0.1)
            assert (board.shown[Lamp.POWER], board.shown[Lamp.WIFI]) == (BLUE, BLUE)
            board.hanging.add(Lamp.WIFI)
        assert board.shown[Lamp.POWER] == YELLOW
        assert board.shown[Lamp.TAIL] == OFF

    jump(end())


def power(car: Car) -> Light:
    return lamps(car.facts)[Lamp.POWER]


def wifi(car: Car) -> Light:
    return lamps(car.facts)[Lamp.WIFI]


Deed = Callable[[Car], Awaitable[object] | None]
STEADY_BLUE, STEADY_RED = Light(BLUE), Light(RED)


async def drive(car: Car, name: str = "one") -> None:
    await car.load(name)
    picture = np.zeros((2, 2, 3), np.uint8)
    for place in range(2):
        car.saw(place, Frame(asyncio.get_running_loop().time(), picture))
    car.start()


@pytest.mark.parametrize(
    ("deed", "light"),
    [
        (lambda car: None, STEADY_BLUE),
        (lambda car: car.load("one"), STEADY_BLUE),  # a new model
        (lambda car: car.stop(), STEADY_BLUE),
        (lambda car: car.stop("The page of Anna is gone."), STEADY_BLUE),
        (lambda car: car.select(DriveMode.MANUAL), STEADY_BLUE),
        (lambda car: car.fail("The model one failed."), STEADY_RED),
        (lambda car: car.drop("The model one did not answer."), STEADY_RED),
        (lambda car: car.fault("wires", "The PWM chip is gone."), STEADY_RED),
        (lambda car: car.fault("camera", "The camera is not found."), STEADY_RED),
        (lambda car: car.lacks("camera", "The camera is not found."), STEADY_RED),
        (lambda car: car.fault("model", "The model one could not be loaded again."), STEADY_RED),
        (lambda car: car.fault("camera 2", "The right camera is not found."), STEADY_BLUE),
        (lambda car: car.fault("LiDAR", "The LiDAR does not turn."), STEADY_BLUE),
        (lambda car: car.fault("battery", "The battery is low."), STEADY_BLUE),
        (lambda car: car.receiving(True), Light(BLUE, OFF, 0.2)),
    ],
)
async def test_the_power_lamp_is_red_for_what_keeps_the_car_from_driving_and_for_nothing_else(
    store: ModelStore, deed: Deed, light: Light
) -> None:
    car = Car(Settings(), store, DEFAULT, Fittings(cameras=2, lidar=True), open_policy=lambda _: Still())
    await drive(car)
    if (doing := deed(car)) is not None:
        await doing
    assert power(car) == light
    car.close()


async def test_red_ends_with_the_fault_with_the_next_start_or_with_a_model_that_loads(store: ModelStore) -> None:
    car = Car(Settings(), store, DEFAULT, Fittings(cameras=2), open_policy=lambda _: Still())
    car.fault("wires", "The PWM chip is gone.")
    car.well("wires")
    car.fault("model", "The model gone could not be loaded again.")
    assert power(car) == STEADY_RED
    await drive(car)
    assert power(car) == STEADY_BLUE
    assert car.snapshot().faults == ()
    for again in (car.start, lambda: car.load("one")):
        car.fail("The model one failed.")
        assert power(car) == STEADY_RED
        if (doing := again()) is not None:
            await doing
        assert power(car) == STEADY_BLUE
    car.close()


@pytest.mark.parametrize(("name", "device"), [("stereo", "camera 2"), ("scanning", "LiDAR")])
async def test_what_is_not_plugged_in_is_a_fault_only_for_a_model_that_needs_it(
    store: ModelStore, name: str, device: str
) -> None:
    car = Car(Settings(), store, DEFAULT, Fittings(cameras=2, lidar=True), open_policy=lambda _: Still())
    car.lacks(device, "It is not found; plug it in.")
    assert (power(car), car.snapshot().faults) == (STEADY_BLUE, ())
    assert car.fittings == Fittings(cameras=1 if name == "stereo" else 2, lidar=name == "stereo")
    await car.load(name)
    car.lacks(device, "It is not found; plug it in.")
    assert (power(car), car.snapshot().faults) == (STEADY_RED, ("It is not found; plug it in.",))
    with pytest.raises(Refusal, match=r"^It is not found; plug it in\.$"):
        car.start()
    await car.load("one")
    car.lacks(device, "It is not found; plug it in.")
    assert (power(car), car.snapshot().faults) == (STEADY_BLUE, ())
    car.well(device)
    assert car.fittings == Fittings(cameras=2, lidar=True)
    car.close()


def test_the_wifi_lamp_is_red_for_two_seconds_and_then_as_the_wifi_is(jump: Jump, store: ModelStore) -> None:
    async def join() -> None:
        air = Air()
        car = Car(Settings(), store, DEFAULT, wireless=air)
        looking = asyncio.create_task(daemon.survey("Wi-Fi", lambda: daemon._read_wifi(air, car), car))
        with pytest.raises(WrongPassword):
            await car.join("Pit lane", "wrong horse")
        assert wifi(car).at(0) == RED
        await asyncio.sleep(1.9)
        assert car.connection is Connection.FAILED
        await asyncio.sleep(0.6)
        assert wifi(car) == Light(OFF)
        await car.join("Pit lane", KEY)
        assert wifi(car) == STEADY_BLUE
        looking.cancel()
        car.close()

    jump(join())


async def test_a_network_that_the_system_joins_by_itself_blinks_and_is_told_as_well(store: ModelStore) -> None:
    car = Car(Settings(), store, DEFAULT)
    for look, connection in (
        (Wifi(True), Connection.OFF),
        (Wifi(True, connecting=True), Connection.CONNECTING),
        (Wifi(True, "Home"), Connection.CONNECTED),
        (Wifi(True, connecting=True), Connection.CONNECTING),
        (Wifi(True), Connection.FAILED),
        (Wifi(True, "Home"), Connection.FAILED),  # for two seconds
    ):
        car.looked(look)
        assert car.connection is connection
    assert wifi(car) == Light(RED, OFF, 2.0, once=True)
    car.close()


def test_a_look_does_not_end_the_blinking_of_a_network_that_is_being_joined(jump: Jump, store: ModelStore) -> None:
    class Slow(Air):
        async def connect(self, ssid: str, password: str = "", hidden: bool = False) -> None:
            await asyncio.sleep(10)
            await super().connect(ssid, password, hidden)

    async def join() -> None:
        air = Slow()
        car = Car(Settings(), store, DEFAULT, wireless=air)
        joining = asyncio.create_task(car.join("Pit lane", KEY))
        await asyncio.sleep(1)
        car.looked(await air.wifi())
        assert wifi(car) == Light(BLUE, OFF, 0.2)
        await joining
        car.looked(await air.wifi())
        assert wifi(car) == STEADY_BLUE
        car.close()

    jump(join())
