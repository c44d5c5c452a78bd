"""A console that somebody has unlocked."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import ClientSession

from tests.webui.visits import HERE, PASSWORD, Enter, new_car, stranger, unlock
from vehicle.car import Car
from webui.app import console
from webui.auth import Password


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


@pytest_asyncio.fixture
async def enter() -> AsyncIterator[Enter]:
    """`await enter(address, name)`: somebody who has unlocked the console there."""
    async with AsyncExitStack() as stack:

        async def come(address: str, name: str = "Anna", **options: object) -> ClientSession:
            visitor = await stack.enter_async_context(stranger(address, **options))
            await unlock(visitor, name)
            return visitor

        yield come


@pytest_asyncio.fixture
async def car(state: Path) -> AsyncIterator[Car]:
    """A car that nobody drives: what it sees is what the test shows it."""
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
