"""The console's own API, asked as the page asks it: calibration, the car and its computer, the logs."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import re
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import ClientSession
from yarl import URL

from calibration.calibration import DEFAULT
from drivers.rig import Fittings
from tests.webui.visits import (
    HERE,
    Enter,
    ask,
    refused,
)
from vehicle.car import Car
from vehicle.models import ModelStore
from vehicle.settings import Settings
from webui.app import console
from webui.auth import Password
from webui.logs import TOO_LONG

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
            {"when": 1_700_000_002.0, "level": 20, "source": "", "text": TOO_LONG},
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
