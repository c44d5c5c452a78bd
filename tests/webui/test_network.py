"""The Wi-Fi by the console: choose, join, forget; what fails is told in words, and the password nowhere."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import expect

from calibration.calibration import DEFAULT
from drivers.lights import Connection
from tests.air import KEY, Air
from tests.browser import settings_page
from tests.webui.visits import HERE, PASSWORD, Enter, ask, refused
from vehicle.car import Car
from vehicle.gate import DriveMode
from vehicle.models import ModelStore
from vehicle.settings import Settings
from webui.app import console
from webui.auth import Password


@asynccontextmanager
async def console_of(state: Path, password: Password, air: Air | None) -> AsyncIterator[tuple[Car, str]]:
    car = Car(Settings(), ModelStore(state), DEFAULT, wireless=air)
    try:
        async with console(car, HERE, password) as address:
            yield car, address
    finally:
        car.close()


async def test_a_network_is_seen_joined_and_forgotten(
    state: Path, password: Password, enter: Enter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with console_of(state, password, Air()) as (car, address):
        browser = await enter(address)
        _, found = await ask(browser, "GET", "/api/v1/network")
        assert (found["wifi"]["ssid"], found["addresses"], found["reason"]) == (None, [], "")
        _, seen = await ask(browser, "GET", "/api/v1/network/seen")
        assert seen[0] == {"ssid": "Pit lane", "strength": 90, "security": "WPA2"}
        wish = {"ssid": "Pit lane", "password": KEY}
        assert await ask(browser, "POST", "/api/v1/network/join", json=wish) == (200, {})
        assert car.connection is Connection.CONNECTED
        _, found = await ask(browser, "GET", "/api/v1/network")
        assert (found["wifi"]["ssid"], found["addresses"]) == ("Pit lane", ["192.168.7.3"])
        assert await ask(browser, "POST", "/api/v1/network/forget", json={"ssid": "Pit lane"}) == (200, {})
        _, found = await ask(browser, "GET", "/api/v1/network")
        assert found["wifi"]["ssid"] is None
    assert "Joined the Wi-Fi network Pit lane." in caplog.text
    assert KEY not in caplog.text


async def test_what_fails_is_told_in_words_and_shown_by_the_lamp(
    state: Path, password: Password, enter: Enter, caplog: pytest.LogCaptureFixture
) -> None:
    async with console_of(state, password, Air()) as (car, address):
        browser = await enter(address)
        wish = {"ssid": "Pit lane", "password": "wrong horse"}
        answer = await ask(browser, "POST", "/api/v1/network/join", json=wish)
        assert answer == (409, {"error": "Pit lane refuses the password; type it again."})
        assert car.connection is Connection.FAILED
        car.select(DriveMode.MANUAL)
        car.start()
        status, sentence = await ask(browser, "POST", "/api/v1/network/join", json={"ssid": "Café"})
        assert (status, sentence["error"]) == (409, "Stop the car before it changes the network.")
    assert "wrong horse" not in caplog.text


async def test_a_car_without_wifi_of_ours_says_so(state: Path, password: Password, enter: Enter) -> None:
    async with console_of(state, password, None) as (_, address):
        browser = await enter(address)
        _, found = await ask(browser, "GET", "/api/v1/network")
        assert found["wifi"] is None
        assert found["reason"].startswith("hotlap does not manage the Wi-Fi")
        assert await refused(browser, 409, "POST", "/api/v1/network/join", json={"ssid": "Café"})


async def test_a_stock_client_changes_the_network(state: Path, password: Password, enter: Enter) -> None:
    air = Air()
    async with console_of(state, password, air) as (_, address):
        browser = await enter(address)
        _, seen = await ask(browser, "GET", "/api/available_wifi_info")
        assert seen[0] == {"ssid": "Pit lane", "strength": 4, "security_info": "WPA2"}
        wish = {"wifi_name": "Pit lane", "wifi_password": KEY}
        _, told = await ask(browser, "POST", "/api/wifi_reset", json=wish)
        assert told == {"success": True, "ip_address": "192.168.7.3"}
        _, details = await ask(browser, "GET", "/api/get_network_details")
        assert (details["SSID"], details["ip_address"]) == ("Pit lane", "192.168.7.3")
        _, told = await ask(browser, "POST", "/api/wifi_reset", json={"wifi_name": "Nowhere"})
        assert told == {"success": False, "reason": "No network named Nowhere is in reach."}


async def test_the_settings_page_changes_the_network(state: Path, password: Password) -> None:
    air = Air()
    async with console_of(state, password, air) as (_, address), settings_page(address, PASSWORD) as page:
        card = page.get_by_role("region", name="Network")
        await expect(card).to_contain_text("not connected")
        await card.get_by_role("button", name="Choose a network").click()
        await card.get_by_label("Network", exact=True).select_option("Pit lane")
        await card.get_by_label("Password of the network").fill("wrong horse")
        await card.get_by_role("button", name="Connect").click()
        await expect(card.get_by_role("alert")).to_have_text("Pit lane refuses the password; type it again.")
        await card.get_by_label("Password of the network").fill(KEY)
        await card.get_by_role("button", name="Connect").click()
        await expect(card).to_contain_text("Pit lane, 70 %")
        await expect(card).to_contain_text("192.168.7.3")
    assert air.on == "Pit lane"
