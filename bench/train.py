"""How many steps a second training makes, everything included, where the time goes, and what Stable-Baselines3 makes.

python -m bench.train [--seconds S] [--network N] [--algorithm A] [--peer FOLDER] prints one JSON object: steps a
second with pictures, referee, reward function in its box, inference and three epochs of learning (or SAC's descents);
the share of each; the ratio to the original's 8 steps a second. FOLDER is one into which stable_baselines3 was
installed (pip install --target): it then learns the same task in turns with ours, with the same layers, cars and
hyperparameters, once as its manual has it and once with our order of pixels in memory; `curves` are steps, seconds and
then the completion (per cent of three laps) of greedy trials, whose time does not count; `seconds_to_clean` those
after which the first trials were complete.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import Any, Final

import numpy as np
import torch

from cloud_trainer.agent import Algorithm
from cloud_trainer.job import Job, read_job
from cloud_trainer.learner import Learner
from cloud_trainer.network import ARCHITECTURES, left_over
from cloud_trainer.ppo import PPO
from cloud_trainer.rollout import Actor, Circuit
from cloud_trainer.sac import REMEMBERED, SAC, UPDATES
from cloud_trainer.train import line_up
from sim_stub.env import Races

ORIGINAL: Final = 8.0
"""Steps a second of the original with its learning on 16 virtual processors."""
SENSOR: Final = "FRONT_FACING_CAMERA"
TURNS: Final = 2
STEPS: Final = 128
"""Of each car in an iteration of the peer."""


class Watch:
    """Seconds by task."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def on(self, task: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[task] = self.seconds.get(task, 0.0) + time.perf_counter() - began

    def timed(self, task: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def do(*arguments: Any, **options: Any) -> Any:
            with self.on(task):
                return work(*arguments, **options)

        return do


class Trials:
    """Greedy trials of three laps, from five places."""

    def __init__(self, job: Job) -> None:
        self._road = Circuit(job, 0, 5, laps=3)

    def completion(self, actor: Actor) -> float:
        episodes, _ = self._road.drive(actor, 0, np.arange(5) / 5)
        return round(mean(episode.run.completion for episode in episodes), 1)


def ours(job: Job, seconds: float) -> dict[str, Any]:
    watch, trials = Watch(), Trials(job)
    torch.manual_seed(job.seed)
    kind = SAC if job.agent.algorithm is Algorithm.SAC else PPO
    learner: Learner = kind(job, job.agent.policy(), torch.device("cpu"))
    cars = job.hyperparameters.num_episodes_between_training
    steps, curve = 0, []
    with Circuit(job, 0, cars) as road:
        worker = road.reward
        road.reward = watch.timed("reward", worker)  # type: ignore[assignment]
        road.races.look = watch.timed("pictures", road.races.look)  # type: ignore[method-assign]
        for number in range(10**9):
            rng = np.random.default_rng((job.seed, number))
            starts, directions = line_up(job.rules, number, cars)
            with watch.on("whole"):
                actor = watch.timed("acting", learner.actor(rng))
                _, experience = road.drive(actor, number, starts, directions)
                with watch.on("learning"):
                    learner.learn(experience, rng)
            steps += len(experience)
            curve.append((steps, round(watch.seconds["whole"], 2), trials.completion(learner.greedy)))
            if watch.seconds["whole"] >= seconds:
                break
        road.reward = worker
    whole = watch.seconds.pop("whole")
    shares = {task: round(spent / whole, 3) for task, spent in watch.seconds.items()}
    shares["referee, motion and the rest"] = round(1 - sum(shares.values()), 3)
    return {"rate": steps / whole, "shares": shares, "curve": curve}


def peer(job: Job, seconds: float, ordered: bool) -> dict[str, Any]:
    """The same by Stable-Baselines3, which must be importable."""
    import stable_baselines3 as peers  # type: ignore[import-not-found]
    from gymnasium import spaces
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor  # type: ignore[import-not-found]
    from stable_baselines3.common.vec_env import VecEnv  # type: ignore[import-not-found]

    layers = ARCHITECTURES[job.agent.network]
    order = torch.channels_last if ordered else torch.contiguous_format

    class Layers(BaseFeaturesExtractor):  # type: ignore[misc]
        def __init__(self, space: Any) -> None:
            super().__init__(space, layers.middleware[-1])
            depth, parts = 1, []
            for filters, kernel, stride in layers.convolutions:
                parts += [torch.nn.Conv2d(depth, filters, kernel, stride), torch.nn.ReLU()]
                depth = filters
            flat = int(np.prod(left_over(layers.convolutions)))
            dense = torch.nn.Linear(flat, layers.middleware[-1])
            self.layers = torch.nn.Sequential(*parts, torch.nn.Flatten(), dense, torch.nn.ReLU())
            self.layers.to(memory_format=order)  # type: ignore[call-overload]

        def forward(self, pictures: Any) -> Any:
            return self.layers(pictures.contiguous(memory_format=order))

    class Cars(VecEnv):  # type: ignore[misc]
        def __init__(self, road: Circuit) -> None:
            self.races: Races = road.races
            self.races.reward = road.reward
            self.races.reset()
            picture = spaces.Box(0, 255, (1, 120, 160), np.uint8)
            super().__init__(self.races.num_envs, picture, self.races.single_action_space)

        def _seen(self) -> Any:
            return np.ascontiguousarray(self.races.observations[SENSOR].transpose(0, 3, 1, 2))

        def reset(self) -> Any:
            self.races.reset()
            return self._seen()

        def step_async(self, actions: Any) -> None:
            self.actions = actions

        def step_wait(self) -> Any:
            _, rewards, ended, cut, _ = self.races.step(self.actions)
            return self._seen(), rewards.astype(np.float32), ended | cut, [{} for _ in rewards]

        def close(self) -> None: ...
        def env_is_wrapped(self, *arguments: Any, **options: Any) -> Any:
            return [False] * self.num_envs

        def env_method(self, *arguments: Any, **options: Any) -> Any: ...
        def get_attr(self, *arguments: Any, **options: Any) -> Any:
            return [None] * self.num_envs

        def set_attr(self, *arguments: Any, **options: Any) -> None: ...

    hyper, trials = job.hyperparameters, Trials(job)
    with Circuit(job, 0, hyper.num_episodes_between_training) as road:
        common = {
            "batch_size": hyper.batch_size,
            "learning_rate": hyper.lr,
            "gamma": hyper.discount_factor,
            "seed": job.seed,
        }
        layers_of = {"features_extractor_class": Layers, "net_arch": []}
        cars = Cars(road)
        if job.agent.algorithm is Algorithm.SAC:
            model = peers.SAC(
                "CnnPolicy",
                cars,
                **common,
                buffer_size=REMEMBERED,
                ent_coef=hyper.sac_alpha,
                gradient_steps=round(UPDATES * cars.num_envs),
                policy_kwargs=layers_of | {"net_arch": [128, 128]},
            )
        else:
            # Orthogonal initial weights cannot be had in that order of memory there.
            model = peers.PPO(
                "CnnPolicy",
                cars,
                **common,
                n_steps=STEPS,
                n_epochs=hyper.num_epochs,
                ent_coef=hyper.beta_entropy,
                policy_kwargs=layers_of | {"ortho_init": not ordered},
            )

        def greedy(seen: Any) -> Any:
            choices, _ = model.predict(seen[SENSOR].transpose(0, 3, 1, 2), deterministic=True)
            return choices, np.zeros(len(choices), np.float32)

        steps, spent, curve = 0, 0.0, []
        while spent < seconds:
            began = time.perf_counter()
            model.learn(STEPS * cars.num_envs, reset_num_timesteps=False)
            spent += time.perf_counter() - began
            steps = int(model.num_timesteps)
            curve.append((steps, round(spent, 2), trials.completion(greedy)))
    return {"rate": steps / spent, "curve": curve}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--network", default="compact")
    parser.add_argument("--algorithm", default="ppo", help="ppo or sac")
    parser.add_argument("--peer", type=Path, metavar="FOLDER")
    parser.add_argument("--play", choices=("plain", "ordered"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    job = read_job({"agent": {"network": options.network, "algorithm": options.algorithm}})
    if options.play:
        print(json.dumps(peer(job, options.seconds, options.play == "ordered")))
        return
    runs: dict[str, list[dict[str, Any]]] = {"ours": []}
    for _ in range(TURNS):
        runs["ours"].append(ours(job, options.seconds))
        for play in ("plain", "ordered") if options.peer else ():
            runs.setdefault(play, []).append(_play(options, play))
    rates = {name: mean(run["rate"] for run in each) for name, each in runs.items()}
    figures = {
        "network": options.network,
        "algorithm": options.algorithm,
        "steps_a_second": round(rates["ours"]),
        "times_original": round(rates["ours"] / ORIGINAL),
        "shares": runs["ours"][-1]["shares"],
        **{f"peer_{name}": round(rate) for name, rate in rates.items() if name != "ours"},
        **{f"times_peer_{name}": round(rates["ours"] / rate, 2) for name, rate in rates.items() if name != "ours"},
        "seconds_to_clean": {name: [_clean(run["curve"]) for run in each] for name, each in runs.items()},
        "curves": {name: each[0]["curve"][:12] for name, each in runs.items()},
    }
    print(json.dumps(figures))


def _clean(curve: list[tuple[int, float, float]]) -> float | None:
    return next((seconds for _, seconds, completion in curve if completion >= 100.0), None)


def _play(options: argparse.Namespace, play: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.train", "--play", play, "--seconds", str(options.seconds)]
    paths = os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(options.peer)])
    done = subprocess.run(
        [*command, "--network", options.network, "--algorithm", options.algorithm],
        env=os.environ | {"PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


if __name__ == "__main__":
    main()
