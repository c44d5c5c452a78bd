"""Models through the console: what comes in, what is refused, and that nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import time
import zipfile
from collections.abc import AsyncIterator, Callable
from io import BytesIO
from pathlib import Path

import pytest
from aiohttp import ClientSession
from yarl import URL

from tests.inference import making
from tests.webui.visits import (
    HERE,
    Enter,
    ask,
    models_of,
    refused,
    say,
    tree,
    until,
)
from vehicle.car import Car
from webui.app import console
from webui.auth import Password

JUNK = b"GIF89a" + bytes(2000)


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
