"""What a training leaves behind: metrics, traces and parameters, in the forms that the community's tools read."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import groupby
from statistics import mean
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from cloud_trainer.rollout import Episode
from inference.actions import ContinuousActions, DiscreteActions
from sim_stub.parameters import COLUMN, SCALARS
from sim_stub.race import Run, Status

TRAINING: Final = "training"
EVALUATION: Final = "evaluation"


@dataclass(frozen=True, slots=True)
class EpisodeRecord:
    """What is remembered of an episode of one lap, or of one lap of a longer one, as the original would have driven it.

    They count as driven one after the other on one clock of simulated seconds. `episode` counts training episodes from
    0; an evaluation's carry the count of those before it. `trial` is its place, from 0, among its iteration's records
    of the same `phase`. `completion` is per cent, `status` a label of sim_stub.race.Status, `laps` the seconds of the
    lap if it was finished (a list, as JSON has it, will do).
    """

    iteration: int
    episode: int
    trial: int
    phase: str
    reward: float
    completion: float
    status: str
    began: float
    seconds: float
    laps: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "laps", tuple(self.laps))

    @classmethod
    def of(cls, episode: Episode, *, iteration: int, number: int, trial: int, phase: str, began: float) -> list[Self]:
        """A record for each lap, and one for the lap that was not finished; `trial` is the place of the first."""
        told: list[Self] = []
        first = 0
        ends = (np.flatnonzero(episode.status == Status.LAP_COMPLETE) + 1).tolist()
        for lap, end in zip(episode.run.laps, ends, strict=True):
            reward, place = float(episode.rewards[first:end].sum()), trial + len(told)
            told.append(
                cls(iteration, number, place, phase, reward, 100.0, Status.LAP_COMPLETE.label, began, lap, (lap,))
            )
            first, began = end, began + lap
        if first < len(episode.rewards):
            reward = float(episode.rewards[first:].sum())
            completion = float(episode.rows[first:, COLUMN["progress"]].max())
            seconds, status = episode.run.seconds - sum(episode.run.laps), episode.run.status.label
            told.append(
                cls(iteration, number, trial + len(told), phase, reward, completion, status, began, seconds, ())
            )
        return told


def metrics_json(records: Iterable[EpisodeRecord], metric: str) -> bytes:
    """TrainingMetrics.json; by `metric` the best checkpoint was chosen.

    There episodes and trials count from 1, and an evaluation's episodes carry the numbers of the last one before it.
    """
    driven: Counter[int] = Counter()
    entries = []
    for record in records:
        training = record.phase == TRAINING
        driven[record.iteration] += training
        entries.append(
            {
                "reward_score": round(record.reward),
                **_times(record.began, record.seconds),
                "episode": record.episode + training,
                "trial": driven[record.iteration],
                "phase": record.phase,
                "completion_percentage": int(record.completion),
                "episode_status": _words(record.status),
            }
        )
    return json.dumps({"metrics": entries, "version": 2.0, "best_model_metric": metric}).encode()


def evaluation_json(runs: Iterable[Run]) -> bytes:
    """The metrics of an evaluation: a trial a run, one after the other."""
    began = 0.0
    entries = []
    for trial, run in enumerate(runs, 1):
        entries.append(
            {
                "completion_percentage": int(run.completion),
                **_times(began, run.seconds),
                "episode_status": _words(run.status.label),
                "crash_count": run.mistakes[Status.CRASHED],
                "immobilized_count": run.mistakes[Status.IMMOBILIZED],
                "off_track_count": run.mistakes[Status.OFF_TRACK],
                "reversed_count": run.mistakes[Status.REVERSED],
                "reset_count": sum(run.mistakes.values()),
                "trial": trial,
            }
        )
        began += run.seconds
    return json.dumps({"metrics": entries}).encode()


def _times(began: float, seconds: float) -> dict[str, int]:
    return {
        "metric_time": round(1000 * (began + seconds)),
        "start_time": round(1000 * began),
        "elapsed_time_in_milliseconds": round(1000 * seconds),
    }


def _words(status: str) -> str:
    """The original's label of a Status."""
    return "Time Up" if status == Status.TIME_UP.label else status.replace("_", " ").capitalize()


def reward_graph(records: Iterable[EpisodeRecord]) -> bytes:
    """CSV of the reward graph, a row an iteration; `seconds` is the clock at its end.

    Means over its training episodes: `reward`, `completion`; over its evaluation, if it had one: `evaluation_reward`,
    `evaluation_completion`; `laps` were finished there, the fastest in `best_lap` seconds.
    """
    table = StringIO(newline="")
    names = ("iteration", "episodes", "seconds", "reward", "completion")
    tried = ("evaluation_reward", "evaluation_completion", "laps", "best_lap")
    graph = csv.DictWriter(table, names + tried, lineterminator="\n")
    graph.writeheader()
    for iteration, group in groupby(records, lambda record: record.iteration):
        whole = list(group)
        parts = {phase: [record for record in whole if record.phase == phase] for phase in (TRAINING, EVALUATION)}
        row: dict[str, object] = {
            "iteration": iteration,
            "episodes": len(parts[TRAINING]),
            "seconds": round(whole[-1].began + whole[-1].seconds, 3),
        }
        for prefix, part in (("", parts[TRAINING]), ("evaluation_", parts[EVALUATION])):
            if part:
                row[f"{prefix}reward"] = round(mean(record.reward for record in part), 4)
                row[f"{prefix}completion"] = round(mean(record.completion for record in part), 2)
        if parts[EVALUATION]:
            laps = [lap for record in parts[EVALUATION] for lap in record.laps]
            row |= {"laps": len(laps), "best_lap": round(min(laps), 3) if laps else None}
        graph.writerow(row)
    return table.getvalue().encode()


SIMTRACE: Final = (
    *("episode", "steps", "X", "Y", "yaw", "steer", "throttle", "action", "reward", "done", "all_wheels_on_track"),
    *("progress", "closest_waypoint", "track_len", "tstamp", "episode_status", "pause_duration"),
    *("obstacle_crash_counter", "wall_clock"),
)
"""The columns of a trace, in its newest form."""


def simtrace_csv(
    episodes: Sequence[Episode],
    actions: DiscreteActions | ContinuousActions,
    first: int,
    began: Sequence[float],
    wall: tuple[float, float] | None = None,
) -> bytes:
    """A trace of episodes, the `first`, in the count of all, and those after it; each `began` at its second.

    A row a step, and before them one of the standing start, at the same instant, with the action that follows.
    `wall` is the Unix time from when to when they were driven, all side by side: rows share it by their simulated time.
    """
    table = StringIO(newline="")
    trace = csv.writer(table, lineterminator="\n")
    trace.writerow(SIMTRACE)
    for number, (episode, clock) in enumerate(zip(episodes, began, strict=True), first):
        for tstamp, row in _steps(episode, actions, clock):
            ends = began[0], began[-1] + episodes[-1].run.seconds
            passed = None if wall is None else round(float(np.interp(tstamp, ends, wall)), 6)
            trace.writerow((number, *row, passed))
    return table.getvalue().encode()


def _steps(
    episode: Episode, actions: DiscreteActions | ContinuousActions, began: float
) -> Iterator[tuple[float, tuple[object, ...]]]:
    """The time of each row, and its columns between `episode` and `wall_clock`."""
    start = episode.rows[:1].copy()
    start[0, [COLUMN[name] for name in ("x", "y", "heading", "steps")]] = *episode.pose, 1.0
    rows = np.concatenate([start, episode.rows])
    status = [Status.PREPARE, *map(Status, episode.status[:-1].tolist()), episode.run.status]
    rewards = [0.0, *episode.rewards.tolist()]
    choices = np.concatenate([episode.choices[:1], episode.choices])
    waypoints, clock = nearest_waypoints(episode).tolist(), rows[:, COLUMN["sim_time"]]
    waypoints.insert(0, waypoints[0])
    shown = ("steps", "x", "y", "heading", "steering_angle", "speed", "all_wheels_on_track", "progress")
    told = rows[:, [COLUMN[name] for name in shown]].tolist()
    for place, (steps, x, y, yaw, steer, throttle, wheels, progress) in enumerate(told):
        tstamp = round(began + float(clock[place] - clock[0]), 3)
        action = int(choices[place]) if isinstance(actions, DiscreteActions) else f"[{steer} {throttle}]"
        yield (
            tstamp,
            (
                *(steps, x, y, yaw, steer, throttle, action, rewards[place], place == len(told) - 1, bool(wheels)),
                *(progress, waypoints[place], episode.track.length, tstamp, status[place].label),
                *(0.0, 0),
            ),
        )


def nearest_waypoints(episode: Episode) -> NDArray[np.int64]:
    """int64[n]: of the two waypoints between which the car was, the nearer, on the route in its direction."""
    rows = episode.rows
    route = episode.track.centre[:: -1 if rows[0, COLUMN["is_reversed"]] else 1]
    pair = rows[:, len(SCALARS) : len(SCALARS) + 2].astype(np.int64)
    away = np.hypot(*np.moveaxis(route[pair] - rows[:, None, [COLUMN["x"], COLUMN["y"]]], -1, 0))
    return np.asarray(np.where(away[:, 1] < away[:, 0], pair[:, 1], pair[:, 0]))
