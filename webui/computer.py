"""The car's computer: what it is, its network, and what may be changed of it."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta

from drivers.disk import write_atomically
from drivers.rig import DeviceError
from drivers.system import System, time_zones
from vehicle import doctor
from vehicle.car import NO_WIFI, Refusal
from webui.about import About, about
from webui.auth import Session, WeakPassword, judge, unlock
from webui.desk import Desk, Nothing, Obeyed, Route, Secret, Strict, Visit

log = logging.getLogger(__name__)

NO_SYSTEM: Final = "hotlap cannot change the settings of this machine; change them in the system."


class NotThePassword(Refusal):
    """Whoever wants something grave does not know the console's password."""


class WifiState(Strict):
    available: bool
    ssid: str | None
    strength: int | None
    connecting: bool
    hardware_address: str | None
    known: tuple[str, ...]


class Network(Strict):
    """`wifi` is None where hotlap does not manage it; `reason` says why."""

    addresses: tuple[str, ...]
    names: tuple[str, ...]
    wifi: WifiState | None
    reason: str


class InReach(Strict):
    ssid: str
    strength: int
    security: str


class Join(Strict):
    ssid: Annotated[str, Meta(min_length=1, max_length=64)]
    password: Secret = ""
    hidden: bool = False


class Forget(Strict):
    ssid: Annotated[str, Meta(min_length=1, max_length=64)]


class Ssh(Strict):
    """`reason` says why it cannot be switched here."""

    enabled: bool
    switchable: bool
    reason: str


class Switch(Strict):
    enabled: bool


class SshPassword(Strict):
    """Whose password it is, and whether it was set from here before; `reason` says why it cannot be set here."""

    account: str
    settable: bool
    was_set: bool
    reason: str


class NewSshPassword(Strict):
    """`password` is the console's, once more."""

    password: Secret
    new: Secret


class HostName(Strict):
    """`reason` says why it cannot be changed here."""

    name: str
    changeable: bool
    reason: str


class Name(Strict):
    name: Annotated[str, Meta(min_length=1, max_length=63)]


class TimeZone(Strict):
    """`zone` is empty where it is not known; `zones` are those to choose from."""

    zone: str
    zones: tuple[str, ...]
    changeable: bool
    reason: str


class Zone(Strict):
    zone: Annotated[str, Meta(min_length=1, max_length=100)]


class Power(Strict):
    """Whether the console can restart the car and switch it off, and why not."""

    available: bool
    reason: str


async def describe(desk: Desk, visit: Visit) -> About:
    return await asyncio.to_thread(about, desk.car, desk.address.fingerprint)


async def examine(desk: Desk, visit: Visit) -> list[doctor.Finding]:
    return await asyncio.to_thread(doctor.examine, desk.car.settings, faults=desk.car.faults)


async def network(desk: Desk, visit: Visit) -> Network:
    wireless = desk.car.wireless
    found = desk.car.network or desk.address.addresses, desk.address.names
    if wireless is None:
        return Network(*found, None, NO_WIFI)
    try:
        wifi, known = await wireless.wifi(), await wireless.known()
        places = tuple(await wireless.addresses())
    except DeviceError as error:
        return Network(*found, None, str(error))
    if not wifi.available:
        return Network(places, desk.address.names, None, "This car has no Wi-Fi adapter, or it is switched off.")
    state = WifiState(wifi.available, wifi.ssid, wifi.strength, wifi.connecting, wifi.hardware_address, tuple(known))
    return Network(places, desk.address.names, state, "")


async def networks(desk: Desk, visit: Visit) -> list[InReach]:
    """Raises DeviceError or Refusal."""
    if desk.car.wireless is None:
        raise Refusal(NO_WIFI)
    return [InReach(seen.ssid, seen.strength, seen.security.value) for seen in await desk.car.wireless.scan()]


async def join(desk: Desk, visit: Visit) -> dict[str, str]:
    await change_network(desk, visit.person, visit.body.ssid, visit.body.password, visit.body.hidden)
    return {}


async def change_network(desk: Desk, person: Session, ssid: str, password: str, hidden: bool = False) -> None:
    """Take the car, which must stand, to another network. Raises what Car.join raises, and NotYours."""
    desk.wheel.take(person)
    if desk.car.engaged:
        raise Refusal("Stop the car before it changes the network.")
    # Who asked for it may be cut off by it.
    await asyncio.shield(desk.car.join(ssid, password, hidden))


async def forget(desk: Desk, visit: Visit) -> dict[str, str]:
    desk.wheel.take(visit.person)
    if desk.car.wireless is None:
        raise Refusal(NO_WIFI)
    await desk.car.wireless.forget(visit.body.ssid)
    return {}


async def ssh(desk: Desk, visit: Visit) -> Ssh:
    system = desk.car.system
    if system is None:
        return Ssh(await _ssh_answers(), False, NO_SYSTEM)
    try:
        return Ssh(await system.ssh(), True, "")
    except DeviceError as error:
        return Ssh(await _ssh_answers(), False, str(error))


async def _ssh_answers() -> bool:
    try:
        async with asyncio.timeout(1.0):
            _, writer = await asyncio.open_connection("127.0.0.1", 22)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def switch_ssh(desk: Desk, visit: Visit) -> Ssh:
    await change_ssh(desk, visit.person, visit.body.enabled)
    return await ssh(desk, visit)


async def change_ssh(desk: Desk, person: Session, on: bool) -> None:
    """Raises NotYours, Refusal or DeviceError."""
    # Who goes away meanwhile has switched it all the same.
    await asyncio.shield(_system(desk, person).switch_ssh(on))


async def ssh_password(desk: Desk, visit: Visit) -> SshPassword:
    was_set = _mark(desk).exists()
    if desk.car.system is None:
        return SshPassword("", False, was_set, NO_SYSTEM)
    try:
        return SshPassword(await desk.car.system.ssh_account(), True, was_set, "")
    except DeviceError as error:
        return SshPassword("", False, was_set, str(error))


async def set_ssh_password(desk: Desk, visit: Visit) -> SshPassword:
    await change_ssh_password(desk, visit, visit.body.password, visit.body.new)
    return await ssh_password(desk, visit)


async def change_ssh_password(desk: Desk, visit: Visit, password: str, new: str) -> None:
    """Set SSH's password, for who gives the console's once more: whoever finds an unlocked page must not get all.

    Raises TooManyAttempts, NotThePassword, Refusal, WeakPassword or DeviceError.
    """
    system = desk.car.system
    if system is None:
        raise Refusal(NO_SYSTEM)
    if not await unlock(desk.password, desk.attempts, visit.request.remote or "", password):
        raise NotThePassword("This is not the console's password, which is needed to set SSH's.")
    account = await system.ssh_account()
    await asyncio.to_thread(judge, new, socket.gethostname(), account)
    if new == password:
        raise WeakPassword("Everybody who drives knows the console's password: choose another one for SSH.")

    async def change() -> None:
        await system.set_ssh_password(new)
        try:
            await asyncio.to_thread(write_atomically, _mark(desk), b"")
        except OSError as error:
            log.warning("That SSH's password was set is not remembered: %s", error)

    # Who goes away meanwhile has set it all the same.
    await asyncio.shield(change())


def _mark(desk: Desk) -> Path:
    """A file that is there since SSH's password was set from here."""
    return desk.car.store.root / "ssh_password_set"


async def host_name(desk: Desk, visit: Visit) -> HostName:
    system = desk.car.system
    if system is None:
        return HostName(socket.gethostname(), False, NO_SYSTEM)
    try:
        return HostName(await system.host_name(), True, "")
    except DeviceError as error:
        return HostName(socket.gethostname(), False, str(error))


async def rename(desk: Desk, visit: Visit) -> HostName:
    await _system(desk, visit.person).rename(visit.body.name)
    return await host_name(desk, visit)


async def time_zone(desk: Desk, visit: Visit) -> TimeZone:
    system = desk.car.system
    zones = tuple(await asyncio.to_thread(time_zones))
    if system is None:
        return TimeZone(_zone_here(), zones, False, NO_SYSTEM)
    try:
        return TimeZone(await system.time_zone(), zones, True, "")
    except DeviceError as error:
        return TimeZone(_zone_here(), zones, False, str(error))


def _zone_here() -> str:
    return os.path.realpath("/etc/localtime").partition("/zoneinfo/")[2]


async def set_time_zone(desk: Desk, visit: Visit) -> TimeZone:
    await _system(desk, visit.person).set_time_zone(visit.body.zone)
    return await time_zone(desk, visit)


async def power(desk: Desk, visit: Visit) -> Power:
    if desk.car.system is None:
        return Power(False, NO_SYSTEM)
    try:
        await desk.car.system.check_power()
    except DeviceError as error:
        return Power(False, str(error))
    return Power(True, "")


async def reboot(desk: Desk, visit: Visit) -> dict[str, str]:
    await _system_at_rest(desk, visit.person).reboot()
    return {}


async def power_off(desk: Desk, visit: Visit) -> dict[str, str]:
    await _system_at_rest(desk, visit.person).power_off()
    return {}


def _system(desk: Desk, person: Session) -> System:
    """The car's computer, for whoever may have the wheel. Raises NotYours or Refusal."""
    desk.wheel.take(person)
    if desk.car.system is None:
        raise Refusal(NO_SYSTEM)
    return desk.car.system


def _system_at_rest(desk: Desk, person: Session) -> System:
    """The same, while the car stands. Raises NotYours or Refusal."""
    system = _system(desk, person)
    if desk.car.engaged:
        raise Refusal("Stop the car first.")
    return system


ROUTES: Final = (
    Route("GET", "/api/v1/about", "What this car and its computer are", describe, About),
    Route("GET", "/api/v1/doctor", "What is wired, found, permitted and working", examine, list[doctor.Finding]),
    Route("GET", "/api/v1/network", "Where the car can be found", network, Network),
    Route("GET", "/api/v1/network/seen", "The Wi-Fi networks in reach", networks, list[InReach]),
    Route("POST", "/api/v1/network/join", "Join a Wi-Fi network; the car must stand", join, Obeyed, Join),
    Route("POST", "/api/v1/network/forget", "Forget a Wi-Fi network", forget, Obeyed, Forget),
    Route("GET", "/api/v1/ssh", "Whether SSH is on", ssh, Ssh),
    Route("PUT", "/api/v1/ssh", "Switch SSH, also for the next starts", switch_ssh, Ssh, Switch),
    Route("GET", "/api/v1/ssh/password", "Whose SSH password can be set from here", ssh_password, SshPassword),
    Route(
        "PUT",
        "/api/v1/ssh/password",
        "Set the SSH password; the console's is needed once more",
        set_ssh_password,
        SshPassword,
        NewSshPassword,
    ),
    Route("GET", "/api/v1/host_name", "The computer's host name", host_name, HostName),
    Route("PUT", "/api/v1/host_name", "Give the computer another host name", rename, HostName, Name),
    Route("GET", "/api/v1/time_zone", "The computer's time zone, and those to choose from", time_zone, TimeZone),
    Route("PUT", "/api/v1/time_zone", "Put the computer into another time zone", set_time_zone, TimeZone, Zone),
    Route("GET", "/api/v1/power", "Whether the car can be restarted and switched off from here", power, Power),
    Route("POST", "/api/v1/reboot", "Restart the computer; the car must stand", reboot, Obeyed, Nothing),
    Route("POST", "/api/v1/power_off", "Switch the computer off; the car must stand", power_off, Obeyed, Nothing),
)
