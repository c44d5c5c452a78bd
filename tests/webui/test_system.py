"""The computer by the console: SSH, host name, time zone, restart and switching off, through to the bus."""

from __future__ import annotations

import asyncio
import logging
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import expect

from calibration.calibration import DEFAULT
from drivers.bus import SystemBus
from drivers.rig import Fittings
from drivers.system import System
from tests.browser import settings_page
from tests.drivers.system_services import PasswordSetter, Services, machine, password_setter
from tests.webui.visits import HERE, PASSWORD, Enter, ask, refused
from vehicle.car import Car
from vehicle.gate import DriveMode
from vehicle.models import ModelStore
from vehicle.settings import Settings
from webui.app import console
from webui.auth import Password
from webui.computer import NO_SYSTEM

ORDERS = [
    ("PUT", "/api/v1/ssh", {"enabled": True}),
    ("PUT", "/api/v1/host_name", {"name": "pit-lane"}),
    ("PUT", "/api/v1/time_zone", {"zone": "Europe/Berlin"}),
    ("POST", "/api/v1/reboot", {}),
    ("POST", "/api/v1/power_off", {}),
]
NEW = "drei: Wälder ☃ im Öl"
SET_SSH_PASSWORD = {"password": PASSWORD, "new": NEW}
FORBIDDEN = "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"


@dataclass(frozen=True)
class Stand:
    """A car with a console, on a machine whose services are the test's own."""

    car: Car
    address: str
    services: Services
    setter: PasswordSetter


async def stand_up(stack: AsyncExitStack, state: Path, password: Password, system: System | None) -> tuple[Car, str]:
    car = Car(Settings(), ModelStore(state), DEFAULT, system=system)
    stack.callback(car.close)
    return car, await stack.enter_async_context(console(car, HERE, password))


@pytest_asyncio.fixture
async def stand(state: Path, password: Password) -> AsyncIterator[Stand]:
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(machine())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        setter = await stack.enter_async_context(password_setter(folder))
        system = System(SystemBus(services.address, patience=2.0), 2.0, setter.socket, setter.account)
        stack.push_async_callback(system.close)
        car, address = await stand_up(stack, state, password, system)
        yield Stand(car, address, services, setter)


def texts_below(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


async def test_ssh_is_switched_and_told(stand: Stand, enter: Enter, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    anna = await enter(stand.address)
    off, on = ({"enabled": enabled, "switchable": True, "reason": ""} for enabled in (False, True))
    assert await ask(anna, "GET", "/api/v1/ssh") == (200, off)
    assert await ask(anna, "PUT", "/api/v1/ssh", json={"enabled": True}) == (200, on)
    assert await ask(anna, "GET", "/api/v1/ssh") == (200, on)
    assert await ask(anna, "PUT", "/api/v1/ssh", json={"enabled": False}) == (200, off)
    assert "SSH was switched on." in caplog.text


async def test_who_asked_and_went_away_has_switched_ssh_all_the_same(stand: Stand, enter: Enter) -> None:
    anna = await enter(stand.address)
    stand.services.result = None
    asking = asyncio.create_task(ask(anna, "PUT", "/api/v1/ssh", json={"enabled": True}))
    async with asyncio.timeout(5):
        while not stand.services.orders:
            await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    stand.services.result = "done"
    stand.services.end("hotlap-ssh@enable.service")
    assert (await ask(anna, "PUT", "/api/v1/ssh", json={"enabled": False}))[0] == 200
    assert [body[0] for _, body in stand.services.orders][-1] == "hotlap-ssh@disable.service"


async def test_the_host_name_and_the_time_zone_are_changed_and_told(stand: Stand, enter: Enter) -> None:
    anna = await enter(stand.address)
    assert await ask(anna, "GET", "/api/v1/host_name") == (200, {"name": "amss-1234", "changeable": True, "reason": ""})
    _, told = await ask(anna, "PUT", "/api/v1/host_name", json={"name": "pit-lane"})
    assert told == {"name": "pit-lane", "changeable": True, "reason": ""}
    assert "A host name has" in await refused(anna, 409, "PUT", "/api/v1/host_name", json={"name": "pit lane"})
    _, told = await ask(anna, "GET", "/api/v1/time_zone")
    assert (told["zone"], told["changeable"], told["reason"]) == ("Etc/UTC", True, "")
    assert "Europe/Berlin" in told["zones"]
    _, told = await ask(anna, "PUT", "/api/v1/time_zone", json={"zone": "Europe/Berlin"})
    assert told["zone"] == "Europe/Berlin"
    assert "no time zone" in await refused(anna, 409, "PUT", "/api/v1/time_zone", json={"zone": "localtime"})
    assert len(stand.services.orders) == 2


async def test_the_car_is_restarted_and_switched_off_while_it_stands(stand: Stand, enter: Enter) -> None:
    anna = await enter(stand.address)
    assert await ask(anna, "GET", "/api/v1/power") == (200, {"available": True, "reason": ""})
    stand.car.select(DriveMode.MANUAL)
    stand.car.start()
    for verb in ("reboot", "power_off"):
        assert await refused(anna, 409, "POST", f"/api/v1/{verb}", json={}) == "Stop the car first."
    assert stand.services.orders == []
    stand.car.stop()
    assert await ask(anna, "POST", "/api/v1/reboot", json={}) == (200, {})
    assert await ask(anna, "POST", "/api/v1/power_off", json={}) == (200, {})
    assert stand.services.orders == [("Reboot", [False]), ("PowerOff", [False])]


async def test_only_who_may_have_the_wheel_changes_the_computer(stand: Stand, enter: Enter) -> None:
    anna, ben = await enter(stand.address), await enter(stand.address, "Ben")
    assert await ask(anna, "POST", "/api/v1/wheel", json={"wish": "take"}) == (200, {})
    for method, path, body in ORDERS:
        assert (await refused(ben, 409, method, path, json=body)).startswith("Anna has the wheel")
    for path in ("enableSsh", "disableSsh"):
        _, told = await ask(ben, "GET", f"/api/{path}")
        assert not told["success"]
    assert stand.services.orders == []


async def test_what_the_system_refuses_is_told_in_words(stand: Stand, enter: Enter) -> None:
    anna = await enter(stand.address)
    for member in ("StartUnit", "SetStaticHostname", "SetTimezone", "Reboot", "PowerOff"):
        stand.services.refusals[member] = FORBIDDEN
    for method, path, body in ORDERS:
        assert "install-car" in await refused(anna, 409, method, path, json=body)


async def test_without_systemd_the_true_state_is_told_and_why_it_stays(stand: Stand, enter: Enter) -> None:
    anna = await enter(stand.address)
    await stand.services.close()
    await stand.services.open("systemd1", "hostname1", "timedate1", "login1")
    _, ssh = await ask(anna, "GET", "/api/v1/ssh")
    assert (ssh["switchable"], ssh["reason"]) == (False, "systemd does not run on this machine; switch SSH by hand.")
    _, name = await ask(anna, "GET", "/api/v1/host_name")
    assert (name["name"], name["changeable"]) == (socket.gethostname(), False)
    _, zone = await ask(anna, "GET", "/api/v1/time_zone")
    assert not zone["changeable"]
    _, power = await ask(anna, "GET", "/api/v1/power")
    assert not power["available"]
    for told in (name, zone, power):
        assert told["reason"].endswith("by hand.")


async def test_the_check_up_tells_the_cars_faults_at_their_lines(stand: Stand, enter: Enter) -> None:
    anna = await enter(stand.address)
    stand.car.fault("LiDAR", "The LiDAR sends no turn; check its plug.")
    status, findings = await ask(anna, "GET", "/api/v1/doctor")
    assert status == 200
    [lidar] = [finding for finding in findings if finding["what"] == "LiDAR"]
    told = {"what": "LiDAR", "state": "bad", "sentence": "The LiDAR sends no turn.", "advice": "Check its plug."}
    assert lidar == told


async def test_a_console_that_manages_no_computer_says_so(state: Path, password: Password, enter: Enter) -> None:
    async with AsyncExitStack() as stack:
        _, address = await stand_up(stack, state, password, None)
        anna = await enter(address)
        for path, able in (
            ("ssh", "switchable"),
            ("host_name", "changeable"),
            ("time_zone", "changeable"),
            ("power", "available"),
            ("ssh/password", "settable"),
        ):
            _, told = await ask(anna, "GET", f"/api/v1/{path}")
            assert (told[able], told["reason"]) == (False, NO_SYSTEM)
        assert (await ask(anna, "GET", "/api/v1/host_name"))[1]["name"] == socket.gethostname()
        for method, path, body in ORDERS:
            assert await refused(anna, 409, method, path, json=body) == NO_SYSTEM
        assert await refused(anna, 409, "PUT", "/api/v1/ssh/password", json=SET_SSH_PASSWORD) == NO_SYSTEM
        for path in ("enableSsh", "disableSsh"):
            assert await ask(anna, "GET", f"/api/{path}") == (200, {"success": False, "reason": NO_SYSTEM})
        told = {"success": False, "isDefaultSshPasswordChanged": False, "reason": NO_SYSTEM}
        assert await ask(anna, "GET", "/api/isSshDefaultPasswordChanged") == (200, told)


async def test_sshs_password_is_set_and_reaches_no_log_and_no_file(
    stand: Stand, enter: Enter, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    anna = await enter(stand.address)
    told = {"account": "pit", "settable": True, "was_set": False, "reason": ""}
    assert await ask(anna, "GET", "/api/v1/ssh/password") == (200, told)
    assert await ask(anna, "PUT", "/api/v1/ssh/password", json=SET_SSH_PASSWORD) == (200, told | {"was_set": True})
    assert await ask(anna, "GET", "/api/v1/ssh/password") == (200, told | {"was_set": True})
    assert stand.setter.lines == [f"{NEW}\n".encode()]
    assert "SSH's password was set for pit." in caplog.text
    assert "Wälder" not in caplog.text
    assert "Wälder".encode() not in await asyncio.to_thread(texts_below, state)


async def test_sshs_password_needs_the_consoles_once_more_and_guesses_are_counted(stand: Stand, enter: Enter) -> None:
    anna = await enter(stand.address)
    guess = {"password": "a guess at it", "new": NEW}
    for _ in range(4):
        assert "not the console's password" in await refused(anna, 409, "PUT", "/api/v1/ssh/password", json=guess)
    assert (await ask(anna, "PUT", "/api/v1/ssh/password", json=SET_SSH_PASSWORD))[0] == 200, "four are free"
    stand.setter.lines.clear()
    for _ in range(5):
        assert "not the console's password" in await refused(anna, 409, "PUT", "/api/v1/ssh/password", json=guess)
    assert "Too many" in await refused(anna, 429, "PUT", "/api/v1/ssh/password", json=SET_SSH_PASSWORD)
    assert (await ask(anna, "POST", "/api/v1/login", json={"password": PASSWORD}))[0] == 429
    assert stand.setter.lines == []


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ("short", "8 to 128 characters"),
        ("password123", "one of the first"),
        (PASSWORD, "Everybody who drives knows"),
        ("three odd\nwalruses", "no control characters"),
    ],
)
async def test_a_weak_password_of_ssh_is_refused(stand: Stand, enter: Enter, new: str, words: str) -> None:
    anna = await enter(stand.address)
    wish = {"password": PASSWORD, "new": new}
    assert words in await refused(anna, 409, "PUT", "/api/v1/ssh/password", json=wish)
    assert stand.setter.lines == []
    assert not (await ask(anna, "GET", "/api/v1/ssh/password"))[1]["was_set"]


async def test_what_keeps_sshs_password_from_being_set_is_told(stand: Stand, enter: Enter) -> None:
    anna = await enter(stand.address)
    stand.setter.answer = b"The system does not take this password: too short.\n"
    told = await refused(anna, 409, "PUT", "/api/v1/ssh/password", json=SET_SSH_PASSWORD)
    assert told == "The system does not take this password: too short."
    stand.setter.account.unlink()
    assert "No account is named" in await refused(anna, 409, "PUT", "/api/v1/ssh/password", json=SET_SSH_PASSWORD)
    _, told = await ask(anna, "GET", "/api/v1/ssh/password")
    assert (told["account"], told["settable"], told["was_set"]) == ("", False, False)
    assert "No account is named" in told["reason"]


async def test_who_asked_and_went_away_has_set_sshs_password_all_the_same(
    stand: Stand, enter: Enter, state: Path
) -> None:
    anna = await enter(stand.address)
    stand.setter.answer = None
    asking = asyncio.create_task(ask(anna, "PUT", "/api/v1/ssh/password", json=SET_SSH_PASSWORD))
    async with asyncio.timeout(10):
        while not stand.setter.lines:
            await asyncio.sleep(0.001)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        stand.setter.release.set()
        while not (state / "ssh_password_set").exists():
            await asyncio.sleep(0.001)


async def test_a_stock_client_sets_sshs_password_by_the_consoles(stand: Stand, enter: Enter) -> None:
    anna = await enter(stand.address)
    _, told = await ask(anna, "GET", "/api/isSshDefaultPasswordChanged")
    assert (told["success"], told["isDefaultSshPasswordChanged"]) == (True, False)
    assert "hotlap sets none by itself" in told["reason"]
    wish = {"oldPassword": "deepracer", "newPassword": NEW}
    _, told = await ask(anna, "POST", "/api/resetSshPassword", json=wish)
    assert not told["success"]
    assert "is the console's, not the one that SSH had" in told["reason"]
    _, told = await ask(anna, "POST", "/api/resetSshPassword", json=wish | {"newPassword": None})
    assert not told["success"]
    wish = {"oldPassword": PASSWORD, "newPassword": "password123"}
    _, told = await ask(anna, "PUT", "/api/resetSshPassword", json=wish)
    assert "one of the first" in told["reason"]
    assert stand.setter.lines == []
    wish = {"oldPassword": PASSWORD, "newPassword": NEW}
    assert await ask(anna, "POST", "/api/resetSshPassword", json=wish) == (200, {"success": True})
    assert stand.setter.lines == [f"{NEW}\n".encode()]
    told = {"success": True, "isDefaultSshPasswordChanged": True, "reason": ""}
    assert await ask(anna, "GET", "/api/isSshDefaultPasswordChanged") == (200, told)


async def test_a_stock_client_switches_ssh(stand: Stand, enter: Enter) -> None:
    anna = await enter(stand.address)
    for path, enabled in (("enableSsh", True), ("isSshEnabled", True), ("disableSsh", False), ("isSshEnabled", False)):
        told = {"success": True, "isSshEnabled": enabled, "reason": ""}
        assert await ask(anna, "GET", f"/api/{path}") == (200, told)
    assert len(stand.services.orders) == 2


async def test_the_check_up_on_the_settings_page_tells_what_to_do(stand: Stand) -> None:
    stand.car.fault("LiDAR", "The LiDAR sends no turn; check its plug.")
    async with settings_page(stand.address, PASSWORD) as page:
        card = page.get_by_role("region", name="Check-up")
        await card.get_by_role("button", name="Look").click()
        line = card.get_by_role("listitem").filter(has_text="LiDAR")
        await expect(line).to_contain_text("The LiDAR sends no turn.", timeout=10_000)
        await expect(line).to_contain_text("Check its plug.")


async def test_the_settings_page_changes_the_computer(stand: Stand) -> None:
    services = stand.services
    services.refusals["PowerOff"] = FORBIDDEN
    async with settings_page(stand.address, PASSWORD) as page:
        shell = page.get_by_role("region", name="SSH")
        await shell.get_by_role("switch").click()
        await expect(shell.get_by_role("switch")).to_be_checked()
        assert services.ssh
        services.refusals["StartUnit"] = FORBIDDEN
        await shell.get_by_role("switch").click()
        await expect(shell.get_by_role("alert")).to_contain_text("may not switch SSH")
        await expect(shell.get_by_role("switch")).to_be_checked()

        await expect(shell.get_by_text("The name to log in with is pit.")).to_be_visible()
        await shell.get_by_role("button", name="Set the SSH password").click()
        await shell.get_by_label("The console's password").fill("a guess at it")
        await shell.get_by_label("New SSH password", exact=True).fill(NEW)
        await shell.get_by_label("The new SSH password again").fill(NEW + "x")
        await expect(shell.get_by_text("The two new passwords differ.")).to_be_visible()
        await expect(shell.get_by_role("button", name="Set the SSH password")).to_be_disabled()
        await shell.get_by_label("The new SSH password again").fill(NEW)
        await shell.get_by_role("button", name="Set the SSH password").click()
        await expect(shell.get_by_text("This is not the console's password")).to_be_visible()
        await shell.get_by_label("The console's password").fill(PASSWORD)
        await shell.get_by_role("button", name="Set the SSH password").click()
        await expect(shell.get_by_text("The SSH password of pit is set.")).to_be_visible()
        await expect(shell.get_by_role("textbox")).to_have_count(0)
        assert stand.setter.lines == [f"{NEW}\n".encode()]

        computer = page.get_by_role("region", name="Computer")
        await expect(computer).to_contain_text("amss-1234")
        await computer.get_by_label("New host name").fill("pit-lane")
        await computer.get_by_role("button", name="Rename").click()
        await expect(computer.get_by_role("status")).to_contain_text("new name")
        await expect(computer).to_contain_text("pit-lane")
        await computer.get_by_label("New time zone").select_option("Europe/Berlin")
        await computer.get_by_role("button", name="Set the time zone").click()
        await expect(computer.get_by_role("status")).to_have_text("The time zone is set.")
        assert services.zone == "Europe/Berlin"

        await computer.get_by_role("button", name="Restart").click()
        await page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        await expect(page.get_by_role("dialog")).to_have_count(0)
        assert services.orders[-1][0] == "SetTimezone"
        await computer.get_by_role("button", name="Restart").click()
        await page.get_by_role("dialog").get_by_role("button", name="Restart").click()
        await expect(computer.get_by_role("status")).to_have_text("The car is restarting.")
        assert services.orders[-1] == ("Reboot", [False])
        await computer.get_by_role("button", name="Switch off").click()
        await page.get_by_role("dialog").get_by_role("button", name="Switch off").click()
        await expect(computer.get_by_role("alert")).to_contain_text("may not switch the car off")


async def test_the_settings_page_says_what_cannot_be_changed(state: Path, password: Password) -> None:
    async with AsyncExitStack() as stack:
        _, address = await stand_up(stack, state, password, None)
        page = await stack.enter_async_context(settings_page(address, PASSWORD))
        computer = page.get_by_role("region", name="Computer")
        await expect(computer).to_contain_text(socket.gethostname())
        await expect(computer.get_by_text(NO_SYSTEM)).to_have_count(1)
        await expect(computer.get_by_role("button")).to_have_count(0)
        shell = page.get_by_role("region", name="SSH")
        await expect(shell.get_by_text(NO_SYSTEM)).to_have_count(1)
        await expect(shell.get_by_role("button")).to_have_count(0)
        await expect(shell.get_by_role("switch")).to_have_count(0)


async def test_the_page_colours_the_battery_by_its_charge(state: Path, password: Password) -> None:
    car = Car(Settings(), ModelStore(state), DEFAULT, Fittings(battery=True))
    async with console(car, HERE, password) as address, settings_page(address, PASSWORD) as page:
        shown = page.locator("#battery")
        await expect(shown).to_have_text("no battery")
        for charge, kind, said in ((10 / 11, "good", "91 %"), (5 / 11, "fair", "45 %"), (2 / 11, "low", "18 %")):
            car.battery = charge
            await expect(shown).to_have_class(kind)
            await expect(shown).to_contain_text(said)
    car.close()
