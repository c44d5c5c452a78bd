"""Runs from start to end: what ends them, what a mistake costs, how laps are timed, and that a batch is no company."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from sim_stub import track
from sim_stub.dynamics import DEEPRACER, FRONT_POINT, SPEED, YAW, X, Y
from sim_stub.parameters import SCALARS
from sim_stub.race import MISTAKES, Race, Status
from sim_stub.randomisation import CLUTTER, PRESETS, Randomisation
from sim_stub.rules import RaceType, Rules, RulesError
from sim_stub.survey import FORWARD, REVERSED
from tests.sim_stub.races import LAP, lead, place, race, step, value
from tests.sim_stub.roads import circle, square, straight

# Starts.


def test_a_car_starts_at_rest_on_the_line_and_its_first_action_is_asked_for_in_row_two() -> None:
    here = race()
    assert here.state[0].tolist() == [0.0] * len(here.state[0])
    assert here.status[0] == Status.PREPARE
    assert step(here) is Status.IN_PROGRESS
    assert value(here, "steps") == 2
    assert value(here, "progress") == pytest.approx(100 * FRONT_POINT / LAP)
    assert value(here, "sim_time") == 0.0
    step(here)
    assert value(here, "steps") == 3
    assert value(here, "sim_time") == pytest.approx(1 / 15)


def test_the_start_may_be_moved_along_the_road() -> None:
    here = race(Rules(start_position_offset=7.0))
    assert here.state[0, [X, Y, YAW]] == pytest.approx([6.0, 1.0, np.pi / 2])
    step(here)
    assert value(here, "progress") == pytest.approx(100 * FRONT_POINT / LAP)
    assert value(here, "projection_distance") == pytest.approx(7.0 + FRONT_POINT)
    assert race(Rules(start_position_offset=-1.0)).state[0, [X, Y]] == pytest.approx([0.0, 1.0])


def test_each_episode_may_start_a_piece_further_on() -> None:
    here = race(Rules(change_start_position=True, round_robin_advance_dist=0.25))
    starts = []
    for _ in range(5):
        starts.append(here.state[0, [X, Y]].tolist())
        here.reset()
    assert np.allclose(starts, [[0, 0], [6, 0], [6, 6], [0, 6], [0, 0]])
    still = race()
    still.reset()
    assert still.state[0, [X, Y]].tolist() == [0.0, 0.0]


def test_each_episode_may_turn_round() -> None:
    here = race(Rules(alternate_driving_direction=True))
    found = []
    for _ in range(3):
        step(here)
        found.append((int(here.direction[0]), value(here, "is_reversed"), here.rows[0, len(SCALARS)]))
        assert value(here, "progress") == pytest.approx(100 * FRONT_POINT / LAP)
        here.reset()
    assert found == [(FORWARD, 0.0, 0.0), (REVERSED, 1.0, 0.0), (FORWARD, 0.0, 0.0)]


def test_the_other_direction_leads_down_the_last_side() -> None:
    here = race(Rules(reverse_dir=True))
    assert here.direction[0] == REVERSED
    assert here.state[0, YAW] == pytest.approx(np.pi / 2)
    assert here.state[0, [X, Y]].tolist() == [0.0, 0.0]
    assert lead(here, (1.0, 2.0)) == [Status.IN_PROGRESS] * 2
    assert value(here, "y") == pytest.approx(2.0)


@pytest.mark.parametrize(("lane", "aside"), [(1, -0.25), (-1, 0.25)])
def test_who_starts_by_an_object_starts_in_the_other_lane(lane: int, aside: float) -> None:
    """The inner lane lies left of the line, on this road."""
    for at in (3.0, 4.6, 5.4):
        rules = Rules(RaceType.OBJECT_AVOIDANCE, object_positions=((at / LAP, lane),), start_position_offset=4.0)
        if at < 5:
            here = race(rules)
            near = abs(at - 4.0) < 1.0
            assert here.state[0, [X, Y, YAW]] == pytest.approx([4.0, aside if near else 0.0, 0.0], abs=1e-9)
        else:
            assert race(rules).state[0, Y] == 0.0


def test_the_lane_beside_an_object_behind_the_line_counts_too() -> None:
    here = race(Rules(RaceType.OBJECT_AVOIDANCE, object_positions=((0.98, -1),)))
    # The corner's inner lane: as far from the last side as from the first.
    assert here.state[0, [X, Y]] == pytest.approx([0.25, 0.25])


# What ends a run.


def test_off_the_track_is_all_four_wheels() -> None:
    here = race()
    assert lead(here, (2.5, 2.5), aside=0.5) == [Status.IN_PROGRESS] * 2
    assert value(here, "all_wheels_on_track") == 0
    assert value(here, "is_offtrack") == 0
    assert lead(here, (2.5,), aside=0.6) == [Status.OFF_TRACK]
    assert value(here, "is_offtrack") == 1
    assert here.done[0]
    assert here.runs[0].status is Status.OFF_TRACK
    assert here.runs[0].mistakes == {status: int(status is Status.OFF_TRACK) for status in MISTAKES}


def test_a_car_that_stands_for_fifteen_steps_is_immobilized() -> None:
    here = race()
    found = lead(here, [2.5] * 40)
    # The first row is where it came to; fifteen steps later it still stands there.
    assert found == [Status.IN_PROGRESS] * 15 + [Status.IMMOBILIZED]
    here = race()
    assert lead(here, [2.5] * 15 + [2.6] * 15 + [2.7]) == [Status.IN_PROGRESS] * 31


def test_a_car_that_drives_back_for_fifteen_steps_is_reversed() -> None:
    here = race()
    found = lead(here, 5.0 - 0.1 * np.arange(40))
    assert found == [Status.IN_PROGRESS] * 15 + [Status.REVERSED]
    here = race()
    assert lead(here, [*(5.0 - 0.1 * np.arange(15)), 3.65, *(3.6 - 0.1 * np.arange(14))]) == [Status.IN_PROGRESS] * 30


def test_backwards_over_the_line_progress_falls_below_zero_and_no_lap_is_won() -> None:
    here = race()
    assert lead(here, (0.3, 0.1, -0.1, -0.3)) == [Status.IN_PROGRESS] * 4
    assert value(here, "progress") == pytest.approx(-100 * 0.3 / LAP, abs=0.1)
    assert lead(here, (0.3,)) == [Status.IN_PROGRESS]
    assert here.runs[0].completion == 0.0


def test_the_steps_of_a_run_may_be_counted_out() -> None:
    here = race(Rules(max_steps=5))
    assert lead(here, np.arange(1, 9.0)) == [Status.IN_PROGRESS] * 3 + [Status.TIME_UP]
    assert value(here, "steps") == 5
    assert here.runs[0].status is Status.TIME_UP
    assert here.runs[0].mistakes == dict.fromkeys(MISTAKES, 0)


def test_of_several_things_at_once_the_worst_is_told() -> None:
    box = ((3.0 / LAP, 1),)
    both = Rules(RaceType.OBJECT_AVOIDANCE, object_positions=box)
    here = race(both)
    # The box stands 0.25 m to the left; 0.59 m out a right corner is in its buffer, and all wheels are off the road.
    assert lead(here, (3.0,), aside=0.59) == [Status.CRASHED]
    assert (value(here, "is_crashed"), value(here, "is_offtrack")) == (1, 0)
    here = race(dataclasses.replace(both, max_steps=2))
    assert lead(here, (3.0,), aside=0.25) == [Status.TIME_UP]
    here = race(dataclasses.replace(both, max_steps=5, start_position_offset=4.0))
    assert lead(here, (12.0, 20.0, 27.9, 28.1)) == [Status.IN_PROGRESS] * 3 + [Status.LAP_COMPLETE]


def test_who_crosses_the_line_into_a_box_or_off_the_road_has_crossed_it() -> None:
    here = race(Rules(RaceType.OBJECT_AVOIDANCE, object_positions=((0.7 / LAP, 1),)))
    assert lead(here, (8.0, 16.0, 23.5)) == [Status.IN_PROGRESS] * 3
    assert lead(here, (24.6,), aside=0.25) == [Status.LAP_COMPLETE]
    assert value(here, "progress") == 100.0
    here = race()
    assert lead(here, (8.0, 16.0, 23.5)) == [Status.IN_PROGRESS] * 3
    assert lead(here, (24.6,), aside=-0.8) == [Status.LAP_COMPLETE]
    assert value(here, "progress") == 100.0


def test_a_car_whose_run_is_over_stays_and_keeps_its_row() -> None:
    here = race(batch=2)
    place(here, 2.5, 0.7, world=0)
    place(here, 2.5, 0.0, world=1)
    forward = np.array([[0.0, 2.0]] * 2)
    step(here, forward)
    assert here.done.tolist() == [True, False]
    row, state, clock = here.rows[0].copy(), here.state[0].copy(), here.clock.copy()
    for _ in range(3):
        step(here, forward)
    assert np.array_equal(here.rows[0], row)
    assert np.array_equal(here.state[0], state)
    assert here.status.tolist() == [Status.OFF_TRACK, Status.IN_PROGRESS]
    assert here.clock[0] == clock[0]
    assert here.clock[1] == pytest.approx(clock[1] + 3 / 15)
    assert value(here, "steps", 1) == 5
    assert here.state[1, X] > state[X] + 0.1
    here.reset([0])
    assert here.done.tolist() == [False, False]
    assert here.status.tolist() == [Status.PREPARE, Status.IN_PROGRESS]
    assert here.state[1, X] > state[X] + 0.1


# Laps and their times.


@pytest.mark.parametrize(("radius", "speed"), [(2.0, 1.7), (3.0, 3.9)])
def test_a_lap_takes_its_length_by_the_speed(radius: float, speed: float) -> None:
    here = race(Rules(laps=3), circle(radius))
    assert set(lead(here, FRONT_POINT + speed / 15 * np.arange(10_000))) == {
        Status.IN_PROGRESS,
        Status.LAP_COMPLETE,
    }
    run = here.runs[0]
    # The front point begins a little beyond the line; the other laps are flying ones.
    assert run.laps == pytest.approx(
        [(here.length - FRONT_POINT) / speed, here.length / speed, here.length / speed], abs=1e-3
    )
    assert run.completion == 100.0
    assert run.status is Status.LAP_COMPLETE
    assert 0 <= run.seconds - sum(run.laps) < 1 / 15


def test_on_an_open_track_the_lap_ends_at_its_end() -> None:
    here = race(road=straight(6))
    found = lead(here, [0.14, 2.0, 4.0, 5.9])
    place(here, 5.9)
    here.state[0, X] += 0.2
    assert [*found, step(here)] == [Status.IN_PROGRESS] * 4 + [Status.LAP_COMPLETE]
    assert here.runs[0].laps == [pytest.approx(4 / 15, abs=1e-6)]


def test_a_car_that_drives_by_itself_laps_too() -> None:
    here = race(road=straight(6))
    wish = np.array([[0.0, 2.0]])
    while not here.done[0]:
        step(here, wish)
    assert here.runs[0].status is Status.LAP_COMPLETE
    assert 3.0 < here.runs[0].laps[0] < 3.6
    assert here.state[0, SPEED] == pytest.approx(2.0, rel=0.05)


def test_the_start_of_a_lap_may_lie_anywhere() -> None:
    here = race(Rules(start_position_offset=15.0))
    found = lead(here, 15.0 + 0.5 * np.arange(1, 100))
    assert found == [Status.IN_PROGRESS] * 47 + [Status.LAP_COMPLETE]


def test_completion_counts_all_the_laps_wanted() -> None:
    here = race(Rules(laps=2))
    lead(here, [*np.arange(1, 25.0), 28.0, 27.9])
    step(here)
    place(here, 3.9, 0.7)
    step(here)
    assert here.done[0]
    assert len(here.runs[0].laps) == 1
    assert here.runs[0].completion == pytest.approx((100 + 100 * 4 / LAP) / 2)


# Penalties.

RESETS = Rules(number_of_resets=100, off_track_penalty=1.0, collision_penalty=2.0)


@pytest.mark.parametrize("rate", [10, 15, 20, 30])
@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0, 5.0])
def test_off_the_road_the_car_waits_and_goes_on_from_the_nearest_lane(rate: float, penalty: float) -> None:
    here = race(dataclasses.replace(RESETS, off_track_penalty=penalty, rate=float(rate)))
    assert lead(here, (2.0, 2.5)) == [Status.IN_PROGRESS] * 2
    place(here, 2.6, -0.7, turned=1.0)
    here.state[0, SPEED] = 1.0
    forward = np.array([[0.2, 2.0]])
    assert step(here, forward) is Status.OFF_TRACK
    assert not here.done[0]
    left_at = here.clock[0] - 1 / rate
    # At the progress before, in the lane at the side where it left the road, at rest, along the road.
    assert here.state[0, [X, Y, YAW]] == pytest.approx([2.5, -0.25, 0.0]) or not penalty
    waited = 0
    while step(here, forward) is Status.PAUSE:
        waited += 1
        assert here.state[0, [X, Y, YAW, SPEED]] == pytest.approx([2.5, -0.25, 0.0, 0.0])
        assert np.array_equal(here.seen, here.state)
    assert here.status[0] == Status.IN_PROGRESS
    assert value(here, "sim_time") == pytest.approx(left_at + max(penalty, 1 / rate))
    assert waited == max(round(penalty * rate) - 1, 0)
    assert here.runs[0].resets == 1
    assert here.runs[0].mistakes[Status.OFF_TRACK] == 1
    for _ in range(5):
        assert step(here, forward) is Status.IN_PROGRESS
    assert here.state[0, X] > 2.55


def test_who_waits_is_neither_immobilized_nor_reversed() -> None:
    here = race(dataclasses.replace(RESETS, off_track_penalty=3.0))
    lead(here, (2.0, 2.5))
    assert lead(here, (2.6,), aside=0.7) == [Status.OFF_TRACK]
    found = [step(here, np.array([[0.0, 1.0]])) for _ in range(70)]
    assert set(found[:44]) == {Status.PAUSE}
    assert set(found[44:]) == {Status.IN_PROGRESS}


def test_standing_still_costs_a_reset_too() -> None:
    here = race(RESETS)
    found = lead(here, [2.5] * 16)
    assert found[-1] is Status.IMMOBILIZED
    assert here.pause_seconds[0] == pytest.approx(1.0 - 1 / 15)
    assert here.state[0, [X, Y]] == pytest.approx([2.5, -0.25]) or here.state[0, [X, Y]] == pytest.approx([2.5, 0.25])
    assert [step(here) for _ in range(15)] == [Status.PAUSE] * 14 + [Status.IN_PROGRESS]


def test_the_last_reset_is_the_last() -> None:
    here = race(Rules(number_of_resets=2, off_track_penalty=0.0))
    found = []
    while not here.done[0]:
        place(here, 2.5, 0.7)
        found.append(step(here))
    assert found == [Status.OFF_TRACK] * 3
    assert here.runs[0].resets == 2
    assert here.runs[0].mistakes[Status.OFF_TRACK] == 3


def test_the_lap_time_includes_the_waiting() -> None:
    clean, soiled = race(RESETS), race(RESETS)
    way = [*np.arange(0.5, 10.0, 0.5)]
    lead(clean, [*way, *np.arange(10.0, 25.0, 0.5)])
    lead(soiled, way)
    lead(soiled, (10.0,), aside=0.7)
    waits = 0
    while step(soiled) is Status.PAUSE:
        waits += 1
    lead(soiled, np.arange(10.0, 25.0, 0.5))
    # One row off the road, the waiting, and the row that found the waiting over.
    assert soiled.runs[0].laps[0] - clean.runs[0].laps[0] == pytest.approx((1 + waits + 1) / 15)
    assert waits / 15 == pytest.approx(1.0 - 1 / 15)
    assert soiled.runs[0].seconds > clean.runs[0].seconds


def test_the_steps_run_out_while_waiting_too() -> None:
    here = race(dataclasses.replace(RESETS, off_track_penalty=5.0, max_steps=10))
    assert lead(here, (2.5,), aside=0.7) == [Status.OFF_TRACK]
    assert [step(here) for _ in range(8)] == [Status.PAUSE] * 7 + [Status.TIME_UP]
    assert here.done[0]


BOX_AT = 3.0
AVOID = dataclasses.replace(
    RESETS, race_type=RaceType.OBJECT_AVOIDANCE, object_positions=((BOX_AT / LAP, 1),), reset_behind_dist=0.8
)


def test_after_a_crash_the_car_stands_behind_the_box_in_the_other_lane() -> None:
    here = race(AVOID)
    assert lead(here, (2.5,)) == [Status.IN_PROGRESS]
    assert lead(here, (2.9,), aside=0.25) == [Status.CRASHED]
    assert value(here, "is_crashed") == 1
    assert here.state[0, [X, Y, YAW, SPEED]] == pytest.approx([BOX_AT - 0.8, -0.25, 0.0, 0.0])
    assert here.pause_seconds[0] == pytest.approx(2.0 - 1 / 15)
    found = [step(here) for _ in range(31)]
    assert found == [Status.PAUSE] * 29 + [Status.IN_PROGRESS] * 2
    assert value(here, "is_crashed") == 0


def test_the_third_crash_into_the_same_box_sets_the_car_beyond_it() -> None:
    here = race(dataclasses.replace(AVOID, collision_penalty=0.0))
    places = []
    for _ in range(6):
        lead(here, (2.5,))
        assert lead(here, (2.9,), aside=0.25) == [Status.CRASHED]
        places.append(float(here.state[0, X]))
    assert places == pytest.approx([2.2, 2.2, 3.8, 2.2, 2.2, 3.8])


def test_another_box_begins_the_count_anew() -> None:
    rules = dataclasses.replace(AVOID, collision_penalty=0.0, object_positions=((3.0 / LAP, 1), (9.0 / LAP, 1)))
    here = race(rules)
    places = []
    for at in (3.0, 3.0, 9.0, 3.0, 3.0, 3.0):
        lead(here, (at,), aside=0.25)
        assert here.status[0] == Status.CRASHED
        places.append(here.state[0, [X, Y]].tolist())
    behind, beyond = [2.2, -0.25], [3.8, -0.25]
    assert np.allclose(places, [behind, behind, [6.25, 2.2], behind, behind, beyond])


def test_behind_a_box_at_the_line_progress_falls_below_zero_but_no_lap_is_won() -> None:
    box = ((0.5 / LAP, 1),)
    here = race(dataclasses.replace(AVOID, object_positions=box, collision_penalty=0.0, reset_behind_dist=1.5))
    assert lead(here, (0.6,), aside=0.25) == [Status.CRASHED]
    assert step(here) is Status.IN_PROGRESS
    assert value(here, "progress") < 0
    assert here.runs[0].laps == []


def test_who_is_set_back_over_the_line_by_mercy_has_finished_the_lap() -> None:
    rules = dataclasses.replace(AVOID, object_positions=((23.5 / LAP, 1),), start_position_offset=0.0)
    here = race(rules)
    lead(here, np.arange(1, 23.0))
    for _ in range(3):
        while here.pause_seconds[0] > 0:
            step(here)
        assert lead(here, (23.4,), aside=0.25) == [Status.CRASHED]
    assert step(here) is Status.LAP_COMPLETE
    assert len(here.runs[0].laps) == 1
    assert here.done[0]


def test_off_the_road_by_a_box_the_car_gets_the_other_lane() -> None:
    here = race(AVOID)
    lead(here, (2.7,))
    assert lead(here, (2.7,), aside=0.7) == [Status.OFF_TRACK]
    assert here.state[0, [X, Y]] == pytest.approx([BOX_AT - 0.8, -0.25])


# A batch.

CHANCES: dict[str, tuple[Rules, Randomisation | None]] = {
    "boxes": (
        Rules(
            RaceType.OBJECT_AVOIDANCE,
            randomize_obstacle_locations=True,
            change_start_position=True,
            alternate_driving_direction=True,
        ),
        None,
    ),
    "bots": (
        Rules(
            RaceType.HEAD_TO_BOT,
            number_of_bot_cars=4,
            bot_car_speed=1.0,
            is_lane_change=True,
            lower_lane_change_time=0.3,
            upper_lane_change_time=0.8,
            randomize_bot_car_locations=True,
            number_of_resets=2,
            off_track_penalty=0.5,
            collision_penalty=0.5,
        ),
        None,
    ),
    "real-world": (Rules(change_start_position=True, max_steps=40), PRESETS["real-world"]),
}
FILMS = ("gain", "lift", "blur", "noise", "seed", "pitch", "yaw", "up", "ahead", "left", "palette", "glare")


def history(kind: str, batch: int, seed: int = 5, steps: int = 60) -> tuple[list[dict[str, np.ndarray]], int]:
    """What became of the first seven worlds, step by step, under random actions; and how many episodes ended."""
    rules, chance = CHANCES[kind]
    here = Race(track.load("reinvent_base"), rules, DEEPRACER, batch, seed=seed, randomisation=chance)
    told, ended = [], 0
    actions = np.random.default_rng(9)
    for _ in range(steps):
        wish = (np.array([-0.5, 1.0]) + actions.random((64, 2)) * [1.0, 3.0])[:batch]
        here.judge(wish)
        kept = {
            "rows": here.rows,
            "status": here.status,
            "done": here.done,
            "state": here.state,
            "seen": here.seen,
            "solids": here.solids,
            **{name: getattr(here.film, name) for name in FILMS},
        }
        told.append({name: values[:7].copy() for name, values in kept.items()})
        here.drive(wish)
        over = np.flatnonzero(here.done)
        ended += int((over < 7).sum())
        here.reset(over.tolist())
    return told, ended


def differences(one: list[dict[str, np.ndarray]], other: list[dict[str, np.ndarray]], worlds: int) -> list[str]:
    return [
        f"step {number}: {name}"
        for number, (mine, theirs) in enumerate(zip(one, other, strict=True))
        for name in mine
        if not np.array_equal(mine[name][:worlds], theirs[name][:worlds])
    ]


@pytest.mark.parametrize("kind", CHANCES)
def test_a_world_is_the_same_alone_and_among_many(kind: str) -> None:
    many, ended = history(kind, 64)
    assert ended >= 3
    few, _ = history(kind, 7)
    alone, _ = history(kind, 1)
    assert differences(few, many, 7) == []
    assert differences(alone, many, 1) == []


@pytest.mark.parametrize("kind", CHANCES)
def test_the_same_seed_is_the_same_race_and_another_is_another(kind: str) -> None:
    one, _ = history(kind, 7)
    again, _ = history(kind, 7)
    other, _ = history(kind, 7, seed=6)
    assert differences(one, again, 7) == []
    assert differences(one, other, 7)
    first = one[0]["solids" if kind != "real-world" else "gain"]
    assert len({values.tobytes() for values in first}) == 7  # every world has a chance of its own


def test_an_episode_begins_again_with_its_chance_and_only_there() -> None:
    rules, _ = CHANCES["boxes"]
    here = race(rules, track.load("reinvent_base"), batch=3)

    def anew(seed: int) -> tuple[np.ndarray, np.ndarray]:
        here.reset(rngs={1: np.random.default_rng(seed)})
        return here.solids.copy(), here.state.copy()

    (one, began), (two, later), (three, last) = anew(4), anew(5), anew(4)
    assert np.array_equal(one[1], three[1])
    assert np.array_equal(began[1], last[1])
    assert not np.array_equal(one[1], two[1])
    for world in (0, 2):
        assert not np.array_equal(one[world], three[world])
        assert not np.array_equal(began[world], later[world])


def test_chance_shows_in_the_film_the_clutter_and_the_cars() -> None:
    here = Race(track.load("reinvent_base"), Rules(), DEEPRACER, 32, randomisation=PRESETS["real-world"])
    film = here.film
    for name in ("gain", "lift", "blur", "noise", "pitch", "yaw", "up", "ahead", "left"):
        assert len(set(getattr(film, name).tolist())) == 32
    assert len(set(film.seed.tolist())) == 32
    assert len(set(film.palette.tolist())) > 3
    assert 0 < (film.glare[..., 3] > 0).mean() < 1
    boxes = here.solids
    assert boxes.shape == (32, CLUTTER, 8)
    there = boxes[..., 3] > 0
    assert 0 < there.mean() < 1
    assert here.tracks[0].distance_from_road(boxes[..., :2])[there].min() > 0.1
    forward = np.tile([0.1, 2.0], (32, 1))
    for _ in range(5):
        step(here, forward)
    assert len(set(here.state[:, SPEED].round(6).tolist())) > 25
    assert (np.hypot(*(here.seen - here.state)[:, [X, Y]].T) > 1e-3).mean() > 0.5  # an old picture


def test_a_late_command_takes_hold_late() -> None:
    prompt = Race(circle(), Rules(), DEEPRACER, 16)
    late = Race(circle(), Rules(), DEEPRACER, 16, randomisation=Randomisation(command_latency=1.0))
    forward = np.tile([0.0, 2.0], (16, 1))
    for here in (prompt, late):
        step(here, forward)
    assert (late.state[:, SPEED] < prompt.state[:, SPEED]).all()
    assert len(set(late.state[:, SPEED].tolist())) == 16
    assert np.array_equal(late.seen, late.state)


def test_what_was_wished_for_before_a_penalty_is_forgotten_in_it() -> None:
    rules = Rules(number_of_resets=9, off_track_penalty=1.0)
    here = Race(square(6.0, 1.0), rules, DEEPRACER, 1, randomisation=Randomisation(command_latency=1.0))
    for _ in range(3):
        step(here, np.array([[0.0, 3.0]]))
    place(here, 2.6, 0.7)
    assert step(here, np.array([[0.0, 3.0]])) is Status.OFF_TRACK
    place_after = here.state[0, [X, Y]].copy()
    while step(here) is not Status.IN_PROGRESS:
        pass
    step(here)
    assert here.state[0, [X, Y]].tolist() == place_after.tolist()


def test_an_old_picture_shows_where_the_car_was() -> None:
    here = Race(circle(), Rules(), DEEPRACER, 16, randomisation=Randomisation(camera_latency=1.0))
    prompt = Race(circle(), Rules(), DEEPRACER, 16)
    forward = np.tile([0.0, 2.0], (16, 1))
    for _ in range(6):
        step(here, forward)
        step(prompt, forward)
    assert np.allclose(here.state, prompt.state, atol=1e-3)
    behind = np.hypot(*(here.state - here.seen)[:, [X, Y]].T)
    assert behind.max() <= 0.06 * 2.0
    assert behind.max() > 0.02


@pytest.mark.parametrize("rate", [5.0, 15.0, 30.0, 60.0])
@pytest.mark.parametrize(
    "latency",
    [Randomisation(camera_latency=1.0), Randomisation(command_latency=1.0), PRESETS["real-world"]],
    ids=["camera", "command", "both"],
)
def test_latency_costs_no_time_whatever_the_rate(latency: Randomisation, rate: float) -> None:
    chance = Randomisation(camera_latency=latency.camera_latency, command_latency=latency.command_latency)
    here = Race(circle(5.0), Rules(rate=rate), DEEPRACER, 16, randomisation=chance)
    forward = np.tile([0.0, 2.0], (16, 1))
    here.state[:, SPEED] = 2.0
    for _ in range(round(rate)):
        step(here, forward)
    before = here.state.copy()
    step(here, forward)
    assert np.allclose(np.hypot(*(here.state - before)[:, [X, Y]].T), 2.0 / rate, rtol=0.05)
    seen = np.hypot(*(here.seen - before)[:, [X, Y]].T)
    assert (seen <= 2.0 / rate * 1.05).all()


# What is refused.

REFUSED: list[tuple[Callable[[], Race], str]] = [
    (lambda: race(batch=0), "number of cars must lie in 1..65536, not 0"),
    (lambda: race(batch=70_000), "not 70000"),
    (lambda: race(Rules(laps=2), straight()), "laps must be 1"),
    (lambda: race(Rules(race_type=RaceType.HEAD_TO_BOT), straight(20)), "without bot cars"),
    (lambda: race(Rules(start_position_offset=25.0)), r"longer than the track, 24.0 m"),
    (
        lambda: race(Rules(RaceType.OBJECT_AVOIDANCE, number_of_obstacles=12)),
        "too short for so many objects",
    ),
]


@pytest.mark.parametrize(("make", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_what_cannot_be_raced_is_refused_in_one_sentence(make: Callable[[], Race], says: str) -> None:
    with pytest.raises(RulesError, match=says) as refusal:
        make()
    assert str(refusal.value).endswith(".")


def test_statuses_are_named_as_in_the_originals_traces() -> None:
    assert [status.label for status in Status] == [
        "prepare",
        "in_progress",
        "pause",
        "reversed",
        "immobilized",
        "off_track",
        "crashed",
        "lap_complete",
        "time_up",
    ]
    assert all(one < other for one, other in pairwise(Status))
