"""What a network's output asks for, as the stock car reads it.

The throttle curve -1.2 x^2 + 2.2 x, x = speed / fastest speed, passes (0, 0), (1/2, 0.8) and (1, 1): the stock
car's speed scales 1.0 and 0.8 at full and at half speed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drivers.signals import Action


class OutputError(ValueError):
    """The network's output asks for nothing that this action space knows; the message says why."""


@dataclass(frozen=True, slots=True)
class DiscreteActions:
    """A list of (steering angle in degrees, + left; speed in m/s); the network scores its rows in this order."""

    choices: tuple[tuple[float, float], ...]

    @property
    def outputs(self) -> int:
        return len(self.choices)

    @property
    def top_speed(self) -> float:
        """m/s: the speed that full throttle stands for."""
        return max(speed for _, speed in self.choices)

    def choice(self, scores: NDArray[np.float32]) -> tuple[float, float]:
        """Angle (degrees) and speed (m/s) of the row with the best score. Raises OutputError."""
        _check(scores, self.outputs)
        return self.choices[int(scores.argmax())]

    def action(self, scores: NDArray[np.float32]) -> Action:
        """The row with the best score. Raises OutputError."""
        angle, speed = self.choice(scores)
        lock = max(abs(angle) for angle, _ in self.choices)
        return Action(angle / lock if lock > 0 else 0.0, throttle_for(speed, self.top_speed))


@dataclass(frozen=True, slots=True)
class ContinuousActions:
    """Ranges (low, high) of steering angle in degrees, + left, and of speed in m/s; outputs -1..1 span them."""

    steering_deg: tuple[float, float]
    speed: tuple[float, float]

    @property
    def outputs(self) -> int:
        return 2

    @property
    def top_speed(self) -> float:
        """m/s: the speed that full throttle stands for."""
        return self.speed[1]

    def choice(self, means: NDArray[np.float32]) -> tuple[float, float]:
        """Angle (degrees) and speed (m/s) that the two means, clipped to -1..1, stand for. Raises OutputError."""
        _check(means, self.outputs)
        angle, speed = (
            low + (min(max(float(mean), -1.0), 1.0) + 1) / 2 * (high - low)
            for mean, (low, high) in zip(means, (self.steering_deg, self.speed), strict=True)
        )
        return angle, speed

    def action(self, means: NDArray[np.float32]) -> Action:
        """The point of the ranges that the two means, clipped to -1..1, stand for. Raises OutputError."""
        angle, speed = self.choice(means)
        lock = self.steering_deg[1]
        return Action(min(max(angle / lock, -1.0), 1.0) if lock > 0 else 0.0, throttle_for(speed, self.top_speed))


def throttle_for(speed: float, top_speed: float) -> float:
    """Throttle -1..1 for a speed, by the stock curve; `top_speed` > 0 in the same unit stands for full throttle."""
    part = speed / top_speed
    return min(max(-1.2 * part**2 + 2.2 * part, -1.0), 1.0)


def throttle_for_stick(stick: float, max_speed: float) -> float:
    """Throttle -1..1 for a stick pushed -1..1 under a speed limit of 0..1: the curve stretched 1 to 5 times."""
    if max_speed <= 0 or stick == 0:
        return 0.0
    forward = throttle_for(abs(stick), 1 + (1 - max_speed) * 4)
    return forward if stick > 0 else -forward


def _check(output: NDArray[np.float32], size: int) -> None:
    if output.shape != (size,):
        raise OutputError(f"The model answered with shape {output.shape}, its action space needs ({size},).")
    if not np.isfinite(output).all():
        raise OutputError("The model answered with numbers that are not finite.")
