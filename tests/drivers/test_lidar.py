"""The LiDAR: a model of the RPLIDAR A1 at the end of a real pseudo-terminal, and its parser against any bytes."""

from __future__ import annotations

import asyncio
import errno
import math
import os
import random
import termios
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import serial
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from drivers.lidar import Rplidar, Turns, find_port, open_lidar, open_port
from drivers.rig import Absent, DeviceError, Options
from drivers.signals import LidarScan, Observation
from inference.features import feature
from inference.package import Sensor
from tests.drivers.rplidar import DESCRIPTORS, Model, Scene, disturbed, node, turn

SECOND = 1.3
"""The second within which a fault is told, and what a loaded machine may add."""
STOP, RESET, SCAN = 0x25, 0x40, 0x20


def hills(angle: float) -> float:
    """Another distance in every direction, so that no two measurements can be taken for each other."""
    return 1 + 0.5 * math.sin(math.radians(angle)) + 0.2 * math.sin(math.radians(7 * angle))


def expected(scene: Scene) -> NDArray[np.float64]:
    return np.array([scene((360 - index) % 360) for index in range(360)])


def cut(data: bytes) -> list[NDArray[np.float32]]:
    return list(Turns().feed(data))


def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


class Bench:
    """A USB tree in which the model is plugged in as ttyUSB0, or whatever, behind a CP2102."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.models: list[Model] = []
        (root / "sys/class/tty").mkdir(parents=True)
        (root / "dev").mkdir()
        self.ports: list[serial.Serial] = []

    def plug_in(self, name: str = "ttyUSB0", scene: Scene = hills, noise: float = 0.0, **usb_id: str) -> Model:
        model = Model(scene, noise=noise)
        self.models.append(model)
        self.adapter(name, **usb_id)
        (self.root / "dev" / name).symlink_to(model.path)
        return model

    def adapter(self, name: str, vendor: str = "10c4", product: str = "ea60") -> None:
        usb = self.root / "sys/devices/pci0000:00/usb1/1-1" / f"1-1.{len(self.models)}"
        tty = usb / f"interface/{name}/tty/{name}"
        tty.mkdir(parents=True)
        (usb / "idVendor").write_text(f"{vendor}\n")
        (usb / "idProduct").write_text(f"{product}\n")
        (self.root / "sys/class/tty" / name).symlink_to(tty)

    def unplug(self, name: str = "ttyUSB0") -> None:
        (self.root / "sys/class/tty" / name).unlink()
        (self.root / "dev" / name).unlink()
        self.models[-1].unplug()

    def connect(self, path: Path) -> serial.Serial:
        self.ports.append(open_port(path))
        return self.ports[-1]

    def lidar(self, port: str = "") -> Rplidar:
        return Rplidar(port, self.root, self.connect)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    for model in bench.models:
        model.unplug()
    until(lambda: not any(port.is_open for port in bench.ports))


async def fault(lidar: Rplidar) -> str:
    """What is said once the turns that came before are through."""

    async def read_on() -> None:
        while True:
            await lidar.read()

    with pytest.raises(DeviceError) as said:
        await asyncio.wait_for(read_on(), 10)
    assert str(said.value).endswith(".")
    return str(said.value)


# The bytes


def test_a_turn_is_360_ranges_from_behind_counter_clockwise() -> None:
    (ranges,) = cut(turn(hills) + turn(hills)[:100])
    assert ranges.dtype == np.float32
    assert ranges.shape == (360,)
    assert abs(ranges - expected(hills)).max() < 0.03


@pytest.mark.parametrize(("clockwise", "index"), [(0, 0), (90, 270), (180, 180), (270, 90), (1, 359), (359, 1)])
def test_the_sensor_s_clockwise_angle_is_pi_minus_ours(clockwise: int, index: int) -> None:
    """As in the stock car's driver: angle 0 of the scan, index 180, is the sensor's 180 degrees."""
    (ranges,) = cut(turn(lambda angle: 0.3 if round(angle) == clockwise else math.inf, 360) + turn(hills))
    assert np.flatnonzero(np.isfinite(ranges)).tolist() == [index]
    assert ranges[index] == pytest.approx(0.3)


def test_only_whole_turns_count() -> None:
    one = turn(hills)
    assert len(cut(one[400:] + one + one)) == 1  # the last is complete when the next begins
    assert len(cut(one + one[:500] + one + one)) == 2
    assert cut(one + one[5:] + one) == []  # two, run into one
    assert len(cut(one + one[:200] + one[280:] + one + one[:100])) == 2  # 16 measurements are missing


@pytest.mark.parametrize("count", [180, 200, 364, 800])
def test_a_sensor_may_turn_slowly_or_fast(count: int) -> None:
    (ranges,) = cut(turn(hills, count) + turn(hills, count)[:100])
    assert abs(ranges - expected(hills)).max() < 0.04


def test_where_nothing_answers_is_infinitely_far_whatever_angle_is_given_there() -> None:
    def half(angle: float) -> float:
        return 1.0 if angle < 180 else math.inf

    measured = [node(i == 0, i * 1.8 if i < 100 else 0.0, half(i * 1.8)) for i in range(200)]
    (ranges,) = cut(b"".join(measured) + turn(hills))
    assert np.isinf(ranges[1:180]).all()
    assert (ranges[182:] == 1.0).all()
    (ranges,) = cut(turn(lambda _: math.inf) + turn(hills))
    assert np.isinf(ranges).all()


def test_the_mark_may_be_crossed_a_little_early_or_late() -> None:
    for shift in (-4.0, 4.0):
        angles = [(i * 1.8 + shift) % 360 for i in range(200)]
        (ranges,) = cut(b"".join(node(i == 0, a, hills(a)) for i, a in enumerate(angles)) + turn(hills))
        assert abs(ranges - expected(hills)).max() < 0.03


def test_angles_may_jump_beside_what_is_near() -> None:
    angles = [i * 1.8 + (9 if 50 <= i < 60 else 0) for i in range(200)]
    assert len(cut(b"".join(node(i == 0, a, 1.0) for i, a in enumerate(angles)) + turn(hills))) == 1


def test_a_known_room_gives_what_the_stock_car_s_models_expect() -> None:
    """A box 0.3 m away, 20 degrees to both sides of the sensor's 180 degrees: the middle of the models' 300 degrees."""

    def room(angle: float) -> float:
        return 0.3 if abs(angle - 180) <= 20 else 0.8 if angle < 180 else math.inf

    (ranges,) = cut(turn(room, 360) + turn(room))
    seen = Observation(0.0, (), LidarScan(0.0, ranges))
    lidar = feature(Sensor.LIDAR, seen)[0]
    angles = np.linspace(-150, 150, 64)
    assert lidar[abs(angles) < 19] == pytest.approx(0.3)
    assert lidar[abs(angles) > 22] == pytest.approx(0.5)  # the reach: min(max_distance, clipping_distance)
    assert feature(Sensor.SECTOR_LIDAR, seen).tolist() == [[0, 0, 0, 1, 1, 0, 0, 0]]


def test_the_stock_sectors_know_right_from_left() -> None:
    """Clockwise of the sensor's 180 degrees is to the right of the scan's 0: the first, negative, angles."""
    (ranges,) = cut(turn(lambda angle: 0.3 if 200 < angle < 210 else math.inf, 360) + turn(hills))
    seen = Observation(0.0, (), LidarScan(0.0, ranges))
    assert feature(Sensor.SECTOR_LIDAR, seen).tolist() == [[0, 0, 0, 1, 0, 0, 0, 0]]


@given(st.lists(st.binary(max_size=300)))
@example([b"\x01\x01" * 200])
@example([bytes.fromhex("3d 01 00 a0 0f") * 500])
@example([bytes.fromhex("3e 01 00 a0 0f") * 500])
@settings(deadline=None)
def test_no_bytes_raise_and_every_turn_is_sound(pieces: list[bytes]) -> None:
    turns = Turns()
    for piece in pieces:
        for ranges in turns.feed(piece):
            assert ranges.shape == (360,)
            assert (ranges > 0).all()


@given(st.integers(0, 2**32), st.floats(0, 0.2), st.lists(st.integers(1, 700), max_size=20))
@settings(deadline=None)
def test_a_noisy_line_gives_turns_that_are_nearly_right_or_none(seed: int, noise: float, cuts: list[int]) -> None:
    chance = random.Random(seed)
    stream = disturbed(turn(hills) * 4, noise, chance)
    turns, scans, at = Turns(), [], 0
    for length in [*cuts, len(stream)]:
        scans += list(turns.feed(stream[at : at + length]))
        at += length
    for ranges in scans:
        assert (abs(ranges - expected(hills)) > 0.15).mean() < 0.02 + 5 * noise
    # As soon as the line is clear, the second turn at the latest is right again.
    clear = list(turns.feed(turn(hills) * 4))
    assert abs(clear[-1] - expected(hills)).max() < 0.03
    assert len(clear) >= 2


@given(st.binary(max_size=100), st.integers(0, 999), st.integers(0, 300))
@settings(deadline=None)
def test_bytes_lost_or_put_in_cost_two_turns_at_most(put_in: bytes, where: int, lost: int) -> None:
    one = turn(hills)
    stream = one + one[:where] + put_in + (one * 4)[where + lost :]
    scans = cut(stream)
    assert len(scans) >= 2
    assert abs(scans[-1] - expected(hills)).max() < 0.03


@given(st.integers(0, 999), st.integers(0, 7))
@settings(deadline=None)
def test_a_flipped_bit_moves_no_other_measurement(where: int, bit: int) -> None:
    stream = bytearray(turn(hills) * 3)
    stream[1000 + where] ^= 1 << bit
    for ranges in cut(bytes(stream)):
        assert (abs(ranges - expected(hills)) > 0.05).sum() <= 12


# The sensor


async def test_the_sensor_is_found_by_its_adapter_and_gives_whole_turns(bench: Bench) -> None:
    bench.plug_in("ttyUSB1", vendor="0403", product="6001").unplug()
    bench.plug_in("ttyUSB0")
    lidar = bench.lidar()
    scans = [await lidar.read() for _ in range(5)]
    assert all(one.t < later.t for one, later in pairwise(scans))
    assert all(abs(scan.ranges - expected(hills)).max() < 0.03 for scan in scans)
    assert 0 <= asyncio.get_running_loop().time() - scans[-1].t < 0.25
    await lidar.close()


async def test_the_motor_s_wire_is_low_while_it_turns_and_kept_high_by_closing(bench: Bench) -> None:
    model = bench.plug_in()
    lidar = bench.lidar()
    await lidar.read()
    (port,) = bench.ports
    assert port.dtr is False
    watched = os.open(model.path, os.O_RDWR | os.O_NOCTTY)
    assert termios.tcgetattr(watched)[2] & termios.HUPCL
    await lidar.close()
    assert port.dtr is True
    assert not termios.tcgetattr(watched)[2] & termios.HUPCL
    os.close(watched)
    until(lambda: model.heard[-1] == STOP)
    assert not port.is_open
    await lidar.close()


async def test_a_sensor_can_be_named_by_its_port(bench: Bench) -> None:
    for name in ("ttyUSB0", "ttyUSB1"):
        bench.plug_in(name)
    assert "ttyUSB0 and ttyUSB1 may each be the LiDAR" in await fault(bench.lidar())
    lidar = bench.lidar("/dev/ttyUSB1")
    assert (await lidar.read()).ranges.size
    await lidar.close()


async def test_a_sensor_that_is_not_plugged_in_is_absent_and_one_that_is_named_is_missed(bench: Bench) -> None:
    bench.adapter("ttyUSB0", vendor="0403")
    with pytest.raises(Absent, match=r"^The LiDAR is not found; plug in its USB cable\.$"):
        await open_lidar(Options(), bench.root).read()
    with pytest.raises(DeviceError, match=r"port .*/dev/ttyUSB1 is not there") as fault:
        await open_lidar(Options(lidar="/dev/ttyUSB1"), bench.root).read()
    assert not isinstance(fault.value, Absent)
    assert find_port(bench.root / "nowhere") is None


async def test_an_absent_sensor_may_come_later(bench: Bench) -> None:
    lidar = bench.lidar()
    for _ in range(3):
        assert await fault(lidar) == "The LiDAR is not found; plug in its USB cable."
    assert "ttyUSB7 is not there" in await fault(bench.lidar("/dev/ttyUSB7"))
    bench.plug_in()
    assert (await lidar.read()).ranges.size
    await lidar.close()


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EACCES, "group dialout"),
        (errno.EBUSY, "another program"),
        (errno.ENODEV, "not there"),
        (errno.EIO, "I/O"),
    ],
)
async def test_a_port_that_does_not_open_says_why(bench: Bench, number: int, said: str) -> None:
    bench.plug_in()
    refusals = [serial.SerialException(number, os.strerror(number).replace("Input/output", "I/O"))] * 2

    def connect(path: Path) -> serial.Serial:
        if refusals:
            raise refusals.pop()
        return bench.connect(path)

    lidar = Rplidar(root=bench.root, connect=connect)
    for _ in range(2):
        assert said in await fault(lidar)
    assert (await lidar.read()).ranges.size
    await lidar.close()


async def test_two_programs_do_not_share_a_sensor(bench: Bench) -> None:
    bench.plug_in()
    first, second = bench.lidar(), bench.lidar()
    await first.read()
    assert "in use by another program" in await fault(second)
    await first.close()
    assert (await second.read()).ranges.size
    await second.close()


async def test_an_unplugged_sensor_works_again_under_another_name(bench: Bench) -> None:
    bench.plug_in()
    lidar = bench.lidar()
    await lidar.read()
    bench.unplug()
    assert await fault(lidar) == "The LiDAR was unplugged; plug in its USB cable again."
    assert "not found" in await fault(lidar)
    bench.plug_in("ttyUSB1")
    assert (await lidar.read()).ranges.size
    await lidar.close()


async def test_a_jammed_motor_is_a_fault_within_a_second(bench: Bench) -> None:
    model = bench.plug_in()
    lidar = bench.lidar()
    await lidar.read()
    model.jammed = True
    began = time.monotonic()
    assert "does not turn" in await fault(lidar)
    assert time.monotonic() - began < SECOND
    model.jammed = False
    assert (await lidar.read()).ranges.size
    await lidar.close()


async def test_a_sensor_that_falls_silent_is_a_fault_and_works_again(bench: Bench) -> None:
    model = bench.plug_in()
    lidar = bench.lidar()
    await lidar.read()
    model.mute = True
    assert "does not turn" in await fault(lidar)
    began = time.monotonic()
    assert "does not answer" in await fault(lidar)
    assert time.monotonic() - began < SECOND
    model.mute = False
    assert (await lidar.read()).ranges.size
    await lidar.close()


async def test_a_sensor_at_another_baud_rate_sends_garbage(bench: Bench) -> None:
    model = bench.plug_in()
    model.babbling = model.deaf = True
    lidar = bench.lidar()
    began = time.monotonic()
    assert "only garbage" in await fault(lidar)
    assert time.monotonic() - began < SECOND
    model.babbling = model.deaf = False
    assert (await lidar.read()).ranges.size
    model.babbling = True
    assert "only garbage" in await fault(lidar)
    await lidar.close()


async def test_a_sensor_that_reports_a_fault_is_reset_and_works_again(bench: Bench) -> None:
    model = bench.plug_in()
    model.health = 2
    lidar = bench.lidar()
    assert f"reports its fault {0x1234}" in await fault(lidar)
    until(lambda: RESET in model.heard)
    model.health = 1  # a warning: it works as usual
    assert (await lidar.read()).ranges.size
    await lidar.close()


async def test_a_noisy_cable_costs_turns_but_is_no_fault(bench: Bench) -> None:
    bench.plug_in(noise=0.002)
    lidar = bench.lidar()
    for _ in range(20):
        assert (abs((await lidar.read()).ranges - expected(hills)) > 0.1).sum() < 20
    await lidar.close()


async def test_a_port_that_hangs_while_it_is_opened_is_left_behind(bench: Bench) -> None:
    bench.plug_in()
    hold = threading.Event()

    def connect(path: Path) -> serial.Serial:
        hold.wait()
        return bench.connect(path)

    lidar = Rplidar(root=bench.root, connect=connect)
    began = time.monotonic()
    assert "hangs" in await fault(lidar)
    assert time.monotonic() - began < SECOND
    hold.set()
    async with asyncio.timeout(10):
        while not await _works(lidar):
            await asyncio.sleep(0.05)
    await lidar.close()


async def test_what_is_wrong_now_is_told_although_an_earlier_try_still_hangs(bench: Bench) -> None:
    bench.plug_in()
    hold, calls = threading.Event(), []

    def connect(path: Path) -> serial.Serial:
        calls.append(path)
        if len(calls) == 1:
            hold.wait()
        raise serial.SerialException(errno.EACCES, "Permission denied")

    lidar = Rplidar(root=bench.root, connect=connect)
    assert await fault(lidar) == "The LiDAR hangs; unplug it and plug it in again."
    assert "add the user to the group dialout. An earlier try to reach it still hangs." in await fault(lidar)
    hold.set()
    await lidar.close()


async def _works(lidar: Rplidar) -> bool:
    try:
        return (await lidar.read()).ranges.size > 0
    except DeviceError:
        return False


async def test_a_sensor_lost_many_times_leaves_no_thread_and_no_file(bench: Bench) -> None:
    bench.plug_in()
    lidar = bench.lidar()
    await lidar.read()
    files, threads = len(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208
    for _ in range(10):
        bench.unplug()
        await fault(lidar)
        assert "not found" in await fault(lidar)
        bench.plug_in()
        await lidar.read()
    until(lambda: threading.active_count() <= threads)
    assert len(os.listdir("/proc/self/fd")) <= files  # noqa: PTH208
    await lidar.close()
    assert not any(port.is_open for port in bench.ports)


def test_the_scan_s_descriptor_is_no_measurement() -> None:
    assert len(cut(DESCRIPTORS[SCAN] + turn(hills) * 3)) == 2
