"""Evaluation: what a model does on a track, by the car's own inference code, from the start to the end of a trial."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from drivers.signals import Frame, LidarScan, Observation
from inference.actions import ContinuousActions, DiscreteActions
from inference.package import ModelPackage
from inference.policy import OpenVinoPolicy
from sim_stub import lidar
from sim_stub.dynamics import SPEED, Command, Profile, profile_for
from sim_stub.parameters import COLUMN
from sim_stub.race import Race, Run, Status
from sim_stub.randomisation import PALETTES, Randomisation
from sim_stub.rules import Rules
from sim_stub.scene import Scene
from sim_stub.track import Track
from sim_stub.view import MONO, STEREO, Eye

WINDOW: Final = 3
"""Laps in a row whose mean time is the manual's measure of a model."""
TURN: Final = np.linspace(-np.pi, np.pi, 360, endpoint=False)
"""The angles of a full turn of the LiDAR, as drivers.signals.LidarScan has them."""


class Driver(Protocol):
    """What drives: it answers what each of n cars sees with a command, float64[n, 2] (rad, m/s)."""

    def __call__(self, observations: Sequence[Observation]) -> Command: ...


def driver_of(package: ModelPackage, policy: OpenVinoPolicy) -> Driver:
    """The package's greedy choice, one car after the other, exactly as a car computes it."""
    space: DiscreteActions | ContinuousActions = package.metadata.action_space

    def drive(observations: Sequence[Observation]) -> Command:
        wanted = [space.choice(policy.infer(observation)) for observation in observations]
        return np.array(wanted) * [np.pi / 180, 1.0]

    return drive


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial; `path` float64[steps, 4]: x and y of the front point (m), speed (m/s), Status."""

    run: Run
    path: NDArray[np.float64]

    def record(self, number: int) -> dict[str, object]:
        """In the words of the original's evaluation metrics, and the laps."""
        mistakes = self.run.mistakes
        return {
            "trial": number,
            "completion_percentage": round(self.run.completion, 2),
            "elapsed_time_in_milliseconds": round(1000 * self.run.seconds),
            "episode_status": self.run.status.label.replace("_", " ").capitalize(),
            "laps": [round(lap, 3) for lap in self.run.laps],
            "off_track_count": mistakes[Status.OFF_TRACK],
            "crash_count": mistakes[Status.CRASHED],
            "reversed_count": mistakes[Status.REVERSED],
            "immobilized_count": mistakes[Status.IMMOBILIZED],
            "reset_count": self.run.resets,
        }


@dataclass(frozen=True, slots=True)
class Result:
    """What came of all trials of one model."""

    name: str
    track: Track
    rules: Rules
    trials: tuple[Trial, ...]

    @property
    def laps(self) -> list[float]:
        return [lap for trial in self.trials for lap in trial.run.laps]

    def count(self, status: Status) -> int:
        return sum(trial.run.mistakes[status] for trial in self.trials)

    @property
    def clean(self) -> int:
        """Trials that finished all their laps without a mistake."""
        return sum(
            len(trial.run.laps) == self.rules.laps and not any(trial.run.mistakes.values()) for trial in self.trials
        )

    @property
    def three_laps(self) -> float | None:
        """Seconds: the best mean of WINDOW laps in a row."""
        means = [
            mean(trial.run.laps[first : first + WINDOW])
            for trial in self.trials
            for first in range(len(trial.run.laps) - WINDOW + 1)
        ]
        return min(means, default=None)

    def record(self) -> dict[str, object]:
        return {
            "model": self.name,
            "track": self.track.name,
            "race_type": str(self.rules.race_type),
            "trials": [trial.record(number) for number, trial in enumerate(self.trials, 1)],
            "clean_trials": self.clean,
            "best_lap": _rounded(min(self.laps, default=None)),
            "mean_lap": _rounded(mean(self.laps) if self.laps else None),
            "three_laps": _rounded(self.three_laps),
        }


class Watcher(Protocol):
    """Somebody beside the track: told of every step, with the first camera's pictures (BGR)."""

    def __call__(self, race: Race, pictures: NDArray[np.uint8]) -> None: ...


def evaluate(
    name: str,
    driver: Driver,
    track: Track,
    rules: Rules,
    profile: Profile,
    trials: int,
    *,
    stereo: bool = False,
    scans: bool = False,
    spread: bool = True,
    randomisation: Randomisation | None = None,
    seed: int = 0,
    watch: Watcher | None = None,
    progress: Callable[[float], None] | None = None,
) -> Result:
    """Let `driver` run the trials, all side by side, each alone on its track. Raises RulesError.

    Nothing is left to chance unless `randomisation` says so; so that trials differ, they start `spread` evenly over a
    closed track. `progress` hears how much is done, 0..1.
    """
    race = Race(track, rules, profile, trials, seed=seed, randomisation=randomisation)
    if spread and track.closed:
        race.start_at(np.arange(trials) / trials)
    chance = race.randomisation.lights
    scene = Scene(track, palettes=PALETTES if chance else 1, spread=chance)
    eye = Eye(scene, STEREO if stereo else MONO, profile.lean)
    pictures = np.zeros((trials, len(eye.lenses), eye.lenses[0].height, eye.lenses[0].width, 3), np.uint8)
    ranges = np.zeros((trials, len(TURN)), np.float32)
    paths: list[NDArray[np.float64]] = []
    wish = np.zeros((trials, 2))
    while not race.done.all():
        going = np.flatnonzero(~race.done & (race.pause_seconds <= 0))
        eye.look(race.seen, race.solids, race.film, race.steps, out=pictures)
        if scans:
            lidar.scan(race.seen, TURN, race.field, race.solids, race.film.seed, race.steps, ranges)
        if len(going):
            wish[going] = driver([_observation(pictures[car], ranges[car] if scans else None) for car in going])
        rows = race.judge(wish)
        paths.append(np.column_stack([rows[:, [COLUMN["x"], COLUMN["y"]]], race.state[:, SPEED], race.status]))
        if watch:
            watch(race, pictures[:, 0])
        race.drive(wish)
        if progress:
            progress(_done(race))
    steps = np.array(paths)
    # The first judged row is step 2.
    done = tuple(Trial(run, steps[: int(race.steps[car]) - 1, car]) for car, run in enumerate(race.runs))
    return Result(name, track, rules, done)


def evaluate_package(
    package: ModelPackage, track: Track, rules: Rules, trials: int, profile: Profile | None = None, **options: object
) -> Result:
    """The same for a package, with the sensors that it needs and, by default, the physics of its `version`."""
    policy = OpenVinoPolicy(package)
    return evaluate(
        package.name,
        driver_of(package, policy),
        track,
        rules,
        profile or profile_for(package.metadata.version),
        trials,
        stereo=package.cameras == 2,
        scans=package.needs_lidar,
        **options,  # type: ignore[arg-type]
    )


def _observation(pictures: NDArray[np.uint8], ranges: NDArray[np.float32] | None) -> Observation:
    scan = None if ranges is None else LidarScan(0.0, ranges)
    return Observation(0.0, tuple(Frame(0.0, picture) for picture in pictures), scan)


def _done(race: Race) -> float:
    """Part of all laps that is behind the cars."""
    wanted = race.rules.laps
    parts = [1.0 if over else len(run.laps) / wanted for run, over in zip(race.runs, race.done, strict=True)]
    return float(np.mean(parts))


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
