"""USB drives: what the car does for those that are plugged in."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Collection
from pathlib import Path
from typing import Final, TypeAlias

from drivers.delivery import Deeds, visit
from drivers.disk import Remembered
from drivers.mounts import Drive, Mounter
from drivers.rig import DeviceError
from vehicle.car import NO_WIFI, Car, Refusal
from vehicle.models import ModelMissing

log = logging.getLogger(__name__)

RETRY: Final = 10.0
"""Seconds until it is asked again which drives there are, when that could not be asked."""

Watch: TypeAlias = Callable[[], AsyncGenerator[frozenset[Drive], None]]
"""As UsbDrives.watch."""


async def serve(car: Car, watch: Watch, mounter: Mounter, retry: float = RETRY) -> None:
    """Join the networks and install the models that drives bring, until cancelled or until `watch` ends.

    Each drive is served by itself, once a plugging, while the car is not engaged. Nothing that is on a drive ends this;
    what is wrong with one is a fault until it is served or out.
    """
    guests = _Guests(car, mounter)
    async with asyncio.TaskGroup() as visits:
        while True:
            try:
                # Closed at once, not when it is collected: it listens to the kernel.
                async with contextlib.aclosing(watch()) as looks:
                    async for present in looks:
                        car.well("USB drives")
                        for drive, left_in in guests.look(present):
                            visits.create_task(guests.receive(drive, left_in))
                return
            except Exception as error:
                log.debug("No USB drives", exc_info=True)  # a library asks the kernel here, and may raise anything
                car.fault("USB drives", f"USB drives are not noticed ({error}); install udev, or restart the car.")
                await asyncio.sleep(retry)


class _Guests:
    """The drives that are plugged in, and what is wrong with them."""

    def __init__(self, car: Car, mounter: Mounter) -> None:
        self._car, self._mounter = car, mounter
        self._served = Remembered(car.store.root / "drives.json")
        self._present: frozenset[Drive] | None = None
        self._troubles: dict[Drive, str] = {}
        self._receiving: set[Drive] = set()
        """Those whose models are being taken."""

    def look(self, present: frozenset[Drive]) -> list[tuple[Drive, bool]]:
        """Those that came, and whether they were in already when this was first called."""
        left_in, known = self._present is None, self._present or frozenset()
        self._present = present
        for drive in known - present:
            self._settle(drive)
        return [(drive, left_in) for drive in sorted(present - known, key=lambda drive: drive.node)]

    async def receive(self, drive: Drive, left_in: bool) -> None:
        """Whatever goes wrong is told, and not raised."""
        if self._car.engaged:
            log.info("The USB drive %s is served when the car is stopped", drive.name)
        await self._rest()
        if not self._has(drive):
            return
        incoming = self._car.store.root / "incoming"
        try:
            done = await visit(
                drive, self._mounter, self._deeds(drive), self._car.wireless, incoming, self._served, left_in
            )
        except DeviceError as error:
            self._complain(drive, str(error))
        except Exception:
            log.exception("The USB drive %s could not be served", drive.name)
            self._complain(drive, f"The USB drive {drive.name} could not be served; the car's log says why.")
        else:
            if done is not None:
                log.info("USB drive %s: %s", drive.name, "; ".join(done.lines))
            if done is not None and done.trouble:
                self._complain(drive, done.trouble)
            else:
                self._settle(drive)
        finally:
            self._receiving.discard(drive)
            self._car.receiving(bool(self._receiving))

    def _has(self, drive: Drive) -> bool:
        return self._present is not None and drive in self._present

    def _complain(self, drive: Drive, sentence: str) -> None:
        if not self._has(drive) or self._car.has_fault("drive"):
            log.warning("%s", sentence)
        if self._has(drive):
            self._troubles[drive] = sentence
            self._car.fault("drive", " ".join(self._troubles.values()))

    def _settle(self, drive: Drive) -> None:
        if self._troubles.pop(drive, None) is None:
            return
        if self._troubles:
            self._car.fault("drive", " ".join(self._troubles.values()))
        else:
            self._car.well("drive")

    async def _rest(self) -> None:
        """Until the car is not engaged: neither its network nor its processor is to be taken from it on the road."""
        while self._car.engaged:
            await self._car.changed.wait()

    def _deeds(self, drive: Drive) -> Deeds:
        car = self._car

        async def join(ssid: str, password: str, hidden: bool) -> None:
            await self._rest()
            if car.wireless is None:
                raise OSError(NO_WIFI)
            await car.join(ssid, password, hidden)

        async def install(path: Path) -> str:
            await self._rest()
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
                raise OSError(
                    f"{', '.join(kept)} is loaded and stays: load another model, and delete it in the console."
                )

        def receive() -> None:
            self._receiving.add(drive)
            car.receiving(True)

        return Deeds(join, install, remove_others, receive)
