"""Chance: how much of it there is, and that a kind of it does not disturb another."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim_stub import track
from sim_stub.dynamics import FULL_LOCK
from sim_stub.randomisation import (
    CLUTTER,
    FILM,
    GLARES,
    PALETTES,
    PRESETS,
    Draw,
    Randomisation,
    draw,
    read_randomisation,
    scatter_clutter,
    scatter_glare,
)
from sim_stub.rules import RulesError
from sim_stub.view import Film

KINDS = [field.name for field in fields(Randomisation)]
FULL = Randomisation(**dict.fromkeys(KINDS, 1.0))
BELONGS = {
    "lights": ["palette"],
    "exposure": ["gain", "lift"],
    "blur": ["blur"],
    "noise": ["noise"],
    "camera": ["pitch", "yaw", "up", "ahead", "left"],
    "camera_latency": ["camera_latency"],
    "command_latency": ["command_latency"],
    "motor": ["motor_lag", "speed_gain"],
    "steering": ["steering_lag", "steering_gain", "steering_trim"],
    "friction": ["friction"],
    "glare": ["glares", "glare"],
    "clutter": ["clutter"],
}
"""What of a draw each kind moves."""
WITHIN = {
    "gain": (0.5, 2.0),
    "lift": (-40.0, 40.0),
    "blur": (0.0, 1.0),
    "noise": (0.0, 12.0),
    "pitch": (-math.radians(3), math.radians(3)),
    "yaw": (-math.radians(2), math.radians(2)),
    "up": (-0.015, 0.015),
    "ahead": (-0.01, 0.01),
    "left": (-0.01, 0.01),
    "camera_latency": (0.0, 0.06),
    "command_latency": (0.0, 0.06),
    "motor_lag": (0.5, 2.0),
    "speed_gain": (0.8, 1.2),
    "steering_lag": (0.5, 2.0),
    "steering_gain": (0.85, 1.15),
    "steering_trim": (-math.radians(2), math.radians(2)),
    "friction": (0.6, 1.2),
}


def draws(strengths: Randomisation, count: int = 1000, seed: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    each = [dataclasses.asdict(draw(strengths, rng)) for _ in range(count)]
    return {name: np.array([one[name] for one in each]) for name in each[0]}


def test_without_chance_everything_is_neutral() -> None:
    assert draw(PRESETS["none"], np.random.default_rng(1)) == Draw()
    film = Film.neutral(1)
    assert all(getattr(film, name)[0] == getattr(Draw(), name) for name in FILM)


def test_every_kind_moves_what_it_says_and_nothing_else() -> None:
    assert sorted(BELONGS) == sorted(KINDS)
    assert sorted(name for names in BELONGS.values() for name in names) == sorted(f.name for f in fields(Draw))
    for kind, names in BELONGS.items():
        found = draws(Randomisation(**{kind: 1.0}), 50)
        neutral = dataclasses.asdict(Draw())
        assert {name for name, values in found.items() if (values != neutral[name]).any()} == set(names), kind


def test_one_strength_does_not_shift_anothers_draw() -> None:
    full = draws(FULL, 20)
    for kind in KINDS:
        without = draws(dataclasses.replace(FULL, **{kind: 0.0}), 20)
        alone = draws(Randomisation(**{kind: 1.0}), 20)
        for other, names in BELONGS.items():
            for name in names:
                assert np.array_equal(without[name], full[name]) is (other != kind), (kind, name)
                assert np.array_equal(alone[name], full[name]) is (other == kind), (kind, name)


@pytest.mark.parametrize("name", WITHIN)
def test_at_full_strength_the_whole_range_is_used_and_no_more(name: str) -> None:
    low, high = WITHIN[name]
    values = draws(FULL)[name]
    assert low <= values.min() < low + 0.01 * (high - low)
    assert high >= values.max() > high - 0.02 * (high - low)


@pytest.mark.parametrize("name", WITHIN)
def test_at_half_strength_the_range_is_half_as_wide(name: str) -> None:
    kind = next(kind for kind, names in BELONGS.items() if name in names)
    half, full = draws(Randomisation(**{kind: 0.5}))[name], draws(FULL)[name]
    neutral = getattr(Draw(), name)
    if name in ("gain", "motor_lag", "steering_lag"):
        half, full, neutral = np.log(half), np.log(full), 0.0
    assert np.allclose(half - neutral, (full - neutral) / 2)


def test_whole_numbers_take_all_their_values() -> None:
    found = draws(FULL)
    assert set(found["palette"].tolist()) == set(range(PALETTES))
    assert set(found["glares"].tolist()) == set(range(GLARES + 1))
    assert set(found["clutter"].tolist()) == set(range(CLUTTER + 1))


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan"), "1", None, True])
def test_a_strength_lies_in_0_to_1(value: Any) -> None:
    with pytest.raises(RulesError, match=r"The strength of blur must lie in 0\.\.1, not .*\.$"):
        Randomisation(blur=value)


def test_presets_are_known_by_name_and_can_be_changed() -> None:
    assert read_randomisation("none") == read_randomisation({}) == Randomisation()
    assert read_randomisation("lights") == Randomisation(lights=1.0)
    assert read_randomisation("real-world") == PRESETS["real-world"]
    assert all(getattr(PRESETS["real-world"], kind) > 0 for kind in KINDS)
    assert read_randomisation({"blur": 0.25}) == Randomisation(blur=0.25)
    mixed = read_randomisation({"preset": "real-world", "blur": 0})
    assert mixed == dataclasses.replace(PRESETS["real-world"], blur=0)
    assert read_randomisation(FULL) is FULL


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("realworld", "randomisation must be one of none, lights, real-world, or strengths by name, not 'realworld'."),
        ({"preset": "x"}, "randomisation must be one of none, lights, real-world, or strengths by name, not 'x'."),
        ({"light": 1.0}, "There is no randomisation 'light'; did you mean lights?"),
        ({"wind": 1.0}, "There is no randomisation 'wind'."),
        ({"glare": 2}, "The strength of glare must lie in 0..1, not 2."),
    ],
)
def test_what_is_unknown_is_refused_in_one_sentence(value: str | dict[str, Any], says: str) -> None:
    with pytest.raises(RulesError) as error:
        read_randomisation(value)
    assert str(error.value) == says


@given(st.integers(0, 2**32), st.integers(0, CLUTTER), st.sampled_from(track.names()))
def test_clutter_stands_in_the_field_off_the_road_and_apart(seed: int, count: int, name: str) -> None:
    road = track.load(name)
    boxes = scatter_clutter(count, road, np.random.default_rng(seed))
    assert boxes.shape == (CLUTTER, 8)
    there = boxes[boxes[:, 3] > 0]
    assert len(there) <= count
    assert not boxes[count:].any()
    low_x, low_y, high_x, high_y = road.field
    assert ((there[:, 0] > low_x) & (there[:, 0] < high_x) & (there[:, 1] > low_y) & (there[:, 1] < high_y)).all()
    size = np.hypot(there[:, 3], there[:, 4])
    assert (road.distance_from_road(there[:, :2]) > size).all()
    for one in range(len(there)):
        for other in range(one):
            assert np.hypot(*(there[one, :2] - there[other, :2])) > size[one] + size[other]
    assert ((there[:, 5] >= 0.1) & (there[:, 5] <= 0.8)).all()
    assert not there[:, 6].any()


def test_a_box_of_the_clutter_does_not_depend_on_how_many_there_are() -> None:
    road = track.load("reinvent_base")
    few, many = (scatter_clutter(count, road, np.random.default_rng(2)) for count in (2, 6))
    assert np.array_equal(few[:2], many[:2])
    assert (many[:, 3] > 0).sum() > 3


def test_glare_lies_about_the_road() -> None:
    road = track.load("reinvent_base")
    for seed in range(30):
        rng = np.random.default_rng(seed)
        chances = draw(Randomisation(glare=0.5), rng)
        patches = scatter_glare(chances, road, rng)
        assert patches.shape == (GLARES, 4)
        lit = patches[: chances.glares]
        assert not patches[chances.glares :].any()
        assert (road.distance_from_centre(lit[:, :2]) <= 1.0 + 1e-9).all()
        assert ((lit[:, 2] >= 0.1) & (lit[:, 2] <= 0.5)).all()
        assert ((lit[:, 3] >= 0) & (lit[:, 3] <= 60.0)).all()


def test_a_trim_leaves_room_to_steer() -> None:
    assert np.abs(draws(FULL)["steering_trim"]).max() < FULL_LOCK / 10
