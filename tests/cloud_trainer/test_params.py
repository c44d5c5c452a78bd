"""A job in the original's files: hyperparameters.json and training_params.yaml, written, and read in every dress."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_trainer.job import Job, JobError, read_hyperparameters, read_job
from cloud_trainer.params import (
    EVENT,
    LARGEST_PARAMS,
    hyperparameters_json,
    read_training_params,
    training_params_yaml,
)
from sim_stub.randomisation import PRESETS
from sim_stub.rules import RaceType, Rules


def test_hyperparameters_are_read_back() -> None:
    job = read_job({"hyperparameters": {"lr": 1e-4, "batch_size": 128, "num_epochs": 5}})
    said = json.loads(hyperparameters_json(job))
    assert list(said) == sorted(said)
    assert "sac_alpha" not in said
    assert read_hyperparameters(said) == job.hyperparameters
    actions = {"steering_angle": [-30.0, 30.0], "speed": [1.0, 2.0]}
    sac = read_job({"agent": {"algorithm": "sac", "actions": actions}, "hyperparameters": {"sac_alpha": 0.5}})
    assert json.loads(hyperparameters_json(sac))["sac_alpha"] == 0.5


JOBS: dict[str, Mapping[str, Any]] = {
    "plain": {},
    "named": {"name": "Lewis' car: é #1", "rules": {"reverse_dir": True, "round_robin_advance_dist": 0.125}},
    "several": {"track": ["reinvent_base", "A to Z Speedway"], "randomisation": "lights", "evaluation": {"trials": 7}},
    "boxes": {"rules": {"race_type": "OBJECT_AVOIDANCE", "number_of_obstacles": 3}},
    "placed": {"rules": {"race_type": "OBJECT_AVOIDANCE", "object_positions": [[0.25, 1], [0.5, -1]]}},
    "bots": {"rules": {"race_type": "HEAD_TO_BOT", "bot_car_speed": 0.5, "is_lane_change": True}},
    "reward": {"evaluation": {"metric": "reward"}, "rules": {"start_position_offset": -1.5}},
}


@pytest.mark.parametrize("name", JOBS)
def test_parameters_are_yaml_as_the_original_writes_it(name: str) -> None:
    yaml = pytest.importorskip("yaml")
    text = training_params_yaml(read_job(JOBS[name])).decode()
    said = yaml.safe_load(text)
    assert text == yaml.dump(
        said, default_flow_style=False, default_style="'", explicit_start=True, allow_unicode=True, width=1000
    )
    assert all(isinstance(value, str | list) for value in said.values())


@pytest.mark.parametrize("name", JOBS)
def test_parameters_make_the_same_job_again(name: str) -> None:
    job = read_job(JOBS[name])
    again = read_job(read_training_params(training_params_yaml(job).decode()))
    assert again.tracks == tuple(road.name for road in job.roads())
    assert again.evaluation == job.evaluation
    assert again.randomisation == job.randomisation
    assert dataclasses.replace(again.rules, number_of_obstacles=0) == dataclasses.replace(
        job.rules, number_of_obstacles=0
    )
    assert again.rules.obstacles == job.rules.obstacles


def test_parameters_name_everything_that_the_original_needs() -> None:
    job = read_job({"name": "fast", "evaluation": {"metric": "laptime"}})
    text = training_params_yaml(job).decode()
    for line in (
        "'JOB_TYPE': 'TRAINING'",
        "'WORLD_NAME': 'reinvent_base'",
        "'RACE_TYPE': 'TIME_TRIAL'",
        "'CHANGE_START_POSITION': 'true'",
        "'REVERSE_DIR': 'false'",
        "'NUM_WORKERS': '1'",
        "'CAR_NAME': 'fast'",
        "'DISPLAY_NAME': 'fast'",
        "'RACER_NAME': 'fast'",
        "'BEST_MODEL_METRIC': 'laptime'",
        "'METRICS_S3_OBJECT_KEY': 'metrics/TrainingMetrics.json'",
        "'REWARD_FILE_S3_KEY': 'reward_function.py'",
    ):
        assert line in text.splitlines()
    assert "OBSTACLE" not in text
    assert "BOT_CAR" not in text
    assert "'OBJECT_POSITIONS':\n- '0.25,1'\n- '0.5,-1'\n" in training_params_yaml(read_job(JOBS["placed"])).decode()


def test_a_track_of_ones_own_is_told_by_its_name_alone(tmp_path: Any) -> None:
    ring = np.stack([np.cos(turn := np.linspace(0, 2 * np.pi, 64)), np.sin(turn)], axis=1)
    ring[-1] = ring[0]
    np.save(tmp_path / "mine.npy", np.hstack([2.0 * ring, 1.6 * ring, 2.4 * ring]))
    text = training_params_yaml(read_job({"track": str(tmp_path / "mine.npy")})).decode()
    assert "'WORLD_NAME': 'mine'" in text.splitlines()
    assert str(tmp_path) not in text


def test_lines_of_a_name_stay_in_their_quotes() -> None:
    text = training_params_yaml(dataclasses.replace(Job(), name="a\n'JOB_TYPE': 'x")).decode()
    assert text.count("JOB_TYPE") == 4
    assert [line for line in text.splitlines() if line.startswith("'JOB_TYPE'")] == ["'JOB_TYPE': 'TRAINING'"]
    assert read_training_params(text)["track"] == ["reinvent_base"]


COMMUNITY = """---
'ALTERNATE_DRIVING_DIRECTION': 'True'
'AWS_REGION': 'us-east-1'
'BEST_MODEL_METRIC': 'Reward'
'CHANGE_START_POSITION': 'false'
'ENABLE_DOMAIN_RANDOMIZATION': 'true'
'KINESIS_VIDEO_STREAM_NAME': ''
'MIN_EVAL_TRIALS': '10'
'MIN_DISTANCE_BETWEEN_OBSTACLES': '1.5'
'NUM_WORKERS': !!int '1'
'NUMBER_OF_BOT_CARS': '0'
'NUMBER_OF_OBSTACLES': '2'
'OBJECT_POSITIONS':
- '0.23,-1'
- '0.46,1'
'RACE_TYPE': 'OBJECT_AVOIDANCE'
'RANDOMIZE_OBSTACLE_LOCATIONS': 'False'
'REVERSE_DIR': !!bool 'True'
'ROUND_ROBIN_ADVANCE_DIST': '0.05'
'START_POSITION_OFFSET': '0.00'
'WORLD_NAME': 'reInvent2019_track'
"""
ALIGNED = """# written by hand
WORLD_NAME:            "reInvent2019_track"   # the original
RACE_TYPE:             "OBJECT_AVOIDANCE"
SAGEMAKER_SHARED_S3_PREFIX: ["a", {b: c}]
CHANGE_START_POSITION: "false"
ALTERNATE_DRIVING_DIRECTION: "true"
REVERSE_DIR:           "true"
ROUND_ROBIN_ADVANCE_DIST: "0.05"
START_POSITION_OFFSET: "0.0"
NUMBER_OF_OBSTACLES:   2
MIN_DISTANCE_BETWEEN_OBSTACLES: 1.5
RANDOMIZE_OBSTACLE_LOCATIONS: false
OBJECT_POSITIONS:
  - 0.23, -1
  - 0.46, 1
MIN_EVAL_TRIALS: 10
BEST_MODEL_METRIC: reward
ENABLE_DOMAIN_RANDOMIZATION: TRUE
NESTED:
  deep:
    - anything
"""


@pytest.mark.parametrize("text", [COMMUNITY, ALIGNED, ALIGNED.replace("\n", "\r\n"), "\ufeff" + COMMUNITY])
def test_stock_parameters_are_understood_in_every_dress(text: str) -> None:
    assert read_training_params(text) == {
        "track": ["reInvent2019_track"],
        "rules": {
            "race_type": "OBJECT_AVOIDANCE",
            "reverse_dir": True,
            "alternate_driving_direction": True,
            "change_start_position": False,
            "round_robin_advance_dist": 0.05,
            "start_position_offset": 0.0,
            "number_of_obstacles": 2,
            "min_distance_between_obstacles": 1.5,
            "randomize_obstacle_locations": False,
            "object_positions": ((0.23, -1), (0.46, 1)),
        },
        "evaluation": {"trials": 10, "metric": "reward"},
        "randomisation": "lights",
    }


@pytest.mark.parametrize(
    ("text", "track", "reverse"),
    [
        ("WORLD_NAME: reInvent2019_wide", "reInvent2019_wide", False),
        ("WORLD_NAME: reInvent2019_wide_ccw", "reInvent2019_wide", False),
        ("WORLD_NAME: reInvent2019_wide_cw", "reInvent2019_wide", True),
        ("WORLD_NAME: 2024_reinvent_champ_cw", "2024_reinvent_champ_ccw", True),
        ("WORLD_NAME: 2024_reinvent_champ\nTRACK_DIRECTION_CLOCKWISE: false", "2024_reinvent_champ_ccw", False),
        ("WORLD_NAME: reInvent2019_wide\nTRACK_DIRECTION_CLOCKWISE: true", "reInvent2019_wide", True),
        ("WORLD_NAME: reInvent2019_wide_cw\nREVERSE_DIR: 'True'", "reInvent2019_wide", False),
        ("WORLD_NAME: penbay_pro_cw", "penbay_pro_cw", False),
    ],
)
def test_a_world_is_one_of_our_tracks_in_one_direction(text: str, track: str, reverse: bool) -> None:
    values = read_training_params(text)
    assert values["track"] == [track]
    assert values["rules"].get("reverse_dir", False) is reverse


def test_what_is_not_said_is_left_open() -> None:
    assert read_training_params("WORLD_NAME: Oval_track\n") == {
        "track": ["Oval_track"],
        "rules": {"race_type": "TIME_TRIAL"},
    }


WORLD = "WORLD_NAME: reinvent_base\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "training_params.yaml must have a WORLD_NAME, the name of a track."),
        ("RACE_TYPE: TIME_TRIAL", "training_params.yaml must have a WORLD_NAME, the name of a track."),
        ("nonsense", "training_params.yaml: line 1 must be a KEY: value, each key once."),
        (WORLD + "{a: b}", "training_params.yaml: line 2 must be a KEY: value, each key once."),
        (WORLD + WORLD, "training_params.yaml: line 2 must be a KEY: value, each key once."),
        ("- WORLD_NAME", "training_params.yaml: line 1 must be a KEY: value, each key once."),
        ("WORLD_NAME: ../etc/passwd", "WORLD_NAME must be the name of a track, not '../etc/passwd'."),
        ("WORLD_NAME: a.npy", "WORLD_NAME must be the name of a track, not 'a.npy'."),
        ("WORLD_NAME: !!python/name:os.system", "WORLD_NAME must be a plain text, not '!!python/name:os.system'."),
        ("WORLD_NAME: *anchor", "WORLD_NAME must be a plain text, not '*anchor'."),
        ("WORLD_NAME: 'open", 'WORLD_NAME must be a plain text, not "\'open".'),
        ('WORLD_NAME: "\\x41"', "WORLD_NAME must be a plain text, not '\"\\\\x41\"'."),
        ("WORLD_NAME: a\n  b", "WORLD_NAME must be a text on its line, or a list of texts."),
        (
            "WORLD_NAME:\n- Oval_track\n- reInvent2019_wide_cw",
            "WORLD_NAME must not name tracks in both directions: reverse_dir holds for all.",
        ),
        (WORLD + "RACE_TYPE: F1", "race_type must be one of TIME_TRIAL, OBJECT_AVOIDANCE, HEAD_TO_BOT, not 'F1'."),
        (WORLD + "REVERSE_DIR: maybe", "REVERSE_DIR must be true or false, not 'maybe'."),
        (WORLD + "MIN_EVAL_TRIALS: 2.5", "MIN_EVAL_TRIALS must be a whole number, not '2.5'."),
        (WORLD + "MIN_EVAL_TRIALS: 0", "trials must lie in 1..100, not 0."),
        (WORLD + "MIN_EVAL_TRIALS:\n- 5", "MIN_EVAL_TRIALS must be one value, not a list of them."),
        (WORLD + "BEST_MODEL_METRIC: luck", "metric must be one of progress, reward, laptime, not 'luck'."),
        (WORLD + "START_POSITION_OFFSET: far", "START_POSITION_OFFSET must be a number, not 'far'."),
        (WORLD + "START_POSITION_OFFSET: nan", "start_position_offset must lie in -1000..1000, not nan."),
        (
            WORLD + "RACE_TYPE: HEAD_TO_BOT\nNUMBER_OF_BOT_CARS: 0",
            "number_of_bot_cars must lie in 1..6, not 0.",
        ),
        (
            WORLD + "RACE_TYPE: OBJECT_AVOIDANCE\nOBJECT_POSITIONS: here",
            "object_positions must be pairs of a part of the lap and a lane, not 'here'.",
        ),
        (
            WORLD + "#" * LARGEST_PARAMS,
            f"training_params.yaml must not be longer than {LARGEST_PARAMS} characters.",
        ),
    ],
)
def test_nonsense_is_refused_in_one_sentence(text: str, said: str) -> None:
    with pytest.raises(JobError) as refusal:
        read_training_params(text)
    assert str(refusal.value) == said


KEYS = st.sampled_from(
    [
        *("WORLD_NAME", "TRACK_DIRECTION_CLOCKWISE", "MIN_EVAL_TRIALS", "BEST_MODEL_METRIC", "RACE_TYPE", "AWS_REGION"),
        *("ENABLE_DOMAIN_RANDOMIZATION", "REVERSE_DIR", "START_POSITION_OFFSET", "OBJECT_POSITIONS"),
    ]
)
VALUES = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["reinvent_base", "true", "'False'", "OBJECT_AVOIDANCE", "5", "0.1", "\n- 0.5,1\n- '0.2,-1'"]),
)


@given(st.one_of(st.text(), st.lists(st.tuples(KEYS, VALUES)).map(lambda said: "\n".join(map(": ".join, said)))))
def test_whatever_it_says_it_is_understood_or_refused(text: str) -> None:
    try:
        values = read_training_params(text)
    except JobError as refusal:
        told = str(refusal)
    else:
        told = json.dumps(values)
    assert "\n" not in told


NUMBERS = {
    "round_robin_advance_dist": st.floats(0, 1),
    "start_position_offset": st.floats(-10, 10),
    "min_distance_between_obstacles": st.floats(0.5, 2),
    "number_of_obstacles": st.integers(0, 6),
    "bot_car_speed": st.floats(0, 4),
    "number_of_bot_cars": st.integers(1, 3),
    "penalty_seconds": st.floats(0, 60),
    "reverse_dir": st.booleans(),
    "change_start_position": st.booleans(),
    "is_lane_change": st.booleans(),
}


@given(st.sampled_from(RaceType), st.fixed_dictionaries(NUMBERS), st.sampled_from(["none", "lights"]))
def test_rules_come_back_as_they_were(race: RaceType, numbers: dict[str, Any], chance: str) -> None:
    job = dataclasses.replace(Job(), rules=Rules(race_type=race, **numbers), randomisation=PRESETS[chance])
    values = read_training_params(training_params_yaml(job).decode())
    assert values["randomisation"] == chance
    told = {"race_type", "reverse_dir", "alternate_driving_direction", "change_start_position"}
    told |= {"round_robin_advance_dist", "start_position_offset", *EVENT[race]} - {"object_positions"}
    assert values["rules"] == {name: getattr(job.rules, name) for name in told}
