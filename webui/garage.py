"""The models as the console shows them, and how an archive comes in."""

from __future__ import annotations

import asyncio
import tarfile
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

from inference.actions import DiscreteActions
from inference.package import ModelPackage, PackageError, name_of
from vehicle.car import Car
from vehicle.models import Installed, ModelExists
from webui.desk import FULL, Desk, Malformed, NoArchive, Obeyed, Route, Strict, TooLarge, Visit

CHUNK: Final = 1 << 20
CHUNK_PATIENCE: Final = 30.0
"""Seconds that an upload may bring nothing."""
UPLOAD_FLOOR: Final = 256 << 20
"""Bytes that an upload leaves free on the disk."""
HEAD: Final = 512
"""Bytes at the beginning of a file by which an archive is known."""


class Actions(Strict):
    type: Literal["discrete", "continuous"]
    actions: list[dict[str, float]] | None = None
    steering_angle: tuple[float, float] | None = None
    speed: tuple[float, float] | None = None


class Model(Strict):
    name: str
    size: int
    installed: float
    sensors: tuple[str, ...]
    network: str
    algorithm: str
    actions: Actions | None
    status: Literal["ready", "unfit", "damaged"]
    reason: str | None
    active: bool


class Replace(Strict):
    replace: bool = False


async def models(desk: Desk, visit: Visit) -> list[Model]:
    return described(desk.car, await asyncio.to_thread(desk.car.store.installed))


def described(car: Car, installed: list[Installed]) -> list[Model]:
    """What people are told of each installed model; the loaded one is active."""
    active = car.driver.package.name if car.driver else None
    return [_described(car, each, active) for each in installed]


def _described(car: Car, each: Installed, active: str | None) -> Model:
    common = (each.name, each.size, each.when)
    if each.package is None:
        return Model(*common, (), "", "", None, "damaged", each.fault, each.name == active)
    metadata, unfit = each.package.metadata, car.unfit(each.package)
    space = metadata.action_space
    if isinstance(space, DiscreteActions):
        rows = [{"steering_angle": angle, "speed": speed} for angle, speed in space.choices]
        actions = Actions("discrete", rows)
    else:
        actions = Actions("continuous", None, space.steering_deg, space.speed)
    sensors = tuple(sensor.value for sensor in metadata.sensors)
    status: Literal["ready", "unfit"] = "unfit" if unfit else "ready"
    return Model(*common, sensors, metadata.network, metadata.algorithm, actions, status, unfit, each.name == active)


async def upload(desk: Desk, visit: Visit) -> Model:
    name = name_of_upload(visit.request.match_info["name"])
    return await install(desk, visit.request.content, visit.request.content_length, name, visit.query)


def name_of_upload(name: str) -> str:
    """The model's name for a file's. Raises Malformed."""
    stem = name.removesuffix(".gz").removesuffix(".tgz").removesuffix(".tar")
    if not 1 <= len(stem) <= 100 or not any(letter.isascii() and letter.isalnum() for letter in stem):
        raise Malformed("A model's name needs a letter or digit and at most 100 characters: rename the file.")
    if any(not letter.isprintable() or letter in "/\\" for letter in stem) or ".." in stem:
        raise Malformed("A model's name has no slashes and no dots in a row: rename the file.")
    return name_of(Path(stem.replace(".", "_")))


async def install(desk: Desk, content: Any, length: int | None, name: str, wish: Replace) -> Model:
    """Take an archive in as it comes, and install it. Raises what STATUS names; the models are then as before."""
    store, most = desk.car.store, desk.largest_upload
    if length is not None and length > most:
        raise TooLarge(f"The file has {length >> 20} MB; a model may have {most >> 20} MB.")
    if name in desk.uploading:
        raise ModelExists(f"A model named {name} is being uploaded already: wait for it, or rename the file.")
    if not wish.replace and name in store.names():
        raise ModelExists(f"A model named {name} is installed already: rename the file, or replace that model.")
    if desk.room() - (length or 0) < UPLOAD_FLOOR:
        raise OSError(FULL)
    archive = store.spool()
    desk.uploading.add(name)
    try:
        await _receive(desk, content, archive)
    except BaseException:
        desk.uploading.discard(name)
        await asyncio.to_thread(archive.unlink, True)
        raise
    # Who goes away now has uploaded it all the same.
    package = await asyncio.shield(_add(desk, archive, name, wish.replace))
    installed = await asyncio.to_thread(store.installed)
    return next(model for model in described(desk.car, installed) if model.name == package.name)


async def _add(desk: Desk, archive: Path, name: str, replace: bool) -> ModelPackage:
    try:
        return await desk.car.store.add(archive, name, replace)
    except PackageError as error:
        raise PackageError(str(error).replace(archive.name, name)) from error
    finally:
        desk.uploading.discard(name)
        await asyncio.to_thread(archive.unlink, True)


async def _receive(desk: Desk, content: Any, archive: Path) -> None:
    file = _open(archive)
    try:
        received, head = 0, b""
        while chunk := await _next(content):
            received += len(chunk)
            if received > desk.largest_upload:
                raise TooLarge(f"The file is too large: a model may have {desk.largest_upload >> 20} MB.")
            if desk.room() - len(chunk) < UPLOAD_FLOOR:
                raise OSError(FULL)
            if len(head) < HEAD:
                head += chunk[: HEAD - len(head)]
                if len(head) == HEAD:
                    _look_at(head)
            await asyncio.to_thread(file.write, chunk)
        _look_at(head)
    finally:
        await asyncio.to_thread(file.close)


def _open(archive: Path) -> BinaryIO:
    """Not in a thread: who leaves while a thread opens a file leaves the file open."""
    return archive.open("wb")


def _look_at(head: bytes) -> None:
    """Raises NoArchive."""
    if not head.startswith((b"\x1f\x8b", b"PK")):
        try:
            tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise NoArchive("This is no .tar.gz archive: choose the file as it was downloaded.") from error


async def _next(content: Any) -> bytes:
    try:
        async with asyncio.timeout(CHUNK_PATIENCE):
            chunk: bytes = await content.read(CHUNK)
            return chunk
    except TimeoutError as error:
        raise Malformed("The upload has stalled; try again.") from error


async def delete(desk: Desk, visit: Visit) -> dict[str, str]:
    desk.wheel.take(visit.person)
    await desk.car.remove(visit.request.match_info["name"])
    return {}


ROUTES: Final = (
    Route("GET", "/api/v1/models", "The installed models", models, list[Model]),
    Route("PUT", "/api/v1/models/{name}", "Upload a model's archive", upload, Model, query=Replace, status=201),
    Route("DELETE", "/api/v1/models/{name}", "Delete a model", delete, Obeyed),
)
