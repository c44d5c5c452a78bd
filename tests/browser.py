"""The browser that the tests look with, and how it keeps quiet."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Page, async_playwright

CHROMIUM = shutil.which("chromium")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]


@asynccontextmanager
async def settings_page(address: str, password: str) -> AsyncIterator[Page]:
    """The console's settings, unlocked. Skips the test where there is no browser."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine")
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = await browser.new_page(ignore_https_errors=True)
        await page.goto(f"{address}#/settings")
        await page.get_by_label("Password", exact=True).fill(password)
        await page.get_by_role("button", name="Unlock").click()
        yield page
        await browser.close()
