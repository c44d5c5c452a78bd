"""SimRig: the simulated world as a car's devices, with switches for its faults."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from drivers.rig import DeviceError, Lamp, Rig, Wires
from drivers.signals import Frame, LidarScan
from sim_stub import lidar
from sim_stub.scene import Scene
from sim_stub.view import MONO, Eye, Lens
from sim_stub.wires import Tape
from sim_stub.world import Standing, World

CAMERA_RATE: Final = 30.0
LIDAR_RATE: Final = 10.0
LIDAR_ANGLES: Final = np.linspace(-np.pi, np.pi, 360, endpoint=False)


@dataclass(slots=True)
class Faults:
    """What is broken at the moment; turn on and off at will."""

    camera_frozen: bool = False
    """The camera sends nothing more, and does not say so."""
    camera_gone: bool = False
    """The camera is unplugged: reading it fails."""
    drop_every: int = 0
    """Of so many pictures one is lost; 0 loses none."""
    lidar_gone: bool = False
    """The LiDAR is unplugged: reading it fails."""
    battery: float | None = 1.0
    """Charge 0..1; None is a battery that was unplugged."""


class SimCamera:
    """A camera at CAMERA_RATE on its own grid of time."""

    def __init__(self, world: World, eye: Eye, faults: Faults) -> None:
        self._world, self._eye, self._faults = world, eye, faults
        self._due = 0.0
        self._count = 0

    async def read(self) -> Frame:
        loop = asyncio.get_running_loop()
        while True:
            self._due = max(self._due + 1 / CAMERA_RATE, loop.time())
            await asyncio.sleep(self._due - loop.time())
            self._count += 1
            if self._faults.camera_gone:
                raise DeviceError("The simulated camera is unplugged.")
            lost = self._faults.drop_every and self._count % self._faults.drop_every == 0
            if not self._faults.camera_frozen and not lost:
                t = loop.time()
                self._world.advance(t)
                return Frame(t, self._eye.look(self._world.state, self._world.traffic.solids)[0, 0])

    async def close(self) -> None:
        pass


class SimLidar:
    """A LiDAR at LIDAR_RATE turns a second."""

    def __init__(self, world: World, faults: Faults) -> None:
        self._world, self._faults = world, faults
        self._due = 0.0
        self._turn = 0
        self._scan()

    async def read(self) -> LidarScan:
        loop = asyncio.get_running_loop()
        self._due = max(self._due + 1 / LIDAR_RATE, loop.time())
        await asyncio.sleep(self._due - loop.time())
        if self._faults.lidar_gone:
            raise DeviceError("The simulated LiDAR is unplugged.")
        t = loop.time()
        self._world.advance(t)
        self._turn += 1
        return LidarScan(t, self._scan())

    def _scan(self) -> NDArray[np.float32]:
        ranges = np.zeros((1, len(LIDAR_ANGLES)), np.float32)
        seeds, turn = np.zeros(1, np.uint64), np.array([self._turn])
        solids, field = self._world.traffic.solids, self._world.track.field
        lidar.scan(self._world.state, LIDAR_ANGLES, field, solids, seeds, turn, ranges)
        first: NDArray[np.float32] = ranges[0]
        return first

    async def close(self) -> None:
        pass


class SimBattery:
    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    async def read(self) -> float | None:
        return self._faults.battery


class SimLights:
    """Remembers what it shows."""

    def __init__(self) -> None:
        self.shown: dict[Lamp, tuple[int, int, int]] = {}

    async def show(self, lamp: Lamp, colour: tuple[int, int, int]) -> None:
        self.shown[lamp] = colour


class SimNetwork:
    async def addresses(self) -> list[str]:
        return ["127.0.0.1"]


@dataclass(frozen=True, slots=True)
class Outline:
    """The road from above, metres: row by row abreast, in driving order; closed if the last row repeats the first."""

    name: str
    title: str
    centre: list[tuple[float, float]]
    inner: list[tuple[float, float]]
    outer: list[tuple[float, float]]


class SimRig:
    """`rig` is what the daemon gets; `world`, `faults` and `tape` are for whoever stands beside the track.

    The car wears a camera for each of `lenses`, and a LiDAR if it `has_lidar`.
    """

    def __init__(self, world: World, tape_path: Path, lenses: tuple[Lens, ...] = MONO, has_lidar: bool = False) -> None:
        self.world, self.faults, self.tape = world, Faults(), Tape(tape_path)
        scene = Scene(world.track)
        self.rig = Rig(
            name="simulated car",
            cameras=tuple(
                SimCamera(world, Eye(scene, lens, world.profile.lean, threads=1), self.faults) for lens in lenses
            ),
            wires=Wires("sim_stub.wires:open_wires", (str(tape_path),)),
            lidar=SimLidar(world, self.faults) if has_lidar else None,
            battery=SimBattery(self.faults),
            lights=SimLights(),
            network=SimNetwork(),
        )

    def outline(self) -> Outline:
        track = self.world.track
        centre, inner, outer = ([(x, y) for x, y in line.tolist()] for line in (track.centre, track.inner, track.outer))
        return Outline(track.name, track.title, centre, inner, outer)

    def standing(self) -> Standing:
        """How the car is doing now."""
        self.world.advance(asyncio.get_running_loop().time())
        return self.world.standing()
