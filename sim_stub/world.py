"""The world around one simulated car: it lives on to whatever time somebody looks at it, and keeps the laps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from calibration.calibration import DEFAULT, Calibration
from sim_stub import survey
from sim_stub.dynamics import (
    DEEPRACER,
    FRONT_POINT,
    FULL_LOCK,
    SPEED,
    STATES,
    WHEELS,
    YAW,
    Profile,
    State,
    X,
    Y,
    advance,
    to_world,
)
from sim_stub.judge import progress_of, touches
from sim_stub.rules import Rules
from sim_stub.track import Track
from sim_stub.traffic import Traffic
from sim_stub.wires import Pulse, Tape

TICK: Final = 0.01
"""Seconds between two looks of the referee."""
DEFAULT_TOP_SPEED: Final = 2.0
SHOWN_LAPS: Final = 100
MOST_LAPS: Final = 10_000
"""Laps remembered, a day of them; the oldest are forgotten."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What somebody beside the track knows. `position` is the car's front point (m), `heading` rad, `speed` m/s."""

    position: tuple[float, float]
    heading: float
    speed: float
    progress: float
    """Per cent of the current lap."""
    lap_time: float
    """Seconds since the current lap began."""
    lap_count: int
    """Laps finished."""
    laps: tuple[float, ...]
    """Seconds of each of the latest finished laps, oldest first."""
    off_track: int
    """How often all four wheels left the road; the car was then put back on the centre line, at rest."""
    crashes: int
    """How often it ran into something; it was then set down a metre beyond, at rest, and its lap got the penalty."""


class World:
    """One car on one track, driven by the pulses on a tape, among the obstacles or bots that `rules` ask for.

    `truth` is how this car's servo and motor really answer, whatever the daemon believes. `start` is where on the lap
    the car stands at first, 0..1. At full throttle it drives `top_speed` m/s.
    """

    def __init__(
        self,
        track: Track,
        tape: Tape,
        now: float,
        *,
        start: float = 0.0,
        truth: Calibration = DEFAULT,
        profile: Profile = DEEPRACER,
        rules: Rules | None = None,
        seed: int = 0,
    ) -> None:
        """Raises RulesError."""
        self.rules = rules or Rules()
        self.rules.check(track)
        self.track, self.truth, self.profile = track, truth, profile
        self.top_speed = DEFAULT_TOP_SPEED
        self.state: State = np.zeros((1, STATES))
        self.laps: list[float] = []
        self.off_track = self.crashes = self._lap_count = 0
        self._ground = survey.ground(track)
        self.traffic = Traffic(self._ground, self.rules, 1)
        self.traffic.place(0, survey.FORWARD, np.random.default_rng(seed))
        self._tape, self._now = tape, now
        self._read, _ = tape.read(0)
        self._pulse = tape.latest()
        self._lap_began: float | None = None
        self._start = start % 1.0 if track.closed else 0.0
        self._progress = 0.0
        self._put(self._start * track.length)
        # What is compiled at its first call must not be so while the car drives.
        advance(self.state, np.zeros((1, 2)), TICK, profile)
        self._judge()
        self._progress = 0.0

    def advance(self, now: float) -> None:
        """Live on to `now`; a time that has passed is no error and changes nothing."""
        self._read, pulses = self._tape.read(self._read)
        for pulse in pulses:
            self._live(min(pulse.t, now))
            self._pulse = pulse
        self._live(now)

    def standing(self) -> Standing:
        front = to_world(self.state, np.array([[FRONT_POINT, 0.0]]))[0, 0]
        return Standing(
            position=(float(front[0]), float(front[1])),
            heading=float(self.state[0, YAW]),
            speed=float(self.state[0, SPEED]),
            progress=self._progress,
            lap_time=self._now - self._lap_began if self._lap_began is not None else 0.0,
            lap_count=self._lap_count,
            laps=tuple(self.laps[-SHOWN_LAPS:]),
            off_track=self.off_track,
            crashes=self.crashes,
        )

    def _live(self, until: float) -> None:
        command = np.array([self._command(self._pulse)])
        while until - self._now > 1e-9:
            step = min(TICK, until - self._now)
            self.state = advance(self.state, command, step, self.profile)
            self.traffic.advance(step, np.zeros(1, np.intp), np.zeros(1, np.int64))
            self._now += step
            if abs(self.state[0, SPEED]) > 1e-3 or self.traffic.moving:
                self._judge()

    def _command(self, pulse: Pulse | None) -> tuple[float, float]:
        """Wheel angle (rad) and speed (m/s) that the pulses ask this car for."""
        if pulse is None or not pulse.live:
            return 0.0, 0.0
        action = self.truth.action(pulse.command)
        return action.steering * float(FULL_LOCK), speed_part(action.throttle) * self.top_speed

    def _judge(self) -> None:
        front = to_world(self.state, np.array([[FRONT_POINT, 0.0]]))[0, 0]
        spot = survey.locate(self._ground, survey.FORWARD, float(front[0]), float(front[1]))
        before = self._progress
        self._progress, _ = progress_of(spot.along / self.track.length - self._start, before)
        if self._lap_began is None and abs(self.state[0, SPEED]) > 1e-3:
            self._lap_began = self._now
        if self._progress >= 100:
            self.laps = [*self.laps, self._now - (self._lap_began or self._now)][-MOST_LAPS:]
            self._lap_count += 1
            self._lap_began = self._now
            self._progress = 0.0
            if not self.track.closed:
                self._put(0.0)
        elif (hit := self._touched()) is not None:
            self.crashes += 1
            self.traffic.hit(0)
            if self._lap_began is not None:
                self._lap_began -= self.rules.collision_penalty
            self._put(float(self.traffic.at[0, hit]) + self.rules.reset_behind_dist)
        elif not any(survey.on_road(self._ground, x, y) for x, y in to_world(self.state, WHEELS)[0].tolist()):
            self.off_track += 1
            self._put(spot.along)

    def _touched(self) -> int | None:
        """The object that the car has run into."""
        x, y, yaw = self.state[0, [X, Y, YAW]].tolist()
        footprint = np.array(self.traffic.footprint)
        for which, pose in enumerate(self.traffic.pose[0]):
            if touches(x, y, yaw, pose, footprint):
                return which
        return None

    def _put(self, along: float) -> None:
        """Set the car down at rest, its front point on the centre line, `along` metres from the first waypoint."""
        point, heading = self.track.place(np.array([along]))
        self.state = np.zeros((1, STATES))
        self.state[0, YAW] = heading[0]
        self.state[0, [X, Y]] = point[0] - FRONT_POINT * np.array([np.cos(heading[0]), np.sin(heading[0])])


def speed_part(throttle: float) -> float:
    """Part of the top speed, -1..1, that the simulated motor makes of a throttle of -1..1.

    The inverse of the throttle curve that models are driven with, so that a model gets the speed it asks for. That
    curve is flat at its top; above three quarters of the top speed a straight line takes over.
    """
    size = abs(throttle)
    knee = -1.2 * 0.75**2 + 2.2 * 0.75
    straight = 0.75 + 0.25 * (size - knee) / (1 - knee)
    part = (2.2 - math.sqrt(2.2**2 - 4.8 * size)) / 2.4 if size < knee else straight
    return math.copysign(part, throttle)
