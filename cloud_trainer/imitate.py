"""Imitation: a driver who knows the track teaches a network that sees only pictures (DAgger, Ross et al. 2011)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import smooth_l1_loss

from cloud_trainer.evaluate import Driver, evaluate
from cloud_trainer.network import COMPACT, PolicyNetwork, outputs
from drivers.signals import Observation
from inference.actions import ContinuousActions
from inference.features import HEIGHT, WIDTH, grey
from sim_stub import dynamics
from sim_stub import track as tracks
from sim_stub.dynamics import DEEPRACER, FRONT_POINT, FULL_LOCK, REAR_AXLE, SPEED, YAW, Command, State, X, Y, to_world
from sim_stub.env import commands
from sim_stub.race import Race
from sim_stub.randomisation import PALETTES, Randomisation
from sim_stub.rules import Rules
from sim_stub.scene import Scene
from sim_stub.track import Track
from sim_stub.view import MONO, Eye

Pictures: TypeAlias = NDArray[np.uint8]
"""uint8[n, 120, 160]: what n cars see, as grey as the car's own software makes it."""

ACTIONS: Final = ContinuousActions(steering_deg=(-30.0, 30.0), speed=(0.8, 2.2))

WHEELBASE: Final = 0.20
"""Metres between the axles of a car that slips as ours does."""
LOOK_AHEAD: Final = 0.6
"""Metres beyond the car's front at which the driver aims."""
BRAKE_AHEAD: Final = 1.5
"""Metres beyond the car's front in which the driver looks out for bends."""
GRIP: Final = 2.8
"""Sideways acceleration (m/s^2) at which the driver takes a bend."""

RATE: Final = 10.0
"""Decisions a second, as on the car."""
RULES: Final = Rules(rate=RATE, laps=1000)
CHANCE: Final = Randomisation(
    lights=0.6,
    exposure=0.6,
    blur=0.6,
    noise=0.8,
    camera=0.6,
    command_latency=0.4,
    motor=0.5,
    steering=0.5,
    friction=0.3,
)
"""What differs from car to car, so that the network learns the road and not one picture of it."""
SHORTEST: Final = 12.0
"""Metres of a track to learn on: the templates are too short and narrow."""

HEATS: Final = 8
"""Worlds in a round; half of them on the main track."""
DECISIONS: Final = 40
"""Of each car in a round."""
BATCH: Final = 64
LEARNING: Final = 3
"""Pictures learned from after a round, for each picture that the round brought; the last round's learning is longer."""


def pursue(track: Track, state: State) -> Command:
    """What the driver does: aims at the centre line a little ahead, and lets the bends to come set the speed.

    Steering is pure pursuit (Coulter 1992) from the rear axle. Only the pose counts, not the speed: all that the answer
    depends on can be seen in one picture.
    """
    along = track.distance_along(to_world(state, np.array([[FRONT_POINT, 0.0]]))[:, 0])
    aim, _ = track.place(along + LOOK_AHEAD)
    reach = aim - to_world(state, np.array([[REAR_AXLE, 0.0]]))[:, 0]
    bearing = np.arctan2(reach[:, 1], reach[:, 0]) - state[:, YAW]
    wheel = np.arctan(2 * WHEELBASE * np.sin(bearing) / np.hypot(reach[:, 0], reach[:, 1]))
    road, _ = track.place(along[:, None] + np.linspace(0.0, BRAKE_AHEAD, 6))
    chord = np.diff(road, axis=1)
    turn = np.diff(np.unwrap(np.arctan2(chord[..., 1], chord[..., 0]), axis=1), axis=1)
    speed = np.sqrt(GRIP / np.maximum(np.abs(turn).max(axis=1) / (BRAKE_AHEAD / 5), 1e-3))
    return np.stack([np.clip(wheel, -FULL_LOCK, FULL_LOCK), np.clip(speed, *ACTIONS.speed)], axis=1)


@dataclass(frozen=True, slots=True)
class Plan:
    """One imitation: the main track, which must be closed, the seed of all chance, and how much there is to be seen."""

    track: Track
    seed: int = 1
    rounds: int = 8
    cars_a_heat: int = 8

    @property
    def pictures_a_round(self) -> int:
        """As long as every car stays on the road."""
        return HEATS * self.cars_a_heat * DECISIONS


def imitate(plan: Plan, report: Callable[[str], None]) -> PolicyNetwork:
    """Teach a COMPACT network to drive like `pursue`; `report` hears a line a round.

    In the first round the driver drives, and the network learns from what it does. In later rounds the network drives
    more and more of the cars, while the driver beside it says what it would do: so the network also learns the way back
    from its own mistakes. The same plan gives the same weights on one machine.
    """
    rng = np.random.default_rng(plan.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        network = PolicyNetwork(COMPACT, outputs=2)
    threads = torch.get_num_threads()
    # How a sum is split among threads changes its last digits: with one, the weights do not depend on the cores.
    torch.set_num_threads(1)
    try:
        _teach(network, plan, rng, report)
    finally:
        torch.set_num_threads(threads)
    return network


def _teach(network: PolicyNetwork, plan: Plan, rng: np.random.Generator, report: Callable[[str], None]) -> None:
    school = _School(network, plan.rounds * plan.pictures_a_round, rng)
    student = driver(network)
    others = [tracks.load(name) for name in tracks.names() if name != plan.track.name]
    others = [track for track in others if track.closed and track.length > SHORTEST]
    eyes = {track.name: _eye(track) for track in (plan.track, *others)}
    away = cycle(others)
    with ThreadPoolExecutor() as pool:
        for number in range(plan.rounds):
            line_up = [plan.track if heat % 2 else next(away) for heat in range(HEATS)]
            chances = rng.spawn(HEATS)
            build = partial(_World, cars=plan.cars_a_heat, taught=0.5**number)
            worlds = list(pool.map(build, line_up, [eyes[track.name] for track in line_up], chances))
            for _ in range(DECISIONS):
                pictures = list(pool.map(_World.look, worlds))
                shares = np.cumsum([len(seen) for seen in pictures[:-1]])
                chosen = np.split(_answer(network, np.concatenate(pictures)), shares)
                for world, seen, wish in zip(worlds, pictures, chosen, strict=True):
                    school.remember(seen, world.drive(wish))
            steps = LEARNING * plan.pictures_a_round // BATCH
            last = number == plan.rounds - 1
            loss = school.learn(steps * plan.rounds if last else steps, falling=last)
            stayed = np.mean([1 - world.race.done.mean() for world in worlds])
            lapped = len(evaluate("student", student, plan.track, Rules(rate=RATE), DEEPRACER, 10).laps)
            report(
                f"round {number + 1} of {plan.rounds}: loss {loss:.4f}, {stayed:.0%} of the cars stayed on the road, "
                f"{lapped} of 10 starts made a clean lap"
            )


def driver(network: PolicyNetwork) -> Driver:
    """The network as a driver of simulated cars, as their own software feeds it; it follows the weights' changes."""

    def drive(observations: Sequence[Observation]) -> Command:
        pictures = np.stack([grey(observation.frames[0]) for observation in observations]).astype(np.uint8)
        return _answer(network, pictures)

    return drive


def _answer(network: PolicyNetwork, pictures: Pictures) -> Command:
    with torch.inference_mode():
        answer = network(torch.from_numpy(pictures[:, None]))
    return commands(ACTIONS, answer.numpy())


def _eye(track: Track) -> Eye:
    return Eye(Scene(track, planes=1, palettes=PALETTES, spread=CHANCE.lights), MONO, threads=1)


class _World:
    """Cars on one track, each with its own colours, lens, film and chassis, and some with the driver at the wheel."""

    def __init__(self, track: Track, eye: Eye, rng: np.random.Generator, cars: int, taught: float) -> None:
        """`taught` is the share of cars that the driver drives."""
        self.race = Race(track, RULES, DEEPRACER, cars, seed=int(rng.integers(2**31)), randomisation=CHANCE)
        self.race.state[:] = self.race.seen[:] = _scatter(track, rng, cars)
        self._track, self._eye = track, eye
        self._taught = rng.random(cars) < taught
        self._pictures = np.zeros((cars, HEIGHT, WIDTH, 1), np.uint8)

    def look(self) -> Pictures:
        """What the cars see that are still on the road."""
        race = self.race
        self._eye.look(race.seen, race.solids, race.film, race.steps, out=self._pictures)
        return self._pictures[~race.done, :, :, 0]

    def drive(self, chosen: Command) -> Command:
        """Carry these cars on, by the network's choice or by the driver's; returns the driver's for all."""
        running = ~self.race.done
        right = pursue(self._track, self.race.state[running])
        wish = np.zeros((self.race.batch, 2))
        wish[running] = np.where(self._taught[running, None], right, chosen)
        self.race.judge(wish)
        self.race.drive(wish)
        return right


def _scatter(track: Track, rng: np.random.Generator, cars: int) -> State:
    """Cars anywhere along the track, beside the centre line, askew and at any speed."""
    place, heading = track.place(rng.uniform(0, track.length, cars))
    state = np.zeros((cars, dynamics.STATES))
    state[:, [X, Y]], state[:, YAW] = place, heading
    half_width = float(np.median(np.hypot(*(track.inner - track.outer).T))) / 2
    aside = rng.uniform(-0.8, 0.8, cars) * half_width
    state[:, X] -= aside * np.sin(state[:, YAW])
    state[:, Y] += aside * np.cos(state[:, YAW])
    state[:, YAW] += rng.normal(0.0, 0.25, cars)
    state[:, SPEED] = rng.uniform(0.0, ACTIONS.top_speed, cars)
    return state


class _School:
    """All pictures until now with the driver's answers, and the network that learns them."""

    def __init__(self, network: PolicyNetwork, most: int, rng: np.random.Generator) -> None:
        self._network = network
        self._pictures = np.empty((most, HEIGHT, WIDTH), np.uint8)
        self._answers = np.empty((most, 2), np.float32)
        self._count = 0
        self._rng = rng
        self._optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)

    def remember(self, pictures: Pictures, right: Command) -> None:
        rows = slice(self._count, self._count + len(pictures))
        self._pictures[rows], self._answers[rows] = pictures, outputs(ACTIONS, right)
        self._count += len(pictures)

    def learn(self, steps: int, *, falling: bool) -> float:
        """Descend by `steps` batches out of everything remembered; the mean loss."""
        losses = []
        for step in range(steps):
            for group in self._optimizer.param_groups:
                group["lr"] = 1e-3 * (0.01 ** (step / steps) if falling else 1.0)
            pictures, answers = self._batch()
            loss = smooth_l1_loss(self._network(pictures), answers, beta=0.2)
            self._optimizer.zero_grad()
            torch.autograd.backward([loss])
            self._optimizer.step()
            losses.append(loss.item())
        return float(np.mean(losses))

    def _batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        rows = self._rng.integers(self._count, size=BATCH)
        pictures, answers = self._pictures[rows], self._answers[rows]
        mirrored = self._rng.random(BATCH) < 0.5
        pictures[mirrored] = pictures[mirrored, :, ::-1]
        answers[mirrored, 0] *= -1
        return torch.from_numpy(pictures[:, None]), torch.from_numpy(answers)
