"""The world: pulses in, laps out; it lives on to whatever time somebody looks, and keeps an honest count."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from calibration.calibration import DEFAULT, Calibration, Channel
from drivers.rig import DeviceError
from drivers.signals import Action, ActuatorCommand
from inference.actions import throttle_for
from sim_stub import track
from sim_stub.rules import RaceType, Rules, RulesError
from sim_stub.wires import LENGTH, Pulse, Tape, open_wires
from sim_stub.world import World, speed_part
from tests.conftest import Jump


@pytest.fixture
def tape(tmp_path: Path) -> Tape:
    return Tape(tmp_path / "wires")


def pulse(t: float, steering: float, throttle: float, calibration: Calibration = DEFAULT, live: bool = True) -> Pulse:
    return Pulse(t, calibration.command(Action(steering, throttle)), live)


def pursue(world: World, tape: Tape, seconds: float) -> None:
    """Steer for the centre line half a metre ahead, at three quarters of the throttle."""
    for now in np.arange(0.0, seconds, 0.05):
        world.advance(float(now))
        standing = world.standing()
        along = world.track.distance_along(np.array(standing.position))
        goal, _ = world.track.place(np.atleast_1d(along + 0.5))
        bearing = np.arctan2(*(goal[0] - standing.position)[::-1]) - standing.heading
        bearing = (bearing + np.pi) % (2 * np.pi) - np.pi
        tape.write(pulse(float(now), float(np.clip(2 * bearing, -1, 1)), 0.75))


def test_a_car_that_is_steered_well_makes_clean_laps_of_plausible_length(tape: Tape) -> None:
    world = World(track.load("Oval_track"), tape, 0.0)
    pursue(world, tape, 60.0)
    standing = world.standing()
    assert len(standing.laps) >= 2
    assert standing.off_track == 0
    speed = speed_part(0.75) * world.top_speed
    assert standing.laps[1] == pytest.approx(world.track.length / speed, rel=0.08)
    assert 0 <= standing.progress < 100


def test_a_lap_is_counted_from_where_the_car_started(tape: Tape) -> None:
    world = World(track.load("Oval_track"), tape, 0.0, start=0.6)
    assert world.standing().progress == 0
    pursue(world, tape, 30.0)
    assert len(world.laps) == 1


def test_a_car_that_backs_over_the_line_gains_no_lap(tape: Tape) -> None:
    world = World(track.load("Oval_track"), tape, 0.0)
    tape.write(pulse(0.0, 0.0, -0.5))
    world.advance(0.8)
    assert -10 < world.standing().progress < 0
    tape.write(pulse(0.8, 0.0, 0.5))
    world.advance(1.7)
    assert world.laps == []


def test_leaving_the_road_is_counted_and_the_car_is_put_back_at_rest(tape: Tape) -> None:
    world = World(track.load("reinvent_base"), tape, 0.0)
    tape.write(pulse(0.0, 0.0, 1.0))
    before = world.standing()
    while world.off_track == 0:
        before = world.standing()
        world.advance(world._now + 0.01)
    standing = world.standing()
    assert before.speed > 1.0
    assert standing.speed == 0.0
    assert world.track.distance_from_centre(np.array(standing.position)) < 0.02
    assert standing.progress == pytest.approx(before.progress, abs=1.0)


def test_running_into_a_box_is_counted_and_the_car_is_set_down_beyond_it(tape: Tape) -> None:
    # The Oval begins with a straight; a box stands 3 m ahead in each lane.
    road = track.load("Oval_track")
    part = 3.0 / road.length
    rules = Rules(race_type=RaceType.OBJECT_AVOIDANCE, object_positions=((part, 1), (part, -1)))
    world = World(road, tape, 0.0, rules=rules)
    tape.write(pulse(0.0, 0.0, 0.75))
    while world.crashes == 0 and world._now < 10:
        world.advance(world._now + 0.01)
    standing = world.standing()
    assert (standing.crashes, standing.off_track) == (1, 0)
    assert standing.speed == 0.0
    assert road.distance_along(np.array(standing.position)) == pytest.approx(4.0, abs=0.05)
    assert standing.lap_time == pytest.approx(world._now + rules.collision_penalty, abs=0.1)


def test_bots_drive_while_the_car_stands(tape: Tape) -> None:
    rules = Rules(race_type=RaceType.HEAD_TO_BOT, bot_car_speed=0.5)
    world = World(track.load("Oval_track"), tape, 0.0, rules=rules)
    before = world.traffic.at.copy()
    world.advance(1.0)
    assert world.traffic.at - before == pytest.approx(0.5 * np.ones((1, 3)))
    assert world.traffic.solids.shape == (1, 3, 8)


def test_rules_that_do_not_fit_the_track_are_refused(tape: Tape) -> None:
    with pytest.raises(RulesError, match="Straight is an open track"):
        World(track.load("straight"), tape, 0.0, rules=Rules(race_type=RaceType.HEAD_TO_BOT))


def test_how_often_somebody_looks_changes_nothing(tmp_path: Path) -> None:
    tapes = [Tape(tmp_path / name) for name in ("seldom", "often")]
    worlds = [World(track.load("Oval_track"), tape, 0.0) for tape in tapes]
    for k in range(50):
        for tape in tapes:
            tape.write(pulse(0.02 * k, 0.2 * np.sin(k), 0.8))
        for part in (0.3, 0.4, 0.9):
            worlds[1].advance(0.02 * (k + part))
    for world in worlds:
        world.advance(1.0)
    assert np.allclose(worlds[0].state, worlds[1].state, atol=1e-3)


def test_time_that_has_passed_is_no_error(tape: Tape) -> None:
    world = World(track.load("Oval_track"), tape, 5.0)
    tape.write(pulse(5.0, 0.0, 1.0))
    world.advance(6.0)
    state = world.state
    world.advance(5.5)
    assert np.array_equal(world.state, state)


def test_released_wires_let_the_car_roll_out(tape: Tape) -> None:
    world = World(track.load("Oval_track"), tape, 0.0)
    tape.write(pulse(0.0, 0.0, 1.0))
    world.advance(1.0)
    assert world.standing().speed > 1.0
    tape.write(pulse(1.0, 0.0, 1.0, live=False))
    world.advance(4.0)
    assert world.standing().speed < 0.01


def test_a_car_whose_true_trim_differs_pulls_to_a_side_until_it_is_calibrated(tmp_path: Path) -> None:
    truth = Calibration(Channel(1_250_000, 1_500_000, 1_750_000, 1), DEFAULT.throttle)
    yaw = []
    for number, believed in enumerate((DEFAULT, truth)):
        tape = Tape(tmp_path / f"wires-{number}")
        world = World(track.load("Oval_track"), tape, 0.0, truth=truth)
        heading = world.standing().heading
        tape.write(pulse(0.0, 0.0, 0.5, believed))
        world.advance(0.5)
        yaw.append(world.standing().heading - heading)
    assert abs(yaw[0]) > 0.05
    assert yaw[1] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("part", [0.1, 0.25, 0.5, 0.7, 0.75, 1.0])
def test_the_motor_gives_the_speed_that_the_throttle_curve_was_asked_for(part: float) -> None:
    assert speed_part(throttle_for(part, 1.0)) == pytest.approx(part)
    assert speed_part(-throttle_for(part, 1.0)) == pytest.approx(-part)


def test_more_throttle_is_more_speed() -> None:
    speeds = [speed_part(throttle) for throttle in np.linspace(-1, 1, 401)]
    assert (np.diff(speeds) > 0).all()
    assert speed_part(0.0) == 0.0


def test_a_tape_remembers_the_latest_pulses_in_order(tmp_path: Path) -> None:
    writer, reader = Tape(tmp_path / "wires"), Tape(tmp_path / "wires")
    assert reader.latest() is None
    for k in range(3 * LENGTH):
        writer.write(Pulse(float(k), ActuatorCommand(k, -k), live=True))
    count, pulses = reader.read(0)
    assert count == 3 * LENGTH
    assert [p.t for p in pulses] == list(range(count - LENGTH // 2, count))
    assert reader.read(count - 1)[1] == [Pulse(count - 1.0, ActuatorCommand(count - 1, 1 - count), live=True)]


def test_jammed_wires_refuse_and_released_ones_keep_their_last_pulse(tmp_path: Path) -> None:
    tape = Tape(tmp_path / "wires")
    actuators = open_wires(str(tmp_path / "wires"))
    actuators.apply(ActuatorCommand(1, 2))
    tape.jammed = True
    with pytest.raises(DeviceError, match="jammed"):
        actuators.apply(ActuatorCommand(3, 4))
    actuators.release()
    latest = tape.latest()
    assert latest is not None
    assert (latest.command, latest.live) == (ActuatorCommand(1, 2), False)


def test_the_jumping_clock_waits_for_nobody_but_threads(jump: Jump) -> None:
    async def appointments() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(3600)
        noon = loop.time()
        await asyncio.gather(asyncio.to_thread(sum, range(1000)), asyncio.sleep(1))
        return noon, loop.time()

    assert jump(appointments()) == (3600, 3601)
