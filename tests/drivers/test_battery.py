"""The battery: what every gauge says, that nothing is made up, and that a bus which blocks holds up nobody."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.battery import (
    CELL_CHARGE,
    LOCKED,
    LOW,
    Gauge,
    ina219,
    ina226,
    lipo_charge,
    open_gauge,
    open_stock_gauge,
    stock_charge,
    stock_gauge,
)
from drivers.i2c import Bus
from drivers.rig import Battery, DeviceError
from tests.drivers.i2c_model import Bytes, Wire, Words
from tests.drivers.sysfs_tree import Tree

INA226_IDENTITY = {0xFE: 0x5449}


@pytest.mark.parametrize(
    ("byte", "level"),
    [
        (0x00, None), (0x8B, None), (0x8C, 0), (0xB3, 0), (0xB4, 1), (0xBF, 1), (0xC0, 2), (0xC3, 3), (0xC4, 3),
        (0xC5, 4), (0xC8, 5), (0xCB, 6), (0xCF, 7), (0xD3, 8), (0xD9, 9), (0xE0, 10), (0xEB, 10), (0xEC, 11),
        (0xFE, 11),
    ],
)  # fmt: skip
def test_the_stock_gauge_s_byte_is_a_level_of_eleven_or_no_battery(byte: int, level: int | None) -> None:
    assert stock_charge(byte) == (None if level is None else level / 11)


async def test_the_stock_gauge_is_asked_at_its_address_and_register() -> None:
    gauge = Bytes({0x03: 0xCB})
    battery = stock_gauge(Wire({0x3F: gauge}).open)
    assert await battery.read() == 6 / 11
    gauge.registers[0x03] = 0x10
    assert await battery.read() is None
    gauge.registers[0x03] = 0xFF
    with pytest.raises(DeviceError, match=r"0xff.*nobody speaks; check its plug\.$"):
        await battery.read()


@pytest.mark.parametrize(
    ("volts", "charge"),
    [(0.0, None), (0.99, None), (5.0, 0.0), (6.54, 0.0), (7.46, 0.2), (7.64, 0.45), (8.4, 1.0), (8.8, 1.0)],
)
def test_two_lithium_cells_are_estimated_by_their_voltage(volts: float, charge: float | None) -> None:
    assert lipo_charge(volts) == (None if charge is None else pytest.approx(charge))


@settings(deadline=None)
@given(st.floats(5.0, 8.8), st.floats(5.0, 8.8))
def test_more_volts_are_never_less_charge(one: float, other: float) -> None:
    low, high = (lipo_charge(volts) for volts in sorted((one, other)))
    assert low is not None
    assert high is not None
    assert 0 <= low <= high <= 1


def test_the_table_is_passed_through() -> None:
    for volts, charge in CELL_CHARGE:
        assert lipo_charge(2 * volts) == pytest.approx(charge)


@pytest.mark.parametrize("volts", [1.0, 4.99, 8.81, 12.6, float("nan"), float("inf")])
def test_a_voltage_that_two_cells_cannot_have_is_no_charge(volts: float) -> None:
    with pytest.raises(DeviceError, match=r"no battery of two cells has; check its wires\.$"):
        lipo_charge(volts)


@settings(deadline=None)
@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_whatever_the_registers_hold_the_answer_is_a_charge_none_or_an_error(config: int, volts: int) -> None:
    async def ask() -> None:
        registers = {0x00: config, 0x02: volts, 0xFE: 0x5449}
        for battery in (
            ina219(Wire({0x41: Words(registers)}).open, 0x41),
            ina226(Wire({0x41: Words(registers)}).open, 0x41),
        ):
            try:
                charge = await battery.read()
            except DeviceError as error:
                said = str(error)
                assert said.endswith(".")
            else:
                assert charge is None or 0 <= charge <= 1

    asyncio.run(ask())


async def test_an_ina219_counts_in_four_millivolts_above_three_bits_of_state() -> None:
    gauge = Words({0x00: 0x399F, 0x02: 1910 << 3 | 0b010})
    battery = ina219(Wire({0x45: gauge}).open, 0x45)
    assert await battery.read() == pytest.approx(0.45)  # 7.64 V
    gauge.registers[0x00] = 0x3998
    with pytest.raises(DeviceError, match=r"not to measure"):
        await battery.read()


async def test_an_ina226_counts_in_steps_of_one_and_a_quarter_and_shows_its_name() -> None:
    gauge = Words({0x02: 6112} | INA226_IDENTITY)
    battery = ina226(Wire({0x41: gauge}).open, 0x41)
    assert await battery.read() == pytest.approx(0.45)  # 7.64 V
    gauge.registers[0xFE] = 0xFFFF
    with pytest.raises(DeviceError, match=r"at I2C address 0x41 is no INA226"):
        await battery.read()


def test_below_a_quarter_it_is_low_and_none_has_its_advice() -> None:
    assert 2 / 11 < LOW <= 3 / 11
    assert "unlock cable" in LOCKED


# Which gauge


async def test_the_wish_names_the_gauge_and_perhaps_its_address() -> None:
    own = Gauge(lambda: 0.5)
    assert open_gauge("", Wire({}).open, own) is own
    assert open_gauge("", Wire({}).open, None) is None
    assert open_gauge("none", Wire({}).open, own) is None
    for wish, address in (("ina219", 0x41), ("ina219@0x45", 0x45), ("ina226", 0x41), ("ina226@0x4f", 0x4F)):
        volts = 2100 << 3 if "219" in wish else 6720
        battery = open_gauge(wish, Wire({address: Words({0x00: 0x399F, 0x02: volts} | INA226_IDENTITY)}).open, own)
        assert battery is not None
        assert await battery.read() == 1.0


@settings(deadline=None)
@given(st.text(max_size=12) | st.from_regex(r"ina2(19|26)@0x..", fullmatch=True))
def test_any_other_wish_is_refused_in_a_sentence(wish: str) -> None:
    try:
        open_gauge(wish, Wire({}).open, None)
    except DeviceError as error:
        said = str(error)
        assert said.endswith(".")
    else:
        assert wish in ("", "none") or wish.startswith("ina2")


async def test_the_stock_gauge_s_bus_is_found_by_its_link_or_is_number_seven(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    wire = Wire({0x3F: Bytes({0x03: 0xEC})})
    asked: list[str] = []

    def bus(path: Path) -> Bus:
        asked.append(str(path.relative_to(tmp_path)))
        return wire.open()

    battery = open_stock_gauge("", tmp_path, bus)
    assert battery is not None
    assert await battery.read() == 1.0
    (tree.root / "sys/class/i2c-dev/i2c-9").unlink()
    wire.nacks = 3
    with pytest.raises(DeviceError):
        await battery.read()
    assert await battery.read() == 1.0
    assert asked == ["dev/i2c-9", "dev/i2c-7"]


async def test_a_car_without_that_bus_says_so(tmp_path: Path) -> None:
    battery = open_stock_gauge("", tmp_path)
    assert battery is not None
    with pytest.raises(DeviceError, match=r"battery gauge .*dev/i2c-7: No such file.*\.$"):
        await battery.read()
    assert open_stock_gauge("none", tmp_path) is None


# Faults


async def read_twice(battery: Battery) -> list[str]:
    said = []
    for _ in range(2):
        with pytest.raises(DeviceError) as fault:
            await battery.read()
        said.append(str(fault.value))
    return said


async def test_a_gauge_that_goes_is_heard_again_when_it_comes_back() -> None:
    wire = Wire({0x3F: Bytes({0x03: 0xEC})})
    battery = stock_gauge(wire.open)
    assert await battery.read() == 1.0
    wire.gone = True
    assert ["No such" in said for said in await read_twice(battery)] == [True, True]
    wire.gone, wire.stuck = False, True
    assert ["timed out" in said for said in await read_twice(battery)] == [True, True]
    wire.stuck, wire.nacks = False, 2
    assert await battery.read() == 1.0
    assert wire.opened - wire.closed == 1


async def test_a_read_that_is_cut_short_is_a_failure() -> None:
    wire = Wire(
        {
            0x41: Words({0x00: 0x399F, 0x02: 0}),
        }
    )
    wire.short = True
    with pytest.raises(DeviceError, match="sent 1 bytes instead of 2"):
        await ina219(wire.open, 0x41).read()


async def test_a_bus_that_blocks_for_ever_is_a_failure_of_one_thread_and_heard_again_later() -> None:
    wire = Wire({0x3F: Bytes({0x03: 0xEC})}, hold=threading.Event())
    battery = stock_gauge(wire.open, patience=0.2)
    threads = threading.active_count()
    for _ in range(4):
        with pytest.raises(DeviceError, match=r"The battery gauge has not answered for 0\.2 s; .*\.$"):
            await battery.read()
        assert threading.active_count() <= threads + 1
    assert wire.transfers == 1
    assert wire.hold is not None
    wire.hold.set()
    wire.hold = None
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(DeviceError):
                assert await battery.read() == 1.0
                break


async def test_a_read_that_is_given_up_spoils_no_later_one() -> None:
    wire = Wire({0x3F: Bytes({0x03: 0xEC})}, hold=threading.Event())
    battery = stock_gauge(wire.open)
    reading = asyncio.ensure_future(battery.read())
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait([reading])
    again = asyncio.ensure_future(battery.read())
    await asyncio.sleep(0)
    assert wire.hold is not None
    wire.hold.set()
    assert await again == 1.0


def test_a_blocked_gauge_does_not_keep_the_process_from_ending() -> None:
    wire = Wire({0x3F: Bytes({0x03: 0xEC})}, hold=threading.Event())

    async def ask() -> None:
        with pytest.raises(DeviceError):
            await stock_gauge(wire.open, patience=0.05).read()

    asyncio.run(ask())  # asyncio.to_thread's thread would hold it here
    assert wire.hold is not None
    wire.hold.set()
