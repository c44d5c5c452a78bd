"""Rollouts: cars drive episodes by a policy, and everything that can be learned or told of them is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cloud_trainer.job import Job
from cloud_trainer.reward import RewardWorker
from sim_stub.dynamics import FRONT_POINT, SPEED, WHEEL, YAW, to_world
from sim_stub.env import Races, commands
from sim_stub.parameters import COLUMN, OBJECT_COLUMNS, Waypoints, width
from sim_stub.race import Race, Run, Status
from sim_stub.track import Track

Observations: TypeAlias = dict[str, NDArray[Any]]
"""By sensor, [n, ...], as sim_stub.env lays them out."""

MOST_STEPS: Final = 10_000
"""Of one iteration; episodes that are still going then are cut. The original remembers no more either."""
AHEAD: Final = np.array([0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0])
"""Metres in front of the car at which its situation tells where the road points."""
WAVES: Final = 6
NEAR: Final = 2
"""Objects ahead that a situation tells of."""
SIGHT: Final = 3.0
"""Metres within which they count."""


class Actor(Protocol):
    """What drives: the choices [n] (indices) or [n, 2] (-1..1 and beyond) for n cars, and their log-probabilities."""

    def __call__(self, observations: Observations, /) -> tuple[NDArray[Any], NDArray[np.float32]]: ...


@dataclass(frozen=True, slots=True)
class Episode:
    """What one car did, step by step, for the records.

    `rows` float64[n, width] (sim_stub.parameters), `choices` [n] or [n, 2], `rewards` float64[n], `status` int64[n]
    (sim_stub.race.Status). `pose` float64[3] is x, y (of the front point) and heading (degrees) at the standing start.
    """

    track: Track
    rows: NDArray[np.float64]
    choices: NDArray[Any]
    rewards: NDArray[np.float64]
    status: NDArray[np.int64]
    pose: NDArray[np.float64]
    run: Run

    @property
    def score(self) -> float:
        return float(self.rewards.sum())


@dataclass(frozen=True, slots=True)
class Experience:
    """All steps of some episodes, one episode after the other.

    `situations` float32[n, k] and `choices` go with the pictures of the same rows; `logps` are what the policy that
    drove gave its choices. `first` int64[episodes + 1]: where each episode begins, and the end of the last.
    `cut` bool[episodes]: it did not fail: it finished its lap, or somebody stopped it; what would have come counts.
    """

    observations: Observations
    situations: NDArray[np.float32]
    choices: NDArray[Any]
    logps: NDArray[np.float32]
    rewards: NDArray[np.float64]
    first: NDArray[np.int64]
    cut: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rewards)


class Circuit:
    """One track of a job: cars that start together, and the job's reward function in its box, until it is closed."""

    def __init__(
        self, job: Job, number: int, cars: int, *, laps: int = 1, trust: bool = False, threads: int | None = None
    ) -> None:
        """`number`: which of the job's tracks. `laps`: of an episode. Raises RulesError, TrackError or RewardError."""
        self.job, self.number = job, number
        self.track = job.roads()[number]
        agent = job.agent
        self.races = Races(
            cars,
            self.track,
            actions=agent.actions,
            sensors=agent.sensors,
            lidar_config=agent.lidar_config,
            rules=replace(job.rules, laps=laps),
            version=agent.version,
            randomisation=job.randomisation,
            seed=job.seed,
            threads=threads,
        )
        race = self.races.race
        ways: list[Waypoints] = [[(x, y) for x, y in road.centre.tolist()] for road in race.tracks]
        self.objects = race.traffic.count
        self.reward = RewardWorker(
            job.reward,
            ways[0],
            race.length,
            reversed_waypoints=ways[1],
            objects=self.objects,
            trust=trust,
            seed=job.seed,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self.reward.close()

    def drive(
        self,
        actor: Actor,
        chance: int,
        starts: NDArray[np.float64],
        directions: NDArray[np.int64] | None = None,
        *,
        most: int = MOST_STEPS,
        progress: Callable[[int], None] = lambda steps: None,
    ) -> tuple[list[Episode], Experience]:
        """An episode of every car, each from its part of the lap in `starts` [cars], in its direction of `directions`.

        All chance of the race comes from the job's seed and `chance`. Raises RewardError. `progress` hears, after every
        step, how many cars made it.
        """
        races, race = self.races, self.races.race
        rngs = {car: np.random.default_rng((self.job.seed, chance, self.number, car)) for car in range(race.batch)}
        race.reset(rngs=rngs, starts=starts, directions=directions)
        pose = np.column_stack([_front(race), np.degrees(race.state[:, YAW])])
        kept: list[dict[str, NDArray[Any]]] = []
        wish = np.zeros((race.batch, 2))
        steps = 0
        going = np.arange(race.batch)
        while len(going) and steps < most:
            races.look(going)
            seen = {name: values[going] for name, values in races.observations.items()}
            choices, logps = actor(seen)
            wish[going] = commands(self.job.agent.actions, choices)
            rows = race.judge(wish)[going]
            told = situation(race, going, self.number, len(self.job.tracks))
            step: dict[str, NDArray[Any]] = {
                "car": going,
                "situation": told,
                "choice": choices,
                "logp": logps,
                "row": rows,
            }
            kept.append(step | {"reward": self.reward(rows), "status": race.status[going]} | seen)
            race.drive(wish)
            steps += len(going)
            progress(len(going))
            going = np.flatnonzero(~race.done)
        race.stop()
        return self._sort(kept, pose)

    def _sort(self, kept: list[dict[str, NDArray[Any]]], pose: NDArray[np.float64]) -> tuple[list[Episode], Experience]:
        order = np.argsort(np.concatenate([step["car"] for step in kept]), kind="stable")
        whole = {name: np.concatenate([step[name] for step in kept])[order] for name in kept[0]}
        first = np.searchsorted(whole["car"], np.arange(len(pose) + 1))
        runs = self.races.race.runs
        episodes = [
            Episode(
                self.track,
                whole["row"][rows],
                whole["choice"][rows],
                whole["reward"][rows],
                whole["status"][rows],
                pose[car],
                runs[car],
            )
            for car, rows in enumerate(map(slice, first[:-1], first[1:]))
        ]
        last = whole["status"][first[1:] - 1]
        cut = np.isin(last, [Status.LAP_COMPLETE, Status.TIME_UP, Status.IN_PROGRESS])
        observations = {name: whole[name] for name in self.races.observations}
        return episodes, Experience(
            observations, whole["situation"], whole["choice"], whole["logp"], whole["reward"], first, cut
        )


def join(parts: list[Experience]) -> Experience:
    """One after the other."""
    ends = np.cumsum([0, *(len(part) for part in parts)])

    def whole(take: Callable[[Experience], NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate([take(part) for part in parts])

    return Experience(
        {name: whole(lambda part, name=name: part.observations[name]) for name in parts[0].observations},  # type: ignore[misc]
        whole(lambda part: part.situations),
        whole(lambda part: part.choices),
        whole(lambda part: part.logps),
        whole(lambda part: part.rewards),
        np.concatenate([*(part.first[:-1] + end for part, end in zip(parts, ends, strict=False)), ends[-1:]]),
        whole(lambda part: part.cut),
    )


def situation_size(job: Job) -> int:
    return 2 * len(AHEAD) + 5 + 2 * NEAR + len(job.tracks) * 2 * WAVES


def situation(race: Race, cars: NDArray[np.intp], number: int, tracks: int) -> NDArray[np.float32]:
    """float32[n, situation_size]: what the simulator knows of these cars after `judge`, for a critic.

    Where the road points, ahead and here, seen from the car; how far off the centre line it is, its speed, wheel,
    progress and direction; the next objects; and where on the lap it is.
    """
    rows, state = race.rows[cars], race.state[cars]
    along, length = rows[:, COLUMN["projection_distance"]], race.length
    back = race.direction[cars] == 1
    bearing = np.empty((len(cars), len(AHEAD)))
    for road, which in zip(race.tracks, (~back, back), strict=True):
        if which.any():
            bearing[which] = road.place(along[which, None] + AHEAD)[1]
    bearing -= state[:, YAW, None]
    half = rows[:, COLUMN["track_width"]] / 2
    left = np.where(rows[:, COLUMN["is_left_of_center"]] > 0, 1.0, -1.0)
    aside = left * rows[:, COLUMN["distance_from_center"]] / half
    own = np.stack(
        [aside, state[:, SPEED], 2 * state[:, WHEEL], rows[:, COLUMN["progress"]] / 100, back.astype(np.float64)],
        axis=1,
    )
    near = np.zeros((len(cars), NEAR, 2))
    count = race.traffic.count
    if count:
        objects = rows[:, width(0) :].reshape(len(cars), count, OBJECT_COLUMNS)
        gap = np.mod(objects[:, :, 2] - along[:, None], length)
        nearest = np.argsort(gap, axis=1)[:, :NEAR]
        gap = np.take_along_axis(gap, nearest, axis=1)
        side = np.where(objects[:, :, 5] > 0, 1.0, -1.0) * objects[:, :, 3] / half[:, None]
        side = np.take_along_axis(side, nearest, axis=1)
        close = np.maximum(1.0 - gap / SIGHT, 0.0)
        near[:, : nearest.shape[1], 0] = close
        near[:, : nearest.shape[1], 1] = np.where(close > 0, side, 0.0)
    lap = np.zeros((len(cars), tracks, 2 * WAVES))
    angle = 2 * np.pi * (along / length)[:, None] * np.arange(1, WAVES + 1)
    lap[:, number] = np.concatenate([np.sin(angle), np.cos(angle)], axis=1)
    parts = (np.sin(bearing), np.cos(bearing), own, near.reshape(len(cars), -1), lap.reshape(len(cars), -1))
    return np.concatenate(parts, axis=1).astype(np.float32)


def _front(race: Race) -> NDArray[np.float64]:
    return to_world(race.state, np.array([[FRONT_POINT, 0.0]]))[:, 0]
