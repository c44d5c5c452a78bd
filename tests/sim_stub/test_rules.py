"""The rules of an event: what they may be, and what is said where they may not."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim_stub.rules import RANGES, RaceType, Rules, RulesError, read_rules
from sim_stub.track import load
from tests.sim_stub.roads import square, straight

WHOLE = {name for name in RANGES if isinstance(getattr(Rules(), name), int)}
FLAGS = [field.name for field in fields(Rules) if isinstance(field.default, bool)]


def refusal(values: dict[str, Any]) -> str:
    """The sentence with which these rules are refused."""
    with pytest.raises(RulesError) as error:
        read_rules(values)
    said = str(error.value)
    assert said.endswith((".", "?"))
    assert "\n" not in said
    return said


def test_the_defaults_are_a_time_trial_of_one_lap_without_resets() -> None:
    rules = read_rules({})
    assert rules == Rules()
    assert (rules.race_type, rules.laps, rules.number_of_resets, rules.rate) == (RaceType.TIME_TRIAL, 1, 0, 15.0)
    assert (rules.obstacles, rules.bots) == (0, 0)


def test_every_number_has_a_range_and_every_rule_a_kind() -> None:
    others = {"race_type", "object_positions", *FLAGS}
    assert {field.name for field in fields(Rules)} == set(RANGES) | others
    assert len(FLAGS) == 6


@pytest.mark.parametrize("name", RANGES)
def test_a_number_may_be_anything_in_its_range_ends_included(name: str) -> None:
    low, high = RANGES[name]
    others = {"lower_lane_change_time": 0.1, "upper_lane_change_time": 600.0}
    for end in (low, high):
        value = int(end) if name in WHOLE else float(end)
        assert getattr(read_rules({**others, name: value}), name) == value


@pytest.mark.parametrize("name", RANGES)
def test_a_number_out_of_its_range_is_refused_with_the_range(name: str) -> None:
    low, high = RANGES[name]
    for beyond in (low - 1, high + 1):
        value = int(beyond) if name in WHOLE else float(beyond)
        said = refusal({name: value})
        assert said == f"{name} must lie in {low:g}..{high:g}, not {value:g}."


@pytest.mark.parametrize("name", sorted(RANGES.keys() - WHOLE))
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_refused(name: str, value: float) -> None:
    assert refusal({name: value}).startswith(f"{name} must lie in ")


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize("value", ["3", None, True, [1], {}])
def test_what_is_no_number_is_refused(name: str, value: object) -> None:
    whole = " whole" if name in WHOLE else ""
    assert refusal({name: value}) == f"{name} must be a{whole} number, not {value!r}."


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_a_count_must_be_whole(name: str) -> None:
    assert refusal({name: 2.0}) == f"{name} must be a whole number, not 2.0."


def test_a_whole_number_will_do_for_metres() -> None:
    assert read_rules({"bot_car_speed": 1}).bot_car_speed == 1


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("value", [1, 0, "true", None])
def test_a_flag_is_true_or_false(name: str, value: object) -> None:
    assert getattr(read_rules({name: True}), name) is True
    assert refusal({name: value}) == f"{name} must be true or false, not {value!r}."


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("number_of_obstacle", "number_of_obstacles"),
        ("bot_speed", "bot_car_speed"),
        ("lap", "laps"),
        ("alternate_direction", "alternate_driving_direction"),
        ("NUMBER_OF_RESETS", None),
        ("xyzzy", None),
    ],
)
def test_an_unknown_key_names_the_near_one(key: str, near: str | None) -> None:
    hint = f"; did you mean {near}?" if near else "."
    assert refusal({key: 1}) == f"There is no rule {key!r}{hint}"


@pytest.mark.parametrize("name", ["HEAD_TO_BOT", "head_to_bot", "head-to-bot", RaceType.HEAD_TO_BOT])
def test_a_race_type_is_known_however_it_is_written(name: str) -> None:
    assert read_rules({"race_type": name}).race_type is RaceType.HEAD_TO_BOT


@pytest.mark.parametrize("value", ["HEAD_TO_HEAD", "", 3, None])
def test_an_unknown_race_type_names_the_known_ones(value: object) -> None:
    said = refusal({"race_type": value})
    assert said == f"race_type must be one of TIME_TRIAL, OBJECT_AVOIDANCE, HEAD_TO_BOT, not {value!r}."


def test_positions_are_pairs_or_the_originals_text() -> None:
    rules = read_rules({"race_type": "OBJECT_AVOIDANCE", "object_positions": ["0.25,-1", [0.5, 1], (1, -1)]})
    assert rules.object_positions == ((0.25, -1), (0.5, 1), (1.0, -1))
    assert rules.obstacles == 3


@pytest.mark.parametrize(
    "value",
    [
        ["0.5"],
        ["a,b"],
        [[0.5]],
        [[0.5, 1, 2]],
        [0.5],
        "0.25,-1",
        5,
        None,
        [[1.5, 1]],
        [[-0.1, 1]],
        [[0.5, 0]],
        [[0.5, 2]],
    ],
)
def test_a_position_that_is_none_is_refused(value: object) -> None:
    assert refusal({"object_positions": value}).startswith("object_positions must be pairs of ")


def test_the_lower_time_is_not_above_the_upper() -> None:
    said = refusal({"lower_lane_change_time": 5.0, "upper_lane_change_time": 4.0})
    assert said == "lower_lane_change_time must not be larger than upper_lane_change_time."
    assert read_rules({"lower_lane_change_time": 4.0, "upper_lane_change_time": 4.0}).lower_lane_change_time == 4.0


def test_only_the_race_type_puts_objects_on_the_road() -> None:
    many = {"number_of_obstacles": 4, "number_of_bot_cars": 2}
    counts = {
        kind: (read_rules({**many, "race_type": kind}).obstacles, read_rules({**many, "race_type": kind}).bots)
        for kind in RaceType
    }
    assert counts == {
        RaceType.TIME_TRIAL: (0, 0),
        RaceType.OBJECT_AVOIDANCE: (4, 0),
        RaceType.HEAD_TO_BOT: (0, 2),
    }


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"laps": 2}, "Straight is an open track: laps must be 1"),
        ({"change_start_position": True}, "Straight is an open track: laps must be 1, always from its start"),
        ({"start_position_offset": 0.5}, "Straight is an open track"),
        ({"alternate_driving_direction": True}, "without bot cars or a change of direction"),
        ({"race_type": "HEAD_TO_BOT"}, "Straight is an open track"),
        (
            {"race_type": "OBJECT_AVOIDANCE", "number_of_obstacles": 3},
            "Straight is 6.0 m long: too short for so many objects so far apart",
        ),
    ],
)
def test_what_an_open_track_cannot_bear_is_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(RulesError, match=says) as error:
        read_rules(values).check(straight(6))
    assert str(error.value).endswith(".")


def test_a_start_beyond_the_end_of_the_lap_is_refused() -> None:
    track = load("Oval_track")
    read_rules({"start_position_offset": -19.0}).check(track)
    with pytest.raises(RulesError, match=r"start_position_offset must not be longer than the track, 19\.\d m"):
        read_rules({"start_position_offset": 19.7}).check(track)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"reverse_dir": True},
        {"race_type": "OBJECT_AVOIDANCE", "number_of_obstacles": 2},
        {"race_type": "OBJECT_AVOIDANCE", "number_of_obstacles": 1, "min_distance_between_obstacles": 40.0},
        {"race_type": "OBJECT_AVOIDANCE", "object_positions": ["0.1,1"] * 10},
        {"number_of_obstacles": 20},
    ],
)
def test_what_an_open_track_bears_is_not(values: dict[str, Any]) -> None:
    read_rules(values).check(straight(6))


def test_a_closed_track_bears_laps_bots_and_turning_round() -> None:
    busy = {"race_type": "HEAD_TO_BOT", "laps": 5, "alternate_driving_direction": True}
    read_rules(busy).check(square(6.0, 1.0))
    with pytest.raises(RulesError, match="too short for so many"):
        read_rules(busy | {"min_distance_between_bot_cars": 7.7}).check(square(6.0, 1.0))


ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
NAMES = st.sampled_from([field.name for field in fields(Rules)])


@given(st.dictionaries(NAMES, ANYTHING | st.lists(ANYTHING, max_size=3), max_size=3))
def test_whatever_is_asked_for_is_understood_or_refused(values: dict[str, Any]) -> None:
    try:
        rules = read_rules(values)
    except RulesError as error:
        said = str(error)
    else:
        said = "."
        for name, (low, high) in RANGES.items():
            assert low <= getattr(rules, name) <= high
    assert said.endswith(".")
