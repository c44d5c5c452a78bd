from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from aiohttp import ClientResponse, ClientSession, ClientWebSocketResponse, WSCloseCode, WSServerHandshakeError
from cryptography import x509
from yarl import URL

from drivers.signals import NEUTRAL, Action, LidarScan, Observation
from inference.package import ModelPackage
from inference.policy import Policy
from tests.webui.visits import HERE, Enter, driving, empty_desk, filming, new_car, picture, stranger, unlock, until
from vehicle.car import Car
from vehicle.settings import Console
from vehicle.state import VehicleState
from webui import certificate
from webui.app import console, stay_found
from webui.auth import Password
from webui.desk import Address


async def error_of(answer: ClientResponse) -> str:
    told = await answer.json()
    assert list(told) == ["error"]
    return str(told["error"])


# What is asked ------------------------------------------------------------------------------------------------------


async def test_the_page_and_its_parts_are_served(browser: ClientSession) -> None:
    for path, kind in (
        ("/", "text/html"),
        ("/static/style.css", "text/css"),
        ("/static/app.js", "javascript"),
    ):
        answer = await browser.get(path)
        assert answer.status == 200
        assert await answer.read()
        assert kind in answer.headers["Content-Type"]


async def test_the_page_holds_no_script_no_style_and_no_foreign_address(browser: ClientSession) -> None:
    page = await (await browser.get("/")).text()
    assert "<style" not in page
    assert " style=" not in page
    assert page.count("<script") == page.count('<script type="module" src="/static/app.js"></script>') == 1
    for path in ("/", "/static/style.css", "/static/app.js"):
        text = await (await browser.get(path)).text()
        assert set(re.findall(r"https?://[^\"'/]*", text)) <= {"http://www.w3.org"}, "the name of SVG, no address"


async def test_the_state_is_the_cars_snapshot(browser: ClientSession, car: Car) -> None:
    car.fault("camera", "The camera sends no picture; check its plug.")
    state = VehicleState.from_json(await (await browser.get("/api/v1/state")).text())
    assert state.faults == ("The camera sends no picture; check its plug.",)
    assert not state.engaged


async def test_models_are_listed(browser: ClientSession) -> None:
    (model,) = await (await browser.get("/api/v1/models")).json()
    assert (model["name"], model["status"], model["reason"], model["active"]) == ("sample", "ready", None, False)
    assert (model["sensors"], model["actions"]["type"]) == (["FRONT_FACING_CAMERA"], "continuous")
    assert 100_000 < model["size"] < 10_000_000
    assert 0 < time.time() - model["installed"] < 3600


async def test_without_anybody_beside_the_track_there_is_none(browser: ClientSession) -> None:
    answer = await browser.get("/api/v1/track")
    assert answer.status == 200
    assert await answer.json() is None


async def test_the_maximum_speed_follows_the_slider(browser: ClientSession, car: Car) -> None:
    answer = await browser.post("/api/v1/max_speed", json={"percent": 37.5})
    assert (answer.status, await answer.json()) == (200, {})
    assert car.max_speed == 0.375


async def test_manual_mode_starts_and_stops(browser: ClientSession, car: Car) -> None:
    assert (await browser.post("/api/v1/mode", json={"mode": "manual"})).status == 200
    assert (await browser.post("/api/v1/start")).status == 200
    assert car.engaged
    assert (await browser.post("/api/v1/stop", json={})).status == 200
    assert not car.engaged


async def test_what_the_car_refuses_is_told_in_its_words(browser: ClientSession, state: Path) -> None:
    answer = await browser.post("/api/v1/start")
    assert answer.status == 409
    assert await error_of(answer) == "No model is loaded: choose one first."
    answer = await browser.post("/api/v1/model", json={"name": "swift"})
    assert answer.status == 404
    assert await error_of(answer) == "There is no model 'swift' on this car."
    for graph in (state / "models" / "sample").resolve().glob("model_metadata.json"):
        graph.write_text("{}")
    answer = await browser.post("/api/v1/model", json={"name": "sample"})
    assert answer.status == 409
    assert "action_space" in await error_of(answer)


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("max_speed", b"{"),
        ("max_speed", b"\xff"),
        ("max_speed", b"[" * 10_000),
        ("max_speed", b"[50]"),
        ("max_speed", b""),
        ("max_speed", b'{"percent": "50"}'),
        ("max_speed", b'{"percent": true}'),
        ("max_speed", b'{"percent": NaN}'),
        ("max_speed", b'{"percent": 101}'),
        ("max_speed", b'{"percent": -1}'),
        ("model", b'{"name": 5}'),
        ("mode", b'{"mode": "sideways"}'),
        ("mode", b'{"mode": {}}'),
    ],
)
async def test_a_malformed_order_changes_nothing(browser: ClientSession, car: Car, verb: str, body: bytes) -> None:
    before = (car.max_speed, car.mode, car.driver)
    answer = await browser.post(f"/api/v1/{verb}", data=body)
    assert answer.status == 400
    assert (await error_of(answer)).endswith(".")
    assert (car.max_speed, car.mode, car.driver) == before


async def test_a_body_has_its_limit(browser: ClientSession) -> None:
    answer = await browser.post("/api/v1/stop", data=b" " * (64 << 10) + b"{}")
    assert answer.status == 413
    assert await error_of(answer)


async def test_a_model_goes_on_loading_when_the_page_is_closed(state: Path, password: Password) -> None:
    begun, ready = threading.Event(), threading.Event()

    class Still:
        def decide(self, observation: Observation) -> Action:
            return NEUTRAL

    def open_policy(package: ModelPackage) -> Policy:
        begun.set()
        assert ready.wait(5)
        return Still()

    car = new_car(state, open_policy)
    async with console(car, HERE, password) as address:
        async with stranger(address) as session:
            await unlock(session)
            choosing = asyncio.create_task(session.post("/api/v1/model", json={"name": "sample"}))
            await until(begun.is_set)
            assert json.loads(await (await session.get("/api/v1/state")).text())["loading"] == "sample"
            choosing.cancel()
        ready.set()
        await until(lambda: car.driver)
    car.close()


# Who may ask --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/static/app.js", "/api/v1/state", "/nowhere", "/static/../app.py", "/api/v1/start"]
)
async def test_every_answer_wears_the_headers(browser: ClientSession, path: str) -> None:
    answer = await browser.get(path)
    await answer.read()
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["object-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"


async def test_no_get_changes_the_car(browser: ClientSession, car: Car) -> None:
    for verb in ("start", "stop", "max_speed", "model", "mode"):
        answer = await browser.get(f"/api/v1/{verb}")
        assert answer.status == 405
        assert answer.headers["Allow"] == "POST"
        assert await error_of(answer)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", "localhost:1", ""])
async def test_a_host_that_is_not_ours_is_misdirected(browser: ClientSession, address: str, host: str) -> None:
    answer = await browser.get("/api/v1/state", headers={"Host": host.format(port=URL(address).port)})
    assert answer.status == 421
    assert "Content-Security-Policy" in answer.headers


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST"])
async def test_the_names_of_this_machine_are_ours(browser: ClientSession, address: str, host: str) -> None:
    name = f"{host}:{URL(address).port}"
    answer = await browser.post("/api/v1/stop", headers={"Host": name, "Origin": f"https://{name}"})
    assert answer.status == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://127.0.0.1", "https://127.0.0.1:1"])
async def test_a_page_of_another_site_gives_no_orders(browser: ClientSession, car: Car, origin: str) -> None:
    answer = await browser.post("/api/v1/max_speed", json={"percent": 5}, headers={"Origin": origin})
    assert answer.status == 403
    assert car.max_speed == 1.0
    with pytest.raises(WSServerHandshakeError) as refused:
        await browser.ws_connect("/ws", origin=origin)
    assert refused.value.status == 403


async def test_a_port_in_use_is_told_in_one_sentence(car: Car, password: Password) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"^Port {port} is already in use: .*another port.$"):
            async with console(car, Console(port=port), password):
                pass


# What is pushed -----------------------------------------------------------------------------------------------------


class Viewer:
    """Somebody who watches the camera."""

    def __init__(self, answer: ClientResponse) -> None:
        self.answer = answer
        self.seen: list[bytes] = []

    async def look(self) -> bytes:
        """The next picture, as it was sent."""
        content = self.answer.content
        if not self.seen:
            assert await content.readexactly(9) == b"--frame\r\n"
        head = await content.readuntil(b"\r\n\r\n")
        assert head.startswith(b"Content-Type: image/jpeg\r\nContent-Length: ")
        jpeg = await content.readexactly(int(head.split()[-1]))
        assert await content.readexactly(11) == b"\r\n--frame\r\n"
        self.seen.append(jpeg)
        return jpeg


@asynccontextmanager
async def watching(browser: ClientSession) -> AsyncIterator[Viewer]:
    async with browser.get("/camera.mjpeg") as answer:
        yield Viewer(answer)


async def test_two_viewers_see_the_same_pictures_and_not_too_many(browser: ClientSession, car: Car) -> None:
    async with watching(browser) as one, watching(browser) as other:
        assert one.answer.headers["Content-Type"] == "multipart/x-mixed-replace; boundary=frame"
        assert "Content-Security-Policy" in one.answer.headers
        async with filming(car, lambda n: picture(n % 256)) as filmed:
            for _ in range(8):
                await one.look()
                await other.look()
    assert one.seen == other.seen
    assert filmed[0] >= 2 * len(one.seen), "of the pictures that came, many were left out"
    image = cv2.imdecode(np.frombuffer(one.seen[-1], np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert image.shape == (120, 160, 3)


async def test_a_slow_viewer_misses_pictures_and_delays_nobody(address: str, car: Car, enter: Enter) -> None:
    dozing, awake = await enter(address, "Slow", read_bufsize=1024), await enter(address, "Quick")
    grain = np.random.default_rng(0).integers(0, 200, (480, 640, 3), np.uint8)
    async with (
        watching(dozing) as slow,
        watching(awake) as quick,
    ):
        async with filming(car, lambda n: grain + np.uint8(n % 50)):
            for _ in range(30):
                async with asyncio.timeout(1):
                    await quick.look()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                while True:
                    await slow.look()
    assert 1 <= len(slow.seen) < len(quick.seen) / 3


async def test_nothing_of_a_viewer_stays_behind(address: str) -> None:
    before = asyncio.all_tasks()
    async with stranger(address) as visitor:
        await unlock(visitor)
        async with watching(visitor), visitor.ws_connect("/ws") as ws:
            await ws.receive_json()
            assert len(asyncio.all_tasks()) > len(before)
    await until(lambda: asyncio.all_tasks() <= before)


async def _listen_to_the_end(ws: ClientWebSocketResponse) -> int | None:
    async for _ in ws:
        pass
    return ws.close_code


async def test_the_console_says_farewell_to_open_pages(car: Car, password: Password) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with console(car, HERE, password) as address:
            session = await stack.enter_async_context(stranger(address))
            await unlock(session)
            camera = await session.get("/camera.mjpeg")
            ws = await session.ws_connect("/ws")
            await ws.receive_json()
            listening = asyncio.create_task(_listen_to_the_end(ws))
        async with asyncio.timeout(1):
            assert await camera.read() == b"--frame\r\n"
            assert await listening == WSCloseCode.GOING_AWAY


async def test_news_come_once(browser: ClientSession, car: Car) -> None:
    async with browser.ws_connect("/ws") as ws:
        told: list[dict[str, Any]] = [await ws.receive_json()]
        assert [model["name"] for model in told[0]["models"]] == ["sample"]
        assert told[0]["wheel"] == {"holder": None, "yours": False, "asked_by": None, "asking": False}
        assert told[0]["state"]["mode"] == "autonomous"
        car.fault("camera", "The camera sends no picture; check its plug.")
        while not any("events" in message for message in told):
            told.append(await ws.receive_json())
        car.well("camera")
        while "Camera works again." not in str(told):
            told.append(await ws.receive_json())
    events = [event["text"] for message in told for event in message.get("events", [])]
    assert events == ["The camera sends no picture; check its plug.", "Camera works again."]
    assert sum("models" in message for message in told) == 1
    assert all(message.keys() <= {"t", "state", "latencies", "models", "events", "wheel"} for message in told)


async def test_a_page_that_comes_later_is_told_what_has_happened(browser: ClientSession, car: Car) -> None:
    for number in range(150):
        car.fault(f"device {number}", f"Device {number} is gone.")
    async with browser.ws_connect("/ws") as ws:
        events = (await ws.receive_json())["events"]
    assert [events[0]["text"], events[-1]["text"], len(events)] == ["Device 50 is gone.", "Device 149 is gone.", 100]


async def test_a_model_that_was_installed_appears(browser: ClientSession, car: Car, installed: Path) -> None:
    async with browser.ws_connect("/ws") as ws:
        await ws.receive_json()
        await car.store.add((installed / "models" / "sample").resolve(), "swift")
        while "models" not in (message := await ws.receive_json()):
            pass
    assert [model["name"] for model in message["models"]] == ["sample", "swift"]


async def test_the_page_follows_a_drive(state: Path, tmp_path: Path, password: Password) -> None:
    async with (
        driving(state, tmp_path / "wires") as (car, rig),
        console(car, HERE, password, rig) as address,
        stranger(address) as session,
    ):
        await unlock(session)
        outline = await (await session.get("/api/v1/track")).json()
        assert outline["title"] == "re:Invent 2018"
        assert len(outline["centre"]) == len(outline["inner"]) == len(outline["outer"]) > 50
        assert (await session.post("/api/v1/start")).status == 200
        told: list[dict[str, Any]] = []
        async with session.ws_connect("/ws") as ws:
            async with asyncio.timeout(10):
                while len({tuple(message["standing"]["position"]) for message in told}) < 5:
                    told.append(await ws.receive_json())
                assert told[-1]["standing"]["speed"] > 0
                assert any(message.get("latencies") for message in told)
                beats = [message["t"] for message in told]
                assert beats == sorted(beats)
                assert (await session.post("/api/v1/stop")).status == 200
                while not ("state" in (last := await ws.receive_json()) and last["state"]["applied"]["throttle"] == 0):
                    pass
        assert not car.engaged
        assert car.snapshot().applied == NEUTRAL


async def test_the_page_is_told_what_the_lidar_feels(browser: ClientSession, car: Car) -> None:
    ranges = np.array([0.15, 1.23456, np.inf, 12.0], np.float32)
    async with browser.ws_connect("/ws") as ws:
        assert "scan" not in await ws.receive_json()
        car.felt(LidarScan(asyncio.get_running_loop().time(), ranges))
        while "scan" not in (message := await ws.receive_json()):
            pass
    assert message["scan"] == [0.15, 1.235, None, 12.0]


async def test_after_a_move_the_console_has_a_certificate_for_its_new_address(
    car: Car, password: Password, tmp_path: Path
) -> None:
    desk = empty_desk(car, password, tmp_path / "attempts.json")
    now = datetime.now(UTC)
    papers = certificate.ensure(car.store.root, ("hotlap-test.local",), ("192.0.2.2",), now)
    desk.address = Address(("hotlap-test.local",), ("192.0.2.2",), papers.fingerprint)
    here = ["192.0.2.2"]
    told: list[Address] = []

    @asynccontextmanager
    async def announce(address: Address) -> AsyncIterator[None]:
        told.append(address)
        yield

    context = certificate.context(papers)
    staying = asyncio.create_task(stay_found(desk, lambda: tuple(here), announce, context, every=0.01))
    await until(lambda: told)
    here[0] = "198.51.100.7"
    await until(lambda: len(told) == 2)
    staying.cancel()
    await asyncio.wait([staying])
    assert desk.address.addresses == ("198.51.100.7",)
    assert desk.address.fingerprint != papers.fingerprint
    assert told[1] == desk.address
    held = x509.load_pem_x509_certificate(papers.path.read_bytes()).extensions
    names = held.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "198.51.100.7" in map(str, names.get_values_for_type(x509.IPAddress))
    assert {"deepracer.aws", "hotlap.local"} <= set(names.get_values_for_type(x509.DNSName))
