"""The computer by the console: SSH, host name, time zone, restart and switching off, through to the bus."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import async_playwright, expect

from calibration.calibration import DEFAULT
from drivers.bus import SystemBus
from drivers.system import System
from tests.browser import CHROMIUM, QUIET
from tests.drivers.system_services import Services, machine
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
FORBIDDEN = "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"


@dataclass(frozen=True)
class Stand:
    """A car with a console, on a machine whose services are the test's own."""

    car: Car
    address: str
    services: Services


async def stand_up(stack: AsyncExitStack, state: Path, password: Password, system: System | None) -> tuple[Car, str]:
    car = Car(Settings(), ModelStore(state), DEFAULT, system=system)
    stack.callback(car.close)
    return car, await stack.enter_async_context(console(car, HERE, password))


@pytest_asyncio.fixture
async def stand(state: Path, password: Password) -> AsyncIterator[Stand]:
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(machine())
        system = System(SystemBus(services.address, patience=2.0), deadline=2.0)
        stack.push_async_callback(system.close)
        car, address = await stand_up(stack, state, password, system)
        yield Stand(car, address, services)


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


async def test_a_console_that_manages_no_computer_says_so(state: Path, password: Password, enter: Enter) -> None:
    async with AsyncExitStack() as stack:
        _, address = await stand_up(stack, state, password, None)
        anna = await enter(address)
        for path, able in (
            ("ssh", "switchable"),
            ("host_name", "changeable"),
            ("time_zone", "changeable"),
            ("power", "available"),
        ):
            _, told = await ask(anna, "GET", f"/api/v1/{path}")
            assert (told[able], told["reason"]) == (False, NO_SYSTEM)
        assert (await ask(anna, "GET", "/api/v1/host_name"))[1]["name"] == socket.gethostname()
        for method, path, body in ORDERS:
            assert await refused(anna, 409, method, path, json=body) == NO_SYSTEM
        for path in ("enableSsh", "disableSsh"):
            assert await ask(anna, "GET", f"/api/{path}") == (200, {"success": False, "reason": NO_SYSTEM})


async def test_a_stock_client_switches_ssh_and_is_told_of_its_password(stand: Stand, enter: Enter) -> None:
    anna = await enter(stand.address)
    for path, enabled in (("enableSsh", True), ("isSshEnabled", True), ("disableSsh", False), ("isSshEnabled", False)):
        told = {"success": True, "isSshEnabled": enabled, "reason": ""}
        assert await ask(anna, "GET", f"/api/{path}") == (200, told)
    wish = {"oldPassword": "deepracer", "newPassword": "three odd walruses"}
    _, told = await ask(anna, "POST", "/api/resetSshPassword", json=wish)
    assert not told["success"]
    assert "passwd" in told["reason"]
    assert len(stand.services.orders) == 2


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")
async def test_the_settings_page_changes_the_computer(stand: Stand) -> None:
    services = stand.services
    services.refusals["PowerOff"] = FORBIDDEN
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        page = await browser.new_page(ignore_https_errors=True)
        await page.goto(f"{stand.address}#/settings")
        await page.get_by_label("Password", exact=True).fill(PASSWORD)
        await page.get_by_role("button", name="Unlock").click()

        shell = page.get_by_role("region", name="SSH")
        await shell.get_by_role("switch").click()
        await expect(shell.get_by_role("switch")).to_be_checked()
        assert services.ssh
        services.refusals["StartUnit"] = FORBIDDEN
        await shell.get_by_role("switch").click()
        await expect(shell.get_by_role("alert")).to_contain_text("may not switch SSH")
        await expect(shell.get_by_role("switch")).to_be_checked()

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
        await browser.close()


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")
async def test_the_settings_page_says_what_cannot_be_changed(state: Path, password: Password) -> None:
    async with AsyncExitStack() as stack:
        _, address = await stand_up(stack, state, password, None)
        driver = await stack.enter_async_context(async_playwright())
        browser = await driver.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        page = await browser.new_page(ignore_https_errors=True)
        await page.goto(f"{address}#/settings")
        await page.get_by_label("Password", exact=True).fill(PASSWORD)
        await page.get_by_role("button", name="Unlock").click()
        computer = page.get_by_role("region", name="Computer")
        await expect(computer).to_contain_text(socket.gethostname())
        await expect(computer.get_by_text(NO_SYSTEM)).to_have_count(1)
        await expect(computer.get_by_role("button")).to_have_count(0)
        shell = page.get_by_role("region", name="SSH")
        await expect(shell).to_contain_text(NO_SYSTEM)
        await expect(shell.get_by_role("switch")).to_have_count(0)
        await browser.close()
