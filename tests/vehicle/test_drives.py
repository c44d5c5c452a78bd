"""What a USB drive may ask of the car, and what it may not."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from calibration.calibration import DEFAULT
from drivers.mounts import Drive, DriveError, Folder
from drivers.wifi import Wireless
from tests.air import KEY, Air
from vehicle.car import Car
from vehicle.drives import serve
from vehicle.gate import DriveMode
from vehicle.models import ModelStore
from vehicle.settings import Settings

SAMPLE = Path(__file__).parents[2] / "vehicle" / "sample.tar.gz"


class Sticks:
    """Folders that are plugged in, together, while the car is on. A name is that of a device, too."""

    def __init__(self, *folders: Path, left_in: bool = False) -> None:
        self.folders = {folder.name: folder for folder in folders}
        self.looks = [] if left_in else [frozenset[Drive]()]
        self.looks.append(self.drives(*self.folders))
        self.lamps: list[bool] = []
        self.mounts: list[str] = []

    def drives(self, *names: str) -> frozenset[Drive]:
        return frozenset(Drive(f"/dev/{name}", "vfat", name, f"uuid-{name}") for name in names)

    async def watch(self) -> AsyncGenerator[frozenset[Drive], None]:
        for look in self.looks:
            yield look

    @asynccontextmanager
    async def mounted(self, drive: Drive, writable: bool = False) -> AsyncIterator[Folder]:
        self.mounts.append(drive.label)
        folder = self.folders[drive.label]
        if not folder.is_dir():
            raise DriveError(f"The USB drive {drive.name} cannot be mounted.")
        with Folder(folder) as root:
            yield root


class Hand(Sticks):
    """Plugs them in and pulls them out when a test says so; what cannot be looked at is an error."""

    def __init__(self, *folders: Path) -> None:
        super().__init__(*folders)
        self.queue: asyncio.Queue[frozenset[Drive] | Exception] = asyncio.Queue()

    def plug(self, *names: str) -> None:
        self.queue.put_nowait(self.drives(*names))

    async def watch(self) -> AsyncGenerator[frozenset[Drive], None]:
        while True:
            look = await self.queue.get()
            if isinstance(look, Exception):
                raise look
            yield look


def stick(tmp_path: Path, name: str) -> Path:
    (tmp_path / name / "models").mkdir(parents=True)
    return tmp_path / name


async def run(sticks: Sticks, state: Path, wireless: Wireless | None = None, load: str | None = None) -> Car:
    car = Car(Settings(), ModelStore(state), DEFAULT, wireless=wireless)
    watching = asyncio.create_task(_lamp(car, sticks))
    if load:
        await car.load(load)
    async with asyncio.timeout(30):
        await serve(car, sticks.watch, sticks)
    watching.cancel()
    return car


async def _lamp(car: Car, sticks: Sticks) -> None:
    while True:
        changed = car.changed
        sticks.lamps.append(car.facts.updating)
        await changed.wait()


async def test_models_are_installed_and_a_bad_one_harms_no_other(state: Path, tmp_path: Path) -> None:
    folder = stick(tmp_path, "sda1")
    shutil.copy(SAMPLE, folder / "models" / "fast one.tar.gz")
    (folder / "models" / "bad.tar.gz").write_bytes(b"no archive")
    sticks = Sticks(folder)
    car = await run(sticks, state)
    assert car.store.names() == ["fast_one", "sample"]
    report = (folder / "device-status.txt").read_text("utf-8")
    assert "fast one.tar.gz: installed as fast_one." in report
    assert "bad.tar.gz: not installed: " in report
    assert True in sticks.lamps
    assert not car.facts.updating
    assert not car.engaged
    car.close()


async def test_the_loaded_model_stays_whatever_the_drive_asks(state: Path, tmp_path: Path) -> None:
    folder = stick(tmp_path, "sda1")
    shutil.copy(SAMPLE, folder / "models" / "other.tar.gz")
    (folder / "models" / "replace-all.txt").touch()
    car = await run(Sticks(folder), state, load="sample")
    assert car.store.names() == ["other", "sample"]
    report = (folder / "device-status.txt").read_text("utf-8")
    assert "sample is loaded and stays: load another model, and delete it in the console." in report
    car.close()


async def test_a_network_is_joined_and_the_report_has_no_password(
    state: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = stick(tmp_path, "sda1")
    (folder / "wifi-creds.txt").write_text(f"ssid: 'Pit lane'\npassword: '{KEY}'\n")
    (folder / "models").rmdir()
    air, sticks = Air(), Sticks(folder)
    car = await run(sticks, state, air)
    assert air.on == "Pit lane"
    assert not any(sticks.lamps), "the power lamp blinks for models, and the Wi-Fi's lamp for networks"
    report = (folder / "device-status.txt").read_text("utf-8")
    assert "192.168.7.3" in report
    assert KEY not in report + caplog.text
    car.close()


async def test_without_wifi_of_ours_the_report_says_so(state: Path, tmp_path: Path) -> None:
    folder = stick(tmp_path, "sda1")
    (folder / "wifi-creds.txt").write_text("ssid: 'Pit lane'\n")
    car = await run(Sticks(folder), state)
    assert "hotlap does not manage the Wi-Fi of this machine" in (folder / "device-status.txt").read_text("utf-8")
    car.close()


@asynccontextmanager
async def serving(state: Path, hand: Hand, wireless: Wireless | None = None) -> AsyncIterator[Car]:
    car = Car(Settings(), ModelStore(state), DEFAULT, wireless=wireless)
    task = asyncio.create_task(serve(car, hand.watch, hand, retry=0.0))
    try:
        yield car
    finally:
        task.cancel()
        await asyncio.wait([task])
        car.close()


async def until(car: Car, there: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not there():
            await car.changed.wait()


def faults(car: Car) -> str:
    return " ".join(car.snapshot().faults)


async def test_a_drive_that_cannot_be_read_is_a_fault_until_it_is_out(state: Path, tmp_path: Path) -> None:
    good = stick(tmp_path, "sdb1")
    shutil.copy(SAMPLE, good / "models" / "late.tar.gz")
    hand = Hand(tmp_path / "sda1", good)
    async with serving(state, hand) as car:
        hand.plug("sda1", "sdb1")
        await until(car, lambda: "late" in car.store.names() and not car.facts.updating)
        assert faults(car) == "The USB drive sda1 cannot be mounted."
        hand.plug("sdb1")
        await until(car, lambda: not faults(car))
        (tmp_path / "sda1").mkdir()
        hand.plug("sda1", "sdb1")
        await until(car, lambda: hand.mounts[-1] == "sda1" and not car.facts.updating)
        assert not faults(car)


async def test_two_faults_end_one_after_the_other(state: Path, tmp_path: Path) -> None:
    hand = Hand(tmp_path / "sda1", tmp_path / "sdb1")
    async with serving(state, hand) as car:
        hand.plug("sda1", "sdb1")
        await until(car, lambda: "sda1" in faults(car) and "sdb1" in faults(car))
        hand.plug("sdb1")
        await until(car, lambda: faults(car) == "The USB drive sdb1 cannot be mounted.")
        hand.plug()
        await until(car, lambda: not faults(car))


async def test_a_drive_that_cannot_be_written_is_a_fault_that_says_so(state: Path, tmp_path: Path) -> None:
    folder = stick(tmp_path, "sda1")
    (folder / "models" / "replace-all.txt").touch()
    (folder / "device-status.txt").mkdir()
    hand = Hand(folder)
    async with serving(state, hand) as car:
        hand.plug("sda1")
        await until(car, lambda: "cannot be written, so no report is on it" in faults(car))


async def test_a_drive_that_hangs_holds_up_no_other(state: Path, tmp_path: Path) -> None:
    class Hanging(Hand):
        @asynccontextmanager
        async def mounted(self, drive: Drive, writable: bool = False) -> AsyncIterator[Folder]:
            if drive.label == "sda1":
                await asyncio.Event().wait()
            async with super().mounted(drive, writable) as root:
                yield root

    good = stick(tmp_path, "sdb1")
    shutil.copy(SAMPLE, good / "models" / "late.tar.gz")
    hand = Hanging(tmp_path / "sda1", good)
    async with serving(state, hand) as car:
        hand.plug("sda1", "sdb1")
        await until(car, lambda: "late" in car.store.names())
        await until(car, lambda: not car.facts.updating)


async def test_a_drive_waits_until_the_car_has_stopped(
    state: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    folder = stick(tmp_path, "sda1")
    (folder / "wifi-creds.txt").write_text(f"ssid: 'Pit lane'\npassword: '{KEY}'\n")
    shutil.copy(SAMPLE, folder / "models" / "late.tar.gz")
    hand, air = Hand(folder, tmp_path / "sdb1"), Air()
    async with serving(state, hand, air) as car:
        car.select(DriveMode.MANUAL)
        car.start()
        hand.plug("sda1", "sdb1")
        while caplog.text.count("is served when the car is stopped") < 2:
            await asyncio.sleep(0)
        car.limit_speed(0.2)
        for _ in range(100):
            await asyncio.sleep(0)
        assert (hand.mounts, air.joined, car.facts.updating) == ([], [], False)
        hand.plug("sda1")  # the other one had to wait too long
        while not hand.queue.empty():
            await asyncio.sleep(0)
        car.stop()
        await until(car, lambda: "late" in car.store.names() and not car.facts.updating)
        assert (air.on, set(hand.mounts)) == ("Pit lane", {"sda1"})
        assert caplog.text.count("sda1 is served when the car is stopped") == 1


async def test_a_car_that_starts_meanwhile_gets_its_models_when_it_stops(state: Path, tmp_path: Path) -> None:
    class Starter(Hand):
        @asynccontextmanager
        async def mounted(self, drive: Drive, writable: bool = False) -> AsyncIterator[Folder]:
            async with super().mounted(drive, writable) as root:
                yield root
            if not writable:
                car.select(DriveMode.MANUAL)
                car.start()

    folder = stick(tmp_path, "sda1")
    shutil.copy(SAMPLE, folder / "models" / "late.tar.gz")
    hand = Starter(folder)
    async with serving(state, hand) as car:
        hand.plug("sda1")
        await until(car, lambda: car.engaged)
        for _ in range(100):
            await asyncio.sleep(0)
        assert car.store.names() == ["sample"]
        car.stop()
        await until(car, lambda: "late" in car.store.names())


async def test_whatever_watching_raises_is_a_fault_and_it_is_tried_again(state: Path, tmp_path: Path) -> None:
    folder = stick(tmp_path, "sda1")
    shutil.copy(SAMPLE, folder / "models" / "late.tar.gz")
    hand = Hand(folder)
    async with serving(state, hand) as car:
        for error in (OSError("no netlink"), ImportError("no libudev"), KeyError("MAJOR"), RuntimeError("odd")):
            hand.queue.put_nowait(error)
            await until(car, lambda: "USB drives are not noticed" in faults(car))
            hand.plug("sda1")
            await until(car, lambda: not faults(car))
        await until(car, lambda: "late" in car.store.names() and not car.facts.updating)
        assert len(hand.mounts) == 2


async def test_a_drive_that_was_left_in_does_not_undo_what_was_done_since(state: Path, tmp_path: Path) -> None:
    folder = stick(tmp_path, "sda1")
    shutil.copy(SAMPLE, folder / "models" / "first.tar.gz")
    (folder / "models" / "replace-all.txt").touch()
    car = await run(Sticks(folder, left_in=True), state)
    assert car.store.names() == ["first"]
    await car.store.add(SAMPLE, "since")
    car.close()
    for left_in in (True, False):
        car = await run(Sticks(folder, left_in=left_in), state)
        assert car.store.names() == ["first", "since"]
        car.close()
