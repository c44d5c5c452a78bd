"""What a USB drive may ask of the car, and what it may not."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from calibration.calibration import DEFAULT
from drivers.mounts import Drive, DriveError, Folder
from drivers.wifi import Wireless
from tests.air import KEY, Air
from vehicle.car import Car
from vehicle.drives import serve
from vehicle.models import ModelStore
from vehicle.settings import Settings

SAMPLE = Path(__file__).parents[2] / "vehicle" / "sample.tar.gz"


class Sticks:
    """Folders that are plugged in, one after the other."""

    def __init__(self, *folders: Path) -> None:
        self.folders = {folder.name: folder for folder in folders}
        self.lamps: list[bool] = []

    async def watch(self, handle: Callable[[Drive], Awaitable[object]]) -> None:
        for name in self.folders:
            await handle(Drive(f"/dev/{name}", "vfat", name))

    @asynccontextmanager
    async def mounted(self, drive: Drive, writable: bool = False) -> AsyncIterator[Folder]:
        folder = self.folders[drive.node.removeprefix("/dev/")]
        if not folder.is_dir():
            raise DriveError(f"The USB drive {drive.name} cannot be mounted.")
        with Folder(folder) as root:
            yield root


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
    air = Air()
    car = await run(Sticks(folder), state, air)
    assert air.on == "Pit lane"
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


async def test_a_drive_that_cannot_be_read_ends_nothing(state: Path, tmp_path: Path) -> None:
    good = stick(tmp_path, "sdb1")
    shutil.copy(SAMPLE, good / "models" / "late.tar.gz")
    sticks = Sticks(tmp_path / "gone", good)

    async def watch(handle: Callable[[Drive], Awaitable[object]]) -> None:
        with pytest.raises(DriveError):
            await handle(Drive("/dev/gone", "vfat", ""))
        await handle(Drive("/dev/sdb1", "vfat", ""))

    sticks.watch = watch  # type: ignore[method-assign]
    car = await run(sticks, state)
    assert "late" in car.store.names()
    car.close()
