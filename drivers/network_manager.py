"""The car's Wi-Fi and addresses, by NetworkManager over D-Bus."""

from __future__ import annotations

import asyncio
import difflib
import ipaddress
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar

from dbus_fast import Variant

from drivers.bus import CallError, SystemBus
from drivers.rig import DeviceError
from drivers.wifi import (
    LoginNeeded,
    NoAddress,
    NotFound,
    NotPermitted,
    NoWifi,
    Place,
    Security,
    Seen,
    Wifi,
    WifiError,
    WrongPassword,
)
from drivers.wifi_creds import tells_a_password

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

DEADLINE: Final = 45.0
"""Seconds that a new network may take before the car goes back to the old one."""
RETURN: Final = 15.0
"""Seconds that the old network may take to be there again."""
SEARCH: Final = 10.0
"""Seconds that a network that was not seen is looked for."""
READY: Final = 30.0
"""Seconds that an adapter may take to be there and to look around: at power-on it comes later than the car's daemon."""
FRESH: Final = 20.0
"""Seconds after which what was seen around is old."""
_PAUSE: Final = 0.5

_NM: Final = "org.freedesktop.NetworkManager"
_ROOT: Final = "/org/freedesktop/NetworkManager"
_DEVICE: Final = f"{_NM}.Device"
_RADIO: Final = f"{_NM}.Device.Wireless"
_SETTINGS: Final = f"{_NM}.Settings"
_PROFILE: Final = f"{_NM}.Settings.Connection"
_NOTHING: Final = "/"

# NetworkManager's numbers: NMDeviceType, NMDeviceState, NMDeviceStateReason, NMConnectivityState, NM80211ApFlags and
# NM80211ApSecurityFlags.
_WIFI: Final = 2
_UNMANAGED, _READY, _PREPARE, _NEED_AUTH, _ACTIVATED, _FAILED = 10, 30, 40, 60, 100, 120
_SUPPLICANT_DISCONNECT, _NEW_ACTIVATION = 8, 60
_PORTAL: Final = 2
_PRIVACY: Final = 1
_PSK, _ENTERPRISE, _SAE, _OWE = 0x100, 0x200, 0x400, 0x800

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_KEY: Final = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True, slots=True)
class _Device:
    path: str
    values: dict[str, Any]

    @property
    def state(self) -> int:
        return int(self.values["State"])


@dataclass(frozen=True, slots=True)
class _Point:
    """One access point; `raw` is its network's name on the air."""

    path: str
    raw: bytes
    strength: int
    security: Security


@dataclass(frozen=True, slots=True)
class _Profile:
    id: str
    raw: bytes
    settings: dict[str, dict[str, Variant]] = field(repr=False)
    password: str = field(repr=False)


_NONSENSE: Final = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What comes of reading an answer that is none."""


def _understood(verb: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Whatever NetworkManager answers, nothing but a DeviceError comes."""

    @wraps(verb)
    async def asked(*arguments: P.args, **options: P.kwargs) -> T:
        try:
            return await verb(*arguments, **options)
        except _NONSENSE as error:
            raise WifiError("NetworkManager answers what is no answer; restart it, or the car.") from error

    return asked


_NextSignal: TypeAlias = Callable[[], Coroutine[Any, Any, tuple[str, list[Any]]]]


class NetworkManager:
    """The Wireless of a machine that NetworkManager looks after. It lives on one event loop."""

    def __init__(
        self,
        bus: SystemBus | None = None,
        deadline: float = DEADLINE,
        search: float = SEARCH,
        ready: float = READY,
    ) -> None:
        """A network that is not joined within `deadline` seconds is given up; one not seen is sought for `search`.

        An adapter that is not ready within `ready` seconds is waited for no longer.
        """
        self._bus = bus or SystemBus()
        self._deadline, self._search, self._ready = deadline, search, ready
        self._changing = asyncio.Lock()

    async def close(self) -> None:
        """Let go of the bus. May be called twice."""
        await self._bus.close()

    async def addresses(self) -> list[str]:
        return [place.address for place in await self.places()]

    @_understood
    async def places(self) -> list[Place]:
        found: list[tuple[int, Place]] = []
        for device in await self._devices():
            name = str(device.values.get("IpInterface") or device.values.get("Interface", ""))
            for version in (4, 6):
                config = await self._look(device.values.get(f"Ip{version}Config", _NOTHING), f"{_NM}.IP{version}Config")
                addresses = [str(entry["address"]) for entry in config.get("AddressData", [])]
                found += [(version, Place(name, address)) for address in addresses if not _is_local(address)]
        return [place for _, place in sorted(found, key=lambda each: each[0])]

    @_understood
    async def wifi(self) -> Wifi:
        device = await self._adapter()
        if device is None:
            return Wifi()
        radio = await self._look(device.path, _RADIO)
        ssid = strength = None
        if device.state == _ACTIVATED:
            points = await self._points([radio.get("ActiveAccessPoint", _NOTHING)])
            ssid, strength = (_shown(points[0].raw), points[0].strength) if points else (None, None)
            if ssid is None and (profile := await self._profile_of(device)):
                ssid = _shown(await self._ssid(profile))
        connecting = _PREPARE <= device.state < _ACTIVATED
        hardware_address = str(radio["HwAddress"]) if "HwAddress" in radio else None
        return Wifi(device.state >= _READY, ssid, strength, connecting, hardware_address)

    @_understood
    async def scan(self) -> list[Seen]:
        device = await self._usable()
        await self._ask_to_scan(device)
        points = sorted(await self._in_reach(device), key=lambda point: -point.strength)
        best = {_shown(point.raw): point for point in reversed(points)}
        seen = [Seen(name, point.strength, point.security) for name, point in best.items() if point.raw.strip(b"\0")]
        return sorted(seen, key=lambda each: (-each.strength, each.ssid))

    @_understood
    async def known(self) -> list[str]:
        return sorted({_shown(raw) for _, raw in await self._profiles()})

    async def ready(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._ready):
                while not await self._is_ready():
                    await asyncio.sleep(_PAUSE)

    async def _is_ready(self) -> bool:
        """Also where waiting would not help. Asks for a look around if that is what is missing."""
        try:
            return await self._has_looked()
        except DeviceError as error:
            log.debug("The Wi-Fi is not ready yet: %s", error)
            return False

    @_understood
    async def _has_looked(self) -> bool:
        device = await self._adapter()
        if device is None:
            return False
        if device.state < _READY:
            manager = await self._properties(_ROOT, _NM)
            return not all(manager.get(f"Wireless{part}Enabled", True) for part in ("", "Hardware"))
        if _PREPARE <= device.state <= _ACTIVATED:
            return device.state == _ACTIVATED
        looked = (await self._look(device.path, _RADIO)).get("LastScan")
        if looked is None or 0 <= time.clock_gettime(time.CLOCK_BOOTTIME) - looked / 1000 < FRESH:
            return True  # one before NetworkManager 1.12 does not tell when
        await self._ask_to_scan(device)
        return False

    @_understood
    async def forget(self, ssid: str) -> None:
        profiles = [path for path, raw in await self._profiles() if _shown(raw) == ssid]
        if not profiles:
            raise NotFound(f"The car knows no network {ssid!r}, so there is nothing to forget.")
        for path in profiles:
            await self._call(path, _PROFILE, "Delete")

    @_understood
    async def connect(self, ssid: str, password: str = "", hidden: bool = False) -> None:
        async with self._changing:
            device = await self._usable()
            before = await self._profile_of(device)
            point = await self._find(device, ssid, bool(password), hidden)
            profile = _write_profile(ssid, point, password, hidden)
            try:
                async with asyncio.timeout(self._deadline):
                    await self._try(device, profile, point.path if point else _NOTHING, ssid)
            except BaseException as error:
                await asyncio.shield(self._go_back(device, profile, before))
                if isinstance(error, TimeoutError):
                    raise WifiError(
                        f"The network {ssid!r} did not let the car in within {self._deadline:.0f} seconds; "
                        "go nearer, check the password, and try again."
                    ) from error
                raise

    async def _try(self, device: _Device, profile: _Profile, point: str, ssid: str) -> None:
        async with self._signals(device.path) as next_signal:
            options = {"persist": Variant("s", "memory")}  # it is put on the disk when it works
            arguments = (profile.settings, device.path, point, options)
            path, *_ = await self._call(
                _ROOT, _NM, "AddAndActivateConnection2", "a{sa{sv}}ooa{sv}", *arguments, secret=profile.password
            )
            reason = await _outcome(next_signal)
        if reason is not None:
            raise _refusal(ssid, reason)
        if await self._connectivity() == _PORTAL:
            raise LoginNeeded(f"The network {ssid!r} wants a person at a login page; the car needs one without.")
        await self._call(path, _PROFILE, "Save")
        try:
            for other, raw in await self._profiles():
                if raw == profile.raw and other != path:
                    await self._call(other, _PROFILE, "Delete")
        except (DeviceError, *_NONSENSE) as error:
            log.warning("An old profile of the network could not be removed: %s", error)

    async def _connectivity(self) -> int | None:
        """None where it is not known: without the Internet the check takes longer than a call may."""
        try:
            [connectivity] = await self._call(_ROOT, _NM, "CheckConnectivity")
        except (DeviceError, *_NONSENSE) as error:
            log.info("Whether the network leads to the Internet is not known: %s", error)
            return None
        return int(connectivity) if isinstance(connectivity, int) else None

    async def _go_back(self, device: _Device, profile: _Profile, before: str | None) -> None:
        try:
            [path] = await self._call(f"{_ROOT}/Settings", _SETTINGS, "GetConnectionByUuid", "s", profile.id)
            await self._call(path, _PROFILE, "Delete")
        except (DeviceError, *_NONSENSE) as error:
            log.info("Nothing of the new network to take back: %s", error)
        if before is None:
            return
        try:
            async with asyncio.timeout(RETURN), self._signals(device.path) as next_signal:
                await self._call(_ROOT, _NM, "ActivateConnection", "ooo", before, device.path, _NOTHING)
                reason = await _outcome(next_signal)
            if reason is not None:
                log.warning("The old network refused the car too (NetworkManager's reason %d)", reason)
        except (DeviceError, TimeoutError, *_NONSENSE) as error:
            log.warning("The car is not back on the old network yet: %s", str(error) or "it takes its time")

    # What is there

    async def _devices(self) -> list[_Device]:
        values = await self._properties(_ROOT, _NM)
        looks = await asyncio.gather(*(self._look(path, _DEVICE) for path in values["Devices"]))
        return [_Device(path, look) for path, look in zip(values["Devices"], looks, strict=True) if "State" in look]

    async def _adapter(self) -> _Device | None:
        """The Wi-Fi adapter; of several the one that got furthest."""
        adapters = [device for device in await self._devices() if device.values["DeviceType"] == _WIFI]
        return max(adapters, key=lambda device: device.state % _FAILED, default=None)

    async def _usable(self) -> _Device:
        device = await self._adapter()
        if device is None:
            raise NoWifi("The car has no Wi-Fi adapter; plug one in, or use a network cable.")
        if device.state >= _READY:
            return device
        manager = await self._properties(_ROOT, _NM)
        name = device.values.get("Interface", "the adapter")
        if not manager.get("WirelessHardwareEnabled", True):
            raise NoWifi("The Wi-Fi is switched off by a switch or by rfkill; unblock it with: rfkill unblock wifi.")
        if not manager.get("WirelessEnabled", True):
            raise NoWifi("The Wi-Fi is switched off; switch it on with: nmcli radio wifi on.")
        if device.state == _UNMANAGED:
            raise NoWifi(
                f"NetworkManager does not look after {name}; allow it with: nmcli device set {name} managed yes."
            )
        raise NoWifi(f"The Wi-Fi adapter {name} is not ready; try again, and if that does not help restart the car.")

    async def _in_reach(self, device: _Device) -> list[_Point]:
        return await self._points((await self._look(device.path, _RADIO)).get("AccessPoints", []))

    async def _points(self, paths: list[str]) -> list[_Point]:
        looks = await asyncio.gather(*(self._look(path, f"{_NM}.AccessPoint") for path in paths))
        return [
            _Point(path, _raw(look["Ssid"]), min(int(look["Strength"]), 100), _security_of(look))
            for path, look in zip(paths, looks, strict=True)
            if look
        ]

    async def _find(self, device: _Device, ssid: str, locked: bool, hidden: bool) -> _Point | None:
        """The strongest access point of the network, of those that want a password or of those that want none."""
        points = [point for point in await self._in_reach(device) if _shown(point.raw) == ssid]
        if not points:
            _check_name(ssid)
            if hidden:
                return None
            points = await self._search_for(device, ssid)
        name = f"The network {ssid!r}"
        usable = [point for point in points if point.security not in (Security.ENTERPRISE, Security.WEP)]
        if not usable and points[0].security is Security.WEP:
            raise WifiError(f"{name} uses WEP, which protects nothing; set its router to WPA2 or WPA3.")
        if not usable:
            raise WifiError(f"{name} wants a user's name (WPA Enterprise), which the car cannot give; use another one.")
        fitting = [point for point in usable if locked != (point.security in (Security.OPEN, Security.OWE))]
        if not fitting and locked:
            raise WrongPassword(f"{name} is open, yet a password was given; leave it out to join all the same.")
        if not fitting:
            raise WrongPassword(f"{name} wants a password; give it one.")
        return max(fitting, key=lambda point: point.strength)

    async def _search_for(self, device: _Device, ssid: str) -> list[_Point]:
        points: list[_Point] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(self._search), self._signals(device.path) as next_signal:
                await self._ask_to_scan(device)
                looks = 0
                while looks < 2:  # the first may have begun before the network was there
                    _, body = await next_signal()
                    if any(isinstance(part, dict) and "LastScan" in part for part in body):
                        looks += 1
                        await self._ask_to_scan(device)
                    points = await self._in_reach(device)
                    if found := [point for point in points if _shown(point.raw) == ssid]:
                        return found
        points = points or await self._in_reach(device)
        names = sorted({_shown(point.raw) for point in points})
        folded = {name.strip().casefold(): name for name in names if name.isprintable()}
        near = difflib.get_close_matches(ssid.strip().casefold(), folded, 1)
        hint = f"is it {folded[near[0]]!r}?" if near else "check its name, capital letters too, or go nearer."
        raise NotFound(f"No network {ssid!r} is in reach; {hint}")

    async def _ask_to_scan(self, device: _Device) -> None:
        try:
            await self._call(device.path, _RADIO, "RequestScan", "a{sv}", {})
        except WifiError as error:
            log.debug("No new scan now: %s", error)  # the last one was a moment ago

    async def _profile_of(self, device: _Device) -> str | None:
        """The profile that the device uses or is about to use."""
        active = await self._look(device.values.get("ActiveConnection", _NOTHING), f"{_NM}.Connection.Active")
        return active.get("Connection")

    async def _profiles(self) -> list[tuple[str, bytes]]:
        """Every Wi-Fi profile and the name of its network."""
        [paths] = await self._call(f"{_ROOT}/Settings", _SETTINGS, "ListConnections")
        names = await asyncio.gather(*(self._ssid(path) for path in paths))
        return [(path, raw) for path, raw in zip(paths, names, strict=True) if raw]

    async def _ssid(self, profile: str) -> bytes:
        try:
            [settings] = await self._call(profile, _PROFILE, "GetSettings")
        except NotFound:
            return b""
        return _raw(settings.get("802-11-wireless", {}).get("ssid", b""))

    # How it is asked

    async def _call(
        self, path: str, interface: str, member: str, signature: str = "", *body: object, secret: str = ""
    ) -> list[Any]:
        try:
            return await self._bus.call(_NM, path, interface, member, signature, *body, secret=secret)
        except CallError as error:
            raise _in_words(error) from error

    async def _properties(self, path: str, interface: str) -> dict[str, Any]:
        try:
            return await self._bus.properties(_NM, path, interface)
        except CallError as error:
            raise _in_words(error) from error

    async def _look(self, path: str, interface: str) -> dict[str, Any]:
        """The properties of something that may vanish at any moment; then none."""
        try:
            return {} if path == _NOTHING else await self._properties(path, interface)
        except NotFound:
            return {}

    @asynccontextmanager
    async def _signals(self, path: str) -> AsyncIterator[_NextSignal]:
        try:
            async with self._bus.signals(_NM, path) as next_signal:
                yield next_signal
        except CallError as error:
            raise _in_words(error) from error


async def _outcome(next_signal: _NextSignal) -> int | None:
    """How the activation that was just asked for ends: None is well, a number NetworkManager's reason why not.

    What comes before its own beginning belongs to the connection that it replaces.
    """
    begun = False
    while True:
        member, body = await next_signal()
        if member != "StateChanged":
            continue
        state, _, reason = body
        if state == _PREPARE:
            begun = True
        elif reason == _NEW_ACTIVATION:
            begun = False
        elif begun and state == _ACTIVATED:
            return None
        elif begun and (
            state <= _READY or state > _ACTIVATED or (state, reason) == (_NEED_AUTH, _SUPPLICANT_DISCONNECT)
        ):
            return int(reason)


def _refusal(ssid: str, reason: int) -> WifiError:
    """NetworkManager's NMDeviceStateReason in words."""
    name = f"The network {ssid!r}"
    match reason:
        case 7 | 8 | 9 | 10:
            return WrongPassword(f"{name} did not accept the password; check it, capital letters too.")
        case 11:
            return WifiError(f"{name} did not answer; go nearer, and check the password.")
        case 53:
            return NotFound(f"{name} is not in reach any more; go nearer.")
        case 5 | 6 | 15 | 16 | 17:
            return NoAddress(f"{name} gave the car no address; restart the router, or ask who looks after the network.")
        case _:
            return WifiError(f"{name} could not be joined (NetworkManager's reason {reason}); try again.")


def _in_words(error: CallError) -> WifiError:
    if error.absent:
        return NoWifi("NetworkManager does not run; start it with: systemctl start NetworkManager.")
    if error.forbidden:
        return NotPermitted("The car's user may not change networks; run scripts/install-car again, which permits it.")
    if error.name.endswith((".UnknownObject", ".UnknownMethod", ".UnknownInterface", ".InvalidConnection")):
        return NotFound(f"NetworkManager no longer knows what was asked for ({error}) Try again.")
    return WifiError(f"NetworkManager refused ({error.name}): {error}")


def _write_profile(ssid: str, point: _Point | None, password: str, hidden: bool) -> _Profile:
    """Of a network that hides (no point) as if it were WPA2: NetworkManager then tries WPA3 as well."""
    unique, raw = str(uuid.uuid4()), point.raw if point else ssid.encode()
    settings = {
        "connection": {
            "id": Variant("s", ssid),
            "uuid": Variant("s", unique),
            "type": Variant("s", "802-11-wireless"),
        },
        "802-11-wireless": {"ssid": Variant("ay", raw), "hidden": Variant("b", hidden)},
    }
    security = point.security if point else Security.WPA2 if password else Security.OPEN
    if security is Security.OWE:
        settings["802-11-wireless-security"] = {"key-mgmt": Variant("s", "owe")}
    elif security is not Security.OPEN:
        _check_password(password, may_be_short=security is Security.WPA3)
        method = "sae" if security is Security.WPA3 else "wpa-psk"
        settings["802-11-wireless-security"] = {"key-mgmt": Variant("s", method), "psk": Variant("s", password)}
    return _Profile(unique, raw, settings, password)


def _security_of(look: dict[str, Any]) -> Security:
    keys = int(look.get("RsnFlags", 0)) | int(look.get("WpaFlags", 0))
    if keys & _PSK:
        return Security.WPA2
    if keys & _SAE:
        return Security.WPA3
    if keys & _ENTERPRISE:
        return Security.ENTERPRISE
    if keys & _OWE:
        return Security.OWE
    return Security.WEP if int(look.get("Flags", 0)) & _PRIVACY else Security.OPEN


def _check_name(ssid: str) -> None:
    try:
        length = len(ssid.encode())
    except UnicodeEncodeError as error:
        raise NotFound("The network's name holds half a character; type it anew.") from error
    if not 1 <= length <= 32:
        raise NotFound(f"The name of a network has 1 to 32 bytes; this one has {length}.")
    if tells_a_password(ssid):
        raise NotFound("No such network is in reach; its password seems to stand in its name: write it elsewhere.")
    if _CONTROL.search(ssid):
        raise NotFound("The network's name holds a character that cannot be typed; type it anew.")


def _check_password(password: str, may_be_short: bool) -> None:
    """WPA2 wants at least 8 characters (IEEE 802.11-2020, J.4.1), WPA3 does not. Raises WrongPassword."""
    try:
        length = len(password.encode())
    except UnicodeEncodeError:
        raise WrongPassword("The password holds half a character; type it anew.") from None  # it would repeat it
    if _CONTROL.search(password):
        raise WrongPassword("The password holds a character that cannot be typed; type it anew.")
    if length == 64 and _KEY.fullmatch(password):
        return
    if length > 63 or (length < 8 and not may_be_short):
        raise WrongPassword(f"A Wi-Fi password has 8 to 63 characters; this one has {length}.")


def _raw(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError("no bytes")  # bytes(7) would be seven of them
    return value


def _shown(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _is_local(address: str) -> bool:
    """Nobody outside the machine or the link can use it."""
    look = ipaddress.ip_address(address)
    return look.is_loopback or look.is_link_local
