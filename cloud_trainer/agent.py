"""An agent: what is trained. Its senses, actions, network and algorithm, as model_metadata.json tells them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np

from cloud_trainer.network import ARCHITECTURES, Head, PolicyNetwork
from inference.actions import ContinuousActions, DiscreteActions
from inference.features import encode
from inference.package import LidarConfig, Sensor
from sim_stub.env import LIDARS


class Algorithm(StrEnum):
    """By the names of model_metadata.json."""

    PPO = "clipped_ppo"
    SAC = "sac"


DEFAULT_ACTIONS: Final = DiscreteActions(tuple((angle, 1.0) for angle in (-30.0, -15.0, 0.0, 15.0, 30.0)))


@dataclass(frozen=True, slots=True)
class Agent:
    """`network` is a key of ARCHITECTURES. `lidar`, where one of the sensors is one, defaults to the simulator's."""

    sensors: tuple[Sensor, ...] = (Sensor.FRONT_FACING_CAMERA,)
    actions: DiscreteActions | ContinuousActions = DEFAULT_ACTIONS
    network: str = "compact"
    algorithm: Algorithm = Algorithm.PPO
    version: str = "5"
    lidar: LidarConfig | None = None

    @property
    def lidar_config(self) -> LidarConfig | None:
        """How its LiDAR is read, if it has one."""
        sensor = next((sensor for sensor in self.sensors if sensor.is_lidar), None)
        return None if sensor is None else self.lidar or LIDARS[sensor]

    @property
    def head(self) -> Head:
        if isinstance(self.actions, DiscreteActions):
            return Head.DISCRETE
        return Head.SQUASHED if self.algorithm is Algorithm.SAC else Head.CONTINUOUS

    def policy(self) -> PolicyNetwork:
        """A fresh network; its weights come from torch's generator."""
        return PolicyNetwork(ARCHITECTURES[self.network], self._inputs(), self.actions.outputs, self.head)

    def _inputs(self) -> dict[Sensor, int]:
        inputs = {sensor: sensor.cameras for sensor in self.sensors}
        config = self.lidar_config
        for sensor in self.sensors:
            if sensor.is_lidar and config is not None:
                inputs[sensor] = encode(sensor, np.zeros((1, config.num_values), np.float32), config).shape[1]
        return inputs

    def metadata(self) -> dict[str, Any]:
        """The contents of model_metadata.json."""
        said: dict[str, Any] = {"action_space": None}
        if isinstance(self.actions, DiscreteActions):
            said["action_space"] = [
                {"steering_angle": angle, "speed": speed, "index": index}
                for index, (angle, speed) in enumerate(self.actions.choices)
            ]
            said["action_space_type"] = "discrete"
        else:
            ranges = (("steering_angle", self.actions.steering_deg), ("speed", self.actions.speed))
            said["action_space"] = {name: {"high": high, "low": low} for name, (low, high) in ranges}
            said["action_space_type"] = "continuous"
        said |= {
            "neural_network": ARCHITECTURES[self.network].stock_name,
            "sensor": [sensor.value for sensor in self.sensors],
            "training_algorithm": self.algorithm.value,
            "version": self.version,
        }
        config = self.lidar_config
        if config is not None:
            said["lidar_config"] = {
                name: getattr(config, name)
                for name in (
                    *("num_values", "min_angle", "max_angle", "min_distance", "max_distance"),
                    *("clipping_distance", "num_sectors"),
                )
            }
        return said
