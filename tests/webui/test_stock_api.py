"""The stock car's routes, as a program written for its console uses them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import pytest_asyncio
from aiohttp import ClientSession, FormData
from yarl import URL

from calibration.calibration import DEFAULT
from drivers.rig import Fittings
from drivers.signals import NEUTRAL, Action, ActuatorCommand, Observation
from inference.package import ModelPackage
from inference.policy import Policy
from tests.inference import making
from tests.webui.visits import (
    HERE,
    PASSWORD,
    REST,
    Enter,
    ask,
    filming,
    models_of,
    new_car,
    picture,
    pulses,
    say,
    stranger,
    track_day,
    until,
)
from vehicle.car import Car
from vehicle.gate import DriveMode
from vehicle.models import ModelStore
from vehicle.settings import Settings
from webui.app import console
from webui.auth import Password
from webui.stock_api import TOKEN_LIFE, Tokens


class Client:
    """A program that knows the stock console: it reads the token in the page, and sends it back with each order."""

    def __init__(self, visitor: ClientSession) -> None:
        self.visitor = visitor

    async def token(self, page: str = "/login") -> str:
        _, text = await ask(self.visitor, "GET", page)
        found = re.search(r'<meta name="csrf-token" content="([^"]+)"', text)
        assert found is not None
        return found[1]

    async def login(self, password: str = PASSWORD) -> tuple[int, Any]:
        address = str(self.visitor._base_url)
        headers = {"X-CSRFToken": await self.token(), "Referer": f"{address}login"}
        status, told = await ask(self.visitor, "POST", "/login", data={"password": password}, headers=headers)
        if status == 200:
            home = {"X-CSRFToken": await self.token("/home"), "Referer": f"{address}home"}
            self.visitor.headers.update(home)
        return status, told

    async def get(self, path: str, **options: Any) -> Any:
        status, told = await ask(self.visitor, "GET", f"/api/{path}", **options)
        assert status == 200, told
        return told

    async def put(self, path: str, **body: object) -> Any:
        status, told = await ask(self.visitor, "PUT", f"/api/{path}", json=body)
        assert status == 200, told
        return told

    async def done(self, path: str, **body: object) -> None:
        told = await self.put(path, **body)
        assert told["success"], told

    async def refused(self, path: str, **body: object) -> str:
        told = await self.put(path, **body)
        assert told.keys() == {"success", "reason"}
        assert told["success"] is False
        return str(told["reason"])


@asynccontextmanager
async def clients(address: str, count: int = 1) -> AsyncIterator[list[Client]]:
    async with AsyncExitStack() as stack:
        found = [Client(await stack.enter_async_context(stranger(address))) for _ in range(count)]
        for client in found:
            assert (await client.login())[0] == 200
        yield found


@pytest_asyncio.fixture
async def client(address: str) -> AsyncIterator[Client]:
    async with clients(address) as (client,):
        yield client


# The way in ---------------------------------------------------------------------------------------------------------


async def test_a_stock_client_logs_in(address: str) -> None:
    async with stranger(address) as visitor:
        client = Client(visitor)
        assert (await ask(visitor, "GET", "/auth"))[0] == 401
        assert await client.login("guess") == (401, "failure")
        assert (await ask(visitor, "GET", "/auth"))[0] == 401
        assert await client.login() == (200, {"redirect": "/home"})
        cookies = visitor.cookie_jar.filter_cookies(URL(address))
        assert list(cookies) == ["deepracer_token"]
        assert (await ask(visitor, "GET", "/auth"))[0] == 200
        async with visitor.get("/logout", allow_redirects=False) as answer:
            await answer.read()
            assert (answer.status, answer.headers["Location"]) == (302, "/login")
        assert (await ask(visitor, "GET", "/auth"))[0] == 401


async def test_a_login_without_the_pages_token_is_refused(address: str) -> None:
    async with stranger(address) as visitor:
        good = await Client(visitor).token()
        for token in ("", good[:-1], good + "0", "99999999999.00", good.replace(".", "0."), "é"):
            headers = {"X-CSRFToken": token}
            status, told = await ask(visitor, "POST", "/login", data={"password": PASSWORD}, headers=headers)
            assert status == 403
            assert "token" in told["error"]


async def test_what_is_no_form_unlocks_nothing(address: str) -> None:
    async with stranger(address) as visitor:
        visitor.headers["X-CSRFToken"] = await Client(visitor).token()
        for kind, body in (
            ("multipart/form-data", b"x"),
            ("multipart/form-data; boundary=b", b"--c\r\n"),
            ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data; name=password\r\n\r\nx"),
            ("multipart/form-data; boundary=b", b"--b\r\nContent-Transfer-Encoding: cow\r\n\r\nx\r\n--b--\r\n"),
            ("application/x-www-form-urlencoded; charset=cow", b"password=x"),
            ("application/x-www-form-urlencoded", b"password=%ff&password=%00"),
            ("application/json", json.dumps({"password": PASSWORD}).encode()),
        ):
            status, _ = await ask(visitor, "POST", "/login", data=body, headers={"Content-Type": kind})
            assert status in (400, 401, 429), kind


def test_a_token_has_its_time() -> None:
    now = [1000.0]
    tokens = Tokens(lambda: now[0])
    token = tokens.new()
    assert tokens.valid(token)
    assert not Tokens(lambda: now[0]).valid(token), "another start of the car has another key"
    now[0] += TOKEN_LIFE - 1
    assert tokens.valid(token)
    now[0] += 1
    assert not tokens.valid(token)


async def test_the_password_is_changed(client: Client, address: str) -> None:
    new = "four even narwhals"
    wrong = await client.refused("password", old_password="guess", new_password=new)
    assert wrong == "The password is incorrect. Provide your current password."
    assert "8 to 128" in await client.refused("password", old_password=PASSWORD, new_password="short")
    for body in ({}, {"old_password": PASSWORD}, {"old_password": 5, "new_password": new}):
        assert "must be texts" in await client.refused("password", **body)
    async with clients(address) as (other,):
        await client.done("password", old_password=PASSWORD, new_password=new)
        assert (await ask(other.visitor, "GET", "/auth"))[0] == 401
    assert (await client.get("server_ready"))["success"], "who has changed it stays"
    async with stranger(address) as visitor:
        assert await Client(visitor).login(PASSWORD) == (401, "failure")
        assert (await Client(visitor).login(new))[0] == 200


STOCK_ROUTES = """
GET / /home /login /logout /redirect_login /auth /route
PUT+POST password manual_drive drive_mode start_stop max_nav_throttle
GET control_modes_available set_calibration_mode get_calibration/angle get_calibration/throttle
PUT+POST set_calibration/angle set_calibration/throttle
PUT+POST adjust_calibrating_wheels/angle adjust_calibrating_wheels/throttle
GET get_led_color get_device_info get_device_status get_battery_level get_sensor_status models uploaded_model_list
PUT+POST set_led_color models/sample/model uploadModels deleteModels set_mandatory_update_status
GET is_model_installed isModelLoading get_mandatory_update_status is_software_update_available
GET+PUT+POST begin_software_update
GET server_ready isSshEnabled enableSsh disableSsh isSshDefaultPasswordChanged logs/SYS/50 logs/ROS/50
PUT+POST resetSshPassword
GET is_usb_connected get_network_details available_wifi_info supported_apis get_time
POST wifi_reset emergency_stop
"""


async def test_every_route_of_the_stock_car_answers(client: Client) -> None:
    asked = 0
    for line in STOCK_ROUTES.split("\n"):
        methods, *paths = line.split() or [""]
        for method in methods.split("+") if paths else []:
            for path in paths:
                if path != "/logout":
                    where = path if path.startswith("/") else f"/api/{path}"
                    status, told = await ask(client.visitor, method, where, json={} if method != "GET" else None)
                    assert status == 200, (where, told)
                    asked += 1
    assert asked > 60


# Driving ------------------------------------------------------------------------------------------------------------


async def test_a_manual_command_moves_the_car_and_dies_after_a_second(
    state: Path, tmp_path: Path, password: Password
) -> None:
    loop = asyncio.get_running_loop()
    async with track_day(state, tmp_path / "wires", password) as (car, rig, address), clients(address) as (client,):
        await client.done("drive_mode", drive_mode="manual")
        await client.done("start_stop", start_stop="start")
        sent, seen = 0.0, 0
        for _ in range(4):  # five a second, as the stock page sends them
            sent = loop.time()
            await client.done("manual_drive", angle=-1, throttle=-1.0, max_speed=1)
            seen, _ = rig.tape.read(0)
            await asyncio.sleep(0.2)
        await until(lambda: pulses(rig) == ActuatorCommand(1_700_000, 1_311_000))
        _, steady = rig.tape.read(seen - 5)
        assert {pulse.command for pulse in steady} == {ActuatorCommand(1_700_000, 1_311_000)}, "without a gap"
        seen, _ = rig.tape.read(0)
        await until(lambda: pulses(rig) == REST)
        _, since = rig.tape.read(seen)
        neutral = next(pulse for pulse in since if pulse.command == REST)
        assert 0.8 < neutral.t - sent < 1.4
        assert car.engaged, "and the car stays started"
        await client.done("manual_drive", angle="0.5", throttle=0, max_speed=0.5)
        await until(lambda: pulses(rig) == ActuatorCommand(1_325_000, 1_446_000))
        assert car.max_speed == 0.5
        await client.done("start_stop", start_stop="stop")
        await until(lambda: pulses(rig) == REST)
        await client.done("start_stop", start_stop="start")
        seen, _ = rig.tape.read(0)
        await until(lambda: rig.tape.read(0)[0] > seen + 20)
        _, since = rig.tape.read(seen)
        assert {pulse.command for pulse in since} == {REST}, "what was wished before the stop is void"


async def test_the_last_command_wins(state: Path, tmp_path: Path, password: Password) -> None:
    async with track_day(state, tmp_path / "wires", password) as (_, rig, address), clients(address) as (client,):
        await client.done("drive_mode", drive_mode="manual")
        await client.done("start_stop", start_stop="start")
        await asyncio.gather(
            *(client.done("manual_drive", angle=place / 20, throttle=0, max_speed=1) for place in range(1, 20))
        )
        await asyncio.sleep(0.05)  # between two beats of the others
        await client.done("manual_drive", angle=1, throttle=0, max_speed=1)
        await until(lambda: pulses(rig).steering_ns == 1_200_000)
        seen, _ = rig.tape.read(0)
        await until(lambda: pulses(rig) == REST)
        _, since = rig.tape.read(seen)
        assert {pulse.command.steering_ns for pulse in since} == {1_200_000, 1_450_000}


async def test_a_model_drives_and_an_emergency_stops_it(state: Path, tmp_path: Path, password: Password) -> None:
    async with track_day(state, tmp_path / "wires", password) as (car, rig, address), clients(address) as (client,):
        await client.done("max_nav_throttle", throttle=80)
        assert car.max_speed == 0.8
        await client.done("drive_mode", drive_mode="autonomous")
        await client.done("start_stop", start_stop="start")
        await until(lambda: pulses(rig).throttle_ns < REST.throttle_ns)
        status, told = await ask(client.visitor, "POST", "/api/emergency_stop")
        assert (status, told) == (200, {"success": True})
        await until(lambda: pulses(rig) == REST, 0.5)
        assert not car.engaged


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("drive_mode", {}, "drive_mode must be one of manual, autonomous"),
        ("drive_mode", {"drive_mode": "Manual"}, "drive_mode must be one of"),
        ("drive_mode", {"drive_mode": "calibration"}, "drive_mode must be one of"),
        ("drive_mode", {"drive_mode": ["manual"]}, "drive_mode must be one of"),
        ("start_stop", {}, "start_stop must be one of start, stop"),
        ("start_stop", {"start_stop": "go"}, "start_stop must be one of"),
        ("start_stop", {"start_stop": "Stop"}, "start_stop must be one of"),
        ("start_stop", {"start_stop": "start"}, "No model is loaded"),
        ("manual_drive", {}, "angle must be a number"),
        ("manual_drive", {"angle": 0, "throttle": 0}, "max_speed must be a number"),
        ("manual_drive", {"angle": 1.5, "throttle": 0, "max_speed": 1}, "angle out of range"),
        ("manual_drive", {"angle": 0, "throttle": -1.5, "max_speed": 1}, "throttle out of range"),
        ("manual_drive", {"angle": 0, "throttle": 0, "max_speed": 1.5}, "max_speed out of range"),
        ("manual_drive", {"angle": 10**400, "throttle": 0, "max_speed": 1}, "angle out of range"),
        ("manual_drive", {"angle": float("nan"), "throttle": 0, "max_speed": 1}, "angle must be a number"),
        ("manual_drive", {"angle": "nan", "throttle": 0, "max_speed": 1}, "angle must be a number"),
        ("manual_drive", {"angle": "left", "throttle": 0, "max_speed": 1}, "angle must be a number"),
        ("manual_drive", {"angle": True, "throttle": 0, "max_speed": 1}, "angle must be a number"),
        ("manual_drive", {"angle": 1, "throttle": 1, "max_speed": 1}, "The car is not in manual mode"),
        ("max_nav_throttle", {"throttle": 101}, "throttle out of range"),
        ("max_nav_throttle", {}, "throttle must be a number"),
    ],
)
async def test_what_is_no_order_changes_nothing(
    client: Client, car: Car, path: str, body: dict[str, object], reason: str
) -> None:
    before = (car.mode, car.engaged, car.max_speed, car.turn)
    assert (await client.refused(path, **body)).startswith(reason)
    assert (car.mode, car.engaged, car.max_speed, car.turn) == before


@pytest.mark.parametrize("body", [b"{", b"[]", b"5", b"\xff", b"[" * 100_000, b'{"drive_mode": "\\ud800"}'])
async def test_what_is_no_object_changes_nothing(client: Client, car: Car, body: bytes) -> None:
    status, told = await ask(client.visitor, "POST", "/api/drive_mode", data=body)
    assert (status in (200, 413), told.get("success", False)) == (True, False)
    assert car.mode is DriveMode.AUTONOMOUS


async def test_of_two_clients_one_drives(address: str, car: Car) -> None:
    async with clients(address, 2) as (one, other):
        await one.done("drive_mode", drive_mode="manual")
        await one.done("start_stop", start_stop="start")
        for path, body in (
            ("manual_drive", {"angle": 1, "throttle": 1, "max_speed": 1}),
            ("drive_mode", {"drive_mode": "autonomous"}),
            ("start_stop", {"start_stop": "start"}),
            ("max_nav_throttle", {"throttle": 5}),
            ("models/sample/model", {}),
            ("deleteModels", {"filenames": ["sample"]}),
        ):
            assert "has the wheel: ask for it first" in await other.refused(path, **body)
        assert car.engaged
        await other.done("start_stop", start_stop="stop")
        assert not car.engaged


async def test_the_modes_are_told(client: Client) -> None:
    assert await client.get("control_modes_available") == {
        "control_modes_available": ["manual", "autonomous", "calibration"],
        "success": True,
    }


# Calibration --------------------------------------------------------------------------------------------------------


async def test_the_car_is_calibrated_in_the_stock_order(state: Path, tmp_path: Path, password: Password) -> None:
    async with track_day(state, tmp_path / "wires", password) as (car, rig, address), clients(address) as (client,):
        assert "not in calibration mode" in await client.refused("adjust_calibrating_wheels/angle", pwm=5)
        assert await client.get("set_calibration_mode") == {"success": True}
        assert (car.mode, car.engaged) == (DriveMode.CALIBRATION, True)
        angle = {"min": -30, "mid": -5, "max": 20, "polarity": 1, "success": True}
        throttle = {"min": -42, "mid": -12, "max": 23, "polarity": -1, "success": True}
        assert await client.get("get_calibration/angle") == angle
        assert await client.get("get_calibration/throttle") == throttle
        await client.done("adjust_calibrating_wheels/angle", pwm=35)
        await until(lambda: pulses(rig) == ActuatorCommand(1_850_000, REST.throttle_ns))
        await client.done("adjust_calibrating_wheels/throttle", pwm=-14)
        await until(lambda: pulses(rig) == ActuatorCommand(REST.steering_ns, 1_437_000))
        await until(lambda: pulses(rig) == REST)
        for pwm in (51, -51, "far", None):
            assert "pwm" in await client.refused("adjust_calibrating_wheels/angle", pwm=pwm)
        assert pulses(rig) == REST
        await client.done("set_calibration/angle", mid=2, min=-28, max=33, polarity=-1)
        assert await client.get("get_calibration/angle") == angle | {"mid": 2, "min": -28, "max": 33, "polarity": -1}
        assert await client.get("get_calibration/throttle") == throttle
        await until(lambda: pulses(rig).steering_ns == 1_520_000)
        kept = json.loads((state / "calibration.json").read_text())["Calibration"]["Servo"]
        assert kept == {"min": 1_220_000, "mid": 1_520_000, "max": 1_830_000, "polarity": -1}


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"mid": -30}, "The centre must lie between the two ends"),
        ({"min": 21}, "The centre must lie between the two ends"),
        ({"max": 51}, "max out of range"),
        ({"polarity": 0}, "polarity out of range"),
        ({"polarity": None}, "polarity must be a number"),
    ],
)
async def test_an_impossible_calibration_is_refused(
    client: Client, car: Car, wrong: dict[str, object], reason: str
) -> None:
    body = {"min": -30, "mid": -5, "max": 20, "polarity": 1} | wrong
    assert (await client.refused("set_calibration/angle", **body)).startswith(reason)
    assert car.calibration == DEFAULT


async def test_a_car_that_drives_is_not_calibrated(client: Client, car: Car) -> None:
    await client.done("drive_mode", drive_mode="manual")
    await client.done("start_stop", start_stop="start")
    body = {"min": -30, "mid": 0, "max": 20, "polarity": 1}
    assert "Stop the car" in await client.refused("set_calibration/angle", **body)
    assert (car.engaged, car.calibration) == (True, DEFAULT)


# Models -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return making.package(tmp_path_factory.mktemp("package") / "small.tar.gz").read_bytes()


async def upload(client: Client, content: bytes, filename: str, *fields: tuple[str, str]) -> Any:
    form = FormData()
    for name, value in fields:
        form.add_field(name, value)
    form.add_field("file", BytesIO(content), filename=filename, content_type="application/gzip")
    status, told = await ask(client.visitor, "POST", "/api/uploadModels", data=form)
    assert status == 200, told
    return told


async def test_a_model_is_uploaded_listed_loaded_and_deleted(
    client: Client, car: Car, state: Path, archive: bytes
) -> None:
    before = models_of(state)
    missing = {"success": False, "message": "Model is not installed"}
    assert await client.get("is_model_installed", params={"filename": "swift.tar.gz"}) == missing
    told = await upload(client, archive, "swift.tar.gz", ("comment", "my best"))
    assert told == {"success": True, "message": "Model uploaded successfully to your vehicle"}
    there = {"success": True, "message": "Model is installed"}
    assert await client.get("is_model_installed", params={"filename": "swift.tar.gz"}) == there
    listed = await client.get("models")
    assert listed["sensor_status"]["camera_status"] == "connected"
    assert listed["models"][1] == {
        "model_name": "model",
        "model_folder_name": "swift",
        "model_training_algorithm": "clipped_ppo",
        "model_action_space_type": "discrete",
        "model_sensors": ["observation"],
        "is_select_disabled": False,
    }
    uploaded = (await client.get("uploaded_model_list"))[1]
    assert time.time() - uploaded.pop("creation_time") < 60
    assert uploaded == {
        "name": "swift",
        "size": "1M",
        "status": "Ready",
        "training_algorithm": "clipped_ppo",
        "action_space_type": "discrete",
        "sensors": "observation",
    }
    await client.done("models/swift/model")
    assert await client.get("isModelLoading") == {"success": True, "isModelLoading": "loaded"}
    assert car.driver is not None
    assert car.driver.package.name == "swift"
    assert "is loaded" in (await client.put("deleteModels", filenames=["swift"]))["reason"]
    await client.done("models/sample/model")
    told = await client.put("deleteModels", filenames=["swift"])
    assert told["success"], told
    assert models_of(state) == before


async def test_what_cannot_be_loaded_is_told_and_those_that_can_come_first(
    client: Client, state: Path, archive: bytes
) -> None:
    assert "no model" in await client.refused("models/swift/model")
    assert "no" in await client.refused("models/sample/agent"), "a folder holds one model"
    graph = next((state / "models" / "sample").resolve().glob("model.*"))
    graph.write_bytes(b"junk")
    await upload(client, archive, "swift.tar.gz")
    listed = (await client.get("models"))["models"]
    assert [(model["model_folder_name"], model["is_select_disabled"]) for model in listed] == [
        ("swift", False),
        ("sample", True),
    ]
    assert {model["name"]: model["status"] for model in await client.get("uploaded_model_list")} == {
        "sample": "Error",
        "swift": "Ready",
    }
    assert "damaged" in await client.refused("models/sample/model")
    assert (await client.get("isModelLoading"))["isModelLoading"] == "error"


async def test_who_leaves_while_a_model_loads_has_chosen_it(state: Path, password: Password) -> None:
    begun, ready = threading.Event(), threading.Event()

    class Still:
        def decide(self, observation: Observation) -> Action:
            return NEUTRAL

    def open_policy(package: ModelPackage) -> Policy:
        begun.set()
        assert ready.wait(5)
        return Still()

    car = new_car(state, open_policy)
    with contextlib.closing(car):
        async with console(car, HERE, password) as address, clients(address) as (client,):
            loading = asyncio.create_task(client.put("models/sample/model"))
            await until(begun.is_set)
            assert (await client.get("isModelLoading"))["isModelLoading"] == "loading"
            loading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await loading
            ready.set()
            await until(lambda: car.driver)
            async with asyncio.timeout(5):
                while (await client.get("isModelLoading"))["isModelLoading"] != "loaded":
                    pass


async def test_what_is_no_model_is_refused_in_the_stock_words(client: Client, state: Path, archive: bytes) -> None:
    before = models_of(state)
    wrong = {"success": False, "message": "Failed to upload the model. Not a .tar.gz file"}
    for filename in ("swift.zip", "swift", "swift.tar.gz.exe"):
        assert await upload(client, archive, filename) == wrong
    for content, filename, words in (
        (b"hello", "swift.tar.gz", "no .tar.gz archive"),
        (archive[:-4], "swift.tar.gz", "no complete"),
        (bytes([31, 139]) + bytes(2 << 20), "swift.tar.gz", "may have 1 MB"),
        (bytes([31, 139]) + bytes(3 << 20), "swift.tar.gz", "may have 1 MB"),
        (archive, "../../evil.tar.gz", "no slashes"),
        (archive, "..\\evil.tar.gz", "no slashes"),
        (archive, ".tar.gz", "needs a letter"),
        (archive, "x" * 101 + ".tar.gz", "at most 100"),
    ):
        told = await upload(client, content, filename)
        assert told["success"] is False
        assert words in told.get("message", told.get("reason"))
        assert models_of(state) == before


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/gzip", b"x"),
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=" + "b" * 71, b"x"),
        ("multipart/form-data; boundary=b", b""),
        ("multipart/form-data; boundary=b", b"--c\r\n"),
        ("multipart/form-data; boundary=b", b"--b--\r\n"),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\nx\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b", b"--b\r\nnonsense\r\n\r\nx\r\n--b--\r\n"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--b--\r\n',
        ),
        ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; filename="a.tar.gz"\r\n\r\nhalf'),
        ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; filename="a.tar.gz"\r\n'),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Length: -5\r\nContent-Disposition: form-data; filename="a.tar.gz"\r\n\r\nx\r\n--b--\r\n',
        ),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\nContent-Disposition: form-data; filename*=cow'en'a%FF.tar.gz\r\n\r\nx\r\n--b--\r\n",
        ),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\nx\r\n--c--\r\n--b--\r\n",
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; filename="a\x00.tar.gz"\r\n\r\nx\r\n--b--\r\n',
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::aiohttp.multipart.BadContentDispositionParam")
async def test_a_form_that_is_none_is_refused(client: Client, state: Path, kind: str, body: bytes) -> None:
    before = models_of(state)
    headers = {"Content-Type": kind}
    status, told = await ask(client.visitor, "POST", "/api/uploadModels", data=body, headers=headers)
    assert (status, told["success"]) == (200, False)
    assert told.get("message", told.get("reason"))
    assert models_of(state) == before


async def test_a_full_disk_is_told(car: Car, password: Password, state: Path, archive: bytes) -> None:
    async with console(car, HERE, password, room=lambda: 0) as address, clients(address) as (client,):
        told = await upload(client, archive, "swift.tar.gz")
    assert told == {"success": False, "message": "The disk is full: delete a model first."}
    assert "swift" not in str(models_of(state))


@pytest.mark.parametrize("names", [None, "sample", [5], {}, ["../sample"], ["sample/../sample"], ["\ud800"]])
async def test_what_is_no_models_name_deletes_nothing(client: Client, state: Path, names: object) -> None:
    before = models_of(state)
    assert await client.refused("deleteModels", filenames=names)
    assert models_of(state) == before


# The car ------------------------------------------------------------------------------------------------------------


async def test_the_tail_light_is_coloured(state: Path, password: Password) -> None:
    with contextlib.closing(Car(Settings(), ModelStore(state), DEFAULT, Fittings(lights=True))) as car:
        async with console(car, HERE, password) as address, clients(address) as (client,):
            await client.done("set_led_color", red=255, green=130, blue="0")
            told = {"red": 255, "green": 130, "blue": 0, "success": True}
            assert await client.get("get_led_color") == told
            assert await client.refused("set_led_color", red=256, green=0, blue=0) == "red out of range"
            assert await client.get("get_led_color") == told


async def test_a_car_without_a_tail_light_says_so(client: Client) -> None:
    assert "no tail light" in await client.refused("set_led_color", red=1, green=2, blue=3)


async def test_the_car_is_described(client: Client) -> None:
    told = await client.get("get_device_info")
    assert told.pop("success") is True
    assert told.keys() == {
        "hardware_version",
        "software_version",
        "cpu_model",
        "os_version",
        "disk_amount",
        "ram_amount",
    }
    assert all(told.values())
    status = await client.get("get_device_status")
    assert status["free_disk"] > 0
    assert status["success"]
    assert await client.get("get_battery_level") == {"battery_level": -1, "success": True}
    assert await client.get("get_sensor_status") == {
        "camera_status": "connected",
        "stereo_status": "not_connected",
        "lidar_status": "not_connected",
        "success": True,
    }
    assert await client.get("get_network_details") == {
        "success": True,
        "is_usb_connected": False,
        "SSID": "",
        "ip_address": "127.0.0.1",
    }
    assert await client.get("is_usb_connected") == {"success": True, "is_usb_connected": False}
    assert await client.get("available_wifi_info") == []
    assert await client.get("server_ready") == {"success": True}
    assert datetime.fromisoformat((await client.get("get_time"))["time"]).tzinfo is not None
    assert "/api/manual_drive" in (await client.get("supported_apis"))["supported_apis"]


async def test_battery_and_faults_are_told_as_they_are(client: Client, car: Car) -> None:
    car.battery = 0.5
    car.fault("camera", "The camera sends no picture; check its plug.")
    assert (await client.get("get_battery_level"))["battery_level"] == 6
    assert (await client.get("get_sensor_status"))["camera_status"] == "error"


async def test_what_hotlap_does_not_manage_is_refused_with_the_reason(client: Client) -> None:
    for path in ("enableSsh", "disableSsh", "begin_software_update"):
        told = await client.get(path)
        assert told["success"] is False
        assert told["reason"].startswith(("hotlap cannot", "No updater"))
    for path in ("wifi_reset", "resetSshPassword", "set_mandatory_update_status", "begin_software_update"):
        words = {"wifi_name": "home", "wifi_password": "secret", "oldPassword": "old", "newPassword": "new"}
        assert (await client.refused(path, **words)).endswith(".")
    for path in ("get_mandatory_update_status", "is_software_update_available"):
        assert await client.get(path) == {"success": True, "status": False}
    told = await client.get("isSshEnabled")
    assert isinstance(told["isSshEnabled"], bool)
    assert told["reason"].endswith(".")


async def test_logs_are_those_of_the_daemon_and_the_system(client: Client, car: Car) -> None:
    car.fault("camera", "The camera sends no picture; check its plug.")
    told = await client.get("logs/ROS/5")
    assert told["success"]
    assert "vehicle.car: The camera sends no picture; check its plug." in told["data"]
    assert (await client.get("logs/SYS/5"))["data"]
    for path in (
        "logs/LOG_PATH/5",
        "logs/ros/5",
        "logs/__class__/5",
        "logs/SYS/0",
        "logs/SYS/1001",
        "logs/SYS/9999999",
    ):
        told = await client.get(path)
        assert told["success"] is False
        assert "data" not in told


async def test_the_video_comes_at_its_stock_address(client: Client, car: Car) -> None:
    query = {"topic": "/camera_pkg/display_mjpeg", "width": "480", "height": "360"}
    async with (
        filming(car, lambda number: picture(number % 256)),
        client.visitor.get("/route", params=query) as answer,
    ):
        assert answer.content_type == "multipart/x-mixed-replace"
        for _ in range(2):
            head = await answer.content.readuntil(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", head)
            assert length is not None
            jpeg = await answer.content.readexactly(int(length[1]))
            image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
            assert image is not None
            assert image.shape == (120, 160, 3)
    for topic in ("", "/rosout", "../../etc/passwd"):
        status, told = await ask(client.visitor, "GET", "/route", params={"topic": topic})
        assert (status, told["success"]) == (200, False)


async def test_a_stock_session_opens_our_own_routes_too(client: Client, address: str, enter: Enter) -> None:
    assert (await ask(client.visitor, "GET", "/api/v1/state"))[0] == 200
    anna = await enter(address)
    assert (await ask(anna, "GET", "/api/get_battery_level"))[0] == 200
    status, told = await ask(anna, "POST", "/api/start_stop", json={"start_stop": "stop"})
    assert (status, told) == (200, {"success": True})


async def test_an_upload_of_no_end_is_stopped_before_it_is_read(client: Client, address: str) -> None:
    cookie = client.visitor.cookie_jar.filter_cookies(URL(address))["deepracer_token"].value
    head = (
        f"POST /api/uploadModels HTTP/1.1\r\nHost: {URL(address).authority}\r\nCookie: deepracer_token={cookie}\r\n"
        f"X-CSRFToken: {client.visitor.headers['X-CSRFToken']}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 9000000000\r\n\r\n"
    )
    assert b"may have 1 MB" in await say(address, head.encode())
