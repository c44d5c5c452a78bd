"""Servo and speed controller by a PCA9685: set up once, pulses proved before it wakes, a bad bus is said."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.calibration import DEFAULT
from drivers.pwm_pca9685 import Chip, Pca9685Wires, open_wires
from drivers.rig import DeviceError
from drivers.signals import NEUTRAL, Action, ActuatorCommand
from tests.drivers.i2c_model import TICK_NS, Pca9685Model, Wire

REST = DEFAULT.command(NEUTRAL)
FAST = DEFAULT.command(Action(0.5, 1.0))


@pytest.fixture
def chip() -> Pca9685Model:
    return Pca9685Model()


@pytest.fixture
def wire(chip: Pca9685Model) -> Wire:
    return Wire({0x40: chip})


@pytest.fixture
def wires(wire: Wire) -> Pca9685Wires:
    return Pca9685Wires(wire.open)


def ticks(command: ActuatorCommand) -> tuple[int | None, int | None]:
    return round(command.throttle_ns / TICK_NS), round(command.steering_ns / TICK_NS)


def pulses(chip: Pca9685Model) -> tuple[int | None, int | None]:
    return chip.pulse(0), chip.pulse(1)


def test_a_chip_fresh_from_power_on_is_set_up_at_50_hz_and_listens_to_no_other_address(
    chip: Pca9685Model, wires: Pca9685Wires
) -> None:
    wires.apply(FAST)
    assert pulses(chip) == ticks(FAST)
    assert chip.registers[0x00] == 0x20, "awake, counting registers up, deaf to the address of all"
    assert chip.registers[0x01] == 0x04
    wires.apply(REST)
    assert pulses(chip) == ticks(REST)
    wires.release()
    assert pulses(chip) == (None, None)
    assert chip.registers[0x00] == 0x20, "the tail light shines on"


def test_a_chip_that_already_runs_is_not_disturbed(chip: Pca9685Model, wire: Wire) -> None:
    Pca9685Wires(wire.open).apply(FAST)
    sleeps = chip.sleeps
    later = Pca9685Wires(wire.open)
    later.apply(REST)
    assert pulses(chip) == ticks(REST)
    later.release()
    later.release()
    assert chip.sleeps == sleeps


@pytest.mark.parametrize(("mode", "prescale"), [(0x21, 121), (0x01, 121), (0x20, 30), (0x70, 121), (0x2F, 3)])
def test_a_chip_that_somebody_left_otherwise_is_set_up_anew(
    chip: Pca9685Model, wires: Pca9685Wires, mode: int, prescale: int
) -> None:
    wires.apply(FAST)
    chip.registers[0x00], chip.registers[0xFE] = mode, prescale
    wires.apply(REST)
    assert pulses(chip) == ticks(REST)
    assert (chip.registers[0x00], chip.registers[0xFE]) == (0x20, 121)


def test_a_chip_that_lost_its_power_for_a_moment_is_set_up_anew(chip: Pca9685Model, wires: Pca9685Wires) -> None:
    wires.apply(FAST)
    chip.reset()
    wires.apply(REST)
    assert pulses(chip) == ticks(REST)


def test_released_before_anything_was_applied_there_are_no_pulses(chip: Pca9685Model, wires: Pca9685Wires) -> None:
    wires.release()
    assert pulses(chip) == (None, None)
    assert chip.registers[0x00] == 0x11, "the chip still sleeps"


@pytest.mark.parametrize("register", [0x08, 0x09, 0x0C, 0x0D, 0xFE, 0x01])
def test_a_register_that_sticks_before_the_chip_is_awake_keeps_it_asleep(
    chip: Pca9685Model, wires: Pca9685Wires, register: int
) -> None:
    chip.registers[0x01] = 0x14
    chip.mute.add(register)
    with pytest.raises(DeviceError, match=r"does not keep what it is told \(register 0x.*\.$"):
        wires.apply(REST)
    assert pulses(chip) == (None, None)
    chip.mute.clear()
    wires.apply(REST)
    assert pulses(chip) == ticks(REST)


def test_a_chip_that_does_not_wake_says_so(chip: Pca9685Model, wires: Pca9685Wires) -> None:
    chip.registers[0x00] = 0x30
    chip.mute.add(0x00)
    with pytest.raises(DeviceError, match=r"register 0x00: 0x30, not 0x20"):
        wires.apply(REST)


def test_a_pulse_that_sticks_is_said(chip: Pca9685Model, wires: Pca9685Wires) -> None:
    wires.apply(FAST)
    chip.mute |= {*range(0x06, 0x0E)}
    with pytest.raises(DeviceError, match="does not keep"):
        wires.apply(REST)
    with pytest.raises(DeviceError, match="does not keep"):
        wires.release()


@pytest.mark.parametrize("disturbances", [1, 2])
def test_a_disturbed_transfer_is_tried_again_twice(
    chip: Pca9685Model, wire: Wire, wires: Pca9685Wires, disturbances: int
) -> None:
    wire.nacks = disturbances
    wires.apply(REST)
    assert pulses(chip) == ticks(REST)


def test_a_third_disturbance_is_a_failure(wire: Wire, wires: Pca9685Wires) -> None:
    wire.nacks = 3
    with pytest.raises(DeviceError, match=r"PWM chip \(I2C address 0x40\) .*Remote I/O error.*its power\.$"):
        wires.apply(REST)
    assert (wire.transfers, wire.opened, wire.closed) == (3, 1, 1)
    wires.apply(REST)


def test_a_bus_that_is_stuck_is_tried_once_and_then_said(wire: Wire, wires: Pca9685Wires) -> None:
    wire.stuck = True
    for failures in range(1, 6):
        with pytest.raises(DeviceError, match=r"timed out.*\.$"):
            wires.apply(REST)
        assert (wire.transfers, wire.opened - wire.closed) == (failures, 0)
    wire.stuck = False
    wires.apply(REST)


@pytest.mark.parametrize("wrong", [0x41, 0x70])
def test_a_chip_at_another_address_is_none(wire: Wire, wires: Pca9685Wires, wrong: int) -> None:
    wire.devices = {wrong: wire.devices[0x40]}
    with pytest.raises(DeviceError, match="check its plug, its address"):
        wires.apply(REST)


def test_an_adapter_that_disappears_is_opened_again_when_it_returns(
    chip: Pca9685Model, wire: Wire, wires: Pca9685Wires
) -> None:
    wires.apply(FAST)
    wire.gone = True
    for why in ("No such device", "/dev/i2c-1: No such file"):
        with pytest.raises(DeviceError, match=why):
            wires.apply(REST)
    with pytest.raises(DeviceError, match="No such file"):
        wires.release()
    wire.gone = False
    wires.apply(REST)
    assert pulses(chip) == ticks(REST)
    assert wire.opened - wire.closed == 1


def test_a_read_that_is_cut_short_is_a_failure(wire: Wire, wires: Pca9685Wires) -> None:
    wire.short = True
    with pytest.raises(DeviceError, match="sent 7 bytes instead of 8"):
        wires.apply(REST)


@settings(deadline=None)
@given(st.integers(0, 25_000_000))
def test_every_length_is_the_nearest_that_the_chip_can_do(length: int) -> None:
    model = Pca9685Model()
    Chip(Wire({0x40: model}).open).drive(5, length)
    assert (model.pulse(5) or 0) == min(round(length / TICK_NS), 4095)
    assert model.pulse(0) is None


@pytest.mark.parametrize("there", [True, False])
def test_a_file_that_is_no_i2c_bus_is_refused_and_closed(tmp_path: Path, there: bool) -> None:
    path = tmp_path / "i2c-1"
    if there:
        path.write_text("")
    wires = open_wires(str(path))
    before = len([*Path("/proc/self/fd").iterdir()])
    for _ in range(20):
        with pytest.raises(DeviceError, match=rf"{path}: .*\.$") as fault:
            wires.apply(REST)
        assert isinstance(fault.value.__cause__, OSError)
        assert fault.value.__cause__.errno == (errno.ENOTTY if there else errno.ENOENT)
    assert len([*Path("/proc/self/fd").iterdir()]) == before
