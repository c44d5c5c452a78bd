"""What PPO and SAC share: a policy that looks, a critic that knows, scale, descent, and how all of it is remembered.

The value of a situation is learned from what the simulator knows of it, not from the picture (an asymmetric critic,
Pinto et al. 2017): it is needed only while training, costs next to nothing, and leaves the convolutions to the policy.
"""

from __future__ import annotations

import io
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import huber_loss, mse_loss

from cloud_trainer.job import Job
from cloud_trainer.network import Head, PolicyNetwork
from cloud_trainer.rollout import Actor, Experience, Observations

MOST_GRADIENT: Final = 0.5
CRITIC_LR: Final = 1e-3
ADAM_EPS: Final = 1e-5
MEMORY: Final = 0.9
"""Of what the scale was before, at each update."""


class NotFinite(ArithmeticError):
    """An iteration's learning came to nothing: every loss was NaN or infinite."""


class Learner:
    """A policy and what it learns with. All chance comes from the generators that are passed in."""

    def __init__(self, job: Job, policy: PolicyNetwork, device: torch.device) -> None:
        self.job, self.device = job, device
        self.policy = policy.to(device)
        self.square = torch.zeros(2, dtype=torch.float64)
        """Running mean square of what the critic learns, and the weight behind it."""
        self.steps = 0
        """Actions chosen with exploration so far."""
        self._lost = self._made = 0

    @abstractmethod
    def actor(self, rng: np.random.Generator) -> Actor:
        """Drives with exploration."""

    @abstractmethod
    def learn(
        self, experience: Experience, rng: np.random.Generator, progress: Callable[[float], None] = lambda part: None
    ) -> dict[str, float]:
        """Improve by an iteration's episodes; returns figures by name. Raises NotFinite."""

    @abstractmethod
    def parts(self) -> dict[str, Any]:
        """What `save` keeps, by name: whatever has a state_dict."""

    def greedy(self, observations: Observations) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Drives without exploration, as a car does; see rollout.Actor."""
        with torch.inference_mode():
            head = self.policy(self.tensors(observations)).cpu().numpy()
        if self.policy.kind is Head.DISCRETE:
            choices: NDArray[Any] = head.argmax(axis=1)
        else:
            choices = np.tanh(head) if self.policy.kind is Head.SQUASHED else head
        return choices, np.zeros(len(head), np.float32)

    def save(self) -> bytes:
        """Everything that `load` needs to go on with the same numbers."""
        file = io.BytesIO()
        state = {name: part.state_dict() for name, part in self.parts().items()}
        torch.save(state | {"square": self.square, "steps": self.steps}, file)
        return file.getvalue()

    def load(self, data: bytes) -> None:
        state = torch.load(io.BytesIO(data), map_location=self.device, weights_only=True)
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        self.square, self.steps = state["square"].cpu(), state["steps"]

    def tensors(self, observations: Observations) -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(values).to(self.device) for name, values in observations.items()}

    @property
    def scale(self) -> float:
        """The size of what the critic learns, so that rewards of any size teach alike."""
        square, weight = self.square.tolist()
        return max((square / weight) ** 0.5, 1e-6) if weight else 1.0

    def rescale(self, values: NDArray[np.float64]) -> None:
        fresh = torch.tensor([float(np.mean(values**2)), 1.0], dtype=torch.float64)
        self.square = MEMORY * self.square + (1 - MEMORY) * fresh

    def loss(self, answer: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (huber_loss if self.job.hyperparameters.loss_type == "huber" else mse_loss)(answer, target)

    def descend(self, loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
        """A step down; none where the gradient is not finite, of which `check` hears."""
        optimizer.zero_grad()
        torch.autograd.backward([loss])
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._made += 1
        if nn.utils.clip_grad_norm_(parameters, MOST_GRADIENT).isfinite():
            optimizer.step()
        else:
            self._lost += 1

    def check(self) -> None:
        """At the end of an iteration. Raises NotFinite."""
        lost, made, self._lost, self._made = self._lost, self._made, 0, 0
        if lost == made and made:
            raise NotFinite("Nothing could be learned: every loss was infinite or no number. Try a smaller lr.")


def policy_of(checkpoint: bytes) -> dict[str, Any]:
    """The policy's weights in what `save` gave."""
    policy: dict[str, Any] = torch.load(io.BytesIO(checkpoint), map_location="cpu", weights_only=True)["policy"]
    return policy


def adam(parameters: Any, lr: float) -> torch.optim.Adam:
    return torch.optim.Adam(parameters, lr=lr, eps=ADAM_EPS, fused=True)


def mlp(size: int, outputs: int) -> nn.Sequential:
    """Numbers [n, size] to numbers [n, outputs], all 0 at first: what is not known yet is worth nothing."""
    last = nn.Linear(128, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(size, 128), nn.Tanh(), nn.Linear(128, 128), nn.Tanh(), last)
