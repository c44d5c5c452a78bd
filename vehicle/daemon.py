"""run(rig, car): the loops of the daemon. see feeds the car, think wishes, and act, in the governor, holds the wires.

`asyncio.wait_for` is not used here: in Python 3.11 it can swallow a cancellation that comes together with the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Coroutine
from typing import Final

from drivers.battery import LOCKED, LOW
from drivers.lights import Connection, Light, lamps
from drivers.rig import Battery, Camera, DeviceError, Lamp, Lidar, Lights, Network, Rig
from drivers.signals import Action, Observation
from drivers.wifi import Wireless
from vehicle.car import SILENCE, Car, Driver
from vehicle.gate import DriveMode
from vehicle.governor import Actor, GovernorLost, in_own_process, notify_systemd

log = logging.getLogger(__name__)

RETRY: Final = 0.5
"""Seconds between two tries to hear from a device that failed."""
WATCH: Final = 0.1
GOVERNOR_SILENCE: Final = 0.5
START_UP: Final = 5.0
"""Seconds until the governor must have reported for the first time."""
SURVEY: Final = 10.0
"""Seconds between two looks at battery and addresses."""


async def run(rig: Rig, car: Car, act: Actor = in_own_process) -> None:
    """Drive `car` with the devices of `rig` until cancelled. Closes both, wires at rest, on every way out.

    Raises GovernorLost when nobody holds the wires any more, and whatever else ended a loop.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(act(rig.wires, car.mailbox, car.doorbell), name="act")
            for place, camera in enumerate(rig.cameras):
                tasks.create_task(see(camera, place, car), name=f"see {place}")
            if rig.lidar is not None:
                tasks.create_task(feel(rig.lidar, car), name="feel")
            if rig.lights is not None:
                tasks.create_task(glow(rig.lights, car), name="glow")
            tasks.create_task(think(car), name="think")
            tasks.create_task(watch(car), name="watch")
            tasks.create_task(survey(rig.battery, rig.network, car), name="survey")
            notify_systemd("READY=1")
    finally:
        car.stop()
        await asyncio.shield(rig.close())


async def see(camera: Camera, place: int, car: Car) -> None:
    """Newest picture wins. A camera that fails is a fault, silence, and tried again."""
    while True:
        try:
            frame = await camera.read()
        except DeviceError as error:
            car.fault(_camera(place), str(error))
            await asyncio.sleep(RETRY)
        else:
            car.saw(place, frame)
            car.well(_camera(place))


def _camera(place: int) -> str:
    return "camera" if place == 0 else f"camera {place + 1}"


async def feel(lidar: Lidar, car: Car) -> None:
    """As see, for the LiDAR."""
    while True:
        try:
            scan = await lidar.read()
        except DeviceError as error:
            car.fault("LiDAR", str(error))
            await asyncio.sleep(RETRY)
        else:
            car.felt(scan)
            car.well("LiDAR")


async def glow(lights: Lights, car: Car) -> None:
    """Keep the tail light in its colour, and have the status lamps tell how the car is."""
    clock = asyncio.get_running_loop().time
    since: dict[Lamp, tuple[Light, float]] = {}
    shown: dict[Lamp, tuple[int, int, int]] = {}
    while True:
        changed, now, pause = car.changed, clock(), math.inf
        try:
            for lamp, light in (lamps(car.facts) | {Lamp.TAIL: Light(car.colour)}).items():
                if lamp not in since or since[lamp][0] != light:
                    since[lamp] = light, now
                elapsed = now - since[lamp][1]
                if shown.get(lamp) != light.at(elapsed):
                    shown.pop(lamp, None)
                    lights.show(lamp, light.at(elapsed))
                    shown[lamp] = light.at(elapsed)
                pause = min(pause, light.lasts(elapsed))
        except DeviceError as error:
            car.fault("lights", str(error))
            await asyncio.sleep(RETRY)
            continue
        car.well("lights")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if math.isinf(pause) else max(pause, 0.001)):
                await changed.wait()


async def think(car: Car) -> None:
    """One decision for each fresh observation, at most at the set rate, on a grid that does not drift.

    Whatever the model does instead of answering in time with a sound action stops the car, with the reason.
    """
    loop = asyncio.get_running_loop()
    period = 1.0 / car.settings.drive.rate_hz
    due, turn = -math.inf, -1
    while True:
        driver = car.driver
        if not car.engaged or car.mode is not DriveMode.AUTONOMOUS or driver is None:
            await car.changed.wait()
            continue
        if turn != car.turn:
            due, turn = loop.time(), car.turn
        try:
            async with asyncio.timeout(SILENCE):
                observation = await car.observations.next()
        except TimeoutError:
            if turn == car.turn:
                car.stop(f"No picture came for {SILENCE} s; check the camera.")
            continue
        if turn == car.turn and loop.time() - observation.t > SILENCE:
            car.stop(f"A part of what the model sees is older than {SILENCE} s; check the LiDAR.")
            continue
        # A quarter of a period of tolerance: pictures come on a grid of their own.
        if turn == car.turn and observation.t >= due - period / 4:
            due = max(due + period, observation.t - period / 4)
            await _decide(car, driver, turn, observation)


async def _decide(car: Car, driver: Driver, turn: int, observation: Observation) -> None:
    def timed() -> tuple[Action, float]:
        began = time.perf_counter()
        return driver.policy.decide(observation), time.perf_counter() - began

    name = driver.package.name
    answer = asyncio.get_running_loop().run_in_executor(driver.worker, timed)
    try:
        async with asyncio.timeout(SILENCE):
            action, seconds = await asyncio.shield(answer)
        if not (math.isfinite(action.steering) and math.isfinite(action.throttle)):
            raise ValueError("it answered with numbers that are not finite")
    except TimeoutError:
        if turn == car.turn:
            car.drop(f"The model {name} did not answer within {SILENCE} s; load it again, or another one.")
    except Exception as error:
        # Foreign code: it may raise anything, and none of it may end the daemon.
        log.debug("The model failed", exc_info=True)
        if turn == car.turn:
            car.stop(f"The model {name} failed: {str(error) or type(error).__name__}")
    else:
        car.decided(turn, action, observation.t, seconds)


async def watch(car: Car) -> None:
    """Notice who has fallen silent: a camera, the wires, the governor."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    ticks = idle = 0
    while True:
        await asyncio.sleep(WATCH)
        now = loop.time()
        for place, newest in enumerate(car.frames):
            device = _camera(place)
            seen = newest.value
            if now - (seen.t if seen else began) > 2 * SILENCE and not car.has_fault(device):
                car.fault(device, f"The {device} sends no picture; check its plug.")
        report = car.gauges.heard()
        # Counted in looks, not seconds: after a pause of the whole machine both of us wake late.
        idle = 0 if report is not None and report.ticks != ticks else idle + 1
        ticks = report.ticks if report is not None else 0
        if idle * WATCH > (GOVERNOR_SILENCE if report else START_UP):
            raise GovernorLost("The governor stands still; the car cannot be driven without it.")
        if report is not None and report.failing:
            reason = "The servo and motor do not take their pulses; check the wires and the battery."
            car.fault("wires", reason)
            if car.engaged:
                car.stop(reason)
        else:
            car.well("wires")


async def survey(battery: Battery | None, network: Network | None, car: Car) -> None:
    """Look at what changes slowly."""
    while True:
        if battery is not None:
            await _look("battery", car, _read_battery(battery, car))
        if network is not None:
            await _look("network", car, _read_network(network, car))
        if car.wireless is not None and car.connection is not Connection.CONNECTING:
            await _look("Wi-Fi", car, _read_wifi(car.wireless, car))
        await asyncio.sleep(SURVEY)


async def _look(device: str, car: Car, reading: Coroutine[None, None, None]) -> None:
    try:
        await reading
    except DeviceError as error:
        car.fault(device, str(error))
    else:
        car.well(device)


async def _read_battery(battery: Battery, car: Car) -> None:
    try:
        car.battery = charge = await battery.read()
    except DeviceError:
        car.battery = None
        raise
    if charge is None:
        raise DeviceError(LOCKED)
    if charge < LOW:
        raise DeviceError("The drive battery is low: change it soon, before it locks itself.")


async def _read_network(network: Network, car: Car) -> None:
    car.network = tuple(await network.addresses())


async def _read_wifi(wireless: Wireless, car: Car) -> None:
    wifi = await wireless.wifi()
    if car.connection is not Connection.CONNECTING:
        car.connected(Connection.CONNECTED if wifi.ssid is not None else Connection.OFF)
