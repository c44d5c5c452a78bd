"""What a network's numbers ask of the car: the stock car's arithmetic, figure by figure, and its bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.actions import ContinuousActions, DiscreteActions, OutputError, throttle_for, throttle_for_stick

figures = st.floats(-1e6, 1e6)
outputs = st.floats(width=32, allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    ("stick", "limit", "throttle"),
    [
        (0.3, 0.1, 0.13837429),
        (0.5, 0.1, 0.22495274),
        (0.8, 0.1, 0.34631380),
        (0.3, 0.5, 0.208),
        (0.5, 0.5, 0.33333),
        (0.8, 0.5, 0.50133),
        (0.3, 1.0, 0.552),
        (0.5, 1.0, 0.8),
        (0.8, 1.0, 0.992),
    ],
)
def test_the_stick_gives_the_stock_throttle_both_ways(stick: float, limit: float, throttle: float) -> None:
    assert throttle_for_stick(stick, limit) == pytest.approx(throttle, abs=4e-6)
    assert throttle_for_stick(-stick, limit) == -throttle_for_stick(stick, limit)


@pytest.mark.parametrize(("stick", "limit"), [(0.0, 1.0), (-0.0, 0.5), (1.0, 0.0), (-1.0, -0.1)])
def test_no_stick_or_no_speed_is_no_throttle(stick: float, limit: float) -> None:
    assert throttle_for_stick(stick, limit) == 0


@given(st.floats(-1, 1), st.floats(0, 1))
def test_the_stick_stays_within_its_range(stick: float, limit: float) -> None:
    assert -1 <= throttle_for_stick(stick, limit) <= 1


@pytest.mark.parametrize(
    ("speed", "top", "throttle"),
    [
        (0.0, 0.8, 0.0),
        (0.2, 0.8, 0.475),
        (0.4, 0.8, 0.8),
        (0.6, 0.8, 0.975),
        (0.8, 0.8, 1.0),
        (2.0, 4.0, 0.8),
        (4.0, 4.0, 1.0),
        (-0.4, 0.8, -1.0),
    ],
)
def test_the_curve_passes_the_stock_points(speed: float, top: float, throttle: float) -> None:
    assert throttle_for(speed, top) == pytest.approx(throttle, abs=1e-12)


STOCK = DiscreteActions(((30, 0.8), (-30, 0.8), (0, 0.8), (15, 0.8), (-15, 0.8), (0, 0.4)))


@pytest.mark.parametrize(
    ("place", "steering", "throttle"),
    [(0, 1, 1), (1, -1, 1), (2, 0, 1), (3, 0.5, 1), (4, -0.5, 1), (5, 0, 0.8)],
)
def test_the_best_score_picks_the_row_of_its_place(place: int, steering: float, throttle: float) -> None:
    scores = np.full(6, 0.1, np.float32)
    scores[place] = 0.5
    action = STOCK.action(scores)
    assert (action.steering, action.throttle) == pytest.approx((steering, throttle))


def test_equal_scores_pick_the_first_row() -> None:
    assert STOCK.action(np.full(6, 0.5, np.float32)).steering == 1


def test_scores_may_be_negative() -> None:
    assert STOCK.action(np.array([-3, -1, -2, -9, -9, -9], np.float32)).steering == -1


@pytest.mark.parametrize(
    ("choices", "place", "steering"),
    [
        (((0, 1.0), (0, 2.0)), 1, 0),
        (((-20, 1.0), (10, 2.0)), 1, 0.5),
        (((-20, 1.0), (-10, 2.0)), 0, -1),
    ],
    ids=["straight only", "more to the right", "to the right only"],
)
def test_the_widest_angle_is_full_lock(choices: tuple[tuple[float, float], ...], place: int, steering: float) -> None:
    scores = np.zeros(len(choices), np.float32)
    scores[place] = 1
    assert DiscreteActions(choices).action(scores).steering == steering


def test_the_fastest_row_is_full_throttle() -> None:
    assert STOCK.top_speed == 0.8
    assert ContinuousActions((-30, 30), (0.1, 4)).top_speed == 4


@pytest.mark.parametrize(
    ("means", "steering", "speed"),
    [
        ((0, 0), 0, 0.6),
        ((1, 1), 1, 1.0),
        ((-1, -1), -1, 0.2),
        ((0.5, -0.5), 0.5, 0.4),
        ((7, -1e30), 1, 0.2),
    ],
)
def test_means_are_clipped_and_span_the_ranges(means: tuple[float, float], steering: float, speed: float) -> None:
    space = ContinuousActions(steering_deg=(-30, 30), speed=(0.2, 1.0))
    action = space.action(np.array(means, np.float32))
    assert action.steering == pytest.approx(steering)
    assert action.throttle == pytest.approx(throttle_for(speed, 1.0))


@pytest.mark.parametrize(
    ("steering_deg", "mean", "steering"),
    [
        ((-30, 15), 1, 1),
        ((-30, 15), -1, -1),
        ((-30, 15), 1 / 3, 0),
        ((-15, 30), -1, -0.5),
        ((-30, 0), -1, 0),
        ((-30, -10), 1, 0),
    ],
)
def test_uneven_ranges_are_clamped_to_full_lock(
    steering_deg: tuple[float, float], mean: float, steering: float
) -> None:
    action = ContinuousActions(steering_deg, (0, 1)).action(np.array([mean, 0], np.float32))
    assert action.steering == pytest.approx(steering, abs=1e-6)


@pytest.mark.parametrize("space", [STOCK, ContinuousActions((-30, 30), (0, 1))], ids=["discrete", "continuous"])
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused(space: DiscreteActions | ContinuousActions, wrong: float) -> None:
    output = np.zeros(space.outputs, np.float32)
    output[-1] = wrong
    with pytest.raises(OutputError, match="not finite"):
        space.action(output)


@pytest.mark.parametrize("space", [STOCK, ContinuousActions((-30, 30), (0, 1))], ids=["discrete", "continuous"])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (5,), (7,), (1, 6), (1, 2), (2, 1)], ids=str)
def test_a_wrong_number_of_answers_is_refused(
    space: DiscreteActions | ContinuousActions, shape: tuple[int, ...]
) -> None:
    with pytest.raises(OutputError, match="shape"):
        space.action(np.zeros(shape, np.float32))


@given(st.lists(st.tuples(figures, st.floats(1e-6, 1e6)), min_size=1, max_size=6), st.data())
def test_no_list_of_actions_leaves_the_range(choices: list[tuple[float, float]], data: st.DataObject) -> None:
    scores = np.array(data.draw(st.lists(outputs, min_size=len(choices), max_size=len(choices))), np.float32)
    action = DiscreteActions(tuple(choices)).action(scores)
    assert -1 <= action.steering <= 1
    assert 0 <= action.throttle <= 1


@given(
    st.lists(figures, min_size=2, max_size=2, unique=True),
    st.lists(st.floats(0, 1e6), min_size=2, max_size=2, unique=True),
    st.tuples(outputs, outputs),
)
def test_no_ranges_of_actions_leave_the_range(
    angles: list[float], speeds: list[float], means: tuple[float, float]
) -> None:
    space = ContinuousActions((min(angles), max(angles)), (min(speeds), max(speeds)))
    action = space.action(np.array(means, np.float32))
    assert -1 <= action.steering <= 1
    assert 0 <= action.throttle <= 1
