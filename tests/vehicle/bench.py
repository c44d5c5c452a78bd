"""A simulated car with its daemon running, and drivers for it that do as little as a test needs."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from calibration.calibration import DEFAULT
from drivers.rig import Rig
from drivers.signals import NEUTRAL, Action, Observation
from inference.package import ModelPackage
from inference.policy import Policy
from sim_stub import track
from sim_stub.rig import SimRig
from sim_stub.wires import Pulse, Tape
from sim_stub.world import World
from vehicle import daemon
from vehicle.car import Car
from vehicle.governor import Actor, in_this_loop
from vehicle.models import ModelStore
from vehicle.settings import Drive, Settings

REST = DEFAULT.command(NEUTRAL)
AHEAD = Action(0.0, 0.5)


@dataclass
class Steady:
    """Always wishes the same, and counts."""

    action: Action = AHEAD
    seen: list[float] = field(default_factory=list)

    def decide(self, observation: Observation) -> Action:
        self.seen.append(observation.t)
        return self.action


class Failing:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def decide(self, observation: Observation) -> Action:
        raise self.error


class Hanging:
    def __init__(self) -> None:
        self.let_go = threading.Event()

    def decide(self, observation: Observation) -> Action:
        self.let_go.wait()
        return AHEAD


@dataclass
class Bench:
    """A car, its rig and its daemon, running."""

    car: Car
    rig: SimRig
    daemon: asyncio.Task[None]

    def pulses(self) -> list[Pulse]:
        return self.rig.tape.read(0)[1]

    def moving(self) -> bool:
        latest = self.rig.tape.latest()
        return latest is not None and latest.live and latest.command.throttle_ns != REST.throttle_ns

    def last_moving(self) -> float:
        return max((pulse.t for pulse in self.pulses() if pulse.live and pulse.command != REST), default=-math.inf)


@contextlib.asynccontextmanager
async def driving(
    store: ModelStore,
    policy: Policy | Callable[[ModelPackage], Policy],
    *,
    rate_hz: float = 10,
    act: Actor = in_this_loop,
    start: bool = True,
    fit: Callable[[Rig], Rig] = lambda rig: rig,
) -> AsyncIterator[Bench]:
    """The daemon with the model `one` loaded, engaged and moving."""
    wires = store.root / "wires"
    loop = asyncio.get_running_loop()
    rig = SimRig(World(track.load("reinvent_base"), Tape(wires), loop.time()), wires)
    settings = Settings(drive=Drive(rate_hz=rate_hz, max_speed=1.0))
    opener = policy if callable(policy) else lambda _: policy
    car = Car(settings, store, DEFAULT, rig.rig.fittings, open_policy=opener)
    task = asyncio.create_task(daemon.run(fit(rig.rig), car, act))
    bench = Bench(car, rig, task)
    try:
        while car.observations.value is None or car.mailbox.report() is None:
            await asyncio.sleep(0.01)
        await car.load("one")
        if start:
            car.start()
            await asyncio.sleep(0.5)
        yield bench
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ExceptionGroup):
            await task
        car.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)
