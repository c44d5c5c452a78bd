"""The console's door: who comes in, from where, and what nobody gets to see; asked of every route that there is."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import ssl
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from http.cookies import SimpleCookie
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import ClientSession
from yarl import URL

from tests.webui.visits import (
    PASSWORD,
    Enter,
    Way,
    ask,
    empty_desk,
    every_way,
    new_car,
    news,
    refused,
    say,
    stranger,
    tree,
    unlock,
)
from vehicle.car import Car
from vehicle.gate import DriveMode
from vehicle.settings import Console
from webui.app import HEADERS, console
from webui.auth import MOST_A_MINUTE, NO_PASSWORD, Password
from webui.desk import COOKIE, STOCK_COOKIE, Desk
from webui.link import Link
from webui.stock_api import StockApi

HERE = Console(port=0)
EVIL = "https://evil.example"
OPEN = {
    ("GET", "/"),
    ("GET", "/home"),
    ("GET", "/login"),
    ("POST", "/login"),
    ("GET", "/logout"),
    ("GET", "/redirect_login"),
    ("GET", "/static"),
    ("GET", "/api/v1/session"),
    ("POST", "/api/v1/login"),
}
"""What there is for somebody who has not unlocked the car: the page, who I am, and the door."""
BEFORE_THE_CHANGE = {
    ("GET", "/auth"),
    ("POST", "/api/v1/logout"),
    ("POST", "/api/v1/stop"),
    ("POST", "/api/v1/password"),
    ("PUT", "/api/password"),
    ("POST", "/api/password"),
}
"""What else there is for somebody who has, while the password must be changed."""


@pytest_asyncio.fixture
async def car(state: Path) -> AsyncIterator[Car]:
    car = new_car(state)
    yield car
    car.close()


@pytest.fixture
def desk(car: Car, password: Password, tmp_path: Path) -> Desk:
    return empty_desk(car, password, tmp_path / "nobody.json")


@pytest_asyncio.fixture
async def ways(desk: Desk) -> list[Way]:
    return every_way(desk)


@pytest_asyncio.fixture
async def acting(desk: Desk) -> set[str]:
    """The stock car's GETs that change something."""
    return {path for method, path, _ in StockApi(desk, Link(desk)).routes() if method == "GET!"}


@pytest_asyncio.fixture
async def address(car: Car, password: Password) -> AsyncIterator[str]:
    async with console(car, HERE, password) as address:
        yield address


@pytest_asyncio.fixture
async def anna(address: str, enter: Enter) -> ClientSession:
    return await enter(address)


@pytest_asyncio.fixture
async def nobody(address: str) -> AsyncIterator[ClientSession]:
    async with stranger(address) as visitor:
        yield visitor


def looks(car: Car, state: Path) -> Callable[[], object]:
    """Everything that an order could change. What counts wrong passwords may."""

    def look() -> object:
        files = {path: what for path, what in tree(state).items() if path != "attempts.json"}
        return car.mode, car.engaged, car.max_speed, car.calibration, car.colour, car.driver, car.turn, files

    return look


async def status_of(visitor: ClientSession, way: Way, **options: object) -> int:
    """A stream is left when it has begun."""
    async with visitor.request(way.method, way.path, allow_redirects=False, **options) as answer:  # type: ignore[arg-type]
        return answer.status


# Without a session, without a token, from elsewhere -----------------------------------------------------------------


async def test_every_route_but_the_door_needs_a_session(nobody: ClientSession, ways: list[Way]) -> None:
    assert {way.key for way in ways} >= OPEN | BEFORE_THE_CHANGE
    for way in ways:
        if way.key not in OPEN | {("GET", "/auth")}:
            assert await refused(nobody, 401, way.method, way.path) == "Unlock the car first: its password is needed."
            for name in (COOKIE, STOCK_COOKIE):
                cookies = {"Cookie": f"{name}=of-my-own-making"}
                assert await status_of(nobody, way, headers=cookies) == 401
    assert await status_of(nobody, Way("GET", "/auth")) == 401


async def test_a_stranger_learns_the_cars_name_and_no_more(nobody: ClientSession) -> None:
    told = {"unlocked": False, "must_change": False, "csrf": None, "name": None, "car": socket.gethostname()}
    assert await ask(nobody, "GET", "/api/v1/session") == (200, told)


async def test_every_order_needs_the_token_of_its_session(
    anna: ClientSession, address: str, enter: Enter, ways: list[Way], car: Car, state: Path
) -> None:
    ben = await enter(address, "Ben")
    look = looks(car, state)
    before = look()
    for way in ways:
        if way.changes and way.key != ("POST", "/api/v1/login"):
            for token in ("", "x", ben.headers["X-CSRF-Token"], anna.headers["X-CSRF-Token"][:-1], "1.2", "é"):
                for header in ("X-CSRF-Token", "X-CSRFToken"):
                    headers = {"X-CSRF-Token": "", header: token}
                    assert await status_of(anna, way, headers=headers) == 403, (way, header, token)
    assert look() == before
    assert (await ask(anna, "GET", "/api/v1/session"))[1]["unlocked"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": EVIL},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none", "Origin": EVIL},
    ],
)
async def test_a_page_of_another_site_gives_no_order(
    anna: ClientSession, ways: list[Way], acting: set[str], car: Car, state: Path, headers: dict[str, str]
) -> None:
    look = looks(car, state)
    before = look()
    for way in ways:
        if way.changes or way.template in acting:
            assert await status_of(anna, way, headers=headers) == 403, way
    assert await status_of(anna, Way("GET", "/logout"), headers=headers) == 302
    assert await status_of(anna, Way("GET", "/ws"), headers=headers | {"Upgrade": "websocket"}) == 403
    assert look() == before
    assert (await ask(anna, "GET", "/api/v1/session"))[1]["unlocked"], "nor does it log anybody out"


async def test_the_cars_own_page_gives_orders(anna: ClientSession, address: str) -> None:
    headers = {"Origin": address.rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    assert await ask(anna, "POST", "/api/v1/stop", headers=headers) == (200, {})


async def test_no_get_changes_anything_but_the_stock_ones_that_are_marked(
    anna: ClientSession, ways: list[Way], acting: set[str], car: Car, state: Path, address: str, enter: Enter
) -> None:
    assert acting == {"/api/set_calibration_mode", "/api/enableSsh", "/api/disableSsh"}
    look = looks(car, state)
    before = look()
    asked = 0
    for way in ways:
        if not way.changes and way.template not in acting | {"/logout"}:
            overrides = {"X-HTTP-Method-Override": "POST"}
            assert await status_of(anna, way, headers=overrides, params={"_method": "POST"}) < 500
            asked += 1
    assert asked > 40
    assert look() == before
    assert (await ask(anna, "GET", "/api/v1/session"))[1]["unlocked"]
    ben = await enter(address, "Ben")
    assert await ask(ben, "POST", "/api/v1/wheel", json={"wish": "take"}) == (200, {}), "nor has she taken the wheel"


async def test_no_other_site_is_let_read(anna: ClientSession, ways: list[Way], address: str) -> None:
    for origin in (EVIL, address.rstrip("/")):
        headers = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
        for way in ways:
            async with anna.options(way.path, headers=headers) as answer:
                await answer.read()
                assert answer.status in (403, 405)
                assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    async with anna.get("/api/v1/state", headers={"Origin": EVIL}) as answer:
        await answer.read()
        assert "Access-Control-Allow-Origin" not in answer.headers


async def test_while_the_password_must_be_changed_nothing_else_is_open(
    car: Car, tmp_path: Path, state: Path, ways: list[Way]
) -> None:
    tag = "ASSET-7731-XK"
    password, _ = Password.first(tmp_path / "first.json", tag=tag)
    async with console(car, HERE, password) as address, stranger(address) as anna:
        await unlock(anna, password=tag)
        look = looks(car, state)
        before = look()
        for way in ways:
            if way.key not in OPEN | BEFORE_THE_CHANGE:
                status, told = await ask(anna, way.method, way.path)
                assert (status, told) == (403, {"error": "Choose a password of your own first.", "must_change": True})
        assert look() == before
        assert (await ask(anna, "GET", "/api/v1/session"))[1]["must_change"]
        assert await ask(anna, "POST", "/api/v1/stop") == (200, {})
        status, told = await ask(anna, "POST", "/api/v1/password", json={"old": tag, "new": PASSWORD})
        assert status == 200
        anna.headers["X-CSRF-Token"] = told["csrf"]
        assert (await ask(anna, "GET", "/api/v1/state"))[0] == 200
        assert not (await ask(anna, "GET", "/api/v1/session"))[1]["must_change"]


# Sessions -----------------------------------------------------------------------------------------------------------


def cookies_in(headers: list[str]) -> list[tuple[str, str, dict[str, object]]]:
    """Name, value and attributes of each cookie that is set."""
    found = []
    for header in headers:
        for name, morsel in SimpleCookie(header).items():
            found.append((name, morsel.value, {key.lower(): value for key, value in morsel.items() if value}))
    return found


async def stock_login(visitor: ClientSession, password: str) -> tuple[int, list[str], str]:
    page = (await ask(visitor, "GET", "/login"))[1]
    token = re.search(r'name="csrf-token" content="([^"]+)"', page)
    assert token is not None
    headers = {"X-CSRFToken": token[1]}
    async with visitor.post("/login", data={"password": password}, headers=headers) as answer:
        return answer.status, answer.headers.getall("Set-Cookie", []), await answer.text()


async def test_the_cookie_is_for_this_car_this_browser_and_no_script(nobody: ClientSession) -> None:
    strict = {"path": "/", "samesite": "Strict", "secure": True, "httponly": True}
    async with nobody.post("/api/v1/login", json={"password": PASSWORD}) as answer:
        csrf = (await answer.json())["csrf"]
        ((name, value, attributes),) = cookies_in(answer.headers.getall("Set-Cookie"))
    assert (name, attributes) == ("__Host-hotlap", strict)
    assert len(value) >= 43, "256 bits"
    async with nobody.post("/api/v1/logout", headers={"X-CSRF-Token": csrf}) as answer:
        await answer.read()
        ((name, value, attributes),) = cookies_in(answer.headers.getall("Set-Cookie"))
    assert (name, value, attributes["max-age"]) == ("__Host-hotlap", "", "0")
    _, headers, _ = await stock_login(nobody, PASSWORD)
    ((name, _, attributes),) = cookies_in(headers)
    assert (name, attributes) == ("deepracer_token", strict)


async def test_a_login_makes_a_new_session_and_the_old_one_is_dead(nobody: ClientSession) -> None:
    seen: list[str] = []

    async def alive(name: str, value: str) -> bool:
        async with stranger(str(nobody._base_url)) as other:
            return await status_of(other, Way("GET", "/api/v1/state"), headers={"Cookie": f"{name}={value}"}) == 200

    for name in (COOKIE, COOKIE, STOCK_COOKIE, STOCK_COOKIE):
        if name == COOKIE:
            async with nobody.post("/api/v1/login", json={"password": PASSWORD}) as answer:
                await answer.read()
                headers = answer.headers.getall("Set-Cookie")
        else:
            _, headers, _ = await stock_login(nobody, PASSWORD)
        ((found, value, _),) = cookies_in(headers)
        assert found == name
        assert value not in seen
        assert await alive(name, value)
        for old in seen:
            assert not await alive(COOKIE, old)
            assert not await alive(STOCK_COOKIE, old)
        seen.append(value)


async def test_a_wrong_password_ends_no_session(anna: ClientSession) -> None:
    assert await refused(anna, 401, "POST", "/api/v1/login", json={"password": "guess"})
    assert (await stock_login(anna, "guess"))[::2] == (401, "failure")
    assert (await ask(anna, "GET", "/api/v1/session"))[1]["unlocked"]


async def test_nobody_brings_a_session_along(nobody: ClientSession, address: str) -> None:
    nobody.cookie_jar.update_cookies({COOKIE: "chosen-by-an-attacker"}, URL(address))
    await unlock(nobody)
    cookie = nobody.cookie_jar.filter_cookies(URL(address))[COOKIE].value
    assert cookie != "chosen-by-an-attacker"
    assert (await ask(nobody, "GET", "/api/v1/session"))[1]["unlocked"]


@pytest.mark.parametrize("verb", ["logout", "logout_everywhere"])
async def test_who_has_left_is_out_on_the_server_too(
    anna: ClientSession, address: str, enter: Enter, verb: str
) -> None:
    ben = await enter(address, "Ben")
    cookie = anna.cookie_jar.filter_cookies(URL(address))[COOKIE].value
    assert await ask(anna, "POST", f"/api/v1/{verb}", json={}) == (200, {})
    assert await status_of(anna, Way("GET", "/api/v1/state"), headers={"Cookie": f"{COOKIE}={cookie}"}) == 401
    assert await status_of(ben, Way("GET", "/api/v1/state")) == (200 if verb == "logout" else 401)


async def test_an_old_clients_session_ends_with_the_same_orders(nobody: ClientSession, address: str) -> None:
    for path in ("/api/v1/logout", "/logout"):
        await stock_login(nobody, PASSWORD)
        session = (await ask(nobody, "GET", "/api/v1/session"))[1]
        cookie = nobody.cookie_jar.filter_cookies(URL(address))[STOCK_COOKIE].value
        headers = {"X-CSRF-Token": session["csrf"]}
        method = "POST" if "api" in path else "GET"
        assert await status_of(nobody, Way(method, path), headers=headers) in (200, 302)
        found = await status_of(nobody, Way("GET", "/auth"), headers={"Cookie": f"{STOCK_COOKIE}={cookie}"})
        assert found == 401


# Wrong passwords ----------------------------------------------------------------------------------------------------


async def test_wrong_passwords_bring_a_delay_for_either_door(nobody: ClientSession) -> None:
    for attempt in range(MOST_A_MINUTE):
        if attempt % 2:
            assert (await stock_login(nobody, "guess"))[0] == 401
        else:
            assert await refused(nobody, 401, "POST", "/api/v1/login", json={"password": "guess"})
    async with nobody.post("/api/v1/login", json={"password": PASSWORD}) as answer:
        assert answer.status == 429, "the right one is not looked at now"
        assert 5 <= int(answer.headers["Retry-After"]) <= 10
        assert await answer.json() == {
            "error": f"Too many wrong passwords were given: try again in {answer.headers['Retry-After']} s."
        }
    assert (await stock_login(nobody, PASSWORD))[0] == 429


async def test_without_a_password_nobody_comes_in_and_all_are_told_why(
    car: Car, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = state / "password.json"
    password, _ = Password.first(path, random=False)
    async with console(car, HERE, password) as address, stranger(address) as anna:
        for _ in range(MOST_A_MINUTE + 1):
            for guess in ("", "None", PASSWORD):
                told = await refused(anna, 401, "POST", "/api/v1/login", json={"password": guess})
                assert told == NO_PASSWORD
        assert (await stock_login(anna, ""))[0] == 401
        assert "wrong password" not in caplog.text
        assert not (await ask(anna, "GET", "/api/v1/session"))[1]["unlocked"]
        await unlock(anna, password=Password.reset(path))
        assert (await ask(anna, "GET", "/api/v1/session"))[1]["must_change"]


async def test_to_come_from_elsewhere_by_ones_own_word_helps_nobody(nobody: ClientSession) -> None:
    statuses = []
    for attempt in range(MOST_A_MINUTE + 1):
        place = f"10.0.0.{attempt}"
        headers = {"X-Forwarded-For": place, "X-Real-IP": place, "Forwarded": f"for={place}", "Client-IP": place}
        body = {"password": "guess"}
        statuses.append((await ask(nobody, "POST", "/api/v1/login", json=body, headers=headers))[0])
    assert statuses == [401] * MOST_A_MINUTE + [429]


async def test_a_hundred_wrong_passwords_do_not_slow_whoever_is_in(anna: ClientSession, address: str) -> None:
    loop = asyncio.get_running_loop()
    async with stranger(address) as attacker, anna.ws_connect("/ws") as page:
        guesses = [
            asyncio.create_task(ask(attacker, "POST", "/api/v1/login", json={"password": f"guess {number}"}))
            for number in range(100)
        ]
        longest, asked = 0.0, 0
        while not all(guess.done() for guess in guesses) or asked < 10:
            begun = loop.time()
            assert await ask(anna, "POST", "/api/v1/stop") == (200, {})
            longest, asked = max(longest, loop.time() - begun), asked + 1
        assert await news(page, "state")
        statuses = [(await guess)[0] for guess in guesses]
    assert statuses.count(401) == MOST_A_MINUTE
    assert statuses.count(429) == 100 - MOST_A_MINUTE
    assert longest < 0.5
    assert (await ask(anna, "GET", "/api/v1/session"))[1]["unlocked"]


async def test_guessing_the_old_password_is_limited_as_well(anna: ClientSession) -> None:
    body = {"old": "guess", "new": "four even narwhals"}
    statuses = [(await ask(anna, "POST", "/api/v1/password", json=body))[0] for _ in range(MOST_A_MINUTE + 1)]
    assert statuses == [409] * MOST_A_MINUTE + [429]


# The line -----------------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def plain(car: Car, password: Password) -> AsyncIterator[tuple[str, int]]:
    """Where one comes without encryption, and the port of the door."""
    with closing(socket.create_server(("127.0.0.1", 0))) as holder:
        port = holder.getsockname()[1]
    async with console(car, Console(port=0, redirect=port), password) as address:
        yield f"http://127.0.0.1:{port}/", int(URL(address).port or 0)


async def test_who_comes_without_encryption_is_led_to_the_door(plain: tuple[str, int]) -> None:
    address, port = plain
    async with stranger(address) as visitor:
        for path in ("/", "/login", "/home?next=1&b", "/static/app.js", "//evil.example/"):
            url = URL(f"{address.rstrip('/')}{path}", encoded=True)
            async with visitor.get(url, allow_redirects=False) as answer:
                await answer.read()
                assert answer.status == 308
                assert answer.headers["Location"] == f"https://127.0.0.1:{port}{path}"
                assert "Set-Cookie" not in answer.headers
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert "Strict-Transport-Security" not in answer.headers, "the certificate is our own"


async def test_without_encryption_nothing_is_obeyed_or_shown(plain: tuple[str, int], ways: list[Way]) -> None:
    address, _ = plain
    async with stranger(address) as visitor:
        for way in ways:
            if way.changes or way.template.startswith(("/api", "/ws", "/camera", "/route")):
                assert await refused(visitor, 403, way.method, way.path) == "This is only served over HTTPS."


async def test_without_encryption_too_only_the_cars_own_names_count(plain: tuple[str, int]) -> None:
    address, port = plain
    async with stranger(address) as visitor:
        for host in ("evil.example", "evil.example:80", f"evil.example:{port}", "127.0.0.1.evil.example", "", "[::1"):
            assert await refused(visitor, 421, "GET", "/", headers={"Host": host})
        for host in ("localhost", "localhost:80", "[::1]", "[::1]:80"):
            async with visitor.get("/", headers={"Host": host}, allow_redirects=False) as answer:
                await answer.read()
                assert answer.headers["Location"] == f"https://{host.removesuffix(':80')}:{port}/"


async def test_a_path_splits_no_answer(plain: tuple[str, int]) -> None:
    address, _ = plain
    request = f"GET /%0d%0aSet-Cookie:%20a=b HTTP/1.1\r\nHost: {URL(address).authority}\r\n\r\n"
    said = await say(address, request.encode(), tls=False)
    head = said.partition(b"\r\n\r\n")[0]
    assert head.split(b" ", 2)[1] in (b"308", b"404")
    assert b"\r\nSet-Cookie" not in head


async def test_nothing_older_than_tls_1_2_is_spoken(address: str) -> None:
    url = URL(address)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ConnectionResetError, ssl.SSLError)) as refusal:
        await asyncio.open_connection(url.host, url.port, ssl=context)
    assert "NO_PROTOCOLS" not in str(refusal.value), "it is the car that does not speak it"
    context.maximum_version = context.minimum_version = ssl.TLSVersion.TLSv1_2
    _, writer = await asyncio.open_connection(url.host, url.port, ssl=context)
    writer.transport.abort()


async def test_plain_words_at_the_encrypted_door_are_not_understood(address: str) -> None:
    request = f"GET /api/v1/session HTTP/1.1\r\nHost: {URL(address).authority}\r\n\r\n"
    assert b"unlocked" not in await say(address, request.encode(), tls=False)


async def test_what_a_proxy_would_say_counts_for_nothing(anna: ClientSession, address: str) -> None:
    ours = URL(address).authority
    for name in ("X-Forwarded-Host", "X-Original-Host", "X-Host"):
        assert await refused(anna, 421, "GET", "/api/v1/state", headers={"Host": "evil.example", name: ours})
        assert (await ask(anna, "GET", "/api/v1/state", headers={name: "evil.example"}))[0] == 200
    headers = {"Origin": EVIL, "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}
    assert await refused(anna, 403, "POST", "/api/v1/stop", headers=headers)


SMUGGLED = {
    "both lengths": "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": "Content-Length: 21\r\nContent-Length: 0\r\n\r\n",
    "a length in words": "Content-Length: +21\r\n\r\n",
    "a folded line": "X-Long: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
    "a NUL in a header": "X-Name: a\x00b\r\nContent-Length: 2\r\n\r\n{}",
    "a space before the colon": "Content-Length : 2\r\n\r\n{}",
    "an unknown encoding": "Transfer-Encoding: chunked, cow\r\n\r\n0\r\n\r\n",
    "no length of a chunk": "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("how", SMUGGLED)
async def test_a_request_that_can_be_read_in_two_ways_is_read_in_none(
    anna: ClientSession, address: str, car: Car, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    cookie = anna.cookie_jar.filter_cookies(URL(address))[COOKIE].value
    head = (
        f"POST /api/v1/mode HTTP/1.1\r\nHost: {URL(address).authority}\r\nCookie: {COOKIE}={cookie}\r\n"
        f"X-CSRF-Token: {anna.headers['X-CSRF-Token']}\r\n{SMUGGLED[how]}"
    )
    inner = head.replace("/api/v1/mode", "/api/v1/max_speed").partition("\r\n\r\n")[0]
    said = await say(address, f"{head}{inner}".encode())
    assert said.startswith(b"HTTP/1.0 400 "), said
    assert said.count(b"HTTP/1.") == 1
    assert not caplog.records, "anybody could fill the log with that"
    assert (car.mode, car.max_speed) == (DriveMode.AUTONOMOUS, 1.0)


TRAVERSALS = [
    "../../../../etc/passwd",
    "..%2F..%2F..%2F..%2Fetc%2Fpasswd",
    "%2e%2e%2f%2e%2e%2fpassword.json",
    "..%5C..%5Cpassword.json",
    "%2Fetc%2Fpasswd",
    "....%2F%2Fetc%2Fpasswd",
    "..%252F..%252Fetc%252Fpasswd",
    "%C0%AE%C0%AE%C0%AFetc",
    "app.py%00.js",
    "..",
    "%2E%2E%2Fapp.py",
    "secrets",
    "__class__",
    "LOG_PATH",
    "%27%3Bls",
]


async def test_no_parameter_leads_out_of_its_place(
    anna: ClientSession, address: str, ways: list[Way], tmp_path: Path, car: Car
) -> None:
    before = {path: what for path, what in tree(tmp_path).items() if not path.endswith("attempts.json")}
    cookie = anna.cookie_jar.filter_cookies(URL(address))[COOKIE].value
    asked = 0
    for way in [*ways, Way("GET", "/static/{name}")]:
        for place in re.findall(r"{\w+}", way.template):
            for text in TRAVERSALS:
                path = Way(way.method, way.template.replace(place, text)).path
                request = (
                    f"{way.method} {path} HTTP/1.1\r\nHost: {URL(address).authority}\r\nContent-Length: 2\r\n"
                    f"Cookie: {COOKIE}={cookie}\r\nX-CSRF-Token: {anna.headers['X-CSRF-Token']}\r\n"
                    "Connection: close\r\n\r\n{}"
                )
                said = await say(address, request.encode())
                status = int(said.split(b" ", 2)[1])
                assert 400 <= status < 500 or b'"success": false' in said, (path, said)
                for secret in (b"root:", b"argon2", b"import ", b"PRIVATE KEY"):
                    assert secret not in said
                asked += 1
    assert asked > 100
    assert {path: what for path, what in tree(tmp_path).items() if not path.endswith("attempts.json")} == before
    assert car.store.names() == ["sample"]


# What is told -------------------------------------------------------------------------------------------------------


async def test_every_answer_wears_the_headers_the_refusals_as_well(anna: ClientSession, address: str) -> None:
    async with stranger(address) as nobody:
        for status, visitor, method, path, options in (
            (200, anna, "GET", "/api/v1/state", {}),
            (302, nobody, "GET", "/logout", {}),
            (400, anna, "POST", "/api/v1/mode", {"data": b"{"}),
            (401, nobody, "GET", "/api/v1/state", {}),
            (401, nobody, "GET", "/auth", {}),
            (403, anna, "POST", "/api/v1/stop", {"headers": {"Origin": EVIL}}),
            (404, anna, "GET", "/nowhere", {}),
            (404, anna, "GET", "/static/nothing.js", {}),
            (405, anna, "GET", "/api/v1/stop", {}),
            (409, anna, "POST", "/api/v1/start", {}),
            (413, anna, "POST", "/api/v1/stop", {"data": b" " * 100_000}),
            (415, anna, "PUT", "/api/v1/models/x", {"data": b"hello"}),
            (421, anna, "GET", "/", {"headers": {"Host": "evil.example"}}),
        ):
            async with visitor.request(method, path, allow_redirects=False, **options) as answer:
                await answer.read()
                assert answer.status == status
                assert HEADERS.items() <= dict(answer.headers).items(), path
                assert "unsafe" not in answer.headers["Content-Security-Policy"]
                assert "Python" not in answer.headers.get("Server", ""), "nobody needs to know"


def texts_below(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*.json")))


async def test_no_secret_reaches_a_log_or_a_file(
    nobody: ClientSession, address: str, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wrong, new = "canary of a guess", "four even narwhals"
    secrets = {PASSWORD, wrong, new}

    def remember(session: dict[str, str]) -> None:
        nobody.headers["X-CSRF-Token"] = session["csrf"]
        secrets.update([session["csrf"], *(cookie.value for cookie in nobody.cookie_jar)])

    await ask(nobody, "POST", "/api/v1/login", json={"password": wrong})
    await ask(nobody, "POST", "/api/v1/login", data=json.dumps({"password": wrong})[:-1])
    await ask(nobody, "POST", f"/api/v1/login?password={wrong}", json={"password": 5, wrong: wrong})
    await stock_login(nobody, wrong)
    remember((await ask(nobody, "POST", "/api/v1/login", json={"password": PASSWORD, "name": "Anna"}))[1])
    async with nobody.ws_connect("/ws") as page:
        await news(page, "wheel")
        await ask(nobody, "POST", "/api/v1/max_speed", json={"percent": 5})
        await ask(nobody, "POST", "/api/v1/password", json={"old": wrong, "new": new})
        await ask(nobody, "POST", "/api/v1/password", json={"old": PASSWORD, "new": "short"})
        remember((await ask(nobody, "POST", "/api/v1/password", json={"old": PASSWORD, "new": new}))[1])
    _, headers, _ = await stock_login(nobody, new)
    secrets.update(value for _, value, _ in cookies_in(headers))
    remember((await ask(nobody, "GET", "/api/v1/session"))[1])
    log = (await ask(nobody, "GET", "/api/v1/logs/daemon?limit=1000"))[1]
    assert "A wrong password for the console came from 127.0.0.1." in str(log)
    await ask(nobody, "POST", "/api/v1/logout_everywhere")
    assert len(secrets) >= 8
    files = texts_below(state)
    for secret in secrets:
        assert secret not in caplog.text
        assert secret not in json.dumps(log)
        assert secret.encode() not in files


# The promises -------------------------------------------------------------------------------------------------------
