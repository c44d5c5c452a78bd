"""A package that AWS trained, trained further: its weights come over, and go back, without changing what it answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
import torch
from numpy.typing import NDArray

from cloud_trainer.agent import Algorithm
from cloud_trainer.export import agent_of, freeze, thaw
from cloud_trainer.network import PolicyNetwork
from inference.actions import DiscreteActions
from inference.package import ModelPackage, Sensor, unpack

DATA = Path(__file__).parents[3] / "shared" / "data" / "models"
SAMPLE = DATA / "aws-sample-15.tar.gz"

pytestmark = pytest.mark.skipif(not SAMPLE.exists(), reason=f"the reference data is not beside the project ({DATA})")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    return unpack(SAMPLE, tmp_path_factory.mktemp("aws"))


@pytest.fixture(scope="module")
def policy(package: ModelPackage) -> PolicyNetwork:
    network = agent_of(package).policy()
    thaw(package.graph.read_bytes(), network)
    return network


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.float32]:
    with np.load(DATA / "golden-inputs.npz") as inputs:
        return np.stack([inputs[name] for name in golden()])[..., None].astype(np.float32)


def golden() -> dict[str, list[float]]:
    answers: dict[str, list[float]] = json.loads((DATA / "golden-outputs-15.json").read_text())
    return answers


def test_it_says_what_it_was_trained_as(package: ModelPackage) -> None:
    agent = agent_of(package)
    assert (agent.network, agent.algorithm, agent.version) == ("3-layer", Algorithm.PPO, "3")
    assert (agent.sensors, agent.lidar) == ((Sensor.FRONT_FACING_CAMERA,), None)
    assert isinstance(agent.actions, DiscreteActions)
    assert agent.actions.outputs == 12


def test_the_trainers_network_answers_as_its_makers_did(policy: PolicyNetwork, pictures: NDArray[np.float32]) -> None:
    with torch.inference_mode():
        answers = torch.softmax(policy({"FRONT_FACING_CAMERA": torch.from_numpy(pictures)}), 1)
    np.testing.assert_allclose(answers.numpy(), list(golden().values()), rtol=0, atol=1e-4)


def test_and_so_does_what_is_exported_of_it(
    policy: PolicyNetwork, pictures: NDArray[np.float32], tmp_path: Path
) -> None:
    (tmp_path / "model.pb").write_bytes(freeze(policy))
    compiled = ov.Core().compile_model(tmp_path / "model.pb", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled(pictures)[0], list(golden().values()), rtol=0, atol=1e-4)
