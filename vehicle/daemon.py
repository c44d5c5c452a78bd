"""run(rig, car): the loops of the daemon. see feeds the car, think wishes, and act, in the governor, holds the wires.

`asyncio.wait_for` is not used here: in Python 3.11 it can swallow a cancellation that comes together with the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Final

from drivers.battery import LOCKED, LOW
from drivers.lights import DARK, RGB, CarFacts, Light, lamps
from drivers.rig import Absent, Battery, Camera, DeviceError, Lamp, Lidar, Lights, Network, Rig
from drivers.signals import Action, Observation
from drivers.wifi import Wireless
from vehicle.car import SILENCE, Car, Driver, Newest, camera_name
from vehicle.gate import DriveMode
from vehicle.governor import LONGEST_CALL, Actor, GovernorLost, in_own_process, notify_systemd, waiting

log = logging.getLogger(__name__)

RETRY: Final = 0.4
"""Seconds between two tries to hear from a device that failed."""
WATCH: Final = 0.1
GOVERNOR_SILENCE: Final = 0.5
START_UP: Final = 5.0
"""Seconds until the governor must have reported for the first time."""
SURVEY: Final = 0.25
"""Seconds between two looks at the battery; with ANSWER, a fault is told within a second."""
NETWORK_SURVEY: Final = 0.75
NETWORK_ANSWER: Final = 1.2
"""The same of addresses and Wi-Fi, which move no wheel: a look is a dozen calls, and a busy machine slow at them."""
ANSWER: Final = 0.7
"""Seconds that a lamp or a look may take before it is told."""
SEARCH: Final = 1.0
"""Seconds between two looks for a device that is not plugged in."""
HUSH: Final = 0.8
"""Seconds without a picture or a turn of the LiDAR that are a fault."""
FIRST_TURN: Final = 4.0
"""Seconds until the LiDAR's first turn: it is found, greeted and spun up."""
FAREWELL: Final = 1.0
"""Seconds that the lamps may take at the end."""


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
            tasks.create_task(tell(car), name="tell")
            if rig.battery is not None:
                tasks.create_task(survey("battery", partial(_read_battery, rig.battery, car), car), name="battery")
            if rig.network is not None:
                look = partial(_read_network, rig.network, car)
                tasks.create_task(survey("network", look, car, NETWORK_SURVEY, NETWORK_ANSWER), name="network")
            if car.wireless is not None:
                look = partial(_read_wifi, car.wireless, car)
                tasks.create_task(survey("Wi-Fi", look, car, NETWORK_SURVEY, NETWORK_ANSWER), name="Wi-Fi")
            notify_systemd("READY=1")
    finally:
        car.stop()
        await asyncio.shield(rig.close())


async def see(camera: Camera, place: int, car: Car) -> None:
    """Newest picture wins. A camera that fails is a fault, silence, and tried again."""
    device = camera_name(place)
    while True:
        try:
            frame = await camera.read()
        except Absent as absent:
            car.lacks(device, str(absent))
            await asyncio.sleep(SEARCH)
        except Exception as error:  # noqa: BLE001 - a bug in a driver, see _complain
            _complain(device, car, error)
            await asyncio.sleep(RETRY)
        else:
            car.saw(place, frame)
            car.well(device)


async def feel(lidar: Lidar, car: Car) -> None:
    """As see, for the LiDAR."""
    while True:
        try:
            scan = await lidar.read()
        except Absent as absent:
            car.lacks("LiDAR", str(absent))
            await asyncio.sleep(SEARCH)
        except Exception as error:  # noqa: BLE001 - a bug in a driver, see _complain
            _complain("LiDAR", car, error)
            await asyncio.sleep(RETRY)
        else:
            car.felt(scan)
            car.well("LiDAR")


def _complain(device: str, car: Car, error: Exception) -> None:
    """Make a fault of whatever a driver raised: a bug in one may cost its device, not the car."""
    if isinstance(error, DeviceError):
        car.fault(device, str(error))
        return
    if not car.has_fault(device):
        log.error("The driver of the %s failed", device, exc_info=error)
    car.fault(device, f"The {device} failed ({str(error) or type(error).__name__}); the car's log says where.")


async def glow(lights: Lights, car: Car) -> None:
    """Keep the tail light in its colour, and have the status lamps tell how the car is; at the end, that it is off.

    A lamp that fails or hangs holds up no other.
    """
    clock = asyncio.get_running_loop().time
    wishes: dict[Lamp, Newest[RGB]] = {lamp: Newest() for lamp in Lamp}
    since: dict[Lamp, tuple[Light, float]] = {}
    faults: dict[Lamp, Exception] = {}
    try:
        async with asyncio.TaskGroup() as tasks:
            for lamp in Lamp:
                tasks.create_task(_burn(lights, lamp, wishes[lamp], faults, car), name=f"glow {lamp.value}")
            while True:
                changed, now, pause = car.changed, clock(), math.inf
                for lamp, light in (lamps(car.facts) | {Lamp.TAIL: Light(car.colour)}).items():
                    if lamp not in since or since[lamp][0] != light:
                        since[lamp] = light, now
                    elapsed = now - since[lamp][1]
                    if wishes[lamp].value != light.at(elapsed):
                        wishes[lamp].put(light.at(elapsed))
                    pause = min(pause, light.lasts(elapsed))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if math.isinf(pause) else max(pause, 0.001)):
                        await changed.wait()
    finally:
        await asyncio.shield(_leave_lamps(lights))


async def _burn(lights: Lights, lamp: Lamp, wish: Newest[RGB], faults: dict[Lamp, Exception], car: Car) -> None:
    """Show one lamp's newest wish; of all lamps' `faults` the first is the fault of the lights."""

    def complain(error: Exception) -> None:
        faults[lamp] = error
        _complain("lights", car, next(faults[each] for each in Lamp if each in faults))

    shown: RGB | None = None
    while True:
        if wish.value is None or wish.value == shown:
            await wish.next()
        colour = wish.value
        assert colour is not None
        try:
            with _overdue(f"{lamp.value} light", complain):
                await lights.show(lamp, colour)
        except Exception as error:  # noqa: BLE001 - a bug in a driver, see _complain
            shown = None
            complain(error)
            await asyncio.sleep(RETRY)
        else:
            shown = colour
            faults.pop(lamp, None)
            if not faults:
                car.well("lights")


async def _leave_lamps(lights: Lights) -> None:
    """As the manual has them while only the system runs."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FAREWELL):
            last = (lamps(CarFacts()) | {Lamp.TAIL: DARK}).items()
            await asyncio.gather(*(lights.show(lamp, light.colour) for lamp, light in last), return_exceptions=True)


@contextlib.contextmanager
def _overdue(device: str, complain: Callable[[Exception], None], patience: float = ANSWER) -> Iterator[None]:
    """Complain of the device when what is done inside is not done within `patience` seconds."""
    error = DeviceError(f"The {device} has not answered for {patience:g} s.")
    alarm = asyncio.get_running_loop().call_later(patience, complain, error)
    try:
        yield
    finally:
        alarm.cancel()


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
                car.fail(f"No picture came for {SILENCE} s; check the camera.")
            continue
        if turn == car.turn and loop.time() - observation.t > SILENCE:
            car.fail(f"A part of what the model sees is older than {SILENCE} s; check the LiDAR.")
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
            car.fail(f"The model {name} failed: {str(error) or type(error).__name__}")
    else:
        car.decided(turn, action, observation.t, seconds)


async def watch(car: Car) -> None:
    """Notice who has fallen silent: a camera, the LiDAR, the wires, the governor."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    ticks = idle = 0
    while True:
        await asyncio.sleep(WATCH)
        now = loop.time()
        for place, newest in enumerate(car.frames):
            device, seen = camera_name(place), newest.value
            if now - (seen.t if seen else began) > HUSH and car.has(device) and not car.has_fault(device):
                car.fault(device, f"The {device} sends no picture; check its plug.")
        if car.fittings.lidar and not car.has_fault("LiDAR"):
            scan = car.scan.value
            if now - (scan.t if scan else began + FIRST_TURN) > HUSH:
                car.fault("LiDAR", "The LiDAR sends no turn; check its plug.")
        waits = waiting(car.mailbox, now)
        stuck = WATCH < waits < LONGEST_CALL
        if stuck:
            notify_systemd("WATCHDOG=1")  # in the place of the governor, which cannot
        report = car.gauges.heard()
        # Counted in looks, not seconds: after a pause of the whole machine both of us wake late.
        idle = 0 if stuck or (report is not None and report.ticks != ticks) else idle + 1
        ticks = report.ticks if report is not None else 0
        if idle * WATCH > (GOVERNOR_SILENCE if report else START_UP):
            raise GovernorLost("The governor stands still; the car cannot be driven without it.")
        failure = report.failure if report is not None else ""
        if waits > GOVERNOR_SILENCE and not failure:
            failure = "The servo and motor's bus is stuck; if it stays so, switch the car off and on."
        if failure:
            car.fault("wires", failure)
            if car.engaged:
                car.fail(failure)
        elif not stuck:
            car.well("wires")


async def tell(car: Car, notify: Callable[[str], None] = notify_systemd) -> None:
    """Have the service manager show what the car does, and its faults, whenever that has changed."""
    told = ""
    while True:
        if (status := car.status) != told:
            notify(f"STATUS={status}")
            told = status
        await asyncio.sleep(SURVEY)


async def survey(
    device: str, look: Callable[[], Awaitable[None]], car: Car, pause: float = SURVEY, patience: float = ANSWER
) -> None:
    """Look at something again and again; whatever `look` raises, or its not answering, is a fault of the device."""
    while True:
        try:
            with _overdue(device, partial(_complain, device, car), patience):
                await look()
        except Exception as error:  # noqa: BLE001 - a bug in a driver, see _complain
            _complain(device, car, error)
        else:
            car.well(device)
        await asyncio.sleep(pause)


async def _read_battery(battery: Battery, car: Car) -> None:
    try:
        car.battery = charge = await battery.read()
    except Exception:
        car.battery = None
        raise
    if charge is None:
        raise DeviceError(LOCKED)
    if charge < LOW:
        raise DeviceError("The drive battery is low: change it soon, before it locks itself.")


async def _read_network(network: Network, car: Car) -> None:
    car.network = tuple(await network.addresses())


async def _read_wifi(wireless: Wireless, car: Car) -> None:
    car.looked(await wireless.wifi())
