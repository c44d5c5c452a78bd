from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cloud_trainer.__main__ import main
from cloud_trainer.evaluate import DECISION, Heat, Pictures, evaluate, standing
from cloud_trainer.imitate import ACTIONS, pursue
from cloud_trainer.network import commands
from drivers.signals import Frame, Observation
from inference.package import unpack
from inference.policy import OpenVinoPolicy
from sim_stub.dynamics import DEEPRACER, Command
from sim_stub.track import load
from sim_stub.view import Eye, Lens, Scene

SAMPLE = Path(__file__).parents[2] / "vehicle" / "sample.tar.gz"


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small round track: 5 m, quick to paint and to lap."""
    angle = np.linspace(0, 2 * np.pi, 64)
    circle = 0.8 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    circle[-1] = circle[0]
    path = tmp_path_factory.mktemp("tracks") / "ring.npy"
    np.save(path, np.hstack([circle, 0.5 * circle, 1.5 * circle]))
    return path


def test_a_tiny_imitation_makes_a_package_that_drives(
    ring: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first.tar.gz", tmp_path / "second.tar.gz"
    for out in (first, second):
        assert main(["imitate", "--track", str(ring), "--rounds", "1", "--cars", "1", "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "round 1 of 1: loss" in told
    assert "of 10 standing starts made 3 clean laps" in told
    assert first.read_bytes() == second.read_bytes()
    (tmp_path / "car").mkdir()
    policy = OpenVinoPolicy(unpack(first, tmp_path / "car"))
    action = policy.decide(Observation(0.0, (Frame(0.0, np.full((120, 160, 3), 90, np.uint8)),), None))
    assert -1 <= action.steering <= 1
    assert 0 < action.throttle <= 1


def test_the_sample_makes_clean_laps(tmp_path: Path) -> None:
    policy = OpenVinoPolicy(unpack(SAMPLE, tmp_path))

    def drive(pictures: Pictures) -> Command:
        grey = [np.repeat(picture[..., None], 3, axis=2) for picture in pictures]
        means = [policy.infer(Observation(0.0, (Frame(0.0, picture),), None)) for picture in grey]
        return commands(ACTIONS, np.stack(means))

    runs = evaluate(drive, load("reinvent_base"), DEEPRACER, starts=3, laps=1)
    assert [len(run.laps) for run in runs] == [1, 1, 1]
    assert all(9 < lap < 11 for run in runs for lap in run.laps)


def test_the_driver_stays_near_the_centre_line() -> None:
    track = load("reinvent_base")
    heat = Heat(track, Eye(Scene(track), Lens()), DEEPRACER, 0.025, standing(track, np.arange(4) * track.length / 4))
    for _ in range(round(12 / DECISION)):
        heat.drive(pursue(track, heat.state))
    assert heat.running.all()
    assert (heat.travelled > track.length).all()
    assert track.distance_from_centre(heat.state[:, :2]).max() < 0.15


def test_a_car_that_leaves_the_road_is_out() -> None:
    track = load("reinvent_base")
    heat = Heat(track, Eye(Scene(track), Lens()), DEEPRACER, 0.005, standing(track, np.array([0.0, 5.0])))
    straight: NDArray[np.float64] = np.array([[0.0, 2.0], [0.0, 0.0]])
    while heat.running[0]:
        heat.drive(straight)
    stopped_at = heat.travelled[0]
    assert heat.running.tolist() == [False, True]
    assert heat.look().shape == (1, 120, 160)
    heat.drive(straight[1:])
    assert heat.travelled[0] == stopped_at


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["imitate", "--track", "Atlantis"], "There is no track 'Atlantis'"),
        (["imitate", "--rounds", "0"], "not a whole number of at least 1"),
        (["imitate", "--seed", "-1"], "not a whole number of at least 0"),
        (["imitate", "--out", "model.zip"], "must end in .tar.gz"),
        (["imitate", "--out", "/nowhere/at/all.tar.gz"], "there is no folder /nowhere/at"),
        (["dream"], "invalid choice"),
        ([], "required"),
    ],
)
def test_bad_arguments_are_answered_with_one_sentence(
    arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert why in told
    assert told.count("\n") == 1
    assert told.endswith(".\n")
