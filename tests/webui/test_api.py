"""The console's own API, asked as the page asks it: models, calibration, the car, the logs, the wheel, the drive."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import re
import ssl
import time
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import ClientSession, ClientWebSocketResponse
from yarl import URL

from calibration.calibration import DEFAULT
from drivers.rig import Fittings
from drivers.signals import ActuatorCommand
from sim_stub.rig import SimRig
from tests.inference import making
from tests.webui.conftest import PASSWORD, Enter
from tests.webui.test_app import driving, new_car, until
from tests.webui.visits import ask, closing, models_of, news, refused, say, tree
from vehicle.car import Car
from vehicle.gate import DriveMode
from vehicle.models import ModelStore
from vehicle.settings import Console, Settings
from webui.app import console
from webui.auth import Password

HERE = Console(port=0, upload_mb=1)
REST = ActuatorCommand(1_450_000, 1_446_000)
JUNK = b"GIF89a" + bytes(2000)


@pytest_asyncio.fixture
async def car(state: Path) -> AsyncIterator[Car]:
    car = new_car(state)
    yield car
    car.close()


@pytest_asyncio.fixture
async def address(car: Car, password: Password) -> AsyncIterator[str]:
    async with console(car, HERE, password) as address:
        yield address


@pytest_asyncio.fixture
async def browser(address: str, enter: Enter) -> ClientSession:
    return await enter(address)


# Models -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small model, as it is downloaded."""
    return making.package(tmp_path_factory.mktemp("package") / "small.tar.gz").read_bytes()


async def in_pieces(content: bytes, size: int = 300) -> AsyncIterator[bytes]:
    for begin in range(0, len(content), size):
        yield content[begin : begin + size]


async def test_a_package_that_comes_in_pieces_is_installed_listed_and_deleted(
    browser: ClientSession, state: Path, archive: bytes
) -> None:
    before = models_of(state)
    status, model = await ask(browser, "PUT", "/api/v1/models/my fast model.tar.gz", data=in_pieces(archive))
    assert status == 201, model
    assert (model["name"], model["status"], model["reason"]) == ("my_fast_model", "ready", None)
    assert (model["sensors"], model["active"]) == (["observation"], False)
    assert model["actions"] == {
        "type": "discrete",
        "actions": [{"steering_angle": place - 1, "speed": place + 1} for place in range(3)],
        "steering_angle": None,
        "speed": None,
    }
    assert 0 <= time.time() - model["installed"] < 60
    _, listed = await ask(browser, "GET", "/api/v1/models")
    assert [each["name"] for each in listed] == ["my_fast_model", "sample"]
    assert listed[0] == model
    assert models_of(state).items() > before.items()
    assert await ask(browser, "DELETE", "/api/v1/models/my_fast_model") == (200, {})
    assert models_of(state) == before
    assert "no model" in await refused(browser, 404, "DELETE", "/api/v1/models/my_fast_model")


def zipped() -> bytes:
    content = BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("model.onnx", making.onnx())
    return content.getvalue()


WRONG: dict[str, tuple[int, Callable[[bytes], bytes], str]] = {
    "empty": (415, lambda archive: b"", "This is no .tar.gz archive"),
    "a word": (415, lambda archive: b"hello", "This is no .tar.gz archive"),
    "a picture": (415, lambda archive: JUNK, "This is no .tar.gz archive"),
    "zip": (422, lambda archive: zipped(), "swift"),
    "half of it": (422, lambda archive: archive[: len(archive) // 2], "swift"),
    "all but its end": (422, lambda archive: archive[:-4], "swift"),
    "another byte": (422, lambda archive: archive[:-8] + bytes([archive[-8] ^ 1]) + archive[-7:], "swift"),
    "no model in it": (422, lambda archive: making.archive({"model_metadata.json": making.metadata()}), "no model"),
    "a file above it": (422, lambda archive: making.archive({"../../../evil.onnx": making.onnx()}), "."),
}


@pytest.mark.parametrize("what", WRONG)
async def test_what_is_no_model_is_refused_and_nothing_is_lost(
    browser: ClientSession, state: Path, archive: bytes, what: str
) -> None:
    status, spoil, words = WRONG[what]
    before = tree(state)
    sentence = await refused(browser, status, "PUT", "/api/v1/models/swift", data=spoil(archive))
    assert words in sentence
    assert "tmp" not in sentence, "that is no name that anybody has given"
    assert tree(state) == before


async def test_a_name_that_is_taken_is_refused_unless_it_is_to_be_replaced(
    browser: ClientSession, state: Path, archive: bytes
) -> None:
    before = models_of(state)
    for query in ("", "?replace=false"):
        sentence = await refused(browser, 409, "PUT", f"/api/v1/models/sample{query}", data=archive)
        assert sentence == "A model named sample is installed already: rename the file, or replace that model."
    assert await refused(browser, 400, "PUT", "/api/v1/models/sample?replace=perhaps", data=archive)
    assert models_of(state) == before
    assert await refused(browser, 415, "PUT", "/api/v1/models/sample?replace=true", data=JUNK)
    assert models_of(state) == before, "a replacement that fails leaves the old one"
    status, model = await ask(browser, "PUT", "/api/v1/models/sample?replace=true", data=archive)
    assert (status, model["name"], model["actions"]["type"]) == (201, "sample", "discrete")
    assert [each["name"] for each in (await ask(browser, "GET", "/api/v1/models"))[1]] == ["sample"]
    assert models_of(state) != before


async def test_of_two_uploads_of_one_name_the_second_is_refused(
    browser: ClientSession, state: Path, archive: bytes
) -> None:
    go_on = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield archive[:100]
        await go_on.wait()
        yield archive[100:]

    first = asyncio.create_task(ask(browser, "PUT", "/api/v1/models/swift", data=slowly()))
    await until(lambda: list((state / "incoming").iterdir()))
    for query in ("", "?replace=true"):
        sentence = await refused(browser, 409, "PUT", f"/api/v1/models/swift{query}", data=archive)
        assert "is being uploaded already" in sentence
    assert await refused(browser, 415, "PUT", "/api/v1/models/other", data=JUNK), "another name is free"
    go_on.set()
    status, model = await first
    assert (status, model["name"]) == (201, "swift")
    assert len(models_of(state)) > 0


async def test_who_leaves_in_the_middle_of_an_upload_leaves_nothing_behind(
    browser: ClientSession, state: Path, archive: bytes
) -> None:
    async def never_ending() -> AsyncIterator[bytes]:
        yield archive[:100]
        await asyncio.Event().wait()

    before = models_of(state)
    upload = asyncio.create_task(ask(browser, "PUT", "/api/v1/models/swift", data=never_ending()))
    await until(lambda: list((state / "incoming").iterdir()))
    upload.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await upload
    await until(lambda: not list((state / "incoming").iterdir()))
    assert models_of(state) == before
    assert await refused(browser, 415, "PUT", "/api/v1/models/swift", data=JUNK), "and the name is free again"


async def test_who_leaves_when_all_has_come_has_uploaded_it(
    browser: ClientSession, state: Path, archive: bytes, car: Car
) -> None:
    upload = asyncio.create_task(ask(browser, "PUT", "/api/v1/models/swift", data=archive))
    await until(lambda: any(path.is_dir() for path in (state / "incoming").iterdir()))
    upload.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await upload
    await until(lambda: "swift" in car.store.names() and not list((state / "incoming").iterdir()), 30)


async def test_a_model_for_missing_sensors_is_shown_with_the_reason_and_not_loaded(
    browser: ClientSession, car: Car, tmp_path: Path
) -> None:
    graph = making.onnx(
        inputs={"main_level/agent/main/online/network_0/STEREO_CAMERAS": ("batch", 120, 160, 2)},
        weights=making.WEIGHTS.repeat(2, 0),
    )
    twin = making.package(tmp_path / "twin.tar.gz", graph, making.metadata(sensor=["STEREO_CAMERAS"]))
    status, model = await ask(browser, "PUT", "/api/v1/models/twin", data=twin.read_bytes())
    assert status == 201, model
    assert (model["status"], model["sensors"]) == ("unfit", ["STEREO_CAMERAS"])
    assert model["reason"] == "twin needs 2 camera(s), and this car has 1."
    assert (await ask(browser, "GET", "/api/v1/models"))[1][1] == model
    assert await refused(browser, 409, "POST", "/api/v1/model", json={"name": "twin"}) == model["reason"]
    assert car.driver is None


async def test_a_model_that_was_damaged_since_is_shown_with_the_reason_and_not_loaded(
    browser: ClientSession, state: Path
) -> None:
    graph = next((state / "models" / "sample").resolve().glob("model.*"))
    graph.write_bytes(graph.read_bytes()[:-1])
    ((model,)) = (await ask(browser, "GET", "/api/v1/models"))[1]
    assert (model["status"], model["actions"]) == ("damaged", None)
    assert "damaged since it was installed" in model["reason"]
    assert model["reason"] in await refused(browser, 409, "POST", "/api/v1/model", json={"name": "sample"})


async def test_the_loaded_model_is_not_deleted(browser: ClientSession, state: Path, car: Car) -> None:
    await car.load("sample")
    before = models_of(state)
    assert "load another one" in await refused(browser, 409, "DELETE", "/api/v1/models/sample")
    assert models_of(state) == before


async def test_a_full_disk_is_told_in_one_sentence_and_nothing_is_lost(
    car: Car, password: Password, state: Path, enter: Enter, archive: bytes
) -> None:
    free = [300 << 20]
    full = "The disk is full: delete a model first."

    async def filling_up() -> AsyncIterator[bytes]:
        yield archive[:100]
        await until(lambda: list((state / "incoming").iterdir()))
        free[0] = 255 << 20
        yield archive[100:]

    async with console(car, HERE, password, room=lambda: free[0]) as address:
        browser = await enter(address)
        before = tree(state)
        assert await refused(browser, 507, "PUT", "/api/v1/models/swift", data=filling_up()) == full
        assert tree(state) == before
        assert await refused(browser, 507, "PUT", "/api/v1/models/swift", data=archive) == full
        assert tree(state) == before
        free[0] = 300 << 20
        assert await refused(browser, 415, "PUT", "/api/v1/models/swift", data=JUNK), "it may be tried again"


async def test_a_disk_that_takes_nothing_is_told_in_one_sentence(browser: ClientSession, state: Path) -> None:
    (state / "incoming").rmdir()
    sentence = await refused(browser, 507, "PUT", "/api/v1/models/swift", data=JUNK)
    assert sentence == "The car's disk does not take it: No such file or directory."
    (state / "incoming").mkdir()
    assert await refused(browser, 415, "PUT", "/api/v1/models/swift", data=JUNK), "it may be tried again"


async def test_what_is_too_large_is_refused_before_a_byte_of_it_is_read(
    browser: ClientSession, address: str, state: Path
) -> None:
    before = models_of(state)
    cookies = browser.cookie_jar.filter_cookies(URL(address))
    head = (
        f"PUT /api/v1/models/swift HTTP/1.1\r\nHost: {URL(address).authority}\r\n"
        f"Cookie: {'; '.join(f'{name}={morsel.value}' for name, morsel in cookies.items())}\r\n"
        f"X-CSRF-Token: {browser.headers['X-CSRF-Token']}\r\nContent-Length: {(1 << 20) + 1}\r\n\r\n"
    )
    said = await say(address, head.encode())
    assert said.startswith(b"HTTP/1.1 413 ")
    assert b"a model may have 1 MB." in said
    assert models_of(state) == before


async def test_what_grows_too_large_on_the_way_is_refused(browser: ClientSession, state: Path) -> None:
    before = models_of(state)
    content = b"\x1f\x8b" + bytes(2 << 20)
    sentence = await refused(browser, 413, "PUT", "/api/v1/models/swift", data=in_pieces(content, 1 << 16))
    assert sentence == "The file is too large: a model may have 1 MB."
    assert models_of(state) == before


@pytest.mark.parametrize(
    "name",
    [
        "..%2F..%2Fevil",
        "..%5Cevil",
        "%2E%2E%2Fevil",
        "%2E%2E.tar.gz",
        "%2Fetc%2Fpasswd",
        "a%2Fb",
        "a%00b",
        "a%0Ab",
        "%20",
        ".tar.gz",
        "x" * 101,
    ],
)
async def test_a_name_that_could_lead_elsewhere_is_refused(
    browser: ClientSession, address: str, tmp_path: Path, archive: bytes, name: str
) -> None:
    before = tree(tmp_path)
    url = URL(f"{address}api/v1/models/{name}", encoded=True)
    assert "name" in await refused(browser, 400, "PUT", url, data=archive)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("path", ["", "a/b", "../evil", "../../../../etc/passwd", "%2e%2e", "%2E%2E/%2E%2E/evil"])
async def test_a_path_that_leads_elsewhere_leads_nowhere(
    browser: ClientSession, address: str, tmp_path: Path, path: str
) -> None:
    before = tree(tmp_path)
    cookies = browser.cookie_jar.filter_cookies(URL(address))
    head = (
        f"PUT /api/v1/models/{path} HTTP/1.1\r\nHost: {URL(address).authority}\r\n"
        f"Cookie: {'; '.join(f'{name}={morsel.value}' for name, morsel in cookies.items())}\r\n"
        f"X-CSRF-Token: {browser.headers['X-CSRF-Token']}\r\nContent-Length: 5\r\n\r\nhello"
    )
    said = await say(address, head.encode())
    assert said.split(b" ", 2)[1] in (b"400", b"404", b"405"), said
    assert tree(tmp_path) == before


async def test_a_hundred_letters_are_a_name(browser: ClientSession) -> None:
    for name in ("x" * 100, "y", "Anna's 2nd-best_model v1.5"):
        assert await refused(browser, 415, "PUT", f"/api/v1/models/{name}", data=JUNK)


# Calibration --------------------------------------------------------------------------------------------------------

STOCK = {
    "steering": {"min": -30, "mid": -5, "max": 20, "polarity": 1},
    "throttle": {"min": -42, "mid": -12, "max": 23, "polarity": -1},
}


async def test_the_calibration_is_told_and_taken_in_the_stock_units(browser: ClientSession, state: Path) -> None:
    assert await ask(browser, "GET", "/api/v1/calibration") == (200, {**STOCK, "default": STOCK})
    steering = {"min": -25.5, "mid": 1.25, "max": 31, "polarity": -1}
    throttle = {"min": -40, "mid": -11, "max": 22, "polarity": 1}
    _, told = await ask(browser, "PUT", "/api/v1/calibration/steering", json=steering)
    assert told == {"steering": steering, "throttle": STOCK["throttle"], "default": STOCK}
    _, told = await ask(browser, "PUT", "/api/v1/calibration/throttle", json=throttle)
    assert told == {"steering": steering, "throttle": throttle, "default": STOCK}
    assert await ask(browser, "GET", "/api/v1/calibration") == (200, told)
    kept = json.loads((state / "calibration.json").read_text())["Calibration"]
    assert kept["Servo"] == {"min": 1_245_000, "mid": 1_512_500, "max": 1_810_000, "polarity": -1}
    assert kept["Motor"] == {"min": 1_320_000, "mid": 1_450_500, "max": 1_599_000, "polarity": 1}


@pytest.mark.parametrize(
    ("wire", "wrong"),
    [
        ("steering", {"min": 0}),
        ("steering", {"mid": 20}),
        ("steering", {"max": -31}),
        ("throttle", {"min": -50.01}),
        ("throttle", {"max": 51}),
        ("throttle", {"mid": 1e308}),
        ("throttle", {"polarity": 0}),
        ("throttle", {"polarity": "1"}),
        ("throttle", {"mid": None}),
        ("throttle", {"middle": 0}),
        ("brake", {}),
        ("default", {}),
    ],
)
async def test_an_impossible_calibration_is_refused(
    browser: ClientSession, car: Car, state: Path, wire: str, wrong: dict[str, object]
) -> None:
    body = STOCK.get(wire, STOCK["steering"]) | wrong
    assert await refused(browser, 400, "PUT", f"/api/v1/calibration/{wire}", json=body)
    assert car.calibration == DEFAULT
    assert not (state / "calibration.json").exists()


async def test_a_car_that_drives_is_not_calibrated(browser: ClientSession, car: Car, state: Path) -> None:
    steering = STOCK["steering"] | {"mid": 0}
    await ask(browser, "POST", "/api/v1/mode", json={"mode": "manual"})
    await ask(browser, "POST", "/api/v1/start")
    sentence = await refused(browser, 409, "PUT", "/api/v1/calibration/steering", json=steering)
    assert sentence == "Stop the car before you store a calibration."
    assert car.engaged
    assert not (state / "calibration.json").exists()
    await ask(browser, "POST", "/api/v1/stop")
    assert (await ask(browser, "PUT", "/api/v1/calibration/steering", json=steering))[0] == 200
    assert car.calibration.steering.mid_ns == 1_500_000


# The car and its computer -------------------------------------------------------------------------------------------


async def test_a_car_without_a_tail_light_says_so(browser: ClientSession) -> None:
    status, light = await ask(browser, "GET", "/api/v1/light")
    assert (status, light["available"]) == (200, False)
    colour = {"red": 1, "green": 2, "blue": 3}
    assert await refused(browser, 409, "PUT", "/api/v1/light", json=colour) == light["reason"]


async def test_the_tail_light_takes_a_colour_and_remembers_it(state: Path, password: Password, enter: Enter) -> None:
    def lit_car() -> Car:
        return Car(Settings(), ModelStore(state), DEFAULT, Fittings(lights=True))

    with contextlib.closing(lit_car()) as car:
        async with console(car, HERE, password) as address:
            browser = await enter(address)
            light = {"available": True, "reason": None, "red": 0, "green": 0, "blue": 255}
            assert await ask(browser, "GET", "/api/v1/light") == (200, light)
            light |= {"red": 255, "green": 130, "blue": 0}
            colour = {"red": 255, "green": 130, "blue": 0}
            assert await ask(browser, "PUT", "/api/v1/light", json=colour) == (200, light)
            for wrong in ({"red": 256}, {"green": -1}, {"blue": 1.5}, {"blue": "1"}, {"white": 1}):
                assert await refused(browser, 400, "PUT", "/api/v1/light", json=colour | wrong)
            assert await ask(browser, "GET", "/api/v1/light") == (200, light)
    with contextlib.closing(lit_car()) as car:
        assert car.colour == (255, 130, 0)


async def test_about_says_nothing_empty(browser: ClientSession, address: str) -> None:
    status, told = await ask(browser, "GET", "/api/v1/about")
    assert status == 200
    for key in ("hotlap", "hardware", "os", "openvino", "python", "processor"):
        assert told[key].strip(), key
    assert told["memory"] > 1 << 28
    assert 0 < told["disk"]["free"] < told["disk"]["total"]
    assert (told["cameras"], told["lidar"], told["battery"]) == (1, False, False)
    assert told["update"]["state"] == "unmanaged"
    url = URL(address)
    pem = await asyncio.to_thread(ssl.get_server_certificate, (str(url.host), int(url.port or 0)))
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest().upper()
    assert told["certificate"]["fingerprint"] == ":".join(re.findall("..", digest))


async def test_where_the_car_is_found_is_told(browser: ClientSession) -> None:
    _, told = await ask(browser, "GET", "/api/v1/network")
    assert told["addresses"] == ["127.0.0.1"]
    assert re.fullmatch(r"hotlap-[0-9a-z]{4}\.local", told["names"][0])
    assert told["wifi"] is None
    assert told["reason"].endswith(".")


async def test_whether_ssh_answers_is_told_as_it_is(browser: ClientSession) -> None:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", 22)
    except OSError:
        answers = False
    else:
        answers = True
        writer.close()
    _, told = await ask(browser, "GET", "/api/v1/ssh")
    assert told["enabled"] is answers
    assert told["reason"].endswith(".")


# Logs ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def voice(caplog: pytest.LogCaptureFixture) -> logging.Logger:
    """Part of the daemon that says whatever the test likes."""
    caplog.set_level(logging.DEBUG, "voice")
    return logging.getLogger("voice")


async def texts(browser: ClientSession, query: str) -> list[str]:
    status, page = await ask(browser, "GET", f"/api/v1/logs/daemon?text=voice&{query}")
    assert status == 200, page
    return [entry["text"] for entry in page["entries"]]


async def test_the_log_is_filtered_by_level_text_and_number(browser: ClientSession, voice: logging.Logger) -> None:
    for level, text in ((10, "Low tide"), (20, "High tide"), (30, "A storm"), (40, "A wreck"), (50, "All is lost")):
        voice.log(level, "%s", text)
    assert await texts(browser, "") == ["Low tide", "High tide", "A storm", "A wreck", "All is lost"]
    assert await texts(browser, "level=info") == ["High tide", "A storm", "A wreck", "All is lost"]
    assert await texts(browser, "level=error") == ["A wreck", "All is lost"]
    assert await texts(browser, "limit=2") == ["A wreck", "All is lost"], "the newest"
    _, page = await ask(browser, "GET", "/api/v1/logs/daemon?text=TIDE")
    assert [(entry["level"], entry["source"], entry["text"]) for entry in page["entries"]] == [
        (10, "voice", "Low tide"),
        (20, "voice", "High tide"),
    ]
    assert all(0 <= time.time() - entry["when"] < 60 for entry in page["entries"])
    assert page["reason"] is None


async def test_only_what_is_new_follows_a_cursor(browser: ClientSession, voice: logging.Logger) -> None:
    voice.info("One")
    _, first = await ask(browser, "GET", "/api/v1/logs/daemon")
    assert await texts(browser, f"after={first['cursor']}") == []
    voice.info("Two")
    assert await texts(browser, f"after={first['cursor']}") == ["Two"]
    assert await texts(browser, "after=999999") == ["One", "Two"], "that cursor is one of before a restart"
    assert await texts(browser, "after=nonsense") == ["One", "Two"]


async def test_what_cannot_be_put_into_words_is_logged_all_the_same(
    browser: ClientSession, voice: logging.Logger
) -> None:
    record = logging.LogRecord("voice", logging.INFO, "", 0, "Half a %s, %s", ("word",), None)
    for handler in logging.getLogger().handlers:
        if "webui" in type(handler).__module__:
            handler.handle(record)
    assert await texts(browser, "") == ["Half a %s, %s"]


@pytest.mark.parametrize(
    "path",
    [
        "kernel",
        "..%2Fdaemon",
        "daemon?level=loud",
        "daemon?limit=0",
        "daemon?limit=1001",
        "daemon?limit=many",
        "daemon?after=--output%20cat",
        f"daemon?text={'x' * 201}",
        "kernel/download",
    ],
)
async def test_an_impossible_log_is_refused(browser: ClientSession, address: str, path: str) -> None:
    assert await refused(browser, 400, "GET", URL(f"{address}api/v1/logs/{path}", encoded=True))


async def test_a_log_is_downloaded_as_text(browser: ClientSession, voice: logging.Logger) -> None:
    voice.warning("A storm")
    async with browser.get("/api/v1/logs/daemon/download") as answer:
        assert answer.content_type == "text/plain"
        assert answer.headers["Content-Disposition"] == 'attachment; filename="hotlap-daemon.txt"'
        text = await answer.text()
    assert re.search(r"^\d{4}-\d\d-\d\dT[\d:.]+\+00:00 30 voice: A storm$", text, re.MULTILINE)


@pytest.fixture
def journalctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """`journalctl(script)`: the machine's journal is read by this shell script; the file holds how it was asked."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def install(script: str) -> Path:
        program = folder / "journalctl"
        program.write_text(f'#!/bin/sh\necho "$@" > {folder}/asked\n{script}\n')
        program.chmod(0o755)
        return folder / "asked"

    yield install
    monkeypatch.undo()


JOURNAL = [
    {"__CURSOR": "s=1;i=1", "__REALTIME_TIMESTAMP": "1700000000000000", "PRIORITY": "6", "MESSAGE": "Up and running",
     "SYSLOG_IDENTIFIER": "systemd"},
    {"__CURSOR": "s=1;i=2", "__REALTIME_TIMESTAMP": "1700000001500000", "PRIORITY": "3", "_COMM": "kernel",
     "MESSAGE": [85, 83, 66, 32, 255]},
    {"__CURSOR": "s=1;i=3", "__REALTIME_TIMESTAMP": "1700000002000000", "MESSAGE": None},
]  # fmt: skip


async def test_the_systems_journal_is_read(browser: ClientSession, journalctl: Callable[[str], Path]) -> None:
    lines = "\n".join(json.dumps(entry) for entry in JOURNAL)
    asked = journalctl(f"while read -r line; do echo \"$line\"; done <<'END'\n{lines}\nEND")
    _, page = await ask(browser, "GET", "/api/v1/logs/system?level=info&after=s=1;i=0&limit=5")
    assert page == {
        "entries": [
            {"when": 1_700_000_000.0, "level": 20, "source": "systemd", "text": "Up and running"},
            {"when": 1_700_000_001.5, "level": 40, "source": "kernel", "text": "USB �"},
            {"when": 1_700_000_002.0, "level": 20, "source": "", "text": ""},
        ],
        "cursor": "s=1;i=3",
        "reason": None,
    }
    assert asked.read_text() == ("--output=json --no-pager --quiet --lines=5 --priority=6 --after-cursor=s=1;i=0\n")
    _, page = await ask(browser, "GET", "/api/v1/logs/system?text=usb")
    assert [entry["text"] for entry in page["entries"]] == ["USB �"]
    async with browser.get("/api/v1/logs/system/download") as answer:
        assert "2023-11-14T22:13:20.000+00:00 20 systemd: Up and running\n" in await answer.text()


async def test_a_machine_without_a_journal_says_so(browser: ClientSession, journalctl: Callable[[str], Path]) -> None:
    reason = "This machine keeps no system journal that hotlap may read."
    nothing = {"entries": [], "cursor": "", "reason": reason}
    assert await ask(browser, "GET", "/api/v1/logs/system") == (200, nothing)
    journalctl("exit 1")
    assert await ask(browser, "GET", "/api/v1/logs/system") == (200, nothing)
    _, page = await ask(browser, "GET", "/api/v1/logs/system?after=s=old")
    assert (page["cursor"], page["reason"]) == ("", "The journal has moved on; it is read anew.")
    async with browser.get("/api/v1/logs/system/download") as answer:
        assert await answer.text() == f"{reason}\n"


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
        trim = await refused(ben, 409, "PUT", "/api/v1/calibration/steering", json=STOCK["steering"])
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


@asynccontextmanager
async def track_day(state: Path, wires: Path, password: Password) -> AsyncIterator[tuple[Car, SimRig, str]]:
    """A simulated car on its track, its console open."""
    async with driving(state, wires) as (car, rig), console(car, HERE, password, rig) as address:
        yield car, rig, address


async def begin(visitor: ClientSession, mode: str = "manual") -> None:
    assert await ask(visitor, "POST", "/api/v1/mode", json={"mode": mode}) == (200, {})
    assert await ask(visitor, "POST", "/api/v1/start") == (200, {})


def pulses(rig: SimRig) -> ActuatorCommand:
    latest = rig.tape.latest()
    assert latest is not None
    return latest.command


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
