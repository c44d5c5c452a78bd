"""Laps: cars are let loose on a track, and what comes of it is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from drivers.signals import Frame
from inference.features import grey
from sim_stub.dynamics import FRONT_POINT, WHEELS, YAW, Command, Profile, State, X, Y, advance, to_world
from sim_stub.track import Track
from sim_stub.view import Eye, Lens, Scene

Pictures: TypeAlias = NDArray[np.uint8]
"""uint8[n, 120, 160]: what n cars see, as grey as the car's own software makes it."""
Driver: TypeAlias = Callable[[Pictures], Command]
"""Chooses a command for each picture."""

DECISION: Final = 0.1
"""Seconds from one picture to the next: the car decides 10 times a second."""
GLANCE: Final = 0.02
"""Seconds between two looks at whether the wheels are still on the road."""
SLOWEST: Final = 0.5
"""A driver whose laps take longer than at this mean speed (m/s) runs out of time."""

_FRONT = np.array([[FRONT_POINT, 0.0]])


class Heat:
    """Cars on one closed track at once, each as if alone there, until all four of its wheels leave the road.

    `running` bool[cars] tells who is still on the road, `travelled` float64[cars] how many metres along the centre line
    each came until now or until it left the road. A command takes hold `latency` seconds after its picture.
    """

    def __init__(self, track: Track, eye: Eye, chassis: Profile, latency: float, state: State) -> None:
        self.track, self.eye, self.chassis, self.latency = track, eye, chassis, latency
        self.state = state
        self.running = self._on_road()
        self.travelled = np.zeros(len(state))
        self._command = np.zeros((len(state), 2))
        self._along = track.distance_along(front(state))

    def look(self) -> Pictures:
        """What the running cars see, in their order."""
        if not self.running.any():
            return np.zeros((0, self.eye.lens.height, self.eye.lens.width), np.uint8)
        colour = self.eye.look(self.state[self.running])
        return np.stack([grey(Frame(0.0, picture)) for picture in colour]).astype(np.uint8)

    def drive(self, command: Command) -> None:
        """Carry the running cars through one decision; `command` has a row for each of them."""
        deciding = self.running.copy()
        self._advance(self.latency)
        self._command[deciding] = command
        for _ in range(glances := round((DECISION - self.latency) / GLANCE)):
            self._advance((DECISION - self.latency) / glances)

    def _advance(self, seconds: float) -> None:
        if seconds > 0:
            self.state = advance(self.state, self._command, seconds, self.chassis)
        along = self.track.distance_along(front(self.state))
        half = self.track.length / 2
        step = np.mod(along - self._along + half, self.track.length) - half
        self._along = along
        self.running &= self._on_road()
        self.travelled += np.where(self.running, step, 0.0)

    def _on_road(self) -> NDArray[np.bool_]:
        return np.asarray(self.track.on_road(to_world(self.state, WHEELS)).any(axis=1), np.bool_)


def front(state: State) -> NDArray[np.float64]:
    """float64[cars, 2]: the point of each car that counts as its position."""
    return to_world(state, _FRONT)[:, 0]


def standing(track: Track, along: NDArray[np.float64]) -> State:
    """Cars at rest on the centre line, their front points `along` metres from the first waypoint."""
    place, heading = track.place(along)
    state = np.zeros((len(along), 5))
    state[:, [X, Y]] = place - FRONT_POINT * np.stack([np.cos(heading), np.sin(heading)], axis=1)
    state[:, YAW] = heading
    return state


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one start: the seconds of each clean lap, the first from a standstill."""

    laps: tuple[float, ...]


def evaluate(
    driver: Driver, track: Track, chassis: Profile, *, starts: int = 10, laps: int = 3, latency: float = 0.005
) -> tuple[Run, ...]:
    """A run of at most `laps` laps from each of the standing starts, which are spread evenly over the closed track."""
    along = np.arange(starts) / starts * track.length
    heat = Heat(track, Eye(Scene(track), Lens()), chassis, latency, standing(track, along))
    travelled = [heat.travelled.copy()]
    finish = laps * track.length
    while len(travelled) * DECISION < finish / SLOWEST and (heat.running & (heat.travelled < finish)).any():
        heat.drive(driver(heat.look()))
        travelled.append(heat.travelled.copy())
    history = np.array(travelled)
    return tuple(Run(_laps(history[:, car], track.length, laps)) for car in range(starts))


def _laps(travelled: NDArray[np.float64], length: float, most: int) -> tuple[float, ...]:
    count = min(most, int(travelled.max() / length))
    reached = np.maximum.accumulate(travelled)
    after = np.array([int(np.searchsorted(reached, lap * length)) for lap in range(1, count + 1)], np.intp)
    part = (np.arange(1, count + 1) * length - reached[after - 1]) / (reached[after] - reached[after - 1])
    return tuple(float(seconds) for seconds in np.diff((after - 1 + part) * DECISION, prepend=0.0))
