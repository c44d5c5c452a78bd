"""How many environment steps a second the simulator makes, pictures and reward parameters included, without a network.

python -m bench.env [--cars N] [--seconds S] prints one JSON object: steps a second alone, among obstacles and bots,
and in the preset `real-world`; without pictures; of one car; the share of a sandboxed reward function; and how much
memory one more car takes. Ratios are against one car on one thread in the same run, and against the original's 8 steps.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from typing import Any, Final

import numpy as np

from cloud_trainer.reward import RewardWorker, example
from sim_stub.env import Races
from sim_stub.parameters import Waypoints

ORIGINAL: Final = 8.0
"""Steps a second of the original with its learning on 16 virtual processors; in an episode it made 11.3."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cars", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    options = parser.parse_args()
    cars, seconds = options.cars, options.seconds
    kinds: dict[str, dict[str, Any]] = {
        "time_trial": {},
        "no_pictures": {"pictures": False},
        "obstacles": {"rules": {"race_type": "OBJECT_AVOIDANCE", "randomize_obstacle_locations": True}},
        "bots": {"rules": {"race_type": "HEAD_TO_BOT", "is_lane_change": True}},
        "stereo_lidar": {"sensors": ("STEREO_CAMERAS", "LIDAR")},
        "real_world": {"randomisation": "real-world"},
        "long_track": {"track": "2022_reinvent_champ_ccw"},
    }
    alone = _rate(Races(1, threads=1), seconds)
    rates = {name: _rate(Races(cars, **kind), seconds) for name, kind in kinds.items()}
    plain = _rate(Races(cars), seconds)
    boxed, share = _with_reward(cars, seconds)
    figures = {
        "cars": cars,
        "one_car": round(alone),
        **{name: round(rate) for name, rate in rates.items()},
        "with_reward_function": round(boxed),
        "reward_share": round(share, 3),
        "batch_over_one_car": round(plain / alone, 2),
        "times_original": round(plain / ORIGINAL),
        "kilobytes_a_car": round(_memory(cars), 1),
    }
    print(json.dumps(figures))


def _rate(races: Races, seconds: float) -> float:
    """Steps a second of all cars together, by random actions."""
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (64, races.num_envs, 2)).astype(np.float32)
    races.reset(seed=0)
    for number in range(5):
        races.step(actions[number])
    steps, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for number in range(8):
            races.step(actions[(steps + number) % 64])
        steps += 8
    return races.num_envs * steps / (time.perf_counter() - began)


def _with_reward(cars: int, seconds: float) -> tuple[float, float]:
    """Steps a second with the first example reward function in its box, and what part of the time the box takes."""
    races = Races(cars)
    road, spent = races.track, 0.0
    waypoints: Waypoints = [(x, y) for x, y in road.centre.tolist()]
    with RewardWorker(example("centre_line"), waypoints, races.race.length) as worker:

        def ask(rows: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
            nonlocal spent
            began = time.perf_counter()
            rewards = worker(rows)
            spent += time.perf_counter() - began
            return rewards

        races.reward = ask
        began = time.perf_counter()
        rate = _rate(races, seconds)
        return rate, spent / (time.perf_counter() - began)


def _memory(cars: int) -> float:
    """Kilobytes that one more car takes, its observation included: the growth of what this process held at most."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    many = Races(16 * cars)
    many.reset(seed=0)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / (16 * cars)


if __name__ == "__main__":
    main()
