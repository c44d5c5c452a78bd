"""Wi-Fi against python-dbusmock's NetworkManager on a bus of its own."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from dbus_fast import Variant
from hypothesis import given
from hypothesis import strategies as st

from drivers.bus import BusError, SystemBus
from drivers.network_manager import NetworkManager
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
from tests.drivers.private_bus import bus_folder, networkmanager, private_bus

T = TypeVar("T")

NM = "org.freedesktop.NetworkManager"
MANAGER = "/org/freedesktop/NetworkManager"
PASSWORD = "right-password"
WRONG = "canary-password"
PSK, ENTERPRISE, SAE, OWE = 0x100, 0x200, 0x400, 0x800
PATIENCE = 10.0


class Stage:
    """A bus with NetworkManager on it, and what stands around the car."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._bus, self._manager = ExitStack(), ExitStack()
        self.address = ""
        self.process: subprocess.Popen[bytes] | None = None
        self.device = ""
        self.points = 0

    async def open(self) -> None:
        self.address = self._bus.enter_context(private_bus(self.folder))
        self.script = SystemBus(self.address)
        await self.start_manager()

    async def start_manager(self) -> None:
        self.process = self._manager.enter_context(networkmanager(self.address))
        await eventually(lambda: self.mock("GetCalls", ""))

    def stop_manager(self) -> None:
        self._manager.close()

    def stop_bus(self) -> None:
        self._bus.close()
        self._manager.close()

    async def close(self) -> None:
        await self.script.close()
        self.stop_bus()

    async def mock(self, member: str, signature: str, *body: object) -> list[Any]:
        return await self.script.call(NM, "/org/freedesktop", "org.freedesktop.DBus.Mock", member, signature, *body)

    async def put(self, path: str, interface: str, name: str, value: Variant) -> None:
        await self.script.call(NM, path, "org.freedesktop.DBus.Properties", "Set", "ssv", interface, name, value)

    async def add_adapter(self, state: int = 30) -> None:
        [self.device] = await self.mock("AddWiFiDevice", "ssi", "wlan0", "wlan0", state)

    async def add_network(self, name: str, strength: int = 70, security: int = PSK, raw: bytes | None = None) -> None:
        self.points += 1
        arguments = (self.device, f"P{self.points}", name, f"00:00:00:00:00:{self.points:02x}", 2, 2412, 54)
        [path] = await self.mock("AddAccessPoint", "ssssuuuyu", *arguments, strength, security)
        if raw is not None:
            await self.put(path, f"{NM}.AccessPoint", "Ssid", Variant("ay", raw))

    async def let_scans_end(self) -> None:
        radio = f"{NM}.Device.Wireless"
        news = (
            f"'org.freedesktop.DBus.Properties', 'PropertiesChanged', 'sa{{sv}}as', ['{radio}', {{'LastScan': 1}}, []]"
        )
        method = (radio, "RequestScan", "a{sv}", "", f"self.EmitSignal({news})")
        await self.script.call(NM, self.device, "org.freedesktop.DBus.Mock", "AddMethod", "sssss", *method)

    async def profiles(self) -> list[dict[str, Any]]:
        settings = f"{NM}.Settings"
        [paths] = await self.script.call(NM, "/org/freedesktop/NetworkManager/Settings", settings, "ListConnections")
        found = []
        for path in paths:
            [profile] = await self.script.call(NM, path, f"{settings}.Connection", "GetSettings")
            unsaved = await self.script.properties(NM, path, f"{settings}.Connection")
            found.append(profile | {"unsaved": unsaved["Unsaved"]})
        return found

    async def settle(self, wifi: NetworkManager, ssid: str) -> None:
        async def there() -> None:
            now = await wifi.wifi()
            assert (now.ssid, now.connecting) == (ssid, False)

        await eventually(there)


async def eventually(check: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await check()
                return
            except (AssertionError, DeviceError):
                await asyncio.sleep(0.01)


@pytest.fixture
def folder() -> Iterator[Path]:
    with bus_folder() as folder:
        yield folder


@pytest.fixture
async def bare(folder: Path) -> AsyncIterator[Stage]:
    """NetworkManager on a machine without Wi-Fi."""
    stage = Stage(folder)
    try:
        await stage.open()
        yield stage
    finally:
        await stage.close()


@pytest.fixture
async def stage(bare: Stage) -> Stage:
    """An adapter, and two networks in reach."""
    await bare.add_adapter()
    await bare.add_network("Home", 80)
    await bare.add_network("Club", 60)
    return bare


@pytest.fixture
async def wifi(bare: Stage) -> AsyncIterator[NetworkManager]:
    wifi = NetworkManager(SystemBus(bare.address, patience=1.0), deadline=5.0, search=0.5)
    yield wifi
    await wifi.close()


# What is there


async def test_a_car_on_no_network_says_so_and_makes_nothing_up(stage: Stage, wifi: NetworkManager) -> None:
    assert await wifi.wifi() == Wifi(True, None, None, False, "11:22:33:44:55:66")
    assert await wifi.known() == []
    assert await wifi.addresses() == []


async def test_a_machine_without_an_adapter_has_no_wifi_which_is_no_fault(bare: Stage, wifi: NetworkManager) -> None:
    assert await wifi.wifi() == Wifi()
    for verb in (wifi.scan(), wifi.connect("Home", PASSWORD)):
        with pytest.raises(NoWifi, match="no Wi-Fi adapter"):
            await verb


async def test_an_adapter_that_is_switched_off_says_how_to_switch_it_on(bare: Stage, wifi: NetworkManager) -> None:
    await bare.add_adapter(state=20)
    assert not (await wifi.wifi()).available
    with pytest.raises(NoWifi, match="not ready"):
        await wifi.scan()
    for name, advice in (("WirelessEnabled", "nmcli radio wifi on"), ("WirelessHardwareEnabled", "rfkill unblock")):
        await bare.put("/org/freedesktop/NetworkManager", NM, name, Variant("b", False))
        with pytest.raises(NoWifi, match=advice):
            await wifi.connect("Home", PASSWORD)


async def test_an_adapter_that_networkmanager_leaves_alone_says_so(bare: Stage, wifi: NetworkManager) -> None:
    await bare.add_adapter(state=10)
    with pytest.raises(NoWifi, match="managed yes"):
        await wifi.scan()


async def test_a_scan_lists_each_name_once_the_strongest_first(stage: Stage, wifi: NetworkManager) -> None:
    await stage.add_network("Club", 90)
    await stage.add_network("Open", 10, 0)
    await stage.add_network("New", 11, SAE)
    await stage.add_network("Office", 12, ENTERPRISE)
    await stage.add_network("Quiet", 13, OWE)
    await stage.add_network("", 99)
    await stage.add_network("Latin", 14, PSK, raw=b"caf\xe9")
    assert await wifi.scan() == [
        Seen("Club", 90, Security.WPA2),
        Seen("Home", 80, Security.WPA2),
        Seen("caf\\xe9", 14, Security.WPA2),
        Seen("Quiet", 13, Security.OWE),
        Seen("Office", 12, Security.ENTERPRISE),
        Seen("New", 11, Security.WPA3),
        Seen("Open", 10, Security.OPEN),
    ]


async def test_addresses_are_those_that_others_can_reach_with_ipv4_first(stage: Stage, wifi: NetworkManager) -> None:
    for version, addresses in ((4, ["192.168.1.7", "169.254.1.1"]), (6, ["fe80::1", "2001:db8::7", "::1"])):
        path, interface = f"/org/freedesktop/NetworkManager/IP{version}Config/1", f"{NM}.IP{version}Config"
        entries = [{"address": Variant("s", address), "prefix": Variant("u", 24)} for address in addresses]
        await stage.mock(
            "AddObject", "ssa{sv}a(ssss)", path, interface, {"AddressData": Variant("aa{sv}", entries)}, []
        )
        properties = {f"Ip{version}Config": Variant("o", path)}
        await stage.script.call(
            NM, stage.device, "org.freedesktop.DBus.Mock", "AddProperties", "sa{sv}", f"{NM}.Device", properties
        )
    assert await wifi.places() == [Place("wlan0", "192.168.1.7"), Place("wlan0", "2001:db8::7")]
    assert await wifi.addresses() == ["192.168.1.7", "2001:db8::7"]


# Power-on: the adapter comes later than the car's daemon


def just_now() -> Variant:
    return Variant("x", int(time.clock_gettime(time.CLOCK_BOOTTIME) * 1000))


async def test_an_adapter_that_comes_later_is_waited_for_until_it_has_looked_around(
    bare: Stage, wifi: NetworkManager
) -> None:
    ready = asyncio.create_task(wifi.ready())
    await asyncio.wait([ready], timeout=0.1)
    assert not ready.done()
    await bare.add_adapter(state=20)
    properties = {"LastScan": Variant("x", -1)}
    await bare.script.call(
        NM, bare.device, "org.freedesktop.DBus.Mock", "AddProperties", "sa{sv}", f"{NM}.Device.Wireless", properties
    )
    await asyncio.wait([ready], timeout=0.6)
    assert not ready.done()
    await bare.put(bare.device, f"{NM}.Device", "State", Variant("u", 30))
    await eventually(lambda: _asked_to_scan(bare))
    assert not ready.done()
    await bare.add_network("Home")
    await bare.put(bare.device, f"{NM}.Device.Wireless", "LastScan", just_now())
    await asyncio.wait_for(ready, PATIENCE)
    await wifi.connect("Home", PASSWORD)
    assert (await wifi.wifi()).ssid == "Home"


async def test_a_network_that_the_car_joins_by_itself_meanwhile_is_waited_for(
    stage: Stage, wifi: NetworkManager
) -> None:
    await stage.put(stage.device, f"{NM}.Device", "State", Variant("u", 50))
    ready = asyncio.create_task(wifi.ready())
    await asyncio.wait([ready], timeout=0.1)
    assert not ready.done()
    await stage.put(stage.device, f"{NM}.Device", "State", Variant("u", 100))
    await asyncio.wait_for(ready, PATIENCE)


@pytest.mark.parametrize("switch", ["WirelessEnabled", "WirelessHardwareEnabled"])
async def test_an_adapter_that_is_switched_off_is_not_waited_for(bare: Stage, switch: str) -> None:
    await bare.add_adapter(state=20)
    await bare.put("/org/freedesktop/NetworkManager", NM, switch, Variant("b", False))
    wifi = NetworkManager(SystemBus(bare.address), ready=10 * PATIENCE)
    await asyncio.wait_for(wifi.ready(), PATIENCE)
    await wifi.close()


async def test_an_adapter_that_never_comes_is_waited_for_no_longer_than_that(bare: Stage) -> None:
    wifi = NetworkManager(SystemBus(bare.address), ready=0.1)
    await asyncio.wait_for(wifi.ready(), PATIENCE)
    bare.stop_bus()
    await asyncio.wait_for(wifi.ready(), PATIENCE)
    await wifi.close()


# Joining


@pytest.mark.parametrize(
    ("name", "security", "password", "method"),
    [
        ("Home", PSK, PASSWORD, "wpa-psk"),
        ("New", SAE, PASSWORD, "sae"),
        ("Both", SAE | PSK, PASSWORD, "wpa-psk"),
        ("Open", 0, "", None),
        ("Quiet", OWE, "", "owe"),
        ("caf\\xe9", PSK, PASSWORD, "wpa-psk"),
        ('Überholspur\'s 2: "x" = y', PSK, PASSWORD, "wpa-psk"),
    ],
)
async def test_networks_of_every_kind_are_joined_and_remembered(
    stage: Stage, wifi: NetworkManager, name: str, security: int, password: str, method: str | None
) -> None:
    raw = b"caf\xe9" if name == "caf\\xe9" else name.encode()
    await stage.add_network(name, 50, security, raw)
    await wifi.connect(name, password)
    assert (await wifi.wifi()).ssid == name
    assert await wifi.known() == [name]
    [profile] = await stage.profiles()
    assert profile["802-11-wireless"]["ssid"] == raw
    assert profile.get("802-11-wireless-security", {}).get("key-mgmt") == method
    assert not profile["unsaved"]


@pytest.mark.parametrize(("password", "method"), [(PASSWORD, "wpa-psk"), ("", None)])
async def test_a_network_that_hides_is_joined_without_being_seen(
    stage: Stage, wifi: NetworkManager, password: str, method: str | None
) -> None:
    await wifi.connect("Hidden", password, hidden=True)
    [profile] = await stage.profiles()
    assert profile["802-11-wireless"]["hidden"]
    assert profile.get("802-11-wireless-security", {}).get("key-mgmt") == method


async def test_a_network_that_comes_in_reach_while_it_is_looked_for_is_joined(
    stage: Stage, wifi: NetworkManager
) -> None:
    patient = NetworkManager(SystemBus(stage.address), search=PATIENCE)
    joining = asyncio.create_task(patient.connect("Late", PASSWORD))
    await eventually(lambda: _asked_to_scan(stage))
    await stage.add_network("Late")
    await joining
    assert (await wifi.wifi()).ssid == "Late"
    await patient.close()


async def _asked_to_scan(stage: Stage) -> None:
    [calls] = await stage.script.call(
        NM, stage.device, "org.freedesktop.DBus.Mock", "GetMethodCalls", "s", "RequestScan"
    )
    assert calls


@pytest.mark.parametrize(
    ("asked", "words"), [("home", "is it 'Home'"), (" Club", "is it 'Club'"), ("Zebra 99", "check its name")]
)
async def test_a_name_that_a_new_look_does_not_find_brings_the_nearest_one(
    stage: Stage, asked: str, words: str
) -> None:
    await stage.let_scans_end()
    patient = NetworkManager(SystemBus(stage.address), search=10 * PATIENCE)
    with pytest.raises(NotFound, match=words):
        await asyncio.wait_for(patient.connect(asked, PASSWORD), PATIENCE)
    await patient.close()


async def test_a_radio_that_does_not_look_holds_up_nobody(stage: Stage) -> None:
    wifi = NetworkManager(SystemBus(stage.address), search=0.1)
    with pytest.raises(NotFound, match="No network 'Zebra' is in reach"):
        await wifi.connect("Zebra", PASSWORD)
    await wifi.close()


class Offline(SystemBus):
    """The check of a network that leads nowhere takes longer than a call may."""

    async def call(
        self, service: str, path: str, interface: str, member: str, signature: str = "", *body: object, secret: str = ""
    ) -> list[Any]:
        if member == "CheckConnectivity":
            raise BusError("NetworkManager does not answer.")
        return await super().call(service, path, interface, member, signature, *body, secret=secret)


async def test_a_network_whose_way_to_the_internet_is_not_known_is_kept(stage: Stage) -> None:
    wifi = NetworkManager(Offline(stage.address))
    await wifi.connect("Home", PASSWORD)
    await stage.settle(wifi, "Home")
    [profile] = await stage.profiles()
    assert not profile["unsaved"]
    await wifi.close()


async def test_a_name_that_holds_a_password_is_not_repeated(stage: Stage, wifi: NetworkManager) -> None:
    await stage.add_network("the password is 5")
    for hidden in (False, True):
        with pytest.raises(NotFound, match="write it elsewhere") as failure:
            await wifi.connect(f"Home password: {PASSWORD}"[:32], PASSWORD, hidden)
        assert PASSWORD[:10] not in "".join(traceback.format_exception(failure.value))
    await wifi.connect("the password is 5", PASSWORD)
    assert (await wifi.wifi()).ssid == "the password is 5"


FATES: list[tuple[str, type[WifiError], str]] = [
    ("Club", WrongPassword, "did not accept the password"),
    ("no-address", NoAddress, "no address"),
    ("deaf", WifiError, "did not answer"),
    ("gone", NotFound, "not in reach any more"),
    ("portal", LoginNeeded, "login page"),
    ("forbidden", NotPermitted, "install-car"),
    ("talkative", WifiError, "refused"),
    ("slow", WifiError, "within 1 seconds"),
]


@pytest.mark.parametrize(("name", "kind", "words"), FATES)
async def test_a_network_that_fails_says_why_and_the_old_one_is_back(
    stage: Stage, name: str, kind: type[WifiError], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wifi = NetworkManager(SystemBus(stage.address), deadline=1.0)
    await wifi.connect("Home", PASSWORD)
    if name != "Club":
        await stage.add_network(name)
    password = PASSWORD if name == "portal" else WRONG
    with pytest.raises(kind, match=words) as failure:
        await wifi.connect(name, password)
    assert str(failure.value).endswith(".")
    assert (await wifi.wifi()).ssid == "Home"
    assert await wifi.known() == ["Home"]
    told = "".join(traceback.format_exception(failure.value)) + caplog.text + repr(failure.value.__cause__)
    assert password not in told
    await wifi.close()


async def test_a_new_password_replaces_the_old_one_only_when_it_is_right(stage: Stage, wifi: NetworkManager) -> None:
    await wifi.connect("Home", PASSWORD)
    [old] = await stage.profiles()
    with pytest.raises(WrongPassword):
        await wifi.connect("Home", WRONG)
    assert await stage.profiles() == [old]
    await wifi.connect("Home", PASSWORD)
    [new] = await stage.profiles()
    assert new["connection"]["uuid"] != old["connection"]["uuid"]
    assert (await wifi.wifi()).ssid == "Home"


async def test_whoever_gives_up_joining_is_back_on_the_old_network(stage: Stage, wifi: NetworkManager) -> None:
    await wifi.connect("Home", PASSWORD)
    await stage.add_network("slow")
    joining = asyncio.create_task(wifi.connect("slow", PASSWORD))

    async def begun() -> None:
        assert (await wifi.wifi()).connecting

    await eventually(begun)
    joining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await joining
    assert (await wifi.wifi()).ssid == "Home"
    assert await wifi.known() == ["Home"]


async def test_two_who_join_at_once_wait_for_each_other(stage: Stage, wifi: NetworkManager) -> None:
    await asyncio.gather(wifi.connect("Home", PASSWORD), wifi.connect("Club", PASSWORD))
    assert (await wifi.wifi()).ssid == "Club"
    assert await wifi.known() == ["Club", "Home"]


@pytest.mark.parametrize(
    ("name", "password", "kind", "words"),
    [
        ("Home", "7 signs", WrongPassword, "8 to 63 characters; this one has 7"),
        ("Home", "x" * 64, WrongPassword, "this one has 64"),
        ("Home", "half \udc80 a sign", WrongPassword, "half a character"),
        ("Home", "tab\tand more", WrongPassword, "cannot be typed"),
        ("Home", "", WrongPassword, "wants a password"),
        ("Open", PASSWORD, WrongPassword, "is open"),
        ("Office", PASSWORD, WifiError, "Enterprise"),
        ("Old", PASSWORD, WifiError, "WEP"),
        ("", PASSWORD, NotFound, "1 to 32 bytes"),
        ("é" * 17, PASSWORD, NotFound, "has 34"),
        ("half \udc80", PASSWORD, NotFound, "half a character"),
        ("line\nbreak", PASSWORD, NotFound, "cannot be typed"),
    ],
)
async def test_what_cannot_work_is_refused_before_anything_is_left(
    stage: Stage, wifi: NetworkManager, name: str, password: str, kind: type[WifiError], words: str
) -> None:
    await wifi.connect("Club", PASSWORD)
    await stage.add_network("Open", security=0)
    await stage.add_network("Office", security=ENTERPRISE)
    await stage.add_network("Old")
    old = f"/org/freedesktop/NetworkManager/AccessPoint/P{stage.points}"
    for flags in ("RsnFlags", "WpaFlags"):
        await stage.put(old, f"{NM}.AccessPoint", flags, Variant("u", 0))
    with pytest.raises(kind, match=words) as failure:
        await wifi.connect(name, password)
    assert not password or password not in "".join(traceback.format_exception(failure.value))
    assert (await wifi.wifi()).ssid == "Club"


async def test_a_key_of_64_hexadecimal_digits_is_a_password(stage: Stage, wifi: NetworkManager) -> None:
    with pytest.raises(WrongPassword, match="did not accept"):
        await wifi.connect("Home", "0aF" * 21 + "0")


async def test_what_is_forgotten_is_known_no_more(stage: Stage, wifi: NetworkManager) -> None:
    await wifi.connect("Home", PASSWORD)
    await wifi.connect("Club", PASSWORD)
    await wifi.forget("Home")
    assert await wifi.known() == ["Club"]
    await wifi.forget("Club")
    assert (await wifi.wifi()).ssid is None
    with pytest.raises(NotFound, match="knows no network 'Club'"):
        await wifi.forget("Club")


# NetworkManager talks nonsense


@pytest.mark.parametrize(
    ("interface", "name", "value"),
    [
        (f"{NM}.Device", "State", Variant("s", "on")),
        (f"{NM}.Device.Wireless", "AccessPoints", Variant("u", 7)),
    ],
)
async def test_a_property_that_is_none_is_an_error_in_words(
    stage: Stage, interface: str, name: str, value: Variant
) -> None:
    await stage.script.call(
        NM, stage.device, "org.freedesktop.DBus.Mock", "UpdateProperties", "sa{sv}", interface, {name: value}
    )
    wifi = NetworkManager(SystemBus(stage.address), search=0.1, ready=0.1)
    await wifi.ready()
    with pytest.raises(WifiError, match="no answer"):
        await wifi.scan()
    await wifi.close()


class Babble(SystemBus):
    """Answers of which anything may be wrong; at first glance they are in order."""

    def __init__(self, answers: st.DataObject) -> None:
        super().__init__()
        self.answers = answers

    def say(self, sense: object) -> Any:
        return self.answers.draw(st.one_of(st.just(sense), st.just(sense), NONSENSE))

    async def properties(self, service: str, path: str, interface: str) -> dict[str, Any]:
        address = [{"address": self.say("192.168.1.7")}]
        senses = {
            NM: {"Devices": self.say(["/d"])},
            f"{NM}.Device": {"State": self.say(100), "DeviceType": self.say(2), "Ip4Config": self.say("/ip")}
            | {"ActiveConnection": self.say("/active")},
            f"{NM}.Device.Wireless": {"ActiveAccessPoint": self.say("/ap"), "AccessPoints": self.say(["/ap"])}
            | {"LastScan": self.say(1)},
            f"{NM}.AccessPoint": {"Ssid": self.say(b"Home"), "Strength": self.say(70), "RsnFlags": self.say(PSK)},
            f"{NM}.IP4Config": {"AddressData": self.say(address)},
            f"{NM}.Connection.Active": {"Connection": self.say("/profile")},
        }
        values = senses.get(interface, {})
        said: dict[str, Any] = self.say(
            {key: each for key, each in values.items() if self.answers.draw(st.integers(0, 9))}
        )
        return said

    async def call(
        self, service: str, path: str, interface: str, member: str, signature: str = "", *body: object, secret: str = ""
    ) -> list[Any]:
        senses: dict[str, list[object]] = {
            "ListConnections": [["/profile"]],
            "GetSettings": [{"802-11-wireless": self.say({"ssid": self.say(b"Home")})}],
            "AddAndActivateConnection2": ["/profile", "/active", {}],
            "CheckConnectivity": [self.say(4)],
            "GetConnectionByUuid": ["/profile"],
        }
        answer = self.say(senses.get(member, []))
        return answer if isinstance(answer, list) else []

    @asynccontextmanager
    async def signals(self, service: str, path: str) -> AsyncIterator[Callable[[], Any]]:
        bodies = iter([[40, 30, 0], [100, 70, 0]])

        async def next_signal() -> tuple[str, Any]:
            body = next(bodies, None)
            if body is None:
                raise BusError("The end.")
            return "StateChanged", self.say(body)

        yield next_signal


NONSENSE = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**64),
    st.text(max_size=4),
    st.binary(max_size=4),
    st.floats(),
    st.lists(st.integers(0, 9), max_size=3),
    st.dictionaries(st.text(max_size=3), st.none(), max_size=2),
)


@given(st.data())
def test_whatever_networkmanager_answers_nothing_but_a_deviceerror_comes(data: st.DataObject) -> None:
    async def ask() -> None:
        wifi = NetworkManager(Babble(data), deadline=1.0, search=0.01, ready=0.0)
        changes = (partial(wifi.connect, "Home", PASSWORD), partial(wifi.forget, "Home"))
        for verb in (wifi.places, wifi.wifi, wifi.scan, wifi.known, wifi.ready, *changes):
            with suppress(DeviceError):
                await verb()

    asyncio.run(ask())


# NetworkManager and D-Bus come and go


async def test_without_networkmanager_it_says_so_and_works_again_when_it_is_back(
    stage: Stage, wifi: NetworkManager
) -> None:
    await wifi.scan()
    stage.stop_manager()
    for verb in (wifi.scan(), wifi.wifi(), wifi.known(), wifi.addresses(), wifi.connect("Home", PASSWORD)):
        with pytest.raises(NoWifi, match="systemctl start NetworkManager"):
            await verb
    await stage.start_manager()
    await stage.add_adapter()
    assert (await wifi.wifi()).available


async def test_networkmanager_that_dies_while_joining_is_told_at_once(stage: Stage, wifi: NetworkManager) -> None:
    await stage.add_network("slow")
    joining = asyncio.create_task(wifi.connect("slow", PASSWORD))
    await eventually(lambda: _connecting(wifi))
    stage.stop_manager()
    with pytest.raises(NoWifi, match="systemctl start NetworkManager"):
        await asyncio.wait_for(joining, 2.0)


async def _connecting(wifi: NetworkManager) -> None:
    assert (await wifi.wifi()).connecting


async def test_networkmanager_that_does_not_answer_is_a_fault_and_holds_up_nobody(stage: Stage) -> None:
    wifi = NetworkManager(SystemBus(stage.address, patience=0.2))
    assert (await wifi.wifi()).available
    assert stage.process is not None
    stage.process.send_signal(signal.SIGSTOP)
    with pytest.raises(BusError, match="does not answer"):
        await wifi.wifi()
    stage.process.send_signal(signal.SIGCONT)
    assert (await wifi.wifi()).available
    await wifi.close()


async def test_without_the_bus_it_says_so_and_works_again_when_it_is_back(stage: Stage, wifi: NetworkManager) -> None:
    await stage.add_network("slow")
    joining = asyncio.create_task(wifi.connect("slow", PASSWORD))
    await eventually(lambda: _connecting(wifi))
    stage.stop_bus()
    with pytest.raises(BusError, match="start D-Bus"):
        await asyncio.wait_for(joining, 2.0)
    for verb in (wifi.scan(), wifi.wifi(), wifi.forget("Home")):
        with pytest.raises(BusError, match="start D-Bus"):
            await verb
    await stage.script.close()
    await stage.open()
    await stage.add_adapter()
    assert (await wifi.wifi()).available


async def test_closing_twice_is_no_fault_and_a_later_call_connects_anew(stage: Stage, wifi: NetworkManager) -> None:
    await wifi.wifi()
    await wifi.close()
    await wifi.close()
    assert (await wifi.wifi()).available


async def test_a_long_life_leaves_no_task_and_no_match_behind(stage: Stage, wifi: NetworkManager) -> None:
    await wifi.connect("Home", PASSWORD)
    before = len(asyncio.all_tasks())
    for _ in range(3):
        with pytest.raises(WrongPassword):
            await wifi.connect("Club", WRONG)
    assert len(asyncio.all_tasks()) == before
