"""Soft actor-critic (Haarnoja et al. 2018), with a fixed temperature: one page, read from top to bottom."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import softplus

from cloud_trainer.job import Job
from cloud_trainer.learner import CRITIC_LR, Learner, adam, mlp
from cloud_trainer.network import PolicyNetwork
from cloud_trainer.rollout import Actor, Experience, Observations, situation_size

REMEMBERED: Final = 30_000
"""Steps that the memory holds: 0.6 GB of pictures of one camera."""
UPDATES: Final = 0.5
"""Descents for each step driven."""
BLEND: Final = 0.005
"""Of the critic into its slow twin, at each descent."""
LOG_STD: Final = (-5.0, 1.0)
START_LOG_STD: Final = -0.5
COLUMNS: Final = ("situations", "choices", "rewards", "failed")


class Memory:
    """The last `size` steps, whole episodes; on disk in files of `folder`, which outlive the process, or in memory.

    What is in them is good together with `count`, which a checkpoint keeps: whoever goes on from one drives the same
    episodes again, into the same places.
    """

    def __init__(self, folder: Path | None, size: int = REMEMBERED) -> None:
        self._folder, self.size, self.count = folder, size, 0
        self.columns: dict[str, NDArray[Any]] = {}

    def remember(self, experience: Experience) -> None:
        """Takes the places of the oldest."""
        last = experience.first[1:] - 1
        failed, follows = np.zeros(len(experience), np.bool_), np.ones(len(experience), np.bool_)
        failed[last], follows[last] = ~experience.cut, False
        fresh = experience.observations | {
            "situations": experience.situations,
            "choices": experience.choices,
            "rewards": experience.rewards,
            "failed": failed,
            "follows": follows,
        }
        if not self.columns:
            self.columns = {name: self._column(name, values) for name, values in fresh.items()}
        rows = (self.count + np.arange(len(experience))) % self.size
        for name, column in self.columns.items():
            column[rows] = fresh[name]
            if isinstance(column, np.memmap):
                column.flush()
        self.count += len(experience)

    def _column(self, name: str, like: NDArray[Any]) -> NDArray[Any]:
        shape = (self.size, *like.shape[1:])
        if self._folder is None:
            return np.zeros(shape, like.dtype)
        path = self._folder / f"{name}.memory"
        if not path.is_file() or path.stat().st_size != like.dtype.itemsize * int(np.prod(shape)):
            self.count = 0  # nothing is left of what a checkpoint remembers
            return np.memmap(path, like.dtype, "w+", shape=shape)
        return np.memmap(path, like.dtype, "r+", shape=shape)

    def state_dict(self) -> dict[str, int]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.count = state["count"]

    def sample(self, count: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows, and the rows that follow them; the last step of an episode follows itself."""
        rows = rng.integers(min(self.count, self.size), size=count)
        return rows, (rows + self.columns["follows"][rows]) % self.size


class SAC(Learner):
    """Learns ranges of actions. The critics go by situations, the policy by pictures."""

    def __init__(self, job: Job, policy: PolicyNetwork, device: torch.device, folder: Path | None = None) -> None:
        super().__init__(job, policy, device)
        size = situation_size(job) + policy.outputs
        self.critics = nn.ModuleList(mlp(size, 1) for _ in range(2)).to(device)
        self.slow = copy.deepcopy(self.critics).requires_grad_(False)
        self.spread = nn.ParameterDict({"log_std": torch.full((policy.outputs,), START_LOG_STD)}).to(device)
        self.optimizer = adam([*policy.parameters(), *self.spread.parameters()], job.hyperparameters.lr)
        self.critic_optimizer = adam(self.critics.parameters(), CRITIC_LR)
        self.memory = Memory(folder)

    def parts(self) -> dict[str, Any]:
        names = ("policy", "critics", "slow", "spread", "optimizer", "critic_optimizer", "memory")
        return {name: getattr(self, name) for name in names}

    def actor(self, rng: np.random.Generator) -> Actor:
        def act(observations: Observations) -> tuple[NDArray[Any], NDArray[np.float32]]:
            with torch.inference_mode():
                mean = self.policy(self.tensors(observations)).cpu().numpy()
            spread = np.exp(self.spread["log_std"].detach().cpu().numpy().clip(*LOG_STD))
            self.steps += len(mean)
            choices = np.tanh(mean + spread * rng.standard_normal(mean.shape)).astype(np.float32)
            return choices, np.zeros(len(mean), np.float32)

        return act

    def learn(
        self, experience: Experience, rng: np.random.Generator, progress: Callable[[float], None] = lambda part: None
    ) -> dict[str, float]:
        """UPDATES descents for each step of the episodes, by batches of all that is remembered."""
        hyper, memory = self.job.hyperparameters, self.memory
        memory.remember(experience)
        self.rescale(experience.rewards)
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        updates = max(1, round(UPDATES * len(experience)))
        figures: dict[str, list[float]] = {"value_loss": [], "policy_loss": [], "entropy": []}
        for update in range(updates):
            rows, after = memory.sample(hyper.batch_size, rng)
            column = {name: self._tensor(memory.columns[name][rows]) for name in COLUMNS}
            with torch.no_grad():
                then = self._tensor(memory.columns["situations"][after])
                choice, logp = self._sample({name: values[after] for name, values in self._seen().items()}, generator)
                worth = self._least(self.slow, then, choice) - hyper.sac_alpha * logp
                alive = 1.0 - column["failed"].float()
                target = column["rewards"].float() / self.scale + hyper.discount_factor * alive * worth
            pair = torch.cat([column["situations"], column["choices"]], 1)
            value_loss = torch.stack([self.loss(critic(pair)[:, 0], target) for critic in self.critics]).sum()
            self.descend(value_loss, self.critic_optimizer)
            choice, logp = self._sample({name: values[rows] for name, values in self._seen().items()}, generator)
            worth = self._least(self.critics, column["situations"], choice)
            policy_loss = (hyper.sac_alpha * logp - worth).mean()
            self.descend(policy_loss, self.optimizer)
            with torch.no_grad():
                for slow, critic in zip(self.slow.parameters(), self.critics.parameters(), strict=True):
                    slow.lerp_(critic, BLEND)
            figures["value_loss"].append(value_loss.item())
            figures["policy_loss"].append(policy_loss.item())
            figures["entropy"].append(-logp.mean().item())
            progress((update + 1) / updates)
        self.check()
        return {name: float(np.mean(each)) for name, each in figures.items()}

    def _seen(self) -> Observations:
        return {name: self.memory.columns[name] for name in self.policy.branches}

    def _sample(self, seen: Observations, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Choices [n, 2] in -1..1 as the policy explores, and their log-probabilities [n]."""
        mean = self.policy(self.tensors(seen))
        log_std = self.spread["log_std"].clamp(*LOG_STD)
        noise = torch.randn(mean.shape, generator=generator, device=self.device)
        raw = mean + log_std.exp() * noise
        logs = -0.5 * noise**2 - log_std - 0.5 * np.log(2 * np.pi)
        # log(1 - tanh(x)^2), in a form that does not vanish.
        squash = 2 * (np.log(2) - raw - softplus(-2 * raw))
        return torch.tanh(raw), (logs - squash).sum(1)

    def _least(self, critics: nn.ModuleList, situations: torch.Tensor, choices: torch.Tensor) -> torch.Tensor:
        pair = torch.cat([situations, choices], 1)
        return torch.stack([critic(pair)[:, 0] for critic in critics]).min(0).values

    def _tensor(self, values: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.asarray(values)).to(self.device)
