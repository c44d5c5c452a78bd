"""A console that somebody has unlocked."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeAlias

import pytest
import pytest_asyncio
from aiohttp import ClientSession, ClientTimeout, CookieJar, TCPConnector

from webui.auth import Password

PASSWORD = "three odd walruses"
Enter: TypeAlias = Callable[..., Awaitable[ClientSession]]


@pytest.fixture(scope="session")
def kept_password(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("password") / "password.json"
    Password.first(path, PASSWORD)
    return path


@pytest.fixture
def password(kept_password: Path, tmp_path: Path) -> Password:
    """PASSWORD, which somebody has chosen."""
    shutil.copy(kept_password, tmp_path / "password.json")
    found, new = Password.first(tmp_path / "password.json")
    assert new is None
    return found


def stranger(address: str, **options: object) -> ClientSession:
    """Somebody who has not unlocked anything, and takes any certificate."""
    jar = CookieJar(unsafe=True)
    connector = TCPConnector(ssl=False, limit=0)
    timeout = ClientTimeout(total=20)
    return ClientSession(address, cookie_jar=jar, connector=connector, timeout=timeout, **options)  # type: ignore[arg-type]


async def unlock(visitor: ClientSession, name: str = "Anna", password: str = PASSWORD) -> None:
    """Log in; every later request carries the session's token."""
    async with visitor.post("/api/v1/login", json={"password": password, "name": name}) as answer:
        assert answer.status == 200, await answer.text()
        visitor.headers["X-CSRF-Token"] = (await answer.json())["csrf"]


@pytest_asyncio.fixture
async def enter() -> AsyncIterator[Enter]:
    """`await enter(address, name)`: somebody who has unlocked the console there."""
    async with AsyncExitStack() as stack:

        async def come(address: str, name: str = "Anna", **options: object) -> ClientSession:
            visitor = await stack.enter_async_context(stranger(address, **options))
            await unlock(visitor, name)
            return visitor

        yield come
