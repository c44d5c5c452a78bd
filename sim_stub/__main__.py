"""The car on a laptop: the same daemon, around a simulated rig, with its console in the browser."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import logging
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from calibration import store as calibration_store
from calibration.calibration import DEFAULT, CalibrationError
from drivers.disk import claim
from inference.package import ModelPackage, PackageError
from sim_stub import track
from sim_stub.clock import JumpingLoop
from sim_stub.rig import SimRig
from sim_stub.rules import Rules, RulesError, read_rules, read_setting
from sim_stub.view import MONO, STEREO
from sim_stub.wires import Tape
from sim_stub.world import World
from vehicle import daemon
from vehicle.car import Car, Refusal
from vehicle.governor import GovernorLost, in_own_process, in_this_loop
from vehicle.models import ModelMissing, ModelStore
from vehicle.settings import Drive, Settings, SettingsError, load
from webui.app import console
from webui.auth import PASSWORD_FILE, Password, WeakPassword

SAMPLE: Final = Path(daemon.__file__).parent / "sample.tar.gz"
SLOWEST_LAP: Final = 60.0
"""Simulated seconds after which a lap counts as never finished."""
START_UP: Final = 10.0
TOLD: Final = (
    track.TrackError,
    RulesError,
    CalibrationError,
    PackageError,
    ModelMissing,
    Refusal,
    SettingsError,
    WeakPassword,
    GovernorLost,
    OSError,
)
"""What is told in one sentence, without a traceback."""


def main(arguments: list[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.speedup and not options.headless:
        parser.error("--speedup needs --headless: nobody could watch a page on a clock that jumps")
    logging.basicConfig(
        level=logging.WARNING if options.headless else logging.INFO, format="%(levelname)s %(name)s: %(message)s"
    )
    try:
        settings, rules = _settings(options), _rules(options)
        rules.check(track.load(options.track))
        with claim(options.state):
            wires = options.state / "wires"
            wires.unlink(missing_ok=True)
            name = asyncio.run(_install(options, settings))
            with asyncio.Runner(loop_factory=JumpingLoop if options.speedup else None) as runner:
                return runner.run(_drive(options, settings, rules, name, options.wires or wires))
    except (*TOLD, ExceptionGroup) as error:
        leaves = list(_leaves(error))
        if not all(isinstance(leaf, TOLD) for leaf in leaves):
            raise
        for leaf in leaves:
            print(f"hotlap: {leaf}", file=sys.stderr)
        return 3 if any(isinstance(leaf, GovernorLost) for leaf in leaves) else 2


async def _install(options: argparse.Namespace, settings: Settings) -> str:
    """The name of the model to drive with, installed."""
    store = ModelStore(options.state, settings.inference.device)
    if options.model is None:
        return store.active or (await store.add(SAMPLE)).name
    if options.model in store.names():
        return str(options.model)
    return (await store.add(Path(options.model))).name


async def _drive(options: argparse.Namespace, settings: Settings, rules: Rules, name: str, wires: Path) -> int:
    loop = asyncio.get_running_loop()
    store = ModelStore(options.state, settings.inference.device)
    remembered = calibration_store.load(options.state / "calibration.json")
    truth = calibration_store.parse(options.truth.read_bytes()) if options.truth else DEFAULT
    package: ModelPackage = store.get(name)
    cameras, has_lidar = max(options.cameras, package.cameras), options.lidar or package.needs_lidar
    world = World(track.load(options.track), Tape(wires), loop.time(), start=options.start, truth=truth, rules=rules)
    rig = SimRig(world, wires, STEREO if cameras == 2 else MONO, has_lidar)
    car = Car(settings, store, remembered.calibration, rig.rig.fittings)
    if remembered.fault:
        car.fault("calibration", remembered.fault)
    act = in_this_loop if options.speedup else in_own_process
    try:
        async with contextlib.AsyncExitStack() as stack:
            here = asyncio.current_task()
            assert here is not None
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, here.cancel)
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            driving = tasks.create_task(daemon.run(rig.rig, car, act))
            others = [tasks.create_task(_gear(car, world))]
            others += [tasks.create_task(_break(rig, *fault)) for fault in options.fault]
            if not options.headless:
                password, new = Password.first(options.state / PASSWORD_FILE, _known_password(options))
                if new is not None:
                    print(f"hotlap: the console's password is {new}; it asks you for one of your own", flush=True)
                address = await stack.enter_async_context(console(car, settings.console, password, rig))
                print(f"hotlap: the console is at {address}", flush=True)
            await car.load(name)
            await _awake(car)
            car.start()
            if not options.headless:
                await driving
            status = await _laps(options, car, world, driving)
            for task in (driving, *others):
                task.cancel()
            return status
    except asyncio.CancelledError:
        return 1 if options.headless else 0
    finally:
        car.close()
    raise AssertionError("unreachable")


def _settings(options: argparse.Namespace) -> Settings:
    settings = load(options.settings) if options.settings else Settings(drive=Drive(max_speed=1.0))
    drive, desk = settings.drive, settings.console
    if options.max_speed is not None:
        drive = dataclasses.replace(drive, max_speed=options.max_speed / 100)
    if options.port is not None:
        desk = dataclasses.replace(desk, port=options.port, redirect=0)
    return dataclasses.replace(settings, drive=drive, console=desk)


def _rules(options: argparse.Namespace) -> Rules:
    return read_rules({"race_type": options.race_type} | dict(read_setting(rule) for rule in options.rule))


def _known_password(options: argparse.Namespace) -> str | None:
    if options.password_file is None:
        return None
    return str(options.password_file.read_text("utf-8")).strip()


async def _awake(car: Car) -> None:
    """Wait for the first picture and the governor's first tick."""
    async with asyncio.timeout(START_UP):
        while car.mailbox.report() is None or car.observations.value is None:
            await asyncio.sleep(0.01)


async def _gear(car: Car, world: World) -> None:
    """Give the simulated motor the gear that the model's full throttle stands for: its fastest action, in m/s."""
    while True:
        if car.driver is not None:
            world.top_speed = car.driver.package.metadata.action_space.top_speed
        await car.changed.wait()


async def _break(rig: SimRig, kind: str, after: float) -> None:
    await asyncio.sleep(after)
    if kind == "camera":
        rig.faults.camera_frozen = True
    elif kind == "wires":
        rig.tape.jammed = True
    else:
        rig.faults.battery = None


async def _laps(options: argparse.Namespace, car: Car, world: World, driving: asyncio.Task[None]) -> int:
    """Drive the laps, print what they were like, and say by the exit status whether they were clean."""
    loop = asyncio.get_running_loop()
    end = loop.time() + SLOWEST_LAP * options.laps
    while len(world.laps) < options.laps and loop.time() < end and car.engaged:
        await asyncio.sleep(0.05)
    if not car.engaged and car.stopped_because is None:
        await driving  # it is ending, and raises what ended it
    car.stop()
    state = car.snapshot()
    if state.stopped_because:
        print(f"hotlap: the car stopped itself: {state.stopped_because}", file=sys.stderr)
    laps = world.laps[: options.laps]
    if options.json:
        counts = {"off_track": world.off_track, "crashes": world.crashes, "frames": state.frames}
        figures = {"laps": [round(lap, 3) for lap in laps]} | counts
        print(json.dumps(figures | dataclasses.asdict(state.latencies)))
    else:
        for number, lap in enumerate(laps, 1):
            print(f"lap {number}: {lap:.2f} s")
        print(f"off track: {world.off_track} times")
        if world.traffic.count:
            print(f"crashed: {world.crashes} times")
    return 0 if len(laps) == options.laps and world.off_track == world.crashes == 0 else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sim_stub", description=__doc__)
    parser.add_argument("--track", default="reinvent_base", help="a track's name or title, or a .npy route")
    parser.add_argument("--model", help="an installed model, or a package to install (default: the last one, or ours)")
    parser.add_argument("--race-type", default="time-trial", help="time-trial, object-avoidance or head-to-bot")
    parser.add_argument("--rule", action="append", default=[], metavar="KEY=VALUE", help="see docs/simulator.md")
    parser.add_argument("--cameras", type=int, choices=(1, 2), default=1, help="more if the model needs more")
    parser.add_argument("--lidar", action="store_true", help="fit a LiDAR, even if the model needs none")
    parser.add_argument("--start", type=_part, default=0.0, help="where on the lap to start, 0..1")
    parser.add_argument("--max-speed", type=_percent, metavar="PERCENT", help="the slider, 0..100 (default 100)")
    parser.add_argument("--headless", action="store_true", help="no page: drive the laps and end")
    parser.add_argument("--laps", type=_count, default=3, help="laps of a headless drive")
    parser.add_argument("--json", action="store_true", help="print the figures of a headless drive as JSON")
    parser.add_argument("--speedup", action="store_true", help="headless, on a clock that jumps: faster than life")
    parser.add_argument("--port", type=int, help="of the console (default 8443; 0 takes a free one)")
    parser.add_argument("--password-file", type=Path, metavar="FILE", help="the console's password is the file's line")
    parser.add_argument(
        "--truth", type=Path, metavar="FILE", help="how servo and motor really answer: a calibration.json"
    )
    parser.add_argument("--state", type=Path, default=Path(".hotlap"), help="folder for models and calibration")
    parser.add_argument("--settings", type=Path, help="a settings file (TOML)")
    parser.add_argument("--wires", type=Path, help="file that carries the pulses (default: in the state folder)")
    parser.add_argument(
        "--fault",
        type=_fault,
        action="append",
        default=[],
        metavar="KIND@SECONDS",
        help="break something then: camera, wires or battery",
    )
    return parser


def _part(text: str) -> float:
    return _number(text, 0, 1)


def _percent(text: str) -> float:
    return _number(text, 0, 100)


def _number(text: str, low: float, high: float) -> float:
    value = float(text)
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"must lie in {low}..{high}, not {text}")
    return value


def _count(text: str) -> int:
    return int(_number(text, 1, 10_000))


def _fault(text: str) -> tuple[str, float]:
    kind, _, after = text.partition("@")
    if kind not in ("camera", "wires", "battery"):
        raise argparse.ArgumentTypeError(f"must be camera, wires or battery, not {kind!r}")
    return kind, _number(after or "0", 0, 86_400)


def _leaves(error: Exception) -> Iterator[Exception]:
    for inner in error.exceptions if isinstance(error, ExceptionGroup) else ():
        yield from _leaves(inner)
    if not isinstance(error, ExceptionGroup):
        yield error


if __name__ == "__main__":
    sys.exit(main())
