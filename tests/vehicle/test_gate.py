"""The gate: nothing but a fresh, sound wish of an engaged car's own mode reaches the wires."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.signals import NEUTRAL, Action
from vehicle.gate import LIMITS, DriveMode, Limits, Proposal, choose

WISH = Action(0.25, 0.5)
NOW = 100.0
MANUAL, AUTONOMOUS, CALIBRATION = DriveMode.MANUAL, DriveMode.AUTONOMOUS, DriveMode.CALIBRATION


def chosen(action: Action = WISH, age: float = 0.0, mode: DriveMode = AUTONOMOUS, engaged: bool = True) -> Action:
    return choose(mode, engaged, {AUTONOMOUS: Proposal(action, NOW - age)}, NOW)


def test_a_fresh_wish_of_the_engaged_mode_goes_through_unchanged() -> None:
    assert chosen() is WISH


def test_nothing_goes_through_while_the_car_is_not_engaged() -> None:
    assert chosen(engaged=False) == NEUTRAL


@pytest.mark.parametrize("mode", [MANUAL, CALIBRATION])
def test_a_wish_of_another_mode_stays_outside(mode: DriveMode) -> None:
    assert chosen(mode=mode) == NEUTRAL


def test_each_mode_gets_its_own_wish() -> None:
    wishes = {mode: Proposal(Action(0.1 * place, 0.0), NOW) for place, mode in enumerate(DriveMode)}
    assert [choose(mode, True, wishes, NOW) for mode in DriveMode] == [wish.action for wish in wishes.values()]


def test_the_default_age_limit_is_under_half_a_second() -> None:
    assert Limits(max_age=0.3) == LIMITS


@pytest.mark.parametrize(("age", "passes"), [(0.0, True), (0.25, True), (0.5, True), (0.50001, False), (9.0, False)])
def test_a_wish_counts_up_to_and_including_its_age_limit(age: float, passes: bool) -> None:
    wishes = {AUTONOMOUS: Proposal(WISH, NOW - age)}
    assert choose(AUTONOMOUS, True, wishes, NOW, Limits(max_age=0.5)) == (WISH if passes else NEUTRAL)


@pytest.mark.parametrize("age", [0.301, 10.0, math.nan, math.inf, -math.inf, -0.001, -1.0])
def test_an_old_or_a_future_or_a_timeless_wish_is_neutral(age: float) -> None:
    assert chosen(age=age) == NEUTRAL


@pytest.mark.parametrize("value", [-1.0, 1.0])
def test_the_ends_of_the_range_belong_to_it(value: float) -> None:
    for action in (Action(value, 0.5), Action(0.5, value)):
        assert chosen(action) == action


@pytest.mark.parametrize("value", [1.0000001, -1.0000001, 40.0, -40.0, math.nan, math.inf, -math.inf])
def test_a_wish_beyond_the_range_or_not_a_number_is_neutral(value: float) -> None:
    assert chosen(Action(value, 0.5)) == NEUTRAL
    assert chosen(Action(0.5, value)) == NEUTRAL


def test_neutral_is_no_steering_and_no_throttle() -> None:
    assert chosen(engaged=False) == Action(0.0, 0.0)


numbers = st.floats()
proposals = st.dictionaries(
    st.sampled_from(DriveMode), st.builds(Proposal, st.builds(Action, numbers, numbers), numbers), max_size=3
)


@given(st.sampled_from(DriveMode), st.booleans(), proposals, numbers)
def test_whatever_is_proposed_the_wires_get_a_sound_action(
    mode: DriveMode, engaged: bool, wishes: dict[DriveMode, Proposal], now: float
) -> None:
    action = choose(mode, engaged, wishes, now)
    assert -1 <= action.steering <= 1
    assert -1 <= action.throttle <= 1
    if action != NEUTRAL:
        assert engaged
        assert action == wishes[mode].action
        assert 0 <= now - wishes[mode].t <= LIMITS.max_age
