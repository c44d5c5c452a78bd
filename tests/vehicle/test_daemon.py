"""The daemon's loops around a simulated rig, on a clock that jumps: what drives, what stops, and what never moves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from calibration.calibration import DEFAULT
from drivers.rig import Battery, Camera, Fittings, Lamp, Rig, Wires
from drivers.signals import NEUTRAL, Action, ActuatorCommand, Observation
from inference.actions import OutputError
from inference.package import ModelPackage
from inference.policy import Policy
from sim_stub import track
from sim_stub.rig import SimLights, SimRig
from sim_stub.wires import Tape
from sim_stub.world import World
from tests.conftest import Jump
from tests.vehicle.bench import AHEAD, REST, Bench, Failing, Hanging, Steady, driving, until
from vehicle import daemon
from vehicle.car import Car, Refusal
from vehicle.governor import Act, Doorbell, GovernorLost, in_own_process, in_this_loop
from vehicle.mailbox import Mailbox
from vehicle.models import ModelStore
from vehicle.settings import Settings


def test_the_model_moves_the_car_through_gate_calibration_and_wires(jump: Jump, store: ModelStore) -> None:
    async def drive() -> None:
        async with driving(store, Steady(Action(0.25, 0.5))) as bench:
            latest = bench.rig.tape.latest()
            assert latest is not None
            assert latest.command == DEFAULT.command(Action(0.25, 0.5))
            assert bench.car.snapshot().applied == Action(0.25, 0.5)
            assert bench.rig.world.standing().speed > 0.1

    jump(drive())


def test_nothing_moves_before_the_start(jump: Jump, store: ModelStore) -> None:
    async def wait() -> None:
        async with driving(store, Steady(), start=False) as bench:
            await asyncio.sleep(3)
            assert len(bench.pulses()) > 100
            assert {pulse.command for pulse in bench.pulses()} == {REST}

    jump(wait())


def test_a_stop_puts_neutral_on_the_wires_at_once(jump: Jump, store: ModelStore) -> None:
    async def stop() -> None:
        async with driving(store, Steady()) as bench:
            assert bench.moving()
            bench.car.stop()
            now = asyncio.get_running_loop().time()
            await asyncio.sleep(0.1)
            assert bench.last_moving() <= now
            assert not bench.moving()
            assert bench.car.stopped_because is None

    jump(stop())


def test_a_stop_wins_over_a_decision_that_is_under_way(jump: Jump, store: ModelStore) -> None:
    async def stop() -> None:
        loop = asyncio.get_running_loop()
        bench_of: list[Bench] = []

        class StopsMeanwhile(Steady):
            def decide(self, observation: Observation) -> Action:
                stopped = threading.Event()

                def stop_now() -> None:
                    bench_of[0].car.stop()
                    stopped.set()

                if bench_of:
                    loop.call_soon_threadsafe(stop_now)
                    stopped.wait()
                return super().decide(observation)

        async with driving(store, StopsMeanwhile()) as bench:
            bench_of.append(bench)
            while bench.car.engaged:
                await asyncio.sleep(0.01)
            now = loop.time()
            await asyncio.sleep(2)
            assert bench.last_moving() <= now

    jump(stop())


def test_a_frozen_camera_means_neutral_within_half_a_second_and_no_surprise_when_it_returns(
    jump: Jump, store: ModelStore
) -> None:
    async def freeze() -> None:
        async with driving(store, Steady()) as bench:
            assert bench.moving()
            bench.rig.faults.camera_frozen = True
            frozen = bench.car.observations.value
            assert frozen is not None
            await asyncio.sleep(3)
            assert frozen.t < bench.last_moving() <= frozen.t + 0.5
            assert not bench.car.engaged
            assert "No picture" in str(bench.car.stopped_because)
            assert any("camera" in fault for fault in bench.car.snapshot().faults)
            bench.rig.faults.camera_frozen = False
            await asyncio.sleep(2)
            assert not bench.moving()
            assert bench.car.snapshot().faults == ()
            bench.car.start()
            await asyncio.sleep(0.5)
            assert bench.moving()

    jump(freeze())


def test_an_unplugged_camera_is_a_fault_and_comes_back_without_a_restart(jump: Jump, store: ModelStore) -> None:
    async def unplug() -> None:
        async with driving(store, Steady()) as bench:
            bench.rig.faults.camera_gone = True
            await asyncio.sleep(2)
            assert not bench.moving()
            assert bench.car.snapshot().faults == ("The simulated camera is unplugged.",)
            with pytest.raises(Refusal, match="camera"):
                bench.car.start()
            bench.rig.faults.camera_gone = False
            await asyncio.sleep(1)
            assert bench.car.snapshot().faults == ()

    jump(unplug())


def test_a_camera_that_loses_every_third_picture_still_drives(jump: Jump, store: ModelStore) -> None:
    async def lose() -> None:
        policy = Steady()
        async with driving(store, policy) as bench:
            bench.rig.faults.drop_every = 3
            policy.seen.clear()
            await asyncio.sleep(10)
            assert bench.moving()
            assert 90 <= len(policy.seen) <= 101

    jump(lose())


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (Failing(RuntimeError("the tensor melted")), "the tensor melted"),
        (Failing(OutputError("shape (7,)")), "shape (7,)"),
        (Failing(MemoryError()), "MemoryError"),
        (Steady(Action(math.nan, 0.5)), "not finite"),
        (Steady(Action(0.0, math.inf)), "not finite"),
    ],
)
def test_a_model_that_fails_stops_the_car_with_the_reason(
    jump: Jump, store: ModelStore, policy: Policy, words: str
) -> None:
    async def fail() -> None:
        async with driving(store, policy) as bench:
            await asyncio.sleep(1)
            assert not bench.car.engaged
            assert not bench.daemon.done()
            assert bench.last_moving() == -math.inf
            assert words in str(bench.car.snapshot().stopped_because)

    jump(fail())


def test_a_wish_beyond_the_range_never_reaches_the_wires(jump: Jump, store: ModelStore) -> None:
    async def exaggerate() -> None:
        async with driving(store, Steady(Action(0.0, 7.0))) as bench:
            await asyncio.sleep(1)
            assert {pulse.command for pulse in bench.pulses()} == {REST}

    jump(exaggerate())


async def test_a_model_that_hangs_means_neutral_within_half_a_second_of_its_last_picture(store: ModelStore) -> None:
    hanging = Hanging()
    steady = Steady()

    def opened(package: ModelPackage) -> Policy:
        return steady if package.name == "one" else hanging

    try:
        async with driving(store, opened) as bench:
            await bench.car.load("two")
            bench.car.start()
            await until(lambda: not bench.car.engaged)
            assert bench.last_moving() <= steady.seen[-1] + 0.5
            assert "did not answer" in str(bench.car.stopped_because)
            assert bench.car.snapshot().model is None
            with pytest.raises(Refusal, match="No model"):
                bench.car.start()
            await bench.car.load("one")
            bench.car.start()
            await until(bench.moving)
    finally:
        hanging.let_go.set()


async def test_a_model_that_hangs_while_driving_stops_the_wires(store: ModelStore) -> None:
    class HangsLater(Hanging):
        seen: tuple[float, ...] = ()

        def decide(self, observation: Observation) -> Action:
            self.seen += (observation.t,)
            return AHEAD if len(self.seen) < 3 else super().decide(observation)

    policy = HangsLater()
    try:
        async with driving(store, policy) as bench:
            await until(lambda: not bench.car.engaged)
            assert policy.seen[1] < bench.last_moving() <= policy.seen[1] + 0.5
    finally:
        policy.let_go.set()


def test_jammed_wires_stop_the_car_and_come_back_without_a_restart(jump: Jump, store: ModelStore) -> None:
    async def jam() -> None:
        async with driving(store, Steady()) as bench:
            bench.rig.tape.jammed = True
            await asyncio.sleep(0.5)
            assert not bench.car.engaged
            reason = "The simulated wires are jammed."
            assert bench.car.snapshot().faults == (reason,)
            assert bench.car.stopped_because == reason
            with pytest.raises(Refusal, match=reason):
                bench.car.start()
            bench.rig.tape.jammed = False
            await asyncio.sleep(0.5)
            assert bench.car.snapshot().faults == ()
            assert not bench.moving()

    jump(jam())


async def test_why_the_wires_fail_is_told_across_the_processes_within_a_second(store: ModelStore) -> None:
    async with driving(store, Steady(), act=in_own_process, start=False) as bench:
        bench.rig.tape.jammed = True
        async with asyncio.timeout(1.0):
            while bench.car.snapshot().faults != ("The simulated wires are jammed.",):
                await asyncio.sleep(0.01)


async def test_wires_that_cannot_be_opened_end_the_daemon_with_the_reason(store: ModelStore) -> None:
    car = Car(Settings(), store, DEFAULT, Fittings(cameras=0))
    with pytest.raises(ExceptionGroup) as caught:
        await daemon.run(Rig("bench", (), Wires("nobody:home")), car)
    car.close()
    (lost,) = caught.value.exceptions
    assert isinstance(lost, GovernorLost)
    assert str(lost).endswith(
        "with status 1; the car cannot be driven without it. "
        "Its last fault: There is no actuator driver 'nobody:home': No module named 'nobody'."
    )


def test_the_service_manager_is_told_what_the_car_does_and_its_faults(jump: Jump, store: ModelStore) -> None:
    async def drive() -> list[str]:
        told: list[str] = []
        async with driving(store, Steady(), start=False) as bench:
            teller = asyncio.create_task(daemon.tell(bench.car, told.append))
            await asyncio.sleep(5.0)
            bench.car.start()
            await asyncio.sleep(1.0)
            bench.car.stop()
            bench.car.fault("lights", "They are\nREADY=1 | dark.")
            await asyncio.sleep(1.0)
            bench.car.well("lights")
            await asyncio.sleep(1.0)
            teller.cancel()
        return told

    assert jump(drive()) == [
        "STATUS=Stands; model one",
        "STATUS=Drives; model one",
        "STATUS=Stands; model one | lights: They are READY=1 dark.",
        "STATUS=Stands; model one",
    ]


def test_a_fault_and_a_recovery_are_logged_with_their_device(
    jump: Jump, store: ModelStore, caplog: pytest.LogCaptureFixture
) -> None:
    async def unplug() -> None:
        async with driving(store, Steady()) as bench:
            bench.rig.faults.camera_gone = True
            await asyncio.sleep(1)
            bench.rig.faults.camera_gone = False
            await asyncio.sleep(1)

    with caplog.at_level(logging.INFO, "vehicle"):
        jump(unplug())
    about = [(record.getMessage(), record.funcName) for record in caplog.records if hasattr(record, "HOTLAP_DEVICE")]
    assert about == [("The simulated camera is unplugged.", "fault"), ("Camera works again.", "well")]
    assert {getattr(record, "HOTLAP_DEVICE", "camera") for record in caplog.records} == {"camera"}


def test_an_empty_battery_is_shown_and_never_invented(jump: Jump, store: ModelStore) -> None:
    async def unplug() -> None:
        async with driving(store, Steady()) as bench:
            assert bench.car.snapshot().battery == 1.0
            lights = bench.rig.rig.lights
            assert isinstance(lights, SimLights)
            for charge, sentence, warns in ((0.2, "is low: change it soon", True), (None, "locked itself", False)):
                bench.rig.faults.battery = charge
                await asyncio.sleep(daemon.SURVEY + 1)
                assert bench.car.snapshot().battery == charge
                assert sentence in bench.car.snapshot().faults[0]
                assert bench.car.facts.low_battery is warns
            bench.rig.faults.battery = 3 / 11
            await asyncio.sleep(daemon.SURVEY + 1)
            assert bench.car.snapshot().faults == ()
            assert lights.shown[Lamp.POWER] == (0, 0, 255)
            assert lights.shown[Lamp.VEHICLE] == (0, 0, 0)

    jump(unplug())


@pytest.mark.parametrize("moment", np.linspace(0.0, 0.9, 37).tolist())
def test_cancelled_at_any_moment_the_wires_are_released(jump: Jump, store: ModelStore, moment: float) -> None:
    async def cancel() -> None:
        wires = store.root / "wires"
        loop = asyncio.get_running_loop()
        rig = SimRig(World(track.load("oval_track"), Tape(wires), loop.time()), wires)
        car = Car(Settings(), store, DEFAULT, open_policy=lambda _: Steady())
        task = asyncio.create_task(daemon.run(rig.rig, car, in_this_loop))
        loading = asyncio.create_task(car.load("one"))
        with contextlib.suppress(TimeoutError, Refusal):
            async with asyncio.timeout(moment):
                await loading
                await asyncio.sleep(0.3)
                car.start()
                await asyncio.sleep(10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        loading.cancel()
        await asyncio.wait([loading])
        latest = rig.tape.latest()
        assert latest is None or (latest.command == REST and not latest.live)
        assert not car.engaged
        car.close()

    jump(cancel())


@pytest.mark.parametrize("device", ["battery", "camera"])
def test_a_driver_with_a_bug_costs_its_device_and_not_the_daemon(jump: Jump, store: ModelStore, device: str) -> None:
    @dataclass
    class Buggy:
        sound: Camera | Battery

        async def read(self) -> Any:
            if bugs:
                raise ZeroDivisionError("a bug in a driver")
            return await self.sound.read()

        async def close(self) -> None:
            pass

    bugs: list[str] = []

    async def run_into_it() -> None:
        def fit(rig: Rig) -> Rig:
            assert rig.battery is not None
            if device == "camera":
                return replace(rig, cameras=(Buggy(rig.cameras[0]),))
            return replace(rig, battery=Buggy(rig.battery))

        async with driving(store, Steady(), fit=fit) as bench:
            assert bench.moving()
            bugs.append("one")
            await asyncio.sleep(1.0)
            assert f"The {device} failed (a bug in a driver); the car's log says where." in bench.car.snapshot().faults
            assert bench.moving() is (device == "battery")
            bugs.clear()
            await asyncio.sleep(1.0)
            assert bench.car.snapshot().faults == ()
            assert not bench.daemon.done()

    jump(run_into_it())


async def test_act_releases_the_wires_even_when_their_driver_has_a_bug(store: ModelStore) -> None:
    released: list[bool] = []

    class BuggyActuators:
        def apply(self, command: ActuatorCommand) -> None:
            raise ZeroDivisionError("a bug in a driver")

        def release(self) -> None:
            released.append(True)

    car = Car(Settings(), store, DEFAULT)
    act = Act(car.mailbox, BuggyActuators(), asyncio.get_running_loop().time)
    with pytest.raises(ZeroDivisionError):
        act.tick()
    act.rest()
    assert released == [True]
    car.close()


def test_a_governor_that_ends_or_stands_still_ends_the_daemon(jump: Jump, store: ModelStore) -> None:
    async def freezes(wires: object, mailbox: Mailbox, doorbell: Doorbell) -> None:
        await asyncio.sleep(math.inf)

    async def lose() -> None:
        wires = store.root / "wires"
        rig = SimRig(World(track.load("oval_track"), Tape(wires), 0.0), wires)
        car = Car(Settings(), store, DEFAULT)
        with pytest.raises(ExceptionGroup) as caught:
            await daemon.run(rig.rig, car, freezes)
        assert caught.group_contains(GovernorLost)
        car.close()

    jump(lose())


@pytest.mark.parametrize(("rate_hz", "decisions"), [(5, 100), (7, 140), (10, 200), (15, 300), (30, 600), (60, 600)])
def test_decisions_keep_their_pace_without_drift(jump: Jump, store: ModelStore, rate_hz: float, decisions: int) -> None:
    async def pace() -> None:
        policy = Steady(NEUTRAL)
        async with driving(store, policy, rate_hz=rate_hz):
            policy.seen.clear()
            await asyncio.sleep(20)
        assert abs(len(policy.seen) - decisions) <= 2
        assert max(np.diff(policy.seen)) <= 1 / rate_hz + 1 / 29

    jump(pace())


def test_a_part_that_stays_old_stops_the_car_which_waits_for_a_start(jump: Jump, store: ModelStore) -> None:
    async def age() -> None:
        async with driving(store, Steady()) as bench:
            seen = bench.car.observations.value
            assert seen is not None
            bench.rig.faults.camera_frozen = True
            for _ in range(8):  # new pictures beside a scan that does not come any more
                bench.car.observations.put(seen)
                await asyncio.sleep(0.1)
            assert not bench.car.engaged
            assert "older than 0.5 s; check the LiDAR" in str(bench.car.stopped_because)
            assert not bench.moving()

    jump(age())
