"""A batch of cars, each in a world of its own with its obstacles and bots: driven, watched and judged step by step.

One step is what the original calls a step. `judge` looks at every car where it stands and at the action just wished for
it: that is a row of a trace, and what its reward function is asked about. `drive` then lets the actions act until the
next picture. A car whose run is over stays where it is until `reset`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim_stub import dynamics, survey
from sim_stub.dynamics import FRONT_POINT, FULL_LOCK, YAW, Command, Profile, State, X, Y
from sim_stub.judge import BEHIND_STEPS, STUCK_STEPS, Frustum, Ledger, Objects, judge_cars
from sim_stub.parameters import COLUMN, width
from sim_stub.randomisation import CLUTTER, FILM, GLARES, Randomisation, draw, scatter_clutter, scatter_glare
from sim_stub.rules import Rules, RulesError
from sim_stub.survey import FORWARD, REVERSED
from sim_stub.track import Track
from sim_stub.traffic import Traffic
from sim_stub.view import Film

BESIDE: Final = 0.999
"""Metres along the road within which a car is set down in the lane where an object is not. A little under one, so that
rounding does not choose where the last object stands just a metre behind the start, as it does by default."""
MERCY: Final = 3
"""Crashes into the same box after which the car is set back beyond it."""


class Status(IntEnum):
    """How a step found the car; the worst comes first where several are true."""

    PREPARE = 0
    IN_PROGRESS = 1
    PAUSE = 2
    REVERSED = 3
    IMMOBILIZED = 4
    OFF_TRACK = 5
    CRASHED = 6
    LAP_COMPLETE = 7
    TIME_UP = 8

    @property
    def label(self) -> str:
        """As the original's traces write it."""
        return self.name.lower()


MISTAKES: Final = (Status.REVERSED, Status.IMMOBILIZED, Status.OFF_TRACK, Status.CRASHED)


@dataclass(slots=True)
class Run:
    """What a car did from its standing start to the end of its run."""

    laps: list[float] = field(default_factory=list)
    """Seconds of each finished lap, penalties included."""
    seconds: float = 0.0
    completion: float = 0.0
    """Per cent of all the laps wanted."""
    status: Status = Status.PREPARE
    mistakes: dict[Status, int] = field(default_factory=lambda: dict.fromkeys(MISTAKES, 0))
    resets: int = 0


class Race:
    """`batch` worlds under the same rules. The same seed gives world i the same episodes, whatever the batch is.

    After `judge`: `rows` float64[batch, width] are the rewards' parameters (see sim_stub.parameters), `status`
    int64[batch] the Status of each, `done` bool[batch] whose run is over. `state` are the cars as they are, `seen` as
    their cameras saw them. `runs` are the runs now going on.
    """

    def __init__(
        self,
        track: Track,
        rules: Rules,
        profile: Profile,
        batch: int,
        *,
        seed: int = 0,
        randomisation: Randomisation | None = None,
    ) -> None:
        """Raises RulesError."""
        rules.check(track)
        if not 1 <= batch <= 65_536:
            raise RulesError(f"The number of cars must lie in 1..65536, not {batch}.")
        self.rules, self.batch = rules, batch
        self.randomisation = randomisation or Randomisation()
        self.tracks = (track, track.reversed())
        self.ground = survey.ground(track)
        self.length = float(self.ground.reach[0, -1])
        self.traffic = Traffic(self.ground, rules, batch)
        self.film = Film.neutral(batch)
        self.film.glare = np.zeros((batch, GLARES if self.randomisation.glare else 0, 4))
        self.solids = np.zeros((batch, self.traffic.count + (CLUTTER if self.randomisation.clutter else 0), 8))
        """What stands on the ground, for the eye (view.Boxes) and the LiDAR: the objects, then the field's clutter."""
        self.solids[:, : self.traffic.count] = self.traffic.solids
        self.state: State = np.zeros((batch, dynamics.STATES))
        self.seen: State = self.state.copy()
        self.rows = np.zeros((batch, width(self.traffic.count)))
        self.status = np.full(batch, Status.PREPARE, np.int64)
        self.done = np.zeros(batch, np.bool_)
        self.runs = [Run() for _ in range(batch)]
        self._frustum = Frustum(up=0.1293 + 0.145 * profile.lean, pitch=0.2618 - profile.lean)
        self._profile = profile
        self._chassis = dynamics.chassis(profile, batch)
        self._factors = np.ones((batch, 3))
        self._latency = np.zeros((batch, 2))
        self._wish = np.tile([1.0, 1.0, 0.0], (batch, 1))
        self._command = np.zeros((batch, 2))
        self._rngs = [np.random.default_rng((seed, world)) for world in range(batch)]
        self._episodes, self.steps, self._fell, self._stuck, self._wheels = np.zeros((5, batch), np.int64)
        self.clock, self._progress, self._best, self._uncapped, self._pause = np.zeros((5, batch))
        self._began, self._lap_began = np.zeros((2, batch))
        self._was = np.zeros((batch, 2, 2))
        self._hit = np.full(batch, -1, np.int64)
        self._struck = np.full((batch, 2), -1, np.int64)
        """The box last run into, and how often in a row."""
        self._first = (
            rules.start_position_offset / self.length % 1.0 if track.closed else 0.0,
            REVERSED if rules.reverse_dir else FORWARD,
        )
        """Where, and in which direction, first episodes begin."""
        self._start = np.full(batch, self._first[0])
        self.direction = np.full(batch, self._first[1], np.int64)
        self._ledger = Ledger(
            self.direction,
            self._start,
            self.steps,
            self.clock,
            self._progress,
            self._uncapped,
            self._was,
            self._fell,
            self._stuck,
            self._wheels,
            self._hit,
        )
        self.reset()

    @property
    def step_seconds(self) -> float:
        return 1.0 / self.rules.rate

    def reset(
        self,
        worlds: Iterable[int] | None = None,
        rngs: dict[int, np.random.Generator] | None = None,
        starts: NDArray[np.float64] | None = None,
        directions: NDArray[np.int64] | None = None,
    ) -> None:
        """Begin a new episode in these worlds, or in all; the first again in those to which `rngs` gives new chance.

        First episodes begin where and as the rules say or, with `starts` [batch] (0..1 of the lap beyond the rules'
        offset) and `directions` [batch], where and as these do.
        """
        chosen = list(range(self.batch)) if worlds is None else list(worlds)
        for world in chosen:
            if rngs and world in rngs:
                self._rngs[world], self._episodes[world], self.clock[world] = rngs[world], 0, 0.0
                self._start[world], self.direction[world] = self._first
                if starts is not None:
                    self._start[world] = (self._first[0] + starts[world]) % 1.0
                if directions is not None:
                    self.direction[world] = directions[world]
            self._begin(world)
        self._rewind(chosen)

    def stop(self) -> None:
        """End the runs that still go on, where they are."""
        for world in np.flatnonzero(~self.done).tolist():
            self.status[world] = Status.TIME_UP
            self._note(world, Status.TIME_UP, 0.0)

    def start_at(self, part: NDArray[np.float64]) -> None:
        """Begin new episodes, each so far round the lap: float64[batch], 0..1, beyond the rules' offset."""
        self._start[:] = (part + self.rules.start_position_offset / self.length) % 1.0
        self._episodes[:] = 0
        self.reset()

    def _begin(self, world: int) -> None:
        rules, rng = self.rules, self._rngs[world]
        if self._episodes[world]:
            if rules.change_start_position:
                self._start[world] = (self._start[world] + rules.round_robin_advance_dist) % 1.0
            if rules.alternate_driving_direction:
                self.direction[world] = 1 - self.direction[world]
        self._episodes[world] += 1
        direction = int(self.direction[world])
        self.traffic.place(world, direction, rng)
        self._start_at(world, float(self._start[world]) * self.length)
        chances = draw(self.randomisation, rng)
        self._latency[world] = chances.command_latency, chances.camera_latency
        self._wish[world] = chances.steering_gain, chances.speed_gain, chances.steering_trim
        self._factors[world] = chances.motor_lag, chances.steering_lag, chances.friction
        for name in FILM:
            getattr(self.film, name)[world] = getattr(chances, name)
        self.film.seed[world] = rng.integers(2**63)
        if self.randomisation.clutter:
            self.solids[world, self.traffic.count :] = scatter_clutter(chances.clutter, self.tracks[0], rng)
        if self.randomisation.glare:
            self.film.glare[world] = scatter_glare(chances, self.tracks[direction], rng)
        self.runs[world] = Run()

    def _rewind(self, worlds: list[int]) -> None:
        self._chassis[worlds] = dynamics.vary(dynamics.chassis(self._profile, len(worlds)), *self._factors[worlds].T)
        for values in (self._progress, self._best, self._uncapped, self._pause, self._command, self._was):
            values[worlds] = 0.0
        self._fell[worlds] = self._stuck[worlds] = 0
        # The row of the standing start is nobody's step: the first action is asked for in row 2, as in the original.
        self.steps[worlds] = 1
        self._struck[worlds] = self._hit[worlds] = -1
        self._began[worlds] = self._lap_began[worlds] = self.clock[worlds]
        self.status[worlds] = Status.PREPARE
        self.done[worlds] = False
        self.seen[worlds] = self.state[worlds]
        self.solids[worlds, : self.traffic.count, :3] = self.traffic.pose[worlds]

    def judge(self, wish: Command) -> NDArray[np.float64]:
        """Look at all cars and at what is wished for them, float64[batch, 2] (rad, m/s); returns `rows`.

        A car whose run is over keeps its row.
        """
        going = ~self.done
        self.steps[going] += 1
        before = self._progress.copy()
        traffic = self.traffic
        objects = Objects(traffic.pose, np.array(traffic.footprint), traffic.moving, traffic.speed)
        judge_cars(self.ground, going, self.state, wish, self._ledger, objects, self._frustum, self.rows)
        self._decide(going, before)
        return self.rows

    def _decide(self, going: NDArray[np.bool_], before: NDArray[np.float64]) -> None:
        """Who finished, who went wrong, and what follows from it."""
        progress = self.rows[:, COLUMN["progress"]]
        paused = going & (self._pause > 0)
        status = np.full(self.batch, Status.IN_PROGRESS, np.int64)
        status[self._fell >= BEHIND_STEPS] = Status.REVERSED
        status[self._stuck >= STUCK_STEPS] = Status.IMMOBILIZED
        status[self._wheels == 0] = Status.OFF_TRACK
        status[self._hit >= 0] = Status.CRASHED
        status[paused] = Status.PAUSE
        status[progress >= 100] = Status.LAP_COMPLETE
        crashed, gone = status == Status.CRASHED, status == Status.OFF_TRACK
        status[(self.steps >= self.rules.max_steps) & (status != Status.LAP_COMPLETE)] = Status.TIME_UP
        self.status[going] = status[going]
        # Who waits stands still, and is not to blame for it.
        self._fell[paused] = self._stuck[paused] = 0
        self.rows[going, COLUMN["is_crashed"]] = crashed[going]
        self.rows[going, COLUMN["is_offtrack"]] = gone[going]
        self._best[going] = np.maximum(self._best, progress)[going]
        self._progress[going] = np.where(progress >= 100, 0.0, progress)[going]
        for world in np.flatnonzero(going & (status != Status.IN_PROGRESS) & (status != Status.PAUSE)).tolist():
            self._note(world, Status(int(status[world])), float(before[world]))

    def _note(self, world: int, status: Status, before: float) -> None:
        run = self.runs[world]
        if status is Status.LAP_COMPLETE:
            part = (100.0 - before) / max(float(self._uncapped[world]) - before, 1e-9)
            crossed = float(self.clock[world]) - (1.0 - min(max(part, 0.0), 1.0)) * self.step_seconds
            run.laps.append(crossed - float(self._lap_began[world]))
            self._lap_began[world] = crossed
            self._best[world] = 0.0
            self._fell[world] = self._stuck[world] = 0
            self.done[world] = len(run.laps) >= self.rules.laps
        elif status is Status.TIME_UP:
            self.done[world] = True
        else:
            run.mistakes[status] += 1
            if run.resets >= self.rules.number_of_resets:
                self.done[world] = True
            else:
                run.resets += 1
                self._set_back(world, status, before)
        run.status = status
        run.seconds = float(self.clock[world] - self._began[world])
        run.completion = min(100.0, (100.0 * len(run.laps) + float(self._best[world])) / self.rules.laps)

    def _set_back(self, world: int, status: Status, before: float) -> None:
        """Put the car back on the road, at rest, and let it wait its penalty."""
        crashed = status is Status.CRASHED
        self._pause[world] = self.rules.collision_penalty if crashed else self.rules.off_track_penalty
        # Off the road the nearest part of it may be another: what counts is where the car was one step before.
        progress = float(self.rows[world, COLUMN["progress"]]) if crashed else before
        at = progress / 100 * self.length + float(self._start[world]) * self.length
        front = dynamics.to_world(self.state[world : world + 1], np.array([[FRONT_POINT, 0.0]]))[0, 0]
        if crashed and self.traffic.moving:
            self.traffic.hit(world)
        box = int(self._hit[world]) if crashed and not self.traffic.moving else self._box_near(world, at)
        if box >= 0:
            again = self._struck[world, 1] + 1 if self._struck[world, 0] == box else 1
            self._struck[world] = (-1, 0) if again >= MERCY else (box, again)
            beyond = self.rules.reset_behind_dist if again >= MERCY else -self.rules.reset_behind_dist
            at = float(self.traffic.at[world, box]) + beyond
            share = 1.0 - round(self._share(world, self.traffic.pose[world, box, :2]))
        else:
            share = float(round(self._share(world, front)))
        self._put(world, at, share)
        self._fell[world] = self._stuck[world] = 0
        self._was[world] = 0.0

    def _box_near(self, world: int, at: float) -> int:
        """The standing box within a metre along the road, or -1."""
        if self.traffic.moving or not self.traffic.count:
            return -1
        apart = np.abs(np.mod(self.traffic.at[world] - at + self.length / 2, self.length) - self.length / 2)
        return int(apart.argmin()) if apart.min() < BESIDE else -1

    def _share(self, world: int, point: NDArray[np.float64]) -> float:
        """0 on the outer side of the road, 1 on the inner."""
        direction = int(self.direction[world])
        spot = survey.locate(self.ground, direction, float(point[0]), float(point[1]))
        ccw = self.ground.ccw != (direction == REVERSED)
        return float(spot.left == ccw)

    def _start_at(self, world: int, at: float) -> None:
        """At rest on the centre line, or in the other lane where an object stands within a metre."""
        apart = np.abs(np.mod(self.traffic.at[world] - at + self.length / 2, self.length) - self.length / 2)
        if self.traffic.count and apart.min() < BESIDE:
            self._put(world, at, 1.0 - round(self._share(world, self.traffic.pose[world, int(apart.argmin()), :2])))
            return
        self._put(world, at, None)

    def _put(self, world: int, at: float, share: float | None) -> None:
        """Set the car's origin down at rest, in the lane of `share` or, without one, on the centre line."""
        direction = int(self.direction[world])
        if share is None:
            place, bearing = self.tracks[direction].place(np.array([at]))
            x, y, heading = float(place[0, 0]), float(place[0, 1]), float(bearing[0])
        else:
            x, y, heading = survey.in_lane(self.ground, direction, at, share, 0.0)
        self.state[world] = 0.0
        self.state[world, [X, Y, YAW]] = x, y, heading

    def drive(self, wish: Command) -> None:
        """Carry everybody who is not done to the next picture; who waits stays, and the clock runs on for both."""
        going = ~self.done
        free = np.flatnonzero(going & (self._pause <= 0))
        seconds = self.step_seconds
        if len(free):
            gain, speed, trim = self._wish[free].T
            fresh = np.stack([wish[free, 0] * gain + trim, wish[free, 1] * speed], axis=1)
            fresh[:, 0] = np.clip(fresh[:, 0], -FULL_LOCK, FULL_LOCK)
            self._advance(free, fresh, seconds)
        waiting = going & (self._pause > 0)
        self._pause[waiting] -= seconds
        self._pause[self._pause < 1e-9] = 0.0  # what rounding leaves of it is not worth another step
        self.seen[waiting] = self.state[waiting]
        self._command[waiting] = 0.0
        going_worlds = np.flatnonzero(going)
        self.traffic.advance(seconds, going_worlds, self.direction[going_worlds])
        self.solids[:, : self.traffic.count, :3] = self.traffic.pose
        self.clock[going] += seconds

    def _advance(self, cars: NDArray[np.intp], fresh: Command, seconds: float) -> None:
        """The old command until the latency is over, then the fresh one; the picture is taken on the way."""
        state, old, rows = self.state[cars], self._command[cars], self._chassis[cars]
        # At more than 16 pictures a second a latency may be longer than the step.
        late = np.minimum(self._latency[cars, 0], seconds)
        shutter = np.maximum(seconds - self._latency[cars, 1], 0.0)
        if not self._latency.any():
            state = dynamics.advance(state, fresh, seconds, rows)
            self.seen[cars] = state
        else:
            first = np.minimum(late, shutter)
            state = dynamics.advance(state, old, first, rows)
            state = dynamics.advance(state, fresh, shutter - first, rows)
            self.seen[cars] = state
            rest = np.maximum(late - shutter, 0.0)
            state = dynamics.advance(state, old, rest, rows)
            state = dynamics.advance(state, fresh, seconds - shutter - rest, rows)
        self.state[cars] = state
        self._command[cars] = fresh

    @property
    def field(self) -> tuple[float, float, float, float]:
        """The rectangle within the walls: x_min, y_min, x_max, y_max, metres."""
        return self.tracks[0].field

    @property
    def pause_seconds(self) -> NDArray[np.float64]:
        """float64[batch]: how long each car still has to wait."""
        return np.maximum(self._pause, 0.0)
