"""The shape of a car's Wi-Fi: where it is, what it sees, join, forget; drivers/network_manager.py fills it.

WifiError (DeviceError)   one sentence that a person can act on
    NoWifi                NetworkManager or the adapter is absent, or switched off
    NotPermitted          the car's user may not change networks
    NotFound              no network of that name is in reach, or is known
    WrongPassword         the network refused the password, or it cannot be one
    NoAddress             the network gave the car no address
    LoginNeeded           the network wants a person at a page in a browser
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from drivers.rig import DeviceError


class WifiError(DeviceError):
    """One sentence that a person can act on."""


class NoWifi(WifiError): ...


class NotPermitted(WifiError): ...


class NotFound(WifiError): ...


class WrongPassword(WifiError): ...


class NoAddress(WifiError): ...


class LoginNeeded(WifiError): ...


class Security(StrEnum):
    OPEN = "open"
    OWE = "open, encrypted"
    WEP = "WEP"
    WPA2 = "WPA2"
    WPA3 = "WPA3"
    ENTERPRISE = "enterprise"


@dataclass(frozen=True, slots=True)
class Wifi:
    """How the car's Wi-Fi is. `strength` is 0..100; it and `ssid` are None while the car is on no network."""

    available: bool = False
    ssid: str | None = None
    strength: int | None = None
    connecting: bool = False
    hardware_address: str | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A network in reach, strength 0..100. Bytes of its name that are not UTF-8 are shown as `\\xff`."""

    ssid: str
    strength: int
    security: Security


@dataclass(frozen=True, slots=True)
class Place:
    """An address of the car, and the interface that bears it."""

    interface: str
    address: str


class Wireless(Protocol):
    """A network that can be chosen: drivers.rig.Network, and more. Every verb raises DeviceError."""

    async def addresses(self) -> list[str]:
        """The addresses under which the car can be reached now, IPv4 first."""
        ...

    async def places(self) -> list[Place]:
        """The same, each with its interface."""
        ...

    async def wifi(self) -> Wifi:
        """How the Wi-Fi is; without an adapter, not available."""
        ...

    async def scan(self) -> list[Seen]:
        """The networks seen last, the strongest first, one of a name. Asks for a new look and does not wait for it."""
        ...

    async def ready(self) -> None:
        """Wait until there is an adapter that is on a network or has looked around, but not for ever.

        What is wrong when it returns all the same, the next verb says; this one raises nothing.
        """
        ...

    async def connect(self, ssid: str, password: str = "", hidden: bool = False) -> None:
        """Join the network and remember it; on return the car has an address there.

        When it fails or is cancelled, nothing of it is kept and the car goes back to the network it was on. Raises
        WifiError as well. The password is repeated nowhere.
        """
        ...

    async def forget(self, ssid: str) -> None:
        """Never join it again by itself; leave it if the car is on it. Raises NotFound as well."""
        ...

    async def known(self) -> list[str]:
        """The names of the networks that the car joins by itself."""
        ...

    async def close(self) -> None:
        """Let go of it. May be called twice."""
        ...
