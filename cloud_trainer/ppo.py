"""Proximal policy optimisation (Schulman et al. 2017, clipped): one page, read from top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cloud_trainer.job import Job
from cloud_trainer.learner import CRITIC_LR, Learner, adam, mlp
from cloud_trainer.network import Head, PolicyNetwork
from cloud_trainer.rollout import Actor, Experience, Observations, situation_size

LAMBDA: Final = 0.95
"""Of generalised advantage estimation (Schulman et al. 2016)."""
CLIP: Final = 0.2
LOG_STD: Final = (-20.0, 3.0)
START_LOG_STD: Final = -0.5
LEAST_PROBABILITY: Final = 1e-8


class PPO(Learner):
    """Learns lists of actions and ranges of them."""

    def __init__(self, job: Job, policy: PolicyNetwork, device: torch.device) -> None:
        super().__init__(job, policy, device)
        self.critic = mlp(situation_size(job), 1).to(device)
        self.spread = nn.ParameterDict(
            {} if policy.kind is Head.DISCRETE else {"log_std": torch.full((policy.outputs,), START_LOG_STD)}
        ).to(device)
        self.optimizer = adam([*policy.parameters(), *self.spread.parameters()], job.hyperparameters.lr)
        self.critic_optimizer = adam(self.critic.parameters(), CRITIC_LR)

    def parts(self) -> dict[str, Any]:
        names = ("policy", "critic", "spread", "optimizer", "critic_optimizer")
        return {name: getattr(self, name) for name in names}

    def actor(self, rng: np.random.Generator) -> Actor:
        def act(observations: Observations) -> tuple[NDArray[Any], NDArray[np.float32]]:
            with torch.inference_mode():
                head = self.policy(self.tensors(observations)).cpu().numpy()
            if self.policy.kind is Head.DISCRETE:
                logs = np.log(np.maximum(_softmax(head), LEAST_PROBABILITY))
                choices = self._explore((logs + rng.gumbel(size=logs.shape)).argmax(axis=1), logs.shape[1], rng)
                return choices, np.take_along_axis(logs, choices[:, None], axis=1)[:, 0].astype(np.float32)
            log_std = self.spread["log_std"].detach().cpu().numpy().clip(*LOG_STD)
            noise = rng.standard_normal(head.shape).astype(np.float32)
            self.steps += len(head)
            logps = (-0.5 * noise**2 - log_std - 0.5 * np.log(2 * np.pi)).sum(axis=1)
            return head + np.exp(log_std) * noise, logps.astype(np.float32)

        return act

    def _explore(self, choices: NDArray[np.intp], actions: int, rng: np.random.Generator) -> NDArray[np.intp]:
        """e-greedy: some actions at random, fewer and fewer."""
        hyper = self.job.hyperparameters
        self.steps += len(choices)
        if hyper.exploration_type == "categorical":
            return choices
        part = min(self.steps / hyper.epsilon_steps, 1.0)
        at_random = rng.random(len(choices)) < 1.0 + part * (hyper.e_greedy_value - 1.0)
        return np.where(at_random, rng.integers(actions, size=len(choices)), choices)

    def learn(
        self, experience: Experience, rng: np.random.Generator, progress: Callable[[float], None] = lambda part: None
    ) -> dict[str, float]:
        """`num_epochs` passes over the episodes; the figures are means over the last."""
        hyper = self.job.hyperparameters
        situations = torch.from_numpy(experience.situations).to(self.device)
        with torch.inference_mode():
            values = self.critic(situations)[:, 0].double().cpu().numpy() * self.scale
        advantages, returns = advantages_of(experience, values, hyper.discount_factor)
        self.rescale(returns)
        targets = self._tensor(returns / self.scale)
        advantage = self._tensor((advantages - advantages.mean()) / (advantages.std() + 1e-8))
        old, choices = self._tensor(experience.logps), torch.from_numpy(experience.choices).to(self.device)
        figures: dict[str, list[float]] = {}
        for epoch in range(hyper.num_epochs):
            figures = {"surrogate_loss": [], "value_loss": [], "kl_divergence": [], "entropy": []}
            for rows in minibatches(len(experience), hyper.batch_size, rng):
                picked = torch.from_numpy(rows).to(self.device)
                head = self.policy(self.tensors({name: seen[rows] for name, seen in experience.observations.items()}))
                logp, entropy = self._distribution(head, choices[picked])
                ratio, gain = torch.exp(logp - old[picked]), advantage[picked]
                surrogate = -torch.min(ratio * gain, ratio.clamp(1 - CLIP, 1 + CLIP) * gain).mean()
                self.descend(surrogate - hyper.beta_entropy * entropy.mean(), self.optimizer)
                value_loss = self.loss(self.critic(situations[picked])[:, 0], targets[picked])
                self.descend(value_loss, self.critic_optimizer)
                figures["surrogate_loss"].append(surrogate.item())
                figures["value_loss"].append(value_loss.item())
                figures["kl_divergence"].append((old[picked] - logp).mean().item())
                figures["entropy"].append(entropy.mean().item())
            progress((epoch + 1) / hyper.num_epochs)
        self.check()
        return {name: float(np.mean(each)) for name, each in figures.items()}

    def _distribution(self, head: torch.Tensor, choices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probability of the choices, and entropy, each [n]."""
        if self.policy.kind is Head.DISCRETE:
            logs = torch.log_softmax(head, 1)
            return logs.gather(1, choices[:, None])[:, 0], -(logs.exp() * logs).sum(1)
        log_std = self.spread["log_std"].clamp(*LOG_STD)
        logs = -0.5 * ((choices - head) / log_std.exp()) ** 2 - log_std - 0.5 * np.log(2 * np.pi)
        return logs.sum(1), (log_std + 0.5 * np.log(2 * np.pi * np.e)).sum().expand(len(head))

    def _tensor(self, values: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(self.device)


def minibatches(count: int, size: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """One pass in a random order, the remainder dropped; of few rows, the largest power of two that there is."""
    size = min(size, 1 << (count.bit_length() - 1))
    order = rng.permutation(count)
    for begin in range(0, count - size + 1, size):
        yield order[begin : begin + size]


def advantages_of(
    experience: Experience, values: NDArray[np.float64], discount: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Advantages and returns, each [n]. An episode that was cut goes on as it stood: its last value stands for more."""
    advantages, rewards = np.zeros(len(values)), experience.rewards
    for (begin, end), cut in zip(pairwise(experience.first.tolist()), experience.cut, strict=True):
        later, ahead = 0.0, float(values[end - 1]) if cut else 0.0
        for step in range(end - 1, begin - 1, -1):
            later = rewards[step] + discount * ahead - values[step] + discount * LAMBDA * later
            advantages[step], ahead = later, values[step]
    return advantages, advantages + values


def _softmax(head: NDArray[np.float32]) -> NDArray[np.float64]:
    power = np.exp(head.astype(np.float64) - head.max(axis=1, keepdims=True))
    return np.asarray(power / power.sum(axis=1, keepdims=True), np.float64)
