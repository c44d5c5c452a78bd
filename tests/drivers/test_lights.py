"""Lights: the manual's table, colours of one bit, the tail light on both chips, and a lamp that blocks."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.lights import (
    BLUE,
    DARK,
    OFF,
    RED,
    STOCK_LINES,
    YELLOW,
    CarFacts,
    CarLights,
    Connection,
    Light,
    lamps,
    pca9685_tail,
    status_lamps,
    sysfs_tail,
)
from drivers.pwm_pca9685 import Pca9685Wires
from drivers.pwm_sysfs import PI, STOCK
from drivers.rig import DeviceError, Lamp
from drivers.signals import ActuatorCommand
from tests.drivers.i2c_model import TICK_NS, Pca9685Model, Wire
from tests.drivers.sysfs_tree import PI_DEVICE, Tree

BLINKING_BLUE = Light(BLUE, OFF, 0.2)


@pytest.mark.parametrize(
    ("facts", "lamp", "light"),
    [
        (CarFacts(), Lamp.POWER, Light(YELLOW)),
        (CarFacts(loading=True), Lamp.POWER, Light(YELLOW, OFF, 0.2)),
        (CarFacts(running=True), Lamp.POWER, Light(BLUE)),
        (CarFacts(running=True, loading=True), Lamp.POWER, Light(YELLOW, OFF, 0.2)),
        (CarFacts(updating=True), Lamp.POWER, BLINKING_BLUE),
        (CarFacts(running=True, updating=True, failed=True, loading=True), Lamp.POWER, BLINKING_BLUE),
        (CarFacts(failed=True), Lamp.POWER, Light(RED)),
        (CarFacts(running=True, loading=True, failed=True), Lamp.POWER, Light(RED)),
        (CarFacts(), Lamp.WIFI, DARK),
        (CarFacts(wifi=Connection.CONNECTING), Lamp.WIFI, BLINKING_BLUE),
        (CarFacts(wifi=Connection.FAILED), Lamp.WIFI, Light(RED, OFF, 2.0, once=True)),
        (CarFacts(wifi=Connection.CONNECTED), Lamp.WIFI, Light(BLUE)),
        (CarFacts(running=True), Lamp.VEHICLE, DARK),
        (CarFacts(running=True, low_battery=True), Lamp.VEHICLE, Light(RED, OFF, 1.0)),
    ],
)
def test_the_lamps_show_what_the_manual_says(facts: CarFacts, lamp: Lamp, light: Light) -> None:
    shown = lamps(facts)
    assert shown[lamp] == light
    assert set(shown) == {Lamp.POWER, Lamp.WIFI, Lamp.VEHICLE}, "the tail light is its owner's"


def test_one_lamp_does_not_speak_of_another_s_matter() -> None:
    assert lamps(CarFacts(failed=True))[Lamp.WIFI] == DARK
    assert lamps(CarFacts(wifi=Connection.FAILED))[Lamp.POWER] == Light(YELLOW)


@pytest.mark.parametrize(
    ("light", "elapsed", "colour", "lasts"),
    [
        (Light(BLUE), 1e9, BLUE, float("inf")),
        (BLINKING_BLUE, 0.0, BLUE, 0.2),
        (BLINKING_BLUE, 0.25, OFF, 0.15),
        (BLINKING_BLUE, 0.45, BLUE, 0.15),
        (Light(RED, OFF, 2.0, once=True), 1.5, RED, 0.5),
        (Light(RED, OFF, 2.0, once=True), 2.0, OFF, float("inf")),
        (Light(RED, OFF, 2.0, once=True), 4.0, OFF, float("inf")),
    ],
)
def test_a_light_knows_its_colour_and_how_long_it_lasts(
    light: Light, elapsed: float, colour: tuple[int, int, int], lasts: float
) -> None:
    assert light.at(elapsed) == colour
    assert light.lasts(elapsed) == pytest.approx(lasts)


@settings(deadline=None)
@given(st.floats(0, 1e4))
def test_a_blinking_light_always_changes_within_its_time(elapsed: float) -> None:
    assert 0 < BLINKING_BLUE.lasts(elapsed) <= 0.2


# How they are lit


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


async def test_a_status_lamp_of_one_bit_a_colour_shows_the_nearest(tree: Tree) -> None:
    lights = CarLights(status_lamps(tree.root))
    for lamp, lines in STOCK_LINES.items():
        for colour, levels in (((255, 127, 0), [1, 0, 0]), ((0, 128, 254), [0, 1, 1]), ((0, 0, 0), [0, 0, 0])):
            await lights.show(lamp, colour)
            assert [tree.level(line) for line in lines] == levels


@pytest.mark.parametrize("base", [434, 512])
def test_the_status_lamps_have_the_stock_numbers(tmp_path: Path, base: int) -> None:
    stock = {Lamp.WIFI: (448, 447, 437), Lamp.VEHICLE: (446, 445, 443), Lamp.POWER: (450, 457, 458)}
    newer = {Lamp.WIFI: (526, 525, 515), Lamp.VEHICLE: (524, 523, 521), Lamp.POWER: (528, 535, 536)}
    for lamp, lines in (stock if base == 434 else newer).items():
        assert tuple(base + line for line in STOCK_LINES[lamp]) == lines


async def test_a_lamp_that_the_car_does_not_have_stays_dark_and_is_no_fault() -> None:
    await CarLights({}).show(Lamp.WIFI, (255, 0, 0))


@pytest.mark.parametrize(("device", "through"), [(None, STOCK), (PI_DEVICE, PI)])
async def test_the_tail_light_is_three_channels_of_the_pwm_chip(
    tmp_path: Path, device: str | None, through: str
) -> None:
    tree = Tree(tmp_path, device) if device else Tree(tmp_path)
    lights = CarLights({Lamp.TAIL: sysfs_tail(through, tree.root)})
    await lights.show(Lamp.TAIL, (255, 130, 0))
    assert [tree.read(n, "duty_cycle") for n in (2, 3, 4)] == [9_999_825, 130 * 39_215, 0]
    assert [tree.read(n, "enable") for n in range(5)] == [0, 0, 1, 1, 1]
    assert tree.read(2, "period") == 20_000_000


async def test_a_tail_light_that_fails_says_so_and_shines_again(tree: Tree) -> None:
    lights = CarLights({Lamp.TAIL: sysfs_tail(STOCK, tree.root)})
    tree.jam(3, True)
    with pytest.raises(DeviceError, match=r"tail light \(PWM channel 3\) .*Is a directory.*\.$"):
        await lights.show(Lamp.TAIL, (1, 2, 3))
    tree.jam(3, False)
    await lights.show(Lamp.TAIL, (1, 2, 3))
    assert tree.read(4, "duty_cycle") == 3 * 39_215


async def test_on_a_pca9685_the_tail_light_shines_once_the_wires_are_live_and_leaves_them_alone() -> None:
    chip = Pca9685Model()
    wire = Wire({0x40: chip})
    lights = CarLights({Lamp.TAIL: pca9685_tail(wire.open)})
    await lights.show(Lamp.TAIL, (255, 1, 0))
    assert [chip.pulse(n) for n in range(5)] == [None] * 5
    wires = Pca9685Wires(wire.open)
    wires.apply(ActuatorCommand(1_450_000, 1_446_000))
    pulses = [chip.pulse(n) for n in range(5)]
    assert pulses == [296, 297, round(9_999_825 / TICK_NS), round(39_215 / TICK_NS), None]
    wires.release()
    await lights.show(Lamp.TAIL, (0, 255, 0))
    assert [chip.pulse(n) for n in range(5)] == [None, None, None, 2049, None]


async def test_a_lamp_that_blocks_holds_up_its_caller_and_no_other_lamp() -> None:
    hold = threading.Event()
    wire = Wire({0x40: Pca9685Model()}, hold=hold)
    shown: list[tuple[int, int, int]] = []
    lights = CarLights({Lamp.TAIL: pca9685_tail(wire.open), Lamp.POWER: shown.append}, patience=0.3)
    threads = threading.active_count()
    for _ in range(5):
        with pytest.raises(DeviceError, match=r"The tail light has not answered for 0\.3 s"):
            await lights.show(Lamp.TAIL, (1, 2, 3))
        await lights.show(Lamp.POWER, (4, 5, 6))
    assert threading.active_count() <= threads + 1
    assert shown == 5 * [(4, 5, 6)]
    wire.hold = None
    hold.set()
    for thread in threading.enumerate():
        if thread.name == "tail light":
            thread.join(5.0)
    await lights.show(Lamp.TAIL, (1, 2, 3))
