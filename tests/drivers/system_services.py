"""systemd1, hostname1, timedate1, login1 and polkit of the tests' own, on a real bus, as far as drivers.system asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbus_fast import BusType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from tests.drivers.private_bus import bus_folder, private_bus

SERVICES = {name: f"org.freedesktop.{name}" for name in ("systemd1", "hostname1", "timedate1", "login1", "PolicyKit1")}
MANAGER = "/org/freedesktop/systemd1"
JOB = f"{MANAGER}/job/7"
SIGNATURES = {
    ("org.freedesktop.systemd1.Manager", "LoadUnit"): "s",
    ("org.freedesktop.systemd1.Manager", "StartUnit"): "ss",
    ("org.freedesktop.hostname1", "SetStaticHostname"): "sb",
    ("org.freedesktop.timedate1", "SetTimezone"): "sb",
    ("org.freedesktop.login1.Manager", "CanReboot"): "",
    ("org.freedesktop.login1.Manager", "CanPowerOff"): "",
    ("org.freedesktop.login1.Manager", "Reboot"): "b",
    ("org.freedesktop.login1.Manager", "PowerOff"): "b",
}
"""All that is answered: as in the manuals org.freedesktop.systemd1(5), hostname1(5), timedate1(5) and login1(5)."""


@dataclass
class Services:
    """A machine. `refusals` are the error names with which a member is answered; `mute` members never answer,
    `garbled` ones with this signature and body."""

    address: str
    ssh: bool = False
    socket: bool = False
    absent_units: set[str] = field(default_factory=set)
    polkit: str = "122"
    host: str = "amss-1234"
    transient: str = "fallback"
    zone: str = "Etc/UTC"
    can: dict[str, str] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    mute: set[str] = field(default_factory=set)
    garbled: dict[str, tuple[str, list[Any]]] = field(default_factory=dict)
    result: str | None = "done"
    """How the unit that switches SSH ends; None: never."""
    orders: list[tuple[str, list[Any]]] = field(default_factory=list)

    async def open(self, *left_out: str) -> None:
        """Be on the bus, but for some services."""
        self.bus = await MessageBus(self.address, BusType.SYSTEM).connect()
        self.bus.add_message_handler(self.answer)
        for short, name in SERVICES.items():
            if short not in left_out:
                await self.bus.request_name(name)

    async def close(self) -> None:
        self.bus.disconnect()
        await self.bus.wait_for_disconnect()  # type: ignore[no-untyped-call]

    def answer(self, message: Message) -> Message | bool | None:
        if message.message_type is not MessageType.METHOD_CALL:
            return None
        member, path = message.member or "", message.path or ""
        if name := self.refusals.get(member):
            return Message.new_error(message, name, "That will not do.")
        if member in self.mute:
            return True
        if member in self.garbled:
            return Message.new_method_return(message, *self.garbled[member])
        if member == "GetAll":
            return Message.new_method_return(message, "a{sv}", [self.properties(path, message.body[0])])
        if SIGNATURES.get((message.interface or "", member)) != message.signature:
            return Message.new_error(message, "org.freedesktop.DBus.Error.UnknownMethod", f"No {member}.")
        if member == "LoadUnit":
            return Message.new_method_return(message, "o", [_path_of(message.body[0])])
        if member.startswith("Can"):
            return Message.new_method_return(message, "s", [self.can.get(member, "yes")])
        self.orders.append((member, message.body))
        if member == "StartUnit":
            asyncio.get_running_loop().call_soon(self.end, message.body[0])
            return Message.new_method_return(message, "o", [JOB])
        if member == "SetStaticHostname":
            self.host = message.body[0]
        if member == "SetTimezone":
            self.zone = message.body[0]
        return Message.new_method_return(message)

    def properties(self, path: str, interface: str) -> dict[str, Variant]:
        if interface == "org.freedesktop.systemd1.Unit":
            active = {_path_of("ssh.service"): self.ssh, _path_of("ssh.socket"): self.socket}.get(path, False)
            absent = path in map(_path_of, self.absent_units)
            values = {
                "LoadState": "not-found" if absent else "loaded",
                "ActiveState": "active" if active else "inactive",
            }
        elif interface == "org.freedesktop.hostname1":
            values = {"StaticHostname": self.host, "Hostname": self.transient}
        elif interface == "org.freedesktop.timedate1":
            values = {"Timezone": self.zone}
        else:
            assert (path, interface) == (
                "/org/freedesktop/PolicyKit1/Authority",
                "org.freedesktop.PolicyKit1.Authority",
            )
            values = {"BackendVersion": self.polkit}
        return {key: Variant("s", value) for key, value in values.items()}

    def end(self, unit: str) -> None:
        """The jobs that end: another's, then the one that was asked for."""
        if self.result is None:
            return
        if self.result == "done":
            self.ssh = unit == "hotlap-ssh@enable.service"
        for job, name, result in ((f"{MANAGER}/job/6", "other.service", "failed"), (JOB, unit, self.result)):
            body = [int(job[-1]), job, name, result]
            self.bus.send(Message.new_signal(MANAGER, "org.freedesktop.systemd1.Manager", "JobRemoved", "uoss", body))


def _path_of(unit: str) -> str:
    return f"{MANAGER}/unit/" + "".join(letter if letter.isalnum() else f"_{ord(letter):02x}" for letter in unit)


@dataclass
class PasswordSetter:
    """What is behind the socket of hotlap-ssh-password, here in `folder`: notes the lines; `answer` None is none."""

    folder: Path
    answer: bytes | None = b"ok\n"
    lines: list[bytes] = field(default_factory=list)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    """Who was not answered is, after this."""
    visits: set[asyncio.Task[None] | None] = field(default_factory=set)

    @property
    def socket(self) -> Path:
        return self.folder / "ssh-password.sock"

    @property
    def account(self) -> Path:
        return self.folder / "ssh-account"

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits.add(asyncio.current_task())
        self.lines.append(await reader.readline())
        if self.answer is None:
            gone = asyncio.create_task(reader.read())
            freed = asyncio.create_task(self.release.wait())
            await asyncio.wait((gone, freed), return_when=asyncio.FIRST_COMPLETED)
            for task in (gone, freed):
                task.cancel()
        writer.write(b"ok\n" if self.answer is None else self.answer)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


@asynccontextmanager
async def password_setter(folder: Path) -> AsyncIterator[PasswordSetter]:
    """That for the account `pit`. The path of `folder` must be short: a socket's name has 107 bytes."""
    setter = PasswordSetter(folder)
    setter.account.write_text("pit\n")
    async with await asyncio.start_unix_server(setter.take, setter.socket):
        yield setter
        setter.release.set()
        await asyncio.gather(*filter(None, setter.visits))


@asynccontextmanager
async def machine() -> AsyncIterator[Services]:
    """A bus with all services on it. Skips without dbus-daemon."""
    with bus_folder() as folder, private_bus(folder) as address:
        services = Services(address)
        await services.open()
        yield services
        await services.close()
