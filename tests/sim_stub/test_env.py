"""hotlap/Race-v0 and its vector: what Gymnasium asks of an environment, and what ours promises beyond."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from hypothesis import given
from hypothesis import strategies as st

from inference.actions import ContinuousActions, DiscreteActions
from inference.package import LidarConfig
from sim_stub import track
from sim_stub.env import ACTIONS, RaceEnv, Races, commands
from sim_stub.parameters import COLUMN
from sim_stub.race import Run, Status
from sim_stub.rules import RulesError
from sim_stub.track import TrackError
from tests.sim_stub.roads import circle, straight

CHOICES = DiscreteActions(((-30.0, 1.0), (0.0, 2.0), (20.0, 1.5)))
STRAIGHT_ON = np.array([0.0, 1.0])
HARD_LEFT = np.array([1.0, 1.0])
KINDS: dict[str, dict[str, Any]] = {
    "camera": {},
    "stereo and LiDAR": {"sensors": ("STEREO_CAMERAS", "LIDAR")},
    "discrete": {"actions": CHOICES, "sensors": ("observation", "DISCRETIZED_SECTOR_LIDAR")},
    "objects": {"sensors": ("LEFT_CAMERA", "SECTOR_LIDAR"), "rules": {"race_type": "HEAD_TO_BOT"}},
    "chance": {"randomisation": "real-world", "rules": {"number_of_resets": 3, "off_track_penalty": 0.2}},
}
TABLE = {"track": "reinvent_base"}


def env(**options: Any) -> RaceEnv:
    settings: dict[str, Any] = {"track": straight(6)}
    return RaceEnv(**(settings | options))


def races(count: int, **options: Any) -> Races:
    settings: dict[str, Any] = {"track": straight(6), "threads": 1}
    return Races(count, **(settings | options))


@pytest.mark.parametrize("kind", KINDS)
def test_gymnasium_finds_no_fault(kind: str) -> None:
    check_env(gym.make("hotlap/Race-v0", render_mode="rgb_array", **KINDS[kind]).unwrapped)


def test_gymnasium_makes_it_by_the_name_of_its_module() -> None:
    made = gym.make("sim_stub.env:hotlap/Race-v0", track="straight")
    assert isinstance(made.unwrapped, RaceEnv)
    assert made.action_space == spaces.Box(-1.0, 1.0, (2,), np.float32)


@pytest.mark.parametrize(
    ("sensors", "shapes"),
    [
        (("FRONT_FACING_CAMERA",), {"FRONT_FACING_CAMERA": (120, 160, 1)}),
        (("observation",), {"observation": (120, 160, 1)}),
        (("LEFT_CAMERA", "SECTOR_LIDAR"), {"LEFT_CAMERA": (120, 160, 1), "SECTOR_LIDAR": (8,)}),
        (("LIDAR", "STEREO_CAMERAS"), {"STEREO_CAMERAS": (120, 160, 2), "LIDAR": (64,)}),
        (
            ("FRONT_FACING_CAMERA", "DISCRETIZED_SECTOR_LIDAR"),
            {"FRONT_FACING_CAMERA": (120, 160, 1), "DISCRETIZED_SECTOR_LIDAR": (64,)},
        ),
    ],
)
def test_an_observation_has_a_key_for_each_sensor(sensors: tuple[str, ...], shapes: dict[str, tuple[int, ...]]) -> None:
    one = env(sensors=sensors)
    seen, _ = one.reset(seed=1)
    assert {name: values.shape for name, values in seen.items()} == shapes
    assert one.observation_space.contains(seen)
    for name, values in seen.items():
        assert values.dtype == (np.float32 if "LIDAR" in name else np.uint8)
        assert np.ptp(values[:70]) > 0 or name != next(iter(shapes))


def test_the_two_eyes_of_a_stereo_camera_see_two_things() -> None:
    seen, _ = env(sensors=("STEREO_CAMERAS",)).reset(seed=1)
    left, right = np.moveaxis(seen["STEREO_CAMERAS"], -1, 0).astype(int)
    assert (np.abs(left - right) > 20).sum() > 200


def test_the_lidar_clips_where_the_configuration_says() -> None:
    near, _ = env(sensors=("observation", "LIDAR")).reset(seed=1)
    far, _ = env(
        sensors=("observation", "LIDAR"),
        lidar_config=LidarConfig(num_values=32, num_sectors=32, max_distance=12.0, clipping_distance=12.0),
    ).reset(seed=1)
    # The field's walls stand 0.5 m and 0.762 m from the line to the sides, and behind.
    assert near["LIDAR"].max() == 1.0
    assert far["LIDAR"].shape == (32,)
    assert far["LIDAR"].max() > 1.2
    assert far["LIDAR"].min() == pytest.approx(0.762 + 0.03, abs=0.05)


def test_an_action_spans_the_ranges_of_its_space() -> None:
    ends = np.array([[-1.0, -1.0], [1.0, 1.0], [0.0, 0.0], [-7.0, 9.0]])
    wanted = [[-30.0, 1.0], [30.0, 2.0], [0.0, 1.5], [-30.0, 2.0]]
    found = commands(ACTIONS, ends)
    assert np.allclose(found, np.array(wanted) * [np.pi / 180, 1.0])
    lopsided = ContinuousActions(steering_deg=(-10.0, 20.0), speed=(0.5, 4.0))
    assert np.allclose(np.degrees(commands(lopsided, np.array([[0.0, 0.0]]))[0, 0]), 5.0)
    listed = commands(CHOICES, np.array([2, 0, 1]))
    assert np.allclose(listed * [180 / np.pi, 1.0], [[20.0, 1.5], [-30.0, 1.0], [0.0, 2.0]])


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_an_action_is_what_the_car_makes_of_it(steering: float, speed: float) -> None:
    angle, pace = ACTIONS.choice(np.array([steering, speed], np.float32))
    wish = commands(ACTIONS, np.array([[steering, speed]]))[0]
    assert wish == pytest.approx([np.radians(angle), pace], abs=1e-6)


# Episodes.


def drive(one: RaceEnv, action: Any, most: int = 300) -> list[tuple[float, bool, bool, dict[str, Any]]]:
    """Steps of the same action until the run is over."""
    told = []
    for _ in range(most):
        _, reward, terminated, truncated, info = one.step(action)
        told.append((float(reward), terminated, truncated, info))
        if terminated or truncated:
            break
    return told


def test_a_clean_lap_is_worth_a_hundred_and_terminates() -> None:
    one = env()
    one.reset(seed=1)
    told = drive(one, STRAIGHT_ON)
    assert sum(reward for reward, *_ in told) == pytest.approx(100.0)
    assert all(reward > 0 for reward, *_ in told)
    assert [(terminated, truncated) for _, terminated, truncated, _ in told[-2:]] == [(False, False), (True, False)]
    last = told[-1][3]
    assert last["status"] == "lap_complete"
    assert isinstance(last["run"], Run)
    assert len(last["run"].laps) == 1
    assert "run" not in told[-2][3]


def test_the_second_lap_of_a_run_is_worth_as_much() -> None:
    steering = ContinuousActions(steering_deg=(-20.0, 30.0), speed=(1.0, 2.0))
    many = races(1, track=circle(2.0), rules={"laps": 2}, pictures=False, actions=steering)
    many.reset(seed=1)
    rewards, progress = [], []
    statuses: list[int] = []
    while statuses.count(Status.LAP_COMPLETE) < 2 and len(statuses) < 400:
        x, y, yaw = many.race.state[0, :3]
        out, turned = np.hypot(x, y) - 2.0, np.angle(np.exp(1j * (yaw - np.arctan2(y, x) - np.pi / 2)))
        _, reward, _, _, info = many.step(np.array([[2.0 * out - 2.0 * turned, 1.0]]))
        rewards.append(float(reward[0]))
        progress.append(float(many.race.rows[0, COLUMN["progress"]]))
        statuses.append(int(info["status"][0]))
    assert statuses.count(Status.IN_PROGRESS) == len(statuses) - 2
    assert statuses.count(Status.LAP_COMPLETE) == progress.count(100.0) == 2
    assert sum(rewards) == pytest.approx(200.0)
    assert min(rewards) > 0


def test_to_leave_the_road_terminates() -> None:
    one = env()
    one.reset(seed=1)
    told = drive(one, HARD_LEFT)
    assert told[-1][1:3] == (True, False)
    assert told[-1][3]["status"] == "off_track"
    assert told[-1][3]["params"]["is_offtrack"] is True
    assert told[-1][3]["run"].mistakes[Status.OFF_TRACK] == 1


def test_to_run_out_of_steps_truncates() -> None:
    one = env(rules={"max_steps": 5})
    one.reset(seed=1)
    told = drive(one, STRAIGHT_ON)
    assert len(told) == 4  # rows 2 to 5
    assert told[-1][1:3] == (False, True)
    assert told[-1][3]["status"] == "time_up"


def test_info_tells_what_a_reward_function_is_told() -> None:
    one = env()
    one.reset(seed=1)
    _, _, _, _, info = one.step(np.array([0.5, -1.0]))
    params = info["params"]
    assert info["status"] == "in_progress"
    assert params["steps"] == 2
    assert params["steering_angle"] == pytest.approx(15.0)
    assert params["speed"] == pytest.approx(1.0)
    assert params["track_length"] == pytest.approx(6.0)
    assert params["waypoints"] == [(float(x), 0.0) for x in range(7)]
    around = env(rules={"reverse_dir": True})
    around.reset(seed=1)
    params = around.step(STRAIGHT_ON)[4]["params"]
    assert params["is_reversed"] is True
    assert params["waypoints"] == [(float(x), 0.0) for x in range(6, -1, -1)]


def test_another_reward_is_asked_with_the_rows_of_this_step() -> None:
    def fast(rows: np.ndarray) -> np.ndarray:
        return np.asarray(10 * rows[:, COLUMN["speed"]] + rows[:, COLUMN["is_offtrack"]])

    one = env(reward=fast)
    one.reset(seed=1)
    assert one.step(np.array([0.0, -1.0]))[1] == pytest.approx(10.0)
    assert one.step(np.array([0.0, 1.0]))[1] == pytest.approx(20.0)
    told = drive(one, HARD_LEFT)
    assert [reward for reward, *_ in told[:-1]] == pytest.approx([20.0] * (len(told) - 1))
    assert told[-1][0] == pytest.approx(21.0)
    many = races(3, reward=fast, pictures=False)
    many.reset(seed=1)
    _, rewards, *_ = many.step(np.array([[0.0, -1.0], [0.0, 0.0], [0.0, 1.0]]))
    assert rewards == pytest.approx([10.0, 15.0, 20.0])


def test_the_reward_is_about_the_place_before_the_action_acts() -> None:
    one = env()
    one.reset(seed=1)
    reward, before = float(one.step(STRAIGHT_ON)[1]), 100 * 0.14 / 6
    assert reward == pytest.approx(before)


def episode(one: RaceEnv, seed: int | None, steps: int = 12) -> list[Any]:
    seen, _ = one.reset(seed=seed)
    told: list[Any] = [seen]
    actions = np.random.default_rng(4)
    for _ in range(steps):
        action = actions.integers(0, 3) if isinstance(one.action_space, spaces.Discrete) else actions.uniform(-1, 1, 2)
        seen, reward, terminated, truncated, info = one.step(action)
        told.append((seen, reward, terminated, truncated, info["params"]))
        if terminated or truncated:
            break
    return told


def alike(one: Any, other: Any) -> bool:
    """Whether two things of observations, numbers and lists are the same to the last bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(alike(mine, theirs) for mine, theirs in zip(one, other, strict=True))
    return bool(np.array_equal(one, other))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_is_the_same_episode(kind: str) -> None:
    options = TABLE | KINDS[kind]
    one, other = env(**options), env(**options)
    first = episode(one, 3)
    assert alike(first, episode(other, 3))
    assert alike(first, episode(one, 3))
    if kind in ("chance", "objects"):
        assert not alike(first, episode(one, 4)) or kind == "objects"
    assert len(first) > 5


def test_the_first_reset_is_that_of_the_seed_it_was_made_with() -> None:
    options = {"randomisation": "real-world", "rules": {"change_start_position": True}, "track": "reinvent_base"}
    one = env(**options, seed=7)
    first, second = episode(one, None), episode(one, None)
    assert alike(first, episode(env(**options), 7))
    assert not alike(first, second)
    assert first[1][4]["projection_distance"] == pytest.approx(0.14, abs=0.02)
    assert second[1][4]["projection_distance"] == pytest.approx(0.14 + 0.05 * 17.71, abs=0.02)


def test_what_an_environment_gave_it_does_not_take_back() -> None:
    one = env(sensors=("observation", "LIDAR"))
    seen, _ = one.reset(seed=1)
    kept = {name: values.copy() for name, values in seen.items()}
    later = one.step(STRAIGHT_ON)[0]
    for _ in range(5):
        one.step(STRAIGHT_ON)
    for name, values in kept.items():
        assert np.array_equal(seen[name], values)
        assert not np.shares_memory(seen[name], later[name])
    assert not alike(seen, later)


def test_a_picture_from_above_shows_the_car() -> None:
    one = env(render_mode="rgb_array")
    one.reset(seed=1)
    first = one.render()
    assert first.dtype == np.uint8
    assert first.ndim == 3
    assert first.shape[2] == 3
    assert max(first.shape) <= 640
    for _ in range(10):
        one.step(STRAIGHT_ON)
    moved = np.abs(one.render().astype(int) - first).sum(axis=2) > 60
    assert 20 < moved.sum() < 0.2 * moved.size
    many = races(3)
    many.reset(seed=1)
    pictures = many.render()
    assert [picture.shape for picture in pictures] == [first.shape] * 3
    assert np.array_equal(pictures[0], first)


# Many at once.


def test_a_vector_says_what_it_is() -> None:
    many = races(4, actions=CHOICES, sensors=("STEREO_CAMERAS", "SECTOR_LIDAR"))
    assert many.num_envs == 4
    assert many.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert many.single_action_space == spaces.Discrete(3)
    assert many.action_space == spaces.MultiDiscrete([3] * 4)
    seen, _ = many.reset(seed=1)
    assert many.observation_space.contains(seen)
    seen, rewards, terminated, truncated, _ = many.step(np.array([0, 1, 2, 1]))
    assert many.observation_space.contains(seen)
    assert [values.shape for values in (rewards, terminated, truncated)] == [(4,)] * 3
    assert [str(values.dtype) for values in (rewards, terminated, truncated)] == ["float64", "bool", "bool"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_vector_of_one_is_the_environment(kind: str) -> None:
    options = TABLE | KINDS[kind]
    one, many = env(**options), races(1, **options)
    alone, _ = one.reset(seed=6)
    together, _ = many.reset(seed=6)
    assert alike(alone, {name: values[0] for name, values in together.items()})
    actions = np.random.default_rng(8)
    discrete = isinstance(one.action_space, spaces.Discrete)
    over = False
    for _ in range(60):
        action = actions.integers(0, 3) if discrete else actions.uniform(-1, 1, 2)
        seen, reward, terminated, truncated, _ = one.step(action)
        found, rewards, *ends, info = many.step(np.array([action]))
        assert (reward, terminated, truncated) == (rewards[0], ends[0][0], ends[1][0])
        over = terminated or truncated
        last = info["final_obs"][0] if over else {name: values[0] for name, values in found.items()}
        assert alike(seen, last)
        if over:
            break
    assert over or kind == "chance"


def test_eight_at_once_are_eight_by_their_seeds() -> None:
    options = TABLE | {
        "randomisation": "real-world",
        "rules": {"race_type": "OBJECT_AVOIDANCE", "randomize_obstacle_locations": True},
        "sensors": ("FRONT_FACING_CAMERA", "LIDAR"),
    }
    many = races(8, **options)
    together, _ = many.reset(seed=list(range(20, 28)))
    alone = [env(**options) for _ in range(8)]
    for world, one in enumerate(alone):
        assert alike(one.reset(seed=20 + world)[0], {name: values[world] for name, values in together.items()})
    actions = np.random.default_rng(8).uniform(-0.3, 0.3, (6, 8, 2))
    for action in actions:
        together, rewards, *_ = many.step(action)
        for world, one in enumerate(alone):
            seen, reward, *_ = one.step(action[world])
            assert reward == rewards[world]
            assert alike(seen, {name: values[world] for name, values in together.items()})
    again, _ = many.reset(seed=list(range(20, 28)))
    first = {name: values.copy() for name, values in again.items()}
    assert alike(first, many.reset(seed=list(range(20, 28)))[0])
    assert len({values.tobytes() for values in first["FRONT_FACING_CAMERA"]}) == 8


def test_seeds_begin_again_with_the_first_episode() -> None:
    many = races(
        2, track=circle(), pictures=False, rules={"change_start_position": True, "alternate_driving_direction": True}
    )
    many.reset(seed=[1, 2])
    first = many.race.state.copy()
    many.reset()
    assert not np.allclose(many.race.state, first)
    many.reset(seed=[1, None])
    assert np.allclose(many.race.state[0], first[0])
    assert not np.allclose(many.race.state[1], first[1])
    assert many.race.clock[0] == 0.0


def test_a_world_of_a_seed_does_not_depend_on_the_number_of_worlds() -> None:
    options = TABLE | {"randomisation": "real-world"}
    few, _ = races(3, **options).reset(seed=11)
    many, _ = races(9, **options, threads=2).reset(seed=11)
    assert np.array_equal(few["FRONT_FACING_CAMERA"], many["FRONT_FACING_CAMERA"][:3])


def test_the_vectors_arrays_are_its_own_and_used_again() -> None:
    many = races(4, sensors=("observation", "DISCRETIZED_SECTOR_LIDAR"))
    seen, _ = many.reset(seed=1)
    places = {name: values.ctypes.data for name, values in seen.items()}
    rewards = many.step(np.zeros((4, 2)))[1].ctypes.data
    for _ in range(3):
        later, more, *_ = many.step(np.zeros((4, 2)))
        assert {name: values.ctypes.data for name, values in later.items()} == places
        assert more.ctypes.data == rewards
    reset, _ = many.reset()
    assert {name: values.ctypes.data for name, values in reset.items()} == places


def test_a_race_that_ends_begins_anew_and_its_end_is_kept() -> None:
    many = races(3, sensors=("observation", "LIDAR"))
    start = {name: values.copy() for name, values in many.reset(seed=1)[0].items()}
    action = np.stack([STRAIGHT_ON, HARD_LEFT, STRAIGHT_ON])
    before: dict[str, np.ndarray] = {}
    seen, _, terminated, truncated, info = many.step(action)
    steps = 1
    while not terminated.any():
        assert "final_obs" not in info
        before = {name: values.copy() for name, values in seen.items()}
        seen, _, terminated, truncated, info = many.step(action)
        steps += 1
    assert terminated.tolist() == info["_final_obs"].tolist() == info["_run"].tolist() == [False, True, False]
    assert not truncated.any()
    assert info["status"].tolist() == [Status.IN_PROGRESS, Status.OFF_TRACK, Status.IN_PROGRESS]
    assert info["run"][1].status is Status.OFF_TRACK
    assert info["run"][0] is info["final_obs"][0] is None
    final = {name: values.copy() for name, values in info["final_obs"][1].items()}
    # Whose run is over did not move any more.
    assert alike(final, {name: values[1] for name, values in before.items()})
    assert np.array_equal(seen["observation"][1], start["observation"][1])
    assert not np.array_equal(seen["observation"][0], start["observation"][0])
    many.step(action)
    assert alike(final, info["final_obs"][1])
    assert many.race.rows[:, COLUMN["steps"]].tolist() == [steps + 2, 2, steps + 2]


def test_a_new_episode_earns_from_nought() -> None:
    many = races(2, rules={"max_steps": 4}, pictures=False)
    many.reset(seed=1)
    earned = [many.step(np.stack([STRAIGHT_ON] * 2))[1].tolist() for _ in range(6)]
    assert earned[:3] == earned[3:]
    assert earned[0] != earned[1]
    many.step(np.stack([STRAIGHT_ON] * 2))
    many.reset()
    assert many.step(np.stack([STRAIGHT_ON] * 2))[1].tolist() == earned[0]


def test_truncation_and_termination_are_told_apart() -> None:
    many = races(2, rules={"max_steps": 25}, pictures=False)
    many.reset(seed=1)
    told = [many.step(np.stack([np.array([0.0, -1.0]), HARD_LEFT])) for _ in range(24)]
    info = told[-1][4]
    terminated, truncated = (np.array([step[which] for step in told]) for which in (2, 3))
    assert terminated.any(axis=0).tolist() == [False, True]
    assert truncated[:, 0].tolist() == [False] * 23 + [True]
    assert not (terminated & truncated).any()
    assert info["run"][0].status is Status.TIME_UP


def test_without_pictures_nothing_is_drawn() -> None:
    many = races(2, pictures=False)
    seen, _ = many.reset(seed=1)
    assert not seen["FRONT_FACING_CAMERA"].any()
    assert not many.step(np.zeros((2, 2)))[0]["FRONT_FACING_CAMERA"].any()


# What is refused.

REFUSED: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: env(track="monza"), TrackError, "no track 'monza'"),
    (lambda: env(rules={"lap": 2}), RulesError, "no rule 'lap'; did you mean laps"),
    (lambda: env(rules={"laps": 2}), RulesError, "Straight is an open track"),
    (lambda: env(rules={"rate": 0.0}), RulesError, r"rate must lie in 5\.\.60, not 0"),
    (lambda: env(randomisation="wild"), RulesError, "randomisation must be one of"),
    (lambda: env(randomisation={"blurr": 1.0}), RulesError, "did you mean blur"),
    (lambda: env(sensors=("CAMERA",)), RulesError, "sensors must be of observation, .*: 'CAMERA'"),
    (lambda: env(sensors=("LIDAR",)), RulesError, "one camera and at most one LiDAR"),
    (lambda: env(sensors=()), RulesError, "one camera and at most one LiDAR"),
    (lambda: env(sensors=("observation", "LEFT_CAMERA")), RulesError, "one camera and at most one LiDAR"),
    (lambda: env(sensors=("observation", "LIDAR", "SECTOR_LIDAR")), RulesError, "one camera and at most one LiDAR"),
    (lambda: races(0), RulesError, r"number of cars must lie in 1\.\.65536, not 0"),
]


@pytest.mark.parametrize(("make", "kind", "says"), REFUSED, ids=[says for *_, says in REFUSED])
def test_what_cannot_be_is_refused_in_one_sentence(
    make: Callable[[], object], kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=says) as refusal:
        make()
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).endswith((".", "?"))


@pytest.mark.parametrize("name", track.names())
def test_every_track_that_comes_along_can_be_driven(name: str) -> None:
    many = races(2, track=name, pictures=False)
    many.reset(seed=1)
    told = [many.step(np.tile(STRAIGHT_ON, (2, 1))) for _ in range(8)]
    assert (told[-1][1] > 0).all()
    assert not any((terminated | truncated).any() for _, _, terminated, truncated, _ in told)
