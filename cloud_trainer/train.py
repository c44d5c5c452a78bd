"""Training: drive, learn, evaluate, remember, until the job's end; and on again after any interruption."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from cloud_trainer import records
from cloud_trainer.agent import Algorithm
from cloud_trainer.export import thaw
from cloud_trainer.folder import Snapshot, open_model
from cloud_trainer.job import Job, JobError, load_values, merged, read_agent, read_job
from cloud_trainer.learner import Learner, NotFinite, policy_of
from cloud_trainer.ppo import PPO
from cloud_trainer.publish import publish, settle
from cloud_trainer.records import EpisodeRecord
from cloud_trainer.reward import RewardError
from cloud_trainer.rollout import Circuit, Episode, Experience, join
from cloud_trainer.sac import SAC
from cloud_trainer.store import ARTEFACTS, DATABASE, Artefacts, Iteration, Jobs, Status, best
from drivers.disk import claim
from sim_stub.rules import Rules

MEMORY: Final = "memory"
"""The folder of what SAC remembers."""
START: Final = "start.pb"
"""The artefact that a policy starts from."""
SHOWN: Final = 30.0
"""Seconds after which graphs and exports are brought up to date while a training goes on."""
EVALUATION_CHANCE: Final = 1 << 40
"""Beyond every iteration's number: each evaluation meets the same chances."""
MOST_EVALUATION: Final = 100_000
"""Steps of all the cars of an evaluation."""


@dataclass(frozen=True, slots=True)
class News:
    """How a training stands: `part` 0..1 is how much of what the job allows is used up, `doing` the present task.

    Means over the latest iteration: `reward` and `completion` (per cent) of its training episodes; `evaluation` the
    completion of the latest evaluation, `laps` the clean laps in it, `lap` their mean time. None before there are any.
    """

    part: float
    doing: str
    iteration: int
    steps: int
    rate: float
    reward: float | None = None
    completion: float | None = None
    evaluation: float | None = None
    laps: int = 0
    lap: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """Why a training ended, and its car package (of the best iteration), if it got so far.

    `clean`: after how many seconds of work, and steps, an evaluation first saw no mistake.
    """

    reason: str
    interrupted: bool
    iterations: int
    steps: int
    seconds: float
    clean: tuple[float, int] | None
    package: Path | None


def plan(config: Path | None, start: Path | None, settings: Mapping[str, Any]) -> tuple[Job, bytes | None]:
    """The job that a file and further settings ask for, and the graph of the policy that it starts from.

    What was imported is the ground on which the file's settings stand. Raises JobError and its kin, PackageError.
    """
    values = {} if config is None else load_values(config)
    values = merged(values, settings)
    if start is not None:
        values["start"] = str(start.absolute())
    if "start" not in values:
        return read_job(values), None
    imported = open_model(Path(values["start"]))
    job = read_job(merged(imported.job, values))
    wanted, has = job.agent.sensors, read_agent(imported.job["agent"]).sensors
    if wanted != has:
        raise JobError(
            f"sensors must be {' and '.join(has)}, which the model was trained with, not {' and '.join(wanted)}."
        )
    return job, imported.graph


def begin(folder: Path, job: Job, graph: bytes | None = None) -> None:
    """Lay a new training down in `folder`, to be carried out by `train`; `graph` is the policy to start from.

    Raises JobError where there is a training already or the graph does not fit, OSError.
    """
    if (folder / DATABASE).exists():
        raise JobError(
            f"{folder} holds a training already: go on with it by --resume, or name another folder by --out."
        )
    if graph is not None:
        thaw(graph, job.agent.policy())
    folder.mkdir(parents=True, exist_ok=True)
    with claim(folder), Jobs(folder / DATABASE) as jobs:
        artefacts = {} if graph is None else {START: Artefacts(folder / ARTEFACTS).put(graph)}
        jobs.create(job.document(), artefacts)


def train(
    folder: Path, report: Callable[[News], None], *, changes: Mapping[str, Any] | None = None, trust: bool = False
) -> Outcome:
    """Carry the folder's latest job out, from its last iteration on. `changes` are new values of its `stop` table.

    A KeyboardInterrupt ends it after all is in order, to be gone on with later. Raises JobError where there is no
    training or it cannot go on, RewardError, NotFinite, OSError; the last iteration is kept.
    """
    job_of(folder)
    with claim(folder), Jobs(folder / DATABASE) as jobs:
        number = jobs.latest() or 0
        job = read_job(merged(jobs.document(number), {"stop": changes or {}}))
        jobs.settle(number, Status.RUNNING, document=job.document())
        training = _Training(folder, jobs, number, report)
        try:
            outcome = training.run(trust)
        except (RewardError, NotFinite) as error:
            jobs.settle(number, Status.FAILED, str(error))
            training.publish()
            raise
        jobs.settle(number, Status.RUNNING if outcome.interrupted else Status.DONE, outcome.reason)
        return outcome


def job_of(folder: Path) -> Job:
    """The latest job in a training's folder. Raises JobError where there is none, OSError."""
    if not (folder / DATABASE).is_file():
        raise JobError(f"{folder} holds no training.")
    with Jobs(folder / DATABASE) as jobs:
        number = jobs.latest()
        if number is None:
            raise JobError(f"{folder} holds no training.")
        return read_job(jobs.document(number))


class _Training:
    """One job at work; `history` and `records` are all that was committed."""

    def __init__(self, folder: Path, jobs: Jobs, number: int, report: Callable[[News], None]) -> None:
        self.folder, self.jobs, self.number, self.report = folder, jobs, number, report
        self.job = read_job(jobs.document(number))
        self.artefacts = Artefacts(folder / ARTEFACTS)
        self.history = jobs.iterations(number)
        self.records = [EpisodeRecord(**record) for record in jobs.records(number)]
        self.learner = self._learner()
        self.published = time.monotonic()
        self.began = time.monotonic() - (self.history[-1].seconds if self.history else 0.0)
        self.steps = self.history[-1].steps if self.history else 0
        self._first = (self.steps, time.monotonic())
        self.evaluated: list[Episode] = []
        self.news = News(0.0, "driving", len(self.history), self.steps, 0.0)

    def _learner(self) -> Learner:
        job, memory = self.job, self.folder / MEMORY
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(job.seed)
            policy = job.agent.policy()
            if job.agent.algorithm is Algorithm.SAC:
                memory.mkdir(exist_ok=True)
                learner: Learner = SAC(job, policy, device, memory)
            else:
                learner = PPO(job, policy, device)
        if self.history:
            learner.load(self.artefacts.get(self.history[-1].checkpoint))
        elif START in (named := self.jobs.artefacts(self.number)):
            thaw(self.artefacts.get(named[START]), policy)
        return learner

    def run(self, trust: bool) -> Outcome:
        job = self.job
        cars = job.hyperparameters.num_episodes_between_training
        shares = [cars // len(job.tracks) + (place < cars % len(job.tracks)) for place in range(len(job.tracks))]
        evaluation = job.evaluation
        reason, interrupted = self._over(), False
        with contextlib.ExitStack() as stack:
            try:
                roads = [
                    stack.enter_context(Circuit(job, place, share, trust=trust)) for place, share in enumerate(shares)
                ]
                trials = [
                    stack.enter_context(Circuit(job, place, evaluation.trials, laps=evaluation.laps, trust=trust))
                    for place in range(len(job.tracks))
                ]
                while reason is None:
                    self._iterate(roads, trials)
                    reason = self._over()
                    if time.monotonic() - self.published > SHOWN:
                        self.publish()
            except KeyboardInterrupt:
                reason, interrupted = "stopped from outside", True
        package = self.publish()
        steps, seconds = (self.history[-1].steps, self.history[-1].seconds) if self.history else (0, 0.0)
        clean = next(((each.seconds, each.steps) for each in self.history if each.clean), None)
        return Outcome(reason or "", interrupted, len(self.history), steps, seconds, clean, package)

    def _iterate(self, roads: Sequence[Circuit], trials: Sequence[Circuit]) -> None:
        """One iteration, and the commit of all that came of it."""
        job, number = self.job, len(self.history)
        rng = np.random.default_rng((job.seed, number))
        driven: list[Episode] = []
        parts: list[Experience] = []
        actor = self.learner.actor(rng)
        for road in roads:
            starts, directions = line_up(job.rules, number, road.races.num_envs)
            episodes, experience = road.drive(actor, number, starts, directions, progress=self._count)
            driven += episodes
            parts.append(experience)
        self._say("learning")
        figures = self.learner.learn(join(parts), rng, lambda part: self._say("learning"))
        if not all(bool(weights.isfinite().all()) for weights in self.learner.policy.parameters()):
            raise NotFinite("A weight of the policy became infinite or no number. Try a smaller lr.")
        metric: float | None = None
        tried: list[Episode] = []
        if number % job.evaluation.every == 0:
            metric, tried = self._evaluate(trials)
        fresh = self._told(driven, records.TRAINING, number)
        fresh += self._told(tried, records.EVALUATION, number, fresh)
        reward, completion = mean(episode.score for episode in driven), mean(each.run.completion for each in driven)
        figures |= {
            "reward": reward,
            "completion": completion,
            "steps": float(sum(len(episode.rewards) for episode in driven)),
        }
        clean = self.history[-1].clean if self.history else 0
        if tried:
            clean = clean + 1 if all(episode.run.completion >= 100 for episode in tried) else 0
        began = [record.began for record in fresh[: len(driven)]]
        trace = records.simtrace_csv(driven, job.agent.actions, self.episodes, began)
        named = {f"training-simtrace/{number}-iteration.csv": self.artefacts.put(trace)}
        checkpoint = self.artefacts.put(self.learner.save())
        iteration = Iteration(number, self.steps, time.monotonic() - self.began, metric, clean, figures, checkpoint)
        self.jobs.add(self.number, iteration, [dataclasses.asdict(record) for record in fresh], named)
        self.history.append(iteration)
        self.records += fresh
        self.evaluated = tried or self.evaluated
        self.news = dataclasses.replace(
            self.news, iteration=len(self.history), reward=reward, completion=completion, **_laps(tried)
        )
        self._say("driving")

    def _evaluate(self, trials: Sequence[Circuit]) -> tuple[float, list[Episode]]:
        """How good the policy is by the job's metric, and what it did."""
        evaluation = self.job.evaluation
        tried: list[Episode] = []
        for road in trials:
            self._say("evaluating")
            starts = (
                np.arange(evaluation.trials) / evaluation.trials if road.track.closed else np.zeros(evaluation.trials)
            )
            tried += road.drive(self.learner.greedy, EVALUATION_CHANCE, starts, most=MOST_EVALUATION)[0]
        if evaluation.metric == "reward":
            return mean(episode.score for episode in tried), tried
        if evaluation.metric == "laptime":
            laps = [lap for episode in tried for lap in episode.run.laps]
            return -mean(laps) if laps else -math.inf, tried
        return mean(episode.run.completion for episode in tried), tried

    def _told(
        self, episodes: Sequence[Episode], phase: str, iteration: int, before: Sequence[EpisodeRecord] = ()
    ) -> list[EpisodeRecord]:
        """The records of episodes that were driven one after the other, after those `before` them."""
        so_far = [*self.records[-1:], *before[-1:]]
        clock = so_far[-1].began + so_far[-1].seconds if so_far else 0.0
        told: list[EpisodeRecord] = []
        for place, episode in enumerate(episodes):
            number = self.episodes + (place if phase == records.TRAINING else len(before))
            told += EpisodeRecord.of(
                episode, iteration=iteration, number=number, trial=len(told), phase=phase, began=clock
            )
            clock = told[-1].began + told[-1].seconds
        return told

    @property
    def episodes(self) -> int:
        """Training episodes so far."""
        return sum(record.phase == records.TRAINING for record in self.records)

    def _over(self) -> str | None:
        """Why the training is over, or None."""
        if not self.history:
            return None
        job, last = self.job, self.history[-1]
        stop, hyper = job.stop, job.hyperparameters
        if stop.clean_evaluations and last.clean >= stop.clean_evaluations:
            return f"{last.clean} evaluations in a row were clean"
        if last.figures["reward"] >= hyper.term_cond_avg_score:
            return f"the mean reward reached {hyper.term_cond_avg_score:g}"
        if self.episodes >= hyper.term_cond_max_episodes:
            return f"{self.episodes} episodes were driven"
        if stop.steps and last.steps >= stop.steps:
            return f"{last.steps} steps were driven"
        if stop.minutes and last.seconds >= 60 * stop.minutes:
            return f"{stop.minutes:g} minutes were over"
        return None

    def _count(self, steps: int) -> None:
        self.steps += steps
        self._say("driving")

    def _say(self, doing: str) -> None:
        stop, seconds = self.job.stop, time.monotonic() - self.began
        steps, since = self._first
        parts = [
            seconds / (60 * stop.minutes) if stop.minutes else 0.0,
            self.steps / stop.steps if stop.steps else 0.0,
            self.history[-1].clean / stop.clean_evaluations if stop.clean_evaluations and self.history else 0.0,
        ]
        self.news = dataclasses.replace(
            self.news,
            part=min(max(parts), 1.0),
            doing=doing,
            steps=self.steps,
            rate=(self.steps - steps) / max(time.monotonic() - since, 1e-3),
        )
        self.report(self.news)

    def publish(self) -> Path | None:
        """Bring the folder's files up to date. Returns the car package, once there is a policy to pack."""
        self.published = time.monotonic()
        self.artefacts.sweep(self.jobs.digests())
        settle(self.folder, self.job)
        if not self.history:
            return None
        named = self.jobs.artefacts(self.number).items()
        traces = {
            path: self.artefacts.get(digest)
            for path, digest in named
            if path != START and not (self.folder / path).is_file()
        }
        last, chosen = (self._snapshot(each) for each in (self.history[-1], best(self.history) or self.history[-1]))
        return publish(self.folder, self.job, self.records, self.evaluated, last, chosen, traces)

    def _snapshot(self, iteration: Iteration) -> Snapshot:
        policy = self.job.agent.policy()
        policy.load_state_dict(policy_of(self.artefacts.get(iteration.checkpoint)))
        return Snapshot(iteration.number, iteration.steps, iteration.metric, iteration.seconds, policy)


def line_up(rules: Rules, iteration: int, cars: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Where on the lap (0..1) and in which direction each car's episode begins, as if one car drove all in turn."""
    episode = iteration * cars + np.arange(cars)
    turned = episode % 2 * rules.alternate_driving_direction
    starts = episode * (rules.round_robin_advance_dist * rules.change_start_position) % 1.0
    return np.asarray(starts, np.float64), np.asarray((turned + rules.reverse_dir) % 2, np.int64)


def _laps(tried: Sequence[Episode]) -> dict[str, Any]:
    """What News tells of an evaluation."""
    if not tried:
        return {}
    laps = [lap for episode in tried for lap in episode.run.laps]
    completion = mean(episode.run.completion for episode in tried)
    return {"evaluation": completion, "laps": len(laps), "lap": mean(laps) if laps else None}
