"""Runs in the machine: one who visits the console, with a browser's manners. PASSWORD; requests as JSON lines.

A request is [method, path, body], and is answered by [status, body]; or ["HOLD", steering, throttle], the stick held
for as long as this process lives.
"""

import asyncio
import itertools
import json
import sys

from aiohttp import ClientSession, CookieJar, TCPConnector

ADDRESS = "https://127.0.0.1"


async def main(password: str) -> None:
    jar = CookieJar(unsafe=True)  # cookies of an address that is no name
    async with ClientSession(ADDRESS, connector=TCPConnector(ssl=False), cookie_jar=jar) as browser:
        browser.headers["Origin"] = ADDRESS
        async with browser.post("/api/v1/login", json={"password": password}) as answer:
            assert answer.status == 200, await answer.text()
            browser.headers["X-CSRF-Token"] = (await answer.json())["csrf"]
        for line in sys.stdin:
            what, *rest = json.loads(line)
            if what == "HOLD":
                await hold(browser, *rest)
                continue
            path, body = [*rest, {}][:2]
            async with browser.request(what, path, json=None if what == "GET" else body) as answer:
                print(json.dumps([answer.status, await answer.json()]), flush=True)


async def hold(browser: ClientSession, steering: float, throttle: float) -> None:
    async with browser.ws_connect("/ws") as link:
        for beat in itertools.count():
            await link.send_json({"type": "drive", "steering": steering, "throttle": throttle, "t": beat * 0.05})
            await asyncio.sleep(0.05)


asyncio.run(main(sys.argv[1]))
