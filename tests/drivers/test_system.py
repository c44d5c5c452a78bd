"""The computer in the car, asked over a real bus: each verb does one thing, and what fails is told in words."""

from __future__ import annotations

import asyncio
import logging
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from drivers.bus import SystemBus
from drivers.rig import DeviceError
from drivers.system import System, time_zones
from tests.drivers.system_services import PasswordSetter, Services, machine, password_setter

FORBIDDEN = "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"
VERBS: dict[str, tuple[str, str, Callable[[System], Awaitable[object]]]] = {
    "LoadUnit": ("systemd", "switch SSH", lambda system: system.ssh()),
    "StartUnit": ("systemd", "switch SSH", lambda system: system.switch_ssh(True)),
    "SetStaticHostname": ("systemd-hostnamed", "change the host name", lambda system: system.rename("pit")),
    "SetTimezone": ("systemd-timedated", "change the time zone", lambda system: system.set_time_zone("UTC")),
    "CanReboot": ("systemd-logind", "restart the car", lambda system: system.check_power()),
    "Reboot": ("systemd-logind", "restart the car", lambda system: system.reboot()),
    "PowerOff": ("systemd-logind", "switch the car off", lambda system: system.power_off()),
}


@pytest_asyncio.fixture
async def services() -> AsyncIterator[Services]:
    async with machine() as services:
        yield services


@pytest_asyncio.fixture
async def system(services: Services) -> AsyncIterator[System]:
    system = System(SystemBus(services.address, patience=2.0), deadline=2.0)
    yield system
    await system.close()


async def refusal(asked: Awaitable[object]) -> str:
    """The one sentence with which this fails."""
    with pytest.raises(DeviceError) as failure:
        await asked
    assert str(failure.value).endswith(".")
    return str(failure.value)


# What is done -------------------------------------------------------------------------------------------------------


async def test_ssh_is_switched_by_one_unit_each_way_and_done_on_return(services: Services, system: System) -> None:
    assert not await system.ssh()
    await system.switch_ssh(True)
    assert services.ssh
    assert await system.ssh()
    await system.switch_ssh(False)
    assert not await system.ssh()
    assert services.orders == [
        ("StartUnit", ["hotlap-ssh@enable.service", "replace"]),
        ("StartUnit", ["hotlap-ssh@disable.service", "replace"]),
    ]


async def test_ssh_whose_socket_waits_is_on(services: Services, system: System) -> None:
    services.socket = True
    assert await system.ssh()


async def test_ssh_is_switched_one_way_at_a_time(services: Services, system: System) -> None:
    services.result = None
    first = asyncio.create_task(system.switch_ssh(True))
    second = asyncio.create_task(system.switch_ssh(False))
    async with asyncio.timeout(5):
        while not services.orders:
            await asyncio.sleep(0)
        await system.host_name()
    assert len(services.orders) == 1
    services.result = "done"
    services.end("hotlap-ssh@enable.service")
    await asyncio.gather(first, second)
    assert not services.ssh


async def test_the_host_name_is_read_and_changed(services: Services, system: System) -> None:
    assert await system.host_name() == "amss-1234"
    await system.rename("Pit-Lane-7")
    assert await system.host_name() == "Pit-Lane-7"
    assert services.orders == [("SetStaticHostname", ["Pit-Lane-7", False])]
    services.host = ""
    assert await system.host_name() == "fallback"


async def test_the_time_zone_is_read_and_changed(services: Services, system: System) -> None:
    assert await system.time_zone() == "Etc/UTC"
    await system.set_time_zone("Europe/Berlin")
    assert await system.time_zone() == "Europe/Berlin"
    assert services.orders == [("SetTimezone", ["Europe/Berlin", False])]


async def test_the_car_is_restarted_and_switched_off(services: Services, system: System) -> None:
    await system.check_power()
    assert services.orders == []
    await system.reboot()
    await system.power_off()
    assert services.orders == [("Reboot", [False]), ("PowerOff", [False])]


# What is not --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "-pit", "pit-", "pit lane", "pit.lane", "pit_lane", "pìt", "x" * 64, "LocalHost"])
async def test_what_is_no_host_name_is_not_asked_for(services: Services, system: System, name: str) -> None:
    assert "choose another one" in await refusal(system.rename(name))
    assert services.orders == []


@given(name=st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", fullmatch=True) | st.text(max_size=70))
def test_whatever_the_name_only_a_label_gets_as_far_as_the_bus(name: str) -> None:
    async def ask() -> str:
        return await refusal(System(SystemBus("unix:path=/nowhere")).rename(name))

    inner = name.strip("-") == name and name.replace("-", "x").isalnum() and name.isascii()
    is_label = inner and len(name) <= 63 and name.lower() != "localhost"
    assert asyncio.run(ask()).startswith("The system bus" if is_label else "A host name has")


@pytest.mark.parametrize("zone", ["", "Middle/Earth", "../../etc/passwd", "localtime", "europe/berlin", "\x00"])
async def test_what_is_no_time_zone_is_not_asked_for(services: Services, system: System, zone: str) -> None:
    assert "There is no time zone" in await refusal(system.set_time_zone(zone))
    assert services.orders == []


def test_the_zones_to_choose_from_are_sorted_and_lead_nowhere_else() -> None:
    zones = time_zones()
    assert zones == sorted(zones)
    assert {"UTC", "Europe/Berlin", "America/New_York"} <= set(zones)
    assert "localtime" not in zones


@pytest.mark.parametrize("member", VERBS)
async def test_a_verb_that_is_not_permitted_says_how_to_permit_it(
    services: Services, system: System, member: str
) -> None:
    _, wish, verb = VERBS[member]
    services.refusals[member] = FORBIDDEN
    words = f"The car's user may not {wish}; run scripts/install-car again, which permits it."
    assert await refusal(verb(system)) == words
    services.refusals.clear()
    await verb(system)


@pytest.mark.parametrize("member", VERBS)
async def test_a_verb_that_is_refused_gives_the_service_s_reason(
    services: Services, system: System, member: str
) -> None:
    program, wish, verb = VERBS[member]
    services.refusals[member] = "org.freedesktop.login1.BlockedByInhibitorLock"
    told = await refusal(verb(system))
    assert told.startswith(f"{program} did not {wish} ")
    assert "That will not do." in told


@pytest.mark.parametrize("member", VERBS)
async def test_a_service_that_does_not_answer_holds_up_nobody(services: Services, member: str) -> None:
    system = System(SystemBus(services.address, patience=0.1))
    services.mute = {member}
    assert "does not answer" in await refusal(VERBS[member][2](system))
    services.mute = set()
    await VERBS[member][2](system)
    await system.close()


async def test_services_that_are_not_there_are_named_and_found_when_they_come(
    services: Services, system: System
) -> None:
    await services.close()
    await services.open("systemd1", "hostname1", "timedate1", "login1")
    for program, wish, verb in VERBS.values():
        assert await refusal(verb(system)) == f"{program} does not run on this machine; {wish} by hand."
    await services.close()
    await services.open()
    for _, _, verb in VERBS.values():
        await verb(system)


async def test_without_a_bus_every_verb_says_so() -> None:
    system = System(SystemBus("unix:path=/nowhere"))
    for _, _, verb in VERBS.values():
        assert "The system bus cannot be reached" in await refusal(verb(system))
    await system.close()
    await system.close()


async def test_ssh_that_cannot_be_switched_says_why(services: Services, system: System) -> None:
    services.absent_units = {"ssh.service"}
    assert "openssh-server" in await refusal(system.ssh())
    services.absent_units = {"hotlap-ssh@enable.service"}
    assert "install-car" in await refusal(system.ssh())
    services.absent_units = set()
    services.polkit = "0.105"
    assert "cannot permit SSH alone" in await refusal(system.ssh())
    await services.close()
    await services.open("PolicyKit1")
    assert not await system.ssh(), "without polkit it is up to systemd"


async def test_a_unit_that_fails_or_never_ends_is_an_error(services: Services) -> None:
    system = System(SystemBus(services.address), deadline=0.2)
    services.result = "failed"
    told = await refusal(system.switch_ssh(True))
    assert told == "SSH could not be switched on (failed); look why with: journalctl -u hotlap-ssh@enable.service."
    services.result = None
    told = await refusal(system.switch_ssh(False))
    assert told == "SSH is still not switched off; look why with: journalctl -u hotlap-ssh@disable.service."
    services.result = "done"
    await system.switch_ssh(True)
    await system.close()


async def test_systemd_that_is_started_anew_meanwhile_leaves_nobody_waiting(services: Services) -> None:
    system = System(SystemBus(services.address), deadline=10.0)
    services.result = None
    switching = asyncio.create_task(system.switch_ssh(True))
    async with asyncio.timeout(5):
        while not services.orders:
            await asyncio.sleep(0)
        await services.close()
        assert "does not run" in await refusal(switching)
    await services.open()
    await system.close()


@pytest.mark.parametrize(("answer", "words"), [("na", "by hand"), ("challenge", "may not restart"), ("no", "may not")])
@pytest.mark.parametrize("question", ["CanReboot", "CanPowerOff"])
async def test_a_car_that_cannot_be_switched_off_says_so_beforehand(
    services: Services, system: System, question: str, answer: str, words: str
) -> None:
    services.can = {question: answer}
    assert words in await refusal(system.check_power())


@pytest.mark.parametrize("garble", [("", []), ("as", [["?"]]), ("i", [7])])
async def test_nonsense_is_no_answer(services: Services, system: System, garble: tuple[str, list[object]]) -> None:
    services.garbled = dict.fromkeys(("GetAll", "LoadUnit"), garble)
    for asked in (system.ssh(), system.host_name(), system.time_zone()):
        assert "answers what is no answer" in await refusal(asked)
    services.garbled = {"GetAll": garble}
    assert "answers what is no answer" in await refusal(system.ssh())
    services.garbled = {"CanReboot": garble}
    await refusal(system.check_power())
    services.garbled = {}
    assert not await system.ssh()


async def test_a_machine_that_has_no_name_and_no_zone_yet_has_none(services: Services, system: System) -> None:
    services.zone = services.host = services.transient = ""
    assert await system.host_name() == ""
    assert await system.time_zone() == ""


# SSH's password -----------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def setter() -> AsyncIterator[PasswordSetter]:
    with tempfile.TemporaryDirectory() as folder:
        async with password_setter(Path(folder)) as setter:
            yield setter


def setting(setter: PasswordSetter, deadline: float = 5.0) -> System:
    return System(SystemBus("unix:path=/nowhere"), deadline, setter.socket, setter.account)


async def test_sshs_password_is_one_line_on_the_socket_and_in_no_log(
    setter: PasswordSetter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    system = setting(setter)
    assert await system.ssh_account() == "pit"
    await system.set_ssh_password("drei: Wälder ☃")
    assert setter.lines == ["drei: Wälder ☃\n".encode()]
    assert "SSH's password was set for pit." in caplog.text
    assert "Wälder" not in caplog.text


async def test_two_passwords_at_once_are_set_one_after_the_other(setter: PasswordSetter) -> None:
    system = setting(setter)
    setter.answer = None
    first = asyncio.create_task(system.set_ssh_password("the first of two"))
    async with asyncio.timeout(5):
        while not setter.lines:
            await asyncio.sleep(0)
    setter.answer = b"ok\n"
    second = asyncio.create_task(system.set_ssh_password("the second of two"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(setter.lines) == 1
    first.cancel()
    await second
    assert setter.lines[-1] == b"the second of two\n"


@pytest.mark.parametrize(
    "password",
    [
        "",
        "short",
        "x" * 129,
        "\U0001f697" * 128,
        "two\nlines of it",
        "a tab\tin it",
        "a nul\0in it",
        "half \ud800 pair",
    ],
)
async def test_what_cannot_be_a_password_of_ssh_is_refused_before_it_is_sent(
    setter: PasswordSetter, password: str
) -> None:
    assert "8 to 128 characters" in await refusal(setting(setter).set_ssh_password(password))
    assert setter.lines == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"No account is named for it.\n", "No account is named for it."),
        (b"", "was not set; look why with: journalctl -u 'hotlap-ssh-password@*'."),
        (b"x" * 5000, "cannot be reached"),
    ],
)
async def test_what_goes_wrong_with_sshs_password_is_told(setter: PasswordSetter, answer: bytes, words: str) -> None:
    setter.answer = answer
    assert words in await refusal(setting(setter).set_ssh_password("three odd walruses"))


async def test_whoever_sets_no_password_in_time_is_not_waited_for(setter: PasswordSetter) -> None:
    setter.answer = None
    assert "still not set" in await refusal(setting(setter, 0.1).set_ssh_password("three odd walruses"))


@pytest.mark.parametrize("account", [None, b"", b" \n", b"\xff"])
async def test_without_an_account_there_is_no_password_to_set(setter: PasswordSetter, account: bytes | None) -> None:
    setter.account.unlink()
    if account is not None:
        setter.account.write_bytes(account)
    system = setting(setter)
    for asked in (system.ssh_account(), system.set_ssh_password("three odd walruses")):
        assert "No account is named" in await refusal(asked)


async def test_without_its_socket_sshs_password_cannot_be_set(setter: PasswordSetter, tmp_path: Path) -> None:
    system = System(SystemBus("unix:path=/nowhere"), 5.0, tmp_path / "nowhere", setter.account)
    assert "install-car" in await refusal(system.ssh_account())


async def test_a_socket_behind_which_nobody_is_can_be_started_again() -> None:
    with tempfile.TemporaryDirectory() as folder, closing(socket.socket(socket.AF_UNIX)) as deaf:
        setter = PasswordSetter(Path(folder))
        setter.account.write_text("pit")
        deaf.bind(str(setter.socket))
        assert "systemctl restart hotlap-ssh-password.socket" in await refusal(
            setting(setter).set_ssh_password("three odd walruses")
        )
