"""USB drives: what the car does for one that is plugged in."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Iterator
from pathlib import Path
from typing import TypeAlias

from drivers.delivery import Deeds, visit
from drivers.mounts import Drive, Mounter
from drivers.rig import DeviceError
from vehicle.car import NO_WIFI, Car, Refusal
from vehicle.models import ModelMissing

log = logging.getLogger(__name__)

Watch: TypeAlias = Callable[[Callable[[Drive], Awaitable[object]]], Awaitable[object]]
"""As UsbDrives.watch."""


async def serve(car: Car, watch: Watch, mounter: Mounter) -> None:
    """Join the networks and install the models that drives bring, one drive after the other, until cancelled.

    Nothing that is on a drive ends this.
    """

    async def receive(drive: Drive) -> None:
        try:
            with _busy(car):
                done = await visit(drive, mounter, _deeds(car), car.wireless, car.store.root / "incoming")
        except DeviceError:
            raise
        except Exception:
            log.exception("The USB drive %s could not be served", drive.name)
        else:
            if done is not None:
                log.info("USB drive %s: %s", drive.name, "; ".join(done.lines))

    await watch(receive)


def _deeds(car: Car) -> Deeds:
    async def join(ssid: str, password: str, hidden: bool) -> None:
        if car.wireless is None:
            raise OSError(NO_WIFI)
        await car.join(ssid, password, hidden)

    async def install(path: Path) -> str:
        return (await car.store.add(path)).name

    async def remove_others(keep: Collection[str]) -> None:
        kept = []
        for name in car.store.names():
            if name not in keep:
                try:
                    await car.remove(name)
                except (Refusal, ModelMissing):
                    kept.append(name)
        if kept:
            raise OSError(f"{', '.join(kept)} is loaded and stays: load another model, and delete it in the console.")

    return Deeds(join, install, remove_others)


@contextlib.contextmanager
def _busy(car: Car) -> Iterator[None]:
    car.receiving(True)
    try:
        yield
    finally:
        car.receiving(False)
