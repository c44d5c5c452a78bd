import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from cloud_trainer.agent import Agent, Algorithm
from cloud_trainer.job import (
    Hyperparameters,
    Job,
    JobError,
    load_values,
    merged,
    read_agent,
    read_hyperparameters,
    read_job,
)
from cloud_trainer.network import Head
from cloud_trainer.reward import example
from inference.actions import ContinuousActions, DiscreteActions
from inference.package import Sensor, parse_metadata
from sim_stub.rules import RaceType, RulesError
from sim_stub.track import TrackError


def test_without_a_word_it_is_the_first_track_and_the_first_example() -> None:
    job = read_job({})
    assert job == Job()
    assert job.tracks == ("reinvent_base",)
    assert job.reward == example("centre_line")
    assert job.agent.network == "compact"
    assert job.rules.change_start_position


def test_defaults_are_the_manuals() -> None:
    assert dataclasses.asdict(Hyperparameters()) == {
        "batch_size": 64,
        "num_epochs": 3,
        "stack_size": 1,
        "lr": 0.0003,
        "exploration_type": "categorical",
        "e_greedy_value": 0.05,
        "epsilon_steps": 10_000,
        "beta_entropy": 0.01,
        "discount_factor": 0.999,
        "loss_type": "huber",
        "num_episodes_between_training": 20,
        "term_cond_max_episodes": 100_000,
        "term_cond_avg_score": 100_000.0,
        "sac_alpha": 0.2,
    }


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"trak": "reinvent_base"}, "There is no setting 'trak'; did you mean track?"),
        ({"track": []}, "track must name at least one track."),
        ({"track": 3}, "track must be a name or a list of names, not 3."),
        ({"seed": 1.5}, "seed must be a whole number, not 1.5."),
        ({"seed": -1}, "seed must lie in 0..4294967295, not -1."),
        ({"name": ""}, "name must be text, not ''."),
        ({"reward": "nowhere.py"}, "reward must be a file, or one of centre_line, inside_borders, no_zigzag, "),
        ({"hyperparameters": {"lr": 0.01}}, "lr must lie in 1e-08..0.001, not 0.01."),
        ({"hyperparameters": {"lr": True}}, "lr must be a number, not True."),
        ({"hyperparameters": {"lr": float("nan")}}, "lr must lie in 1e-08..0.001, not nan."),
        ({"hyperparameters": {"lr": 10**400}}, "lr must lie in 1e-08..0.001, not 1000"),
        ({"rules": {"max_steps": 10**400}}, "max_steps must lie in 1..100000, not 1000"),
        ({"hyperparameters": {"num_epochs": 2}}, "num_epochs must lie in 3..10, not 2."),
        ({"hyperparameters": {"num_epochs": 3.5}}, "num_epochs must be a whole number, not 3.5."),
        ({"hyperparameters": {"batch_size": 100}}, "batch_size must be one of 32, 64, 128, 256, 512, not 100."),
        ({"hyperparameters": {"stack_size": 4}}, "stack_size must be 1, not 4."),
        ({"hyperparameters": {"batchsize": 64}}, "There is no hyperparameter 'batchsize'; did you mean batch_size?"),
        (
            {"hyperparameters": {"loss_type": "hinge"}},
            "loss_type must be one of huber, mean squared error, not 'hinge'.",
        ),
        ({"hyperparameters": 3}, "hyperparameters must be a table, not 3."),
        ({"evaluation": {"metric": "luck"}}, "metric must be one of progress, reward, laptime, not 'luck'."),
        ({"evaluation": {"trials": 0}}, "trials must lie in 1..100, not 0."),
        ({"stop": {"minute": 3}}, "There is no condition to stop 'minute'; did you mean minutes?"),
        (
            {"rules": {"number_of_resets": 3}},
            "number_of_resets must be 0: in training the first mistake ends an episode.",
        ),
        ({"rules": {"laps": 3}}, "laps must be 1 among the rules: in training an episode ends with its lap."),
        ({"randomisation": "mars"}, "randomisation must be one of none, lights, real-world, "),
        ({"agent": {"network": "huge"}}, "network must be one of compact, 3-layer, 5-layer, deep, not 'huge'."),
        ({"agent": {"algorithm": "dqn"}}, "algorithm must be one of ppo, sac, not 'dqn'."),
        ({"agent": {"sensors": ["EAR"]}}, "agent: sensor must be a list of "),
        ({"agent": {"sensors": ["LIDAR"]}}, "agent: sensors must have a camera among them."),
        ({"agent": {"actions": [[40, 1.0], [0, 1.0]]}}, "steering_angle of an action must lie in -30..30, not 40."),
        ({"agent": {"actions": [[0, 5.0], [0, 1.0]]}}, "speed of an action must lie in 0.1..4, not 5."),
        ({"agent": {"actions": [[0, 1.0]]}}, "actions must be 2..64 of them, not 1."),
        ({"agent": {"actions": "fast"}}, "actions must be a list of [angle, speed], or ranges of "),
        (
            {"agent": {"actions": {"speed": [1, 2]}}},
            "agent: steering_angle of the action_space needs a low and a high end.",
        ),
        ({"agent": {"algorithm": "sac", "actions": [[0, 1.0], [5, 1.0]]}}, "actions must be ranges, not a list: SAC "),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(values: dict[str, Any], said: str) -> None:
    with pytest.raises(RulesError) as caught:
        read_job(values)
    assert str(caught.value).startswith(said)
    assert str(caught.value).count("\n") == 0


def test_an_unknown_track_is_the_tracks_own_error() -> None:
    with pytest.raises(TrackError):
        read_job({"track": "no such track"})


def test_an_open_track_has_no_three_laps() -> None:
    with pytest.raises(RulesError, match=r"laps must be 1, not 3"):
        read_job({"track": "straight", "rules": {"change_start_position": False}})


def test_a_reward_that_does_not_compile_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def reward_function(params):\n    return 1.0 +\n")
    with pytest.raises(JobError, match=r"mine\.py:2:\d+: "):
        read_job({"reward": str(tmp_path / "mine.py")})


def test_agents_are_told_in_either_way() -> None:
    agent = read_agent({"actions": [[-20, 1.0], [20, 1.5]], "sensors": ["STEREO_CAMERAS", "LIDAR"], "network": "deep"})
    assert agent.actions == DiscreteActions(((-20.0, 1.0), (20.0, 1.5)))
    assert agent.sensors == (Sensor.STEREO_CAMERAS, Sensor.LIDAR)
    ranges = read_agent({"algorithm": "SAC", "actions": {"steering_angle": [-25, 25], "speed": [1, 3]}})
    assert ranges == Agent(actions=ContinuousActions((-25.0, 25.0), (1.0, 3.0)), algorithm=Algorithm.SAC)
    assert ranges.head is Head.SQUASHED
    assert isinstance(read_agent({"algorithm": "sac"}).actions, ContinuousActions)


def test_stock_files_are_taken(tmp_path: Path) -> None:
    metadata = Agent(actions=DiscreteActions(((-10.0, 0.6), (10.0, 1.2)))).metadata()
    (tmp_path / "model_metadata.json").write_text(json.dumps(metadata))
    (tmp_path / "hyperparameters.json").write_text(
        json.dumps({"batch_size": 128, "lr": 1e-4, "term_cond_avg_score": 9})
    )
    (tmp_path / "mine.py").write_text(example("no_zigzag"))
    (tmp_path / "job.toml").write_text(
        'reward = "mine.py"\nhyperparameters = "hyperparameters.json"\n[agent]\nmetadata = "model_metadata.json"\n'
    )
    job = read_job(load_values(tmp_path / "job.toml"))
    assert job.reward == example("no_zigzag")
    assert (job.hyperparameters.batch_size, job.hyperparameters.lr) == (128, 1e-4)
    assert job.hyperparameters.term_cond_avg_score == 9.0
    assert job.agent.actions == DiscreteActions(((-10.0, 0.6), (10.0, 1.2)))


def test_a_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text("track = [")
    with pytest.raises(JobError, match=r"job\.toml is no TOML"):
        load_values(tmp_path / "job.toml")
    with pytest.raises(JobError, match="cannot be read"):
        load_values(tmp_path / "none.toml")
    with pytest.raises(JobError, match="is no JSON"):
        read_hyperparameters(str(tmp_path / "job.toml"))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"track": ["reinvent_base", "Oval_track"], "seed": 7, "randomisation": "real-world", "name": "mine"},
        {
            "agent": {"sensors": ["FRONT_FACING_CAMERA", "SECTOR_LIDAR"], "algorithm": "sac", "network": "3-layer"},
            "rules": {"race_type": "OBJECT_AVOIDANCE", "object_positions": [[0.3, 1], [0.6, -1]]},
            "stop": {"minutes": 5, "steps": 1000},
            "evaluation": {"metric": "laptime"},
        },
    ],
)
def test_a_job_survives_its_document(values: dict[str, Any]) -> None:
    job = read_job(values)
    assert read_job(json.loads(json.dumps(job.document()))) == job


def test_metadata_is_what_a_car_reads() -> None:
    for agent in (
        Agent(),
        Agent(sensors=(Sensor.STEREO_CAMERAS, Sensor.LIDAR), actions=ContinuousActions((-20.0, 20.0), (1.0, 2.0))),
        Agent(sensors=(Sensor.FRONT_FACING_CAMERA, Sensor.SECTOR_LIDAR), algorithm=Algorithm.SAC),
    ):
        read = parse_metadata(json.dumps(agent.metadata()).encode())
        assert (read.sensors, read.action_space, read.version) == (agent.sensors, agent.actions, agent.version)
        assert read.algorithm == agent.algorithm
        assert read.lidar == agent.lidar_config


def test_settings_stand_upon_settings() -> None:
    base = {"reward_function": "x", "seed": 1, "stop": {"minutes": 1.0, "steps": 5}}
    over = {"reward": "centre_line", "stop": {"minutes": 2.0}}
    assert merged(base, over, {"seed": 3}) == {
        "reward": "centre_line",
        "seed": 3,
        "stop": {"minutes": 2.0, "steps": 5},
    }
    assert base["seed"] == 1
    assert read_job({"rules": {"race_type": "head-to-bot"}}).rules.race_type is RaceType.HEAD_TO_BOT
