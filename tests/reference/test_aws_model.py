"""A package that AWS trained: it opens, it is installed, and it answers as it did where it came from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cloud_trainer.evaluate import evaluate_package
from drivers.signals import Frame, Observation
from inference.actions import DiscreteActions
from inference.features import grey
from inference.package import ModelPackage, Sensor, unpack
from inference.policy import OpenVinoPolicy
from sim_stub.rules import Rules
from sim_stub.track import load
from vehicle.models import ModelStore

DATA = Path(__file__).parents[3] / "shared" / "data" / "models"
SAMPLE = DATA / "aws-sample-15.tar.gz"

pytestmark = pytest.mark.skipif(not SAMPLE.exists(), reason=f"the reference data is not beside the project ({DATA})")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    return unpack(SAMPLE, tmp_path_factory.mktemp("aws"))


@pytest.fixture(scope="module")
def pictures() -> dict[str, NDArray[np.uint8]]:
    """Grey pictures, 120 x 160, by their names."""
    with np.load(DATA / "golden-inputs.npz") as inputs:
        return {name: inputs[name] for name in inputs}


def seen(picture: NDArray[np.uint8]) -> Frame:
    return Frame(0.0, np.stack([picture] * 3, axis=-1))


def test_the_package_opens(package: ModelPackage) -> None:
    assert package.name == "aws-sample-15"
    assert package.sensors == (Sensor.FRONT_FACING_CAMERA,)
    assert (package.cameras, package.needs_lidar) == (1, False)
    assert isinstance(package.metadata.action_space, DiscreteActions)
    assert package.metadata.action_space.outputs == 12
    assert package.metadata.algorithm == "clipped_ppo"
    assert sorted(path.name for path in package.path.iterdir()) == ["model.pb", "model_metadata.json"]


def test_grey_pictures_stay_what_they_are(pictures: dict[str, NDArray[np.uint8]]) -> None:
    assert len(pictures) == 7
    for picture in pictures.values():
        assert (grey(seen(picture)) == picture).all()


def test_the_network_answers_as_its_makers_did(package: ModelPackage, pictures: dict[str, NDArray[np.uint8]]) -> None:
    golden = json.loads((DATA / "golden-outputs-15.json").read_text())
    assert golden.keys() == pictures.keys()
    policy = OpenVinoPolicy(package)
    for name, picture in pictures.items():
        answers = policy.infer(Observation(0.0, (seen(picture),)))
        assert answers == pytest.approx(golden[name], abs=1e-4), name
        assert answers.argmax() == np.argmax(golden[name]), name


async def test_the_car_installs_it_and_drives_with_it(tmp_path: Path, pictures: dict[str, NDArray[np.uint8]]) -> None:
    store = ModelStore(tmp_path / "store")
    installed = await store.add(SAMPLE)
    assert store.names() == ["aws-sample-15"]
    assert store.get("aws-sample-15") == installed
    action = OpenVinoPolicy(installed, cache=store.cache(installed)).decide(
        Observation(0.0, (seen(pictures["dr-demo-1"]),))
    )
    assert -1 <= action.steering <= 1
    assert 0 < action.throttle <= 1


@pytest.mark.timeout(120)
def test_it_makes_three_clean_laps_from_nine_of_ten_starts_in_evaluation(package: ModelPackage) -> None:
    result = evaluate_package(package, load("reinvent_base"), Rules(laps=3), 10)
    assert result.clean >= 9
    assert all(7.5 < lap < 9.5 for lap in result.laps)
