"""The description of the console's API is true, and whatever is sent to a running console, it does not fail."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from tests.webui.visits import PASSWORD, Way, empty_desk, every_way, new_car
from webui.api import ROUTES
from webui.auth import Password
from webui.openapi import described

ROOT = Path(__file__).parents[2]
START_UP = 40.0
DOCUMENT = described(ROUTES)
FAREWELL = ("/api/v1/logout", "/api/v1/logout_everywhere", "/logout")
"""Left out: these end the session with which all the rest is asked. test_door.py asks them."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


class Visitor:
    """Somebody who has unlocked the console at this port, and trusts its certificate."""

    def __init__(self, port: int, certificate: Path) -> None:
        self.port, self.certificate = port, certificate
        self.headers: dict[str, str] = {}
        self._context = ssl.create_default_context(cafile=str(certificate))
        status, text = self.ask("POST", "/api/v1/login", json.dumps({"password": PASSWORD}).encode())
        assert status == 200, text
        self.headers["X-CSRF-Token"] = json.loads(text)["csrf"]

    def ask(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> tuple[int, str]:
        """The status and what came with it; a stream is left when it has begun."""
        with closing(http.client.HTTPSConnection("127.0.0.1", self.port, context=self._context, timeout=20)) as line:
            line.request(method, path, body, {**self.headers, "Content-Type": kind})
            with line.getresponse() as answer:
                if cookie := answer.headers.get("Set-Cookie"):
                    self.headers.setdefault("Cookie", cookie.partition(";")[0])
                if answer.headers.get_content_type() == "multipart/x-mixed-replace":
                    return answer.status, ""
                return answer.status, answer.read().decode()


@pytest.fixture(scope="module")
def visitor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitor]:
    """At a console of its own, as other people's tests start one. It has not failed by the end."""
    folder = tmp_path_factory.mktemp("console")
    (folder / "password").write_text(PASSWORD)
    command = [sys.executable, "-m", "sim_stub", "--port", "0", "--password-file", str(folder / "password")]
    command += ["--state", str(folder / "state")]
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)
    try:
        yield Visitor(_port(folder / "said", process), folder / "state" / "certificate.pem")
        assert process.poll() is None, "it is still there"
    finally:
        process.terminate()
        process.wait(20)
    text = (folder / "said").read_text()
    assert "Traceback" not in text
    assert PASSWORD not in text


def _port(said: Path, process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + START_UP
    while (found := re.search(r"https://127\.0\.0\.1:(\d+)/", said.read_text())) is None:
        assert process.poll() is None, said.read_text()
        assert time.monotonic() < deadline, said.read_text()
        time.sleep(0.05)
    return int(found[1])


# The description ----------------------------------------------------------------------------------------------------


def test_the_description_is_sound() -> None:
    OPENAPI_31_VALIDATOR.validate(DOCUMENT)
    schemathesis.openapi.from_dict(DOCUMENT).validate()
    for path, operations in DOCUMENT["paths"].items():
        for method, operation in operations.items():
            is_open = path in ("/api/v1/session", "/api/v1/login")
            assert ("security" in operation) != is_open, (method, path)


def test_the_description_is_served_whole(visitor: Visitor) -> None:
    status, text = visitor.ask("GET", "/api/v1/openapi.json")
    assert (status, json.loads(text)) == (200, json.loads(json.dumps(described(ROUTES))))


_config = schemathesis.Config.from_dict(
    {"generation": {"with-security-parameters": False}, "phases": {"coverage": {"enabled": False}}}
)
_schema = schemathesis.openapi.from_dict(DOCUMENT, config=_config).exclude(path=list(FAREWELL))


@_schema.parametrize()
@settings(
    max_examples=25,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_route_is_as_described(case: schemathesis.Case[Any], visitor: Visitor) -> None:
    case.call_and_validate(
        base_url=f"https://127.0.0.1:{visitor.port}",
        checks=CHECKS,
        headers=visitor.headers,
        verify=str(visitor.certificate),
    )


# Whatever is sent ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> list[Way]:
    folder = tmp_path_factory.mktemp("ways")

    async def look() -> list[Way]:
        password, _ = Password.first(folder / "password.json", PASSWORD)
        with closing(new_car(folder / "state")) as car:
            return every_way(empty_desk(car, password, folder / "attempts.json"))

    return [way for way in asyncio.run(look()) if way.template not in FAREWELL]


WORDS = [
    *("angle", "throttle", "max_speed", "drive_mode", "start_stop", "pwm", "min", "mid", "max", "polarity", "red"),
    *("green", "blue", "filenames", "old_password", "new_password", "password", "name", "percent", "mode", "wish"),
    *("steering", "old", "new", "oldPassword", "newPassword"),
]
"""What is asked for somewhere."""
_words = st.sampled_from(WORDS)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**400) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words | st.text(), inner, max_size=3),
    max_leaves=6,
)
EDGES: list[object] = [
    *(0, 1, -1, 0.5, 50, 51, "0", "", None, True, [], {}, 10**400, -(10**400), float("nan"), float("inf"), "nan"),
    *("manual", "start", "sample", ["sample"], "\ud800", "\x00", "1e999"),
]
_edges = st.sampled_from(EDGES)
_objects = st.dictionaries(_words, _values, min_size=1, max_size=8) | st.fixed_dictionaries(
    dict.fromkeys(WORDS, _edges)
)
_bodies = st.one_of(
    st.binary(max_size=200), _values.map(lambda value: json.dumps(value).encode()),
    _objects.map(lambda value: json.dumps(value).encode()),
    st.just(b"[" * 60_000), st.just(b"\x1f\x8b" + bytes(600)), st.just(b"--b\r\n\r\n"),
)  # fmt: skip
_kinds = st.sampled_from(
    ["application/json", "text/plain; charset=cow", "application/x-www-form-urlencoded", "multipart/form-data",
     "multipart/form-data; boundary=b", "application/octet-stream", "", "nonsense"]
)  # fmt: skip
_queries = st.dictionaries(
    st.sampled_from(["topic", "camera", "level", "text", "after", "limit", "filename", "replace", "width"]),
    st.sampled_from(["", "0", "-1", "true", "/camera_pkg/display_mjpeg", "1e9", "٣"]) | st.text(max_size=20),
    max_size=3,
)
_places = st.sampled_from(["sample", "steering", "daemon", "angle", "SYS", "model", "5", "²", "..", "٣"]) | st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20
)


@settings(max_examples=1500, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_is_sent_the_console_does_not_fail(visitor: Visitor, ways: list[Way], data: st.DataObject) -> None:
    way = data.draw(st.sampled_from(ways))
    path = re.sub(r"{\w+}", lambda _: quote(data.draw(_places), safe=""), way.template)
    body = data.draw(_bodies) if way.changes else None
    query = urlencode(data.draw(_queries), errors="surrogatepass")
    status, text = visitor.ask(way.method, f"{path}?{query}", body, data.draw(_kinds))
    assert status < 500, (status, text)
    assert status != 401 or way.template in ("/login", "/api/v1/login"), "the session stays"


@settings(max_examples=100, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(
    path=st.text(st.characters(codec="ascii"), max_size=40), method=st.sampled_from(["GET", "POST", "BREW", "TRACE"])
)
def test_whatever_is_asked_for_the_console_does_not_fail(visitor: Visitor, path: str, method: str) -> None:
    status, text = visitor.ask(method, f"/{quote(path, safe='/%.;@:')}")
    assert status < 500, (status, text)
