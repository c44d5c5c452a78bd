"""The daemon among faults: whatever breaks, hangs, lies or is asked for, the wires carry no wrong pulse.

Nothing is drawn here: the camera keeps the simulated one's time and faults, and always gives the same picture. Half an
hour of the car's time takes some twenty seconds; at night three of them are lived through.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import math
import os
import random
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeVar, TypeVarTuple, Unpack

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.calibration import DEFAULT, Calibration, Channel
from drivers.signals import NEUTRAL, Action, Observation
from inference.package import ModelPackage, PackageError
from sim_stub import track
from sim_stub.clock import JumpingLoop
from sim_stub.rig import SimCamera, SimRig
from sim_stub.wires import Pulse, Tape
from sim_stub.world import World
from tests.vehicle.making import make_store
from vehicle import daemon
from vehicle.car import EVENTS, Car, Refusal
from vehicle.gate import DriveMode
from vehicle.gauges import SAMPLES
from vehicle.governor import in_this_loop
from vehicle.models import ModelStore
from vehicle.settings import Drive, Settings

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

NIGHTLY: Final = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
MINUTES: Final = 30
SEEDS: Final = (1, 2, 3) if NIGHTLY else (1,)
WARM_UP: Final = 3
"""Minutes of faults before the first figures of memory, tasks and files are taken."""
CALM: Final = 20.0
"""Seconds after which nothing is left of a fault."""
MOST_AGE: Final = 0.5
"""Seconds after what a pulse replies to, or after a stop, within which the wires are at rest."""
MOST_BLOCKS: Final = 4000
"""Of memory, by which the process may grow: one for every tick, picture or decision would be far more."""
LOOK: Final = 1.0
"""Seconds between two looks at the tape, which remembers five and more."""
OTHER: Final = Calibration(Channel(1_100_000, 1_500_000, 1_800_000, -1), Channel(1_350_000, 1_480_000, 1_600_000, 1))


class DozingLoop(JumpingLoop):
    """Its clock jumps for a thread that dozes, too: a model may be slow without anybody's waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: Counter[Executor | None] = Counter()
        self._dozing: set[Executor | None] = set()
        self._here = threading.local()

    def doze(self, seconds: float) -> None:
        """For threads of `run_in_executor`: return after that time of the loop's clock."""
        asyncio.run_coroutine_threadsafe(self._pass(self._here.executor, seconds), self).result()

    async def _pass(self, executor: Executor | None, seconds: float) -> None:
        self._dozing.add(executor)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._dozing.discard(executor)

    def _jump(self, seconds: float) -> bool:
        if self._calls.keys() - self._dozing:
            return False
        self._now += seconds
        return True

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        def call() -> T:
            self._here.executor = executor
            return func(*args)

        def came_back(_: object) -> None:
            self._calls[executor] -= 1
            self._calls += Counter()  # drops what is 0

        future = super().run_in_executor(executor, call)
        self._calls[executor] += 1
        future.add_done_callback(came_back)
        return future


class ClosedEye:
    """Sees the same grey whatever is there."""

    def __init__(self) -> None:
        self._picture = np.full((1, 1, 120, 160, 3), 128, np.uint8)

    def look(self, *_: object) -> NDArray[np.uint8]:
        return self._picture


@dataclass(frozen=True)
class Wish:
    """It replies to what was so at `t`, and was wished at `when`."""

    t: float
    when: float


@dataclass
class Moody:
    """A model that answers as its mood is, and remembers when it was asked."""

    loop: DozingLoop
    chance: random.Random
    mood: str = "sound"
    shown: deque[Wish] = field(default_factory=lambda: deque(maxlen=128))

    def decide(self, observation: Observation) -> Action:
        self.shown.append(Wish(observation.t, self.loop.time()))
        match self.mood:
            case "slow":
                self.loop.doze(self.chance.uniform(0.05, 0.25))
            case "hanging":
                self.loop.doze(self.chance.uniform(0.3, 1.5))
            case "raising":
                raise self.chance.choice([RuntimeError("the tensor melted"), MemoryError(), ZeroDivisionError()])
            case "nonsense":
                return self.chance.choice(
                    [Action(math.nan, 0.5), Action(0.0, math.inf), Action(0.0, 7.0), Action(-1.01, 0.5)]
                )
        return Action(self.chance.uniform(-1, 1), self.chance.uniform(-1, 1))


@dataclass(frozen=True)
class Chapter:
    """What was so from `since` until the next chapter."""

    since: float
    mode: DriveMode
    engaged: bool
    turn: int
    began: float
    """The time when the turn began."""
    bounds: Calibration
    rest: Calibration


class Witness:
    """Judges every pulse on the tape by what was asked, when, and by whom."""

    def __init__(self, car: Car, tape: Tape, model: Moody) -> None:
        self._car, self._tape, self._model = car, tape, model
        self._chapters: deque[Chapter] = deque()
        self._wishes: dict[DriveMode, deque[Wish]] = {mode: deque(maxlen=128) for mode in DriveMode}
        self._wishes[DriveMode.AUTONOMOUS] = model.shown
        self._read = 0
        self._latest: Pulse | None = None
        self.seen: Counter[str] = Counter()
        self.oldest = 0.0
        self.wrong: list[str] = []
        self.note()

    def note(self) -> None:
        """The car has changed, or is about to."""
        car = self._car
        trimming = car.mode is DriveMode.CALIBRATION
        bounds = car.calibration.trimming if trimming else car.calibration
        now = asyncio.get_running_loop().time()
        last = self._chapters[-1] if self._chapters else None
        began = last.began if last and last.turn == car.turn else now
        chapter = Chapter(now, car.mode, car.engaged, car.turn, began, bounds, car.calibration)
        if last is None or replace(last, since=now) != chapter:
            self._chapters.append(chapter)

    def wished(self, mode: DriveMode) -> None:
        now = asyncio.get_running_loop().time()
        self._wishes[mode].append(Wish(now, now))

    async def listen(self) -> None:
        while True:
            changed = self._car.changed
            self.note()
            await changed.wait()

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            self.look()

    def look(self) -> None:
        count, pulses = self._tape.read(self._read)
        assert len(pulses) == count - self._read, "the tape was not read often enough"
        self._read = count
        for pulse in pulses:
            if self._latest is not None:
                self._judge(self._latest, pulse.t)
            self._latest = pulse
            while len(self._chapters) > 1 and self._chapters[1].since < pulse.t:
                self._chapters.popleft()

    def _judge(self, pulse: Pulse, until: float) -> None:
        """A pulse that was on the wires from its own time until the next one."""
        self.seen["pulses"] += 1
        if until - pulse.t > MOST_AGE:
            self.wrong.append(f"{pulse} stood for {until - pulse.t:.3f} s without anybody's attention")
        if not pulse.live:
            self.seen["released"] += 1
            return
        # Of chapters that begin at the very moment of the pulse either may count: the clock stood still.
        ends = [*(chapter.since for chapter in self._chapters), math.inf][1:]
        open_then = [c for c, end in zip(self._chapters, ends, strict=True) if c.since <= pulse.t <= end]
        faults = [self._fault(pulse, until, chapter) for chapter in open_then] or ["nobody knows the time of"]
        if all(faults):
            self.wrong.append(f"{faults[-1]} {pulse}, of {open_then[-1:]}")

    def _fault(self, pulse: Pulse, until: float, chapter: Chapter) -> str | None:
        command, bounds = pulse.command, chapter.bounds
        for channel, pulse_ns in ((bounds.steering, command.steering_ns), (bounds.throttle, command.throttle_ns)):
            if not channel.min_ns <= pulse_ns <= channel.max_ns:
                return "outside the calibration:"
        if command == chapter.rest.command(NEUTRAL):
            return None
        if not chapter.engaged:
            return "moving without a start:"
        wishes = [wish.t for wish in self._wishes[chapter.mode] if chapter.began <= wish.when <= pulse.t]
        if not wishes:
            return "moving without a wish:"
        age = until - max(wishes)
        if age > MOST_AGE:
            return f"moving {age:.3f} s after the last wish:"
        self.seen[f"moving, {chapter.mode.value}"] += 1
        self.oldest = max(self.oldest, age)
        return None


class Mischief:
    """Breaks a thing, mends it a while later, and asks the car for something, all by chance."""

    def __init__(self, car: Car, rig: SimRig, model: Moody, witness: Witness, chance: random.Random) -> None:
        self._car, self._rig, self._model, self._witness, self._chance = car, rig, model, witness, chance
        self._loads: set[asyncio.Task[None]] = set()
        self.done: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()

    async def play(self, seconds: float) -> None:
        """Until then a fault or a request every second or two, and a hand on stick and sliders."""
        hand = asyncio.create_task(self._hand())
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        deeds: list[Callable[[], None]] = [
            self._break_camera, self._break_lidar, self._break_battery, self._jam, self._upset, self._upset,
            self._select, self._stop, self._restart, self._restart, self._load, self._calibrate,
            *[self._start] * 8,
        ]  # fmt: skip
        while loop.time() < end:
            await asyncio.sleep(self._chance.uniform(0.1, 2.0))
            if self._car.stopped_because is not None:
                self.reasons[self._car.stopped_because.split(".")[0]] += 1
            self._chance.choice(deeds)()
            self._witness.note()
        hand.cancel()
        await asyncio.wait([hand, *self._loads])

    def mend(self) -> None:
        faults = self._rig.faults
        faults.camera_frozen = faults.camera_gone = faults.lidar_gone = False
        faults.drop_every, faults.battery = 0, 1.0
        self._rig.tape.jammed = False
        self._model.mood = "sound"

    def _for_a_while(self, undo: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(self._chance.uniform(0.1, 4.0), undo)

    def _break_camera(self) -> None:
        what, value = self._chance.choice([("camera_frozen", True), ("camera_gone", True), ("drop_every", 2)])
        self.done[what] += 1
        setattr(self._rig.faults, what, value)
        self._for_a_while(lambda: setattr(self._rig.faults, what, type(value)(0)))

    def _break_lidar(self) -> None:
        self.done["lidar_gone"] += 1
        self._rig.faults.lidar_gone = True
        self._for_a_while(lambda: setattr(self._rig.faults, "lidar_gone", False))

    def _break_battery(self) -> None:
        self.done["battery"] += 1
        self._rig.faults.battery = self._chance.choice([None, 0.0, 0.05, 1.0])

    def _jam(self) -> None:
        self.done["wires jammed"] += 1
        self._rig.tape.jammed = True
        self._for_a_while(lambda: setattr(self._rig.tape, "jammed", False))

    def _upset(self) -> None:
        mood = self._chance.choice(["slow", "slow", "hanging", "raising", "nonsense"])
        self.done[f"model {mood}"] += 1
        self._model.mood = mood
        self._for_a_while(lambda: setattr(self._model, "mood", "sound"))

    def _select(self) -> None:
        self.done["mode"] += 1
        self._car.select(self._chance.choice(list(DriveMode)))

    def _start(self) -> None:
        self.done["start"] += 1
        with contextlib.suppress(Refusal):
            self._car.start()

    def _stop(self) -> None:
        self.done["stop"] += 1
        self._car.stop()

    def _restart(self) -> None:
        """At once: what was begun before must not count."""
        self.done["restart"] += 1
        self._car.stop()
        with contextlib.suppress(Refusal):
            self._car.start()

    def _load(self) -> None:
        self.done["load"] += 1
        self._begin(self._car.load(self._chance.choice(["one", "two", "bad"])))

    def _calibrate(self) -> None:
        self.done["calibrate"] += 1
        self._begin(self._car.calibrate(self._chance.choice([DEFAULT, OTHER])))

    def _begin(self, work: Coroutine[object, object, None]) -> None:
        async def see_it_through() -> None:
            with contextlib.suppress(Refusal, PackageError):
                await work

        task = asyncio.create_task(see_it_through())
        self._loads.add(task)
        task.add_done_callback(self._loads.discard)

    async def _hand(self) -> None:
        chance, car = self._chance, self._car
        while True:
            await asyncio.sleep(chance.choice([0.02, 0.05, 0.1, 0.1, 0.2, 0.4, 1.5]))
            if chance.random() < 0.05:
                self._restart()
            far = 1.3 if chance.random() < 0.05 else 1.0
            with contextlib.suppress(Refusal):
                if chance.random() < 0.5:
                    self.done["stick"] += 1
                    stick = math.nan if chance.random() < 0.02 else far * chance.uniform(-1, 1)
                    car.steer(far * chance.uniform(-1, 1), stick)
                    self._witness.wished(DriveMode.MANUAL)
                else:
                    self.done["trim"] += 1
                    car.trim(chance.choice(["steering", "throttle"]), far * chance.uniform(-50, 50))
                    self._witness.wished(DriveMode.CALIBRATION)


@dataclass(frozen=True)
class Figures:
    """What must not grow."""

    tasks: Counter[str]
    files: int
    threads: int
    """Of models."""
    blocks: int

    @classmethod
    def taken(cls) -> Figures:
        gc.collect()
        tasks: Counter[str] = Counter(task.get_coro().__qualname__ for task in asyncio.all_tasks())  # type: ignore[union-attr]
        files = len(list(Path("/proc/self/fd").iterdir()))
        threads = [thread for thread in threading.enumerate() if thread.name.startswith("model ")]
        return cls(tasks, files, len(threads), sys.getallocatedblocks())


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """A model that needs a camera, one that needs the LiDAR too, and one that does not open."""
    camera = ("FRONT_FACING_CAMERA",)
    return make_store(tmp_path, one=camera, two=(*camera, "LIDAR"), bad=camera)


async def calm(car: Car, mischief: Mischief) -> None:
    """Mend all and drive for a while, until nothing is under way and what has a limit is as full as it gets."""
    mischief.mend()
    for _ in range(EVENTS):  # the log of events
        car.select(DriveMode.MANUAL)
        car.select(DriveMode.AUTONOMOUS)
    await asyncio.sleep(CALM)
    await car.load("one")
    car.start()
    await asyncio.sleep(CALM)
    car.stop()
    for n in range(SAMPLES):
        car.gauges.decided(asyncio.get_running_loop().time() + n * 1e-9, n * 1e-9)
    await asyncio.sleep(CALM)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", SEEDS)
def test_among_faults_of_every_kind_no_wrong_pulse_comes_and_nothing_piles_up(
    store: ModelStore, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "vehicle.car")  # whatever pytest hears it keeps, and memory is counted here

    async def live() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, DozingLoop)
        wires = store.root / "wires"
        sim = SimRig(World(track.load("reinvent_base"), Tape(wires), loop.time()), wires, has_lidar=True)
        camera = SimCamera(sim.world, ClosedEye(), sim.faults)  # type: ignore[arg-type]
        chance = random.Random(seed)
        model = Moody(loop, chance)

        def opened(package: ModelPackage) -> Moody:
            if package.name == "bad":
                raise RuntimeError("no such graph")
            if model.mood == "hanging":
                loop.doze(0.5)
            return model

        rig = replace(sim.rig, cameras=(camera,))
        car = Car(Settings(drive=Drive(max_speed=1.0)), store, DEFAULT, rig.fittings, open_policy=opened)
        witness = Witness(car, sim.tape, model)
        mischief = Mischief(car, sim, model, witness, chance)
        running = asyncio.create_task(daemon.run(rig, car, in_this_loop))
        beside = [asyncio.create_task(witness.listen()), asyncio.create_task(witness.watch())]
        try:
            while car.observations.value is None or car.mailbox.report() is None:
                await asyncio.sleep(0.01)
            await mischief.play(60.0 * WARM_UP)
            await calm(car, mischief)
            before = Figures.taken()
            await mischief.play(60.0 * MINUTES)
            await calm(car, mischief)
            after = Figures.taken()
            witness.look()
            story = f"{witness.seen}, {mischief.done}, {mischief.reasons}, {witness.oldest}, {before}, {after}"
            print(story)
            assert not running.done(), "the daemon ended"
            assert witness.wrong == [], story
            # That something could have gone wrong at all:
            assert all(witness.seen[f"moving, {mode.value}"] > 50 * MINUTES for mode in DriveMode), story
            assert len(mischief.done) == 18, story
            for reason in ("No picture", "jammed", "failed", "did not answer", "is being loaded"):
                assert any(reason in text for text in mischief.reasons), (reason, story)
            # Nothing grows.
            assert after.tasks == before.tasks, story
            assert (after.files, after.threads) == (before.files, before.threads), story
            assert after.blocks - before.blocks < MOST_BLOCKS, story
            # And all is well again.
            assert car.snapshot().faults == (), story
            car.start()
            await asyncio.sleep(1.0)
            latest = sim.tape.latest()
            assert latest is not None
            assert latest.live
            assert latest.command != car.calibration.command(NEUTRAL)
        finally:
            for task in (running, *beside):
                task.cancel()
            await asyncio.wait([running, *beside])
            car.close()

    with asyncio.Runner(loop_factory=DozingLoop) as runner:
        runner.run(live())
