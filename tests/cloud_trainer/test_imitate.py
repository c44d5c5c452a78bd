from pathlib import Path

import numpy as np
import pytest

from cloud_trainer.__main__ import main
from cloud_trainer.imitate import pursue
from drivers.signals import Frame, Observation
from inference.package import unpack
from inference.policy import OpenVinoPolicy
from sim_stub.dynamics import DEEPRACER
from sim_stub.parameters import COLUMN
from sim_stub.race import Race, Status
from sim_stub.rules import Rules
from sim_stub.track import load


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
    assert "best lap" in told
    assert first.read_bytes() == second.read_bytes()
    (tmp_path / "car").mkdir()
    policy = OpenVinoPolicy(unpack(first, tmp_path / "car"))
    action = policy.decide(Observation(0.0, (Frame(0.0, np.full((120, 160, 3), 90, np.uint8)),), None))
    assert -1 <= action.steering <= 1
    assert 0 < action.throttle <= 1


def test_the_driver_stays_near_the_centre_line() -> None:
    track = load("reinvent_base")
    race = Race(track, Rules(rate=10.0, laps=2), DEEPRACER, 4)
    race.start_at(np.arange(4) / 4)
    while not race.done.all() and race.clock.max() < 60:
        wish = pursue(track, race.state)
        race.judge(wish)
        race.drive(wish)
        assert race.rows[:, COLUMN["distance_from_center"]].max() < 0.2
    assert [run.status for run in race.runs] == [Status.LAP_COMPLETE] * 4


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
    try:
        status = main(arguments)
    except SystemExit as ended:
        status = int(ended.code or 0)
    told = capsys.readouterr().err
    assert status == 2
    assert why in told
    assert told.count("\n") == 1
    assert told.endswith(".\n")
