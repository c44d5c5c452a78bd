"""One has the wheel: who drives, what of it reaches the wires, and how it ends."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse

from drivers.signals import ActuatorCommand
from tests.webui.visits import (
    PASSWORD,
    REST,
    Enter,
    ask,
    closing,
    news,
    pulses,
    refused,
    track_day,
    until,
)
from vehicle.car import Car
from vehicle.gate import DriveMode
from webui.auth import Password

# The wheel ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def page_of(visitor: ClientSession) -> AsyncIterator[ClientWebSocketResponse]:
    """An open page, that has been told who has the wheel."""
    async with visitor.ws_connect("/ws") as page:
        await news(page, "wheel")
        yield page


async def wish(visitor: ClientSession, wish: str) -> None:
    assert await ask(visitor, "POST", "/api/v1/wheel", json={"wish": wish}) == (200, {})


async def test_the_wheel_is_asked_for_kept_and_given(address: str, car: Car, enter: Enter) -> None:
    anna, ben = await enter(address, "Anna"), await enter(address, "Ben")
    async with page_of(anna) as annas, page_of(ben) as bens:
        await ask(anna, "POST", "/api/v1/max_speed", json={"percent": 40})
        free = {"asked_by": None, "asking": False}
        assert await news(annas, "wheel") == {"holder": "Anna", "yours": True, **free}
        assert await news(bens, "wheel") == {"holder": "Anna", "yours": False, **free}
        sentence = "Anna has the wheel: ask for it first. Stop works for everybody."
        for verb, body in (
            ("max_speed", {"percent": 90}),
            ("mode", {"mode": "manual"}),
            ("start", {}),
            ("model", {"name": "sample"}),
            ("wheel", {"wish": "take"}),
            ("wheel", {"wish": "give"}),
            ("wheel", {"wish": "keep"}),
        ):
            assert await refused(ben, 409, "POST", f"/api/v1/{verb}", json=body) == sentence
        trim = await refused(
            ben, 409, "PUT", "/api/v1/calibration/steering", json={"min": -30, "mid": -5, "max": 20, "polarity": 1}
        )
        assert trim == await refused(ben, 409, "DELETE", "/api/v1/models/sample") == sentence
        assert (car.max_speed, car.mode, car.store.names()) == (0.4, DriveMode.AUTONOMOUS, ["sample"])
        await wish(ben, "ask")
        assert await news(annas, "wheel") == {"holder": "Anna", "yours": True, "asked_by": "Ben", "asking": False}
        assert await news(bens, "wheel") == {"holder": "Anna", "yours": False, "asked_by": "Ben", "asking": True}
        await wish(anna, "keep")
        assert await news(bens, "wheel") == {"holder": "Anna", "yours": False, **free}
        await wish(ben, "ask")
        await wish(anna, "give")
        while (told := await news(bens, "wheel"))["asking"]:
            pass
        assert told == {"holder": "Ben", "yours": True, **free}
        assert await refused(anna, 409, "POST", "/api/v1/start")
        await wish(ben, "leave")
        await ask(anna, "POST", "/api/v1/max_speed", json={"percent": 50})
        assert car.max_speed == 0.5
    assert await refused(anna, 400, "POST", "/api/v1/wheel", json={"wish": "steal"})


async def test_a_name_is_shown_without_what_nobody_can_see(address: str, enter: Enter) -> None:
    anna = await enter(address, " An\nna\x00\u202e ")
    assert (await ask(anna, "GET", "/api/v1/session"))[1]["name"] == "Anna"
    nobody = await enter(address, "\n")
    assert (await ask(nobody, "GET", "/api/v1/session"))[1]["name"] == "Somebody"


# Driving ------------------------------------------------------------------------------------------------------------


async def begin(visitor: ClientSession, mode: str = "manual") -> None:
    assert await ask(visitor, "POST", "/api/v1/mode", json={"mode": mode}) == (200, {})
    assert await ask(visitor, "POST", "/api/v1/start") == (200, {})


async def now() -> float:
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def held(page: ClientWebSocketResponse, **order: object) -> AsyncIterator[list[float]]:
    """Somebody holds the pad, or a slider, there; the value is when each order was sent."""
    sent: list[float] = []

    async def hold() -> None:
        while True:
            sent.append(await now())
            await page.send_json({"type": "drive", "t": sent[-1], **order})
            await asyncio.sleep(0.04)

    holding = asyncio.create_task(hold())
    try:
        yield sent
    finally:
        holding.cancel()
        await asyncio.wait([holding])


async def test_the_pulses_follow_the_stick_and_silence_is_neutral(
    state: Path, tmp_path: Path, password: Password, enter: Enter
) -> None:
    async with track_day(state, tmp_path / "wires", password) as (car, rig, address):
        anna = await enter(address)
        async with page_of(anna) as page:
            await begin(anna)
            async with held(page, steering=1, throttle=1):
                await until(lambda: pulses(rig) == ActuatorCommand(1_700_000, 1_311_000))
            async with held(page, steering=-1, throttle=-1):
                await until(lambda: pulses(rig) == ActuatorCommand(1_200_000, 1_603_500))
            await ask(anna, "POST", "/api/v1/max_speed", json={"percent": 50})
            async with held(page, steering=0.5, throttle=1) as sent:
                await until(lambda: pulses(rig) != REST and 1_311_000 < pulses(rig).throttle_ns < 1_446_000)
                assert pulses(rig).steering_ns == 1_575_000
            seen, _ = rig.tape.read(0)
            await until(lambda: pulses(rig) == REST)
            _, since = rig.tape.read(seen)
            neutral = next(pulse for pulse in since if pulse.command == REST)
            assert neutral.t - sent[-1] < 0.5
            assert car.engaged, "the car stays started"
            await page.send_json({"type": "stop"})
            await until(lambda: not car.engaged)


async def test_the_driver_who_is_gone_stops_the_car_unless_a_model_drives(
    state: Path, tmp_path: Path, password: Password, enter: Enter
) -> None:
    async with track_day(state, tmp_path / "wires", password) as (car, rig, address):
        anna = await enter(address)
        async with page_of(anna) as page:
            await begin(anna)
            async with held(page, steering=1, throttle=1):
                await until(lambda: pulses(rig) != REST)
        gone = await now()
        await until(lambda: not car.engaged)
        await until(lambda: pulses(rig) == REST)
        assert await now() - gone < 0.5
        assert car.stopped_because == "The page of Anna is gone."
        async with page_of(anna):
            await begin(anna, "autonomous")
            await until(lambda: pulses(rig) != REST)
        async with page_of(anna):
            seen, _ = rig.tape.read(0)
            await until(lambda: any(pulse.command != REST for pulse in rig.tape.read(seen)[1]))
            assert car.engaged
            assert car.stopped_because is None


async def test_a_watcher_moves_nothing_and_may_stop_the_car(
    state: Path, tmp_path: Path, password: Password, enter: Enter
) -> None:
    async with track_day(state, tmp_path / "wires", password) as (car, rig, address):
        anna, ben = await enter(address, "Anna"), await enter(address, "Ben")
        async with page_of(anna) as annas, page_of(ben) as bens:
            await begin(anna)
            async with held(annas, steering=0.5, throttle=0), held(bens, steering=-1, throttle=1):
                assert "Anna has the wheel" in await news(bens, "refused")
                await until(lambda: pulses(rig).steering_ns == 1_575_000)
                assert "Anna has the wheel" in await news(bens, "refused"), "and again"
                everything = {pulse.command for pulse in rig.tape.read(0)[1] if pulse.live}
                assert everything <= {REST, ActuatorCommand(1_575_000, REST.throttle_ns)}
                await bens.send_json({"type": "stop"})
                await until(lambda: not car.engaged)
                await until(lambda: pulses(rig) == REST)
            await begin(anna)
            assert await ask(ben, "POST", "/api/v1/stop") == (200, {})
            assert not car.engaged


async def test_what_was_held_up_on_the_way_is_dropped(
    state: Path, tmp_path: Path, password: Password, enter: Enter
) -> None:
    async with track_day(state, tmp_path / "wires", password) as (_, rig, address):
        anna = await enter(address)
        async with page_of(anna) as page:
            await begin(anna)
            async with held(page, steering=0.5, throttle=0) as sent:
                await until(lambda: pulses(rig).steering_ns == 1_575_000)
                for _ in range(20):
                    late = {"type": "drive", "steering": -1, "throttle": 1, "t": await now() - 0.4}
                    await page.send_json(late)
                count = len(sent)
                await until(lambda: len(sent) > count + 3)
            everything = {pulse.command for pulse in rig.tape.read(0)[1] if pulse.live}
            assert everything == {REST, ActuatorCommand(1_575_000, REST.throttle_ns)}
            timely = {"type": "drive", "steering": -1, "throttle": 1, "t": await now() - 0.1}
            await page.send_json(timely)
            await until(lambda: pulses(rig) == ActuatorCommand(1_200_000, 1_311_000))


async def test_a_flood_is_no_driving(state: Path, tmp_path: Path, password: Password, enter: Enter) -> None:
    async with track_day(state, tmp_path / "wires", password) as (_, rig, address):
        anna = await enter(address)
        async with page_of(anna) as page:
            await begin(anna)
            for number in range(300):
                await page.send_json({"type": "drive", "steering": 0.5 if number < 60 else -1, "throttle": 0})
            await page.send_json({"type": "shout"})
            assert await news(page, "refused"), "all of it was heard"
            await until(lambda: pulses(rig).steering_ns == 1_575_000)
            await until(lambda: pulses(rig) == REST)
            everything = {pulse.command.steering_ns for pulse in rig.tape.read(0)[1] if pulse.live}
            assert everything == {1_450_000, 1_575_000}
            async with held(page, steering=-1, throttle=0):
                await until(lambda: pulses(rig).steering_ns == 1_200_000)  # in the next second it drives again


@pytest.fixture
def malformed() -> list[str]:
    return [
        "",
        "drive",
        "[]",
        "[" * 1000,
        '{"a":' + "[" * 1015,
        '{"a":' * 150 + "1" + "}" * 150,
        "{}",
        '{"type": "fly"}',
        '{"type": 5}',
        '{"type": "drive"}',
        '{"type": "drive", "steering": 1}',
        '{"type": "drive", "steering": 1.01, "throttle": 1}',
        '{"type": "drive", "steering": 1, "throttle": -1.01}',
        '{"type": "drive", "steering": 1, "throttle": NaN}',
        '{"type": "drive", "steering": 1, "throttle": 1e999}',
        '{"type": "drive", "steering": "1", "throttle": 1}',
        '{"type": "drive", "steering": 1, "throttle": true}',
        '{"type": "drive", "steering": 1, "throttle": null}',
        '{"type": "drive", "steering": 1, "throttle": 1, "t": "now"}',
        '{"type": "drive", "steering": 1, "throttle": 1, "horn": 1}',
        '{"type": "trim", "wire": "brake", "value": 1}',
        '{"type": "trim", "wire": "steering", "value": 1}',
        '{"type": "drive", "steering": 1, "throttle": 1}{}',
    ]


async def test_what_is_no_order_is_told_and_moves_nothing(
    state: Path, tmp_path: Path, password: Password, enter: Enter, malformed: list[str]
) -> None:
    async with track_day(state, tmp_path / "wires", password) as (car, rig, address):
        anna = await enter(address)
        async with page_of(anna):
            await begin(anna)
            for text in malformed:
                async with page_of(anna) as page:
                    await page.send_str(text)
                    assert (await news(page, "refused")).endswith(".")
            for message in (b"\x00" * 10, b" " * 1025):
                async with anna.ws_connect("/ws") as page:
                    await (page.send_bytes(message) if len(message) < 1024 else page.send_str(message.decode()))
                    assert await closing(page) in {1001, 1006, 1009}, "it is shown the door"
            assert car.engaged
        assert {pulse.command for pulse in rig.tape.read(0)[1] if pulse.live} == {REST}


async def test_a_refusal_is_told_once_a_second(address: str, browser: ClientSession) -> None:
    async with page_of(browser) as page:
        for _ in range(50):
            await page.send_str("nonsense")
        await news(page, "refused")
        with pytest.raises(TimeoutError):
            await news(page, "refused", 0.5)


async def test_an_order_is_for_its_mode(browser: ClientSession, car: Car) -> None:
    for mode, order in (
        ("autonomous", {"type": "drive", "steering": 1, "throttle": 1}),
        ("calibration", {"type": "drive", "steering": 1, "throttle": 1}),
        ("manual", {"type": "trim", "wire": "steering", "value": 1}),
    ):
        await ask(browser, "POST", "/api/v1/mode", json={"mode": mode})
        async with page_of(browser) as page:
            await page.send_json(order)
            assert re.fullmatch(r"The car is not in \w+ mode\.", await news(page, "refused"))
    assert not car.engaged


async def test_a_slider_holds_its_wire_and_silence_is_the_stored_rest(
    state: Path, tmp_path: Path, password: Password, enter: Enter
) -> None:
    async with track_day(state, tmp_path / "wires", password) as (_, rig, address):
        anna = await enter(address)
        async with page_of(anna) as page:
            await begin(anna, "calibration")
            async with held(page, type="trim", wire="steering", value=-12.5):
                await until(lambda: pulses(rig) == ActuatorCommand(1_375_000, REST.throttle_ns))
            await until(lambda: pulses(rig) == REST)
            async with held(page, type="trim", wire="throttle", value=-14):
                await until(lambda: pulses(rig) == ActuatorCommand(REST.steering_ns, 1_437_000))
            await page.send_json({"type": "trim", "wire": "throttle", "value": 50.5})
            assert "-50..50" in await news(page, "refused")
            await until(lambda: pulses(rig) == REST)


# The end of a session -----------------------------------------------------------------------------------------------


async def test_a_session_that_ends_closes_its_page(address: str, enter: Enter, car: Car) -> None:
    anna, ben = await enter(address, "Anna"), await enter(address, "Ben")
    async with page_of(anna) as annas, page_of(ben) as bens:
        await begin(anna)
        assert await ask(anna, "POST", "/api/v1/logout") == (200, {})
        assert await closing(annas) == 4401
        await until(lambda: not car.engaged)
        assert await news(bens, "state"), "the other one's is open"
        assert await ask(ben, "POST", "/api/v1/logout_everywhere") == (200, {})
        assert await closing(bens) == 4401
    for visitor in (anna, ben):
        assert await refused(visitor, 401, "GET", "/api/v1/state")


async def test_a_new_password_ends_the_others_pages_and_sessions(address: str, enter: Enter) -> None:
    anna, ben = await enter(address, "Anna"), await enter(address, "Ben")
    new = "four even narwhals"
    async with page_of(ben) as bens:
        for wrong, sentence in (
            ({"old": "guess", "new": new}, "The old password is wrong."),
            ({"old": PASSWORD, "new": "short"}, "A password has 8 to 128 characters."),
            ({"old": PASSWORD, "new": PASSWORD}, "This is the password already: choose another one."),
        ):
            assert await refused(anna, 409, "POST", "/api/v1/password", json=wrong) == sentence
        assert await news(bens, "state")
        status, told = await ask(anna, "POST", "/api/v1/password", json={"old": PASSWORD, "new": new})
        assert status == 200
        assert await closing(bens) == 4401
    anna.headers["X-CSRF-Token"] = told["csrf"]
    assert await ask(anna, "POST", "/api/v1/stop") == (200, {})
    assert await refused(ben, 401, "GET", "/api/v1/state")
    assert await refused(ben, 401, "POST", "/api/v1/login", json={"password": PASSWORD})
    status, session = await ask(ben, "POST", "/api/v1/login", json={"password": new, "name": "Ben"})
    assert (status, session["name"]) == (200, "Ben")
