"""The link to a page: a WebSocket that tells all there is to see and takes a driver's hand, and the picture stream."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Final, Literal, TypeAlias

import cv2
import msgspec
import numpy as np
from aiohttp import WSMsgType, web
from msgspec import Meta, Struct
from numpy.typing import NDArray

from vehicle.car import Event, Refusal
from vehicle.gate import LIMITS, DriveMode
from webui.auth import Session
from webui.desk import Desk
from webui.garage import Model, described
from webui.shared import PATIENCE, Line, Shared
from webui.trackside import Standing
from webui.wheel import NotYours

BEAT: Final = 0.05
"""Seconds between two glances: the standing is in each, the state in every second one."""
BEATS_A_LOOK: Final = 20
"""Glances between two looks at which models are installed."""
BEATS_A_SCAN: Final = 4
PICTURE_REST: Final = 0.05
"""Seconds after a picture in which no other is taken: 15 a second of a camera's 30."""
JPEG_QUALITY: Final = 80
LATEST_EVENTS: Final = 100
LARGEST_MESSAGE: Final = 1024
MOST_MESSAGES: Final = 60
"""Orders a second that a page may send; the rest is dropped, the newest included: a flood is no driving."""
EXPIRED: Final = 4401
"""Why the server closes a socket whose session has ended."""

Stick: TypeAlias = Annotated[float, Meta(ge=-1, le=1)]


class Order(Struct, tag_field="type", forbid_unknown_fields=True):
    """What a page may send."""


class Drive(Order, tag="drive"):
    """The hand of a driver at `t`, seconds on the page's own clock: + left, + forward."""

    steering: Stick
    throttle: Stick
    t: float | None = None


class Trim(Order, tag="trim"):
    """Hold one wire at this place of its calibration slider for a moment."""

    wire: Literal["steering", "throttle"]
    value: float
    t: float | None = None


class Stop(Order, tag="stop"):
    """Bring the car to rest."""


_orders: Final = msgspec.json.Decoder(Drive | Trim | Stop)


class Link:
    """Serves the sockets and streams of all pages that are open."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self._car = desk, desk.car
        self._models: list[Model] = []
        self._beat = self._ticks = 0
        self._beat_due = 0.0
        self._glances = Shared(self._glance)
        self._pictures = [Shared(_Pictures(desk, place).next) for place in range(len(desk.car.frames))]

    async def close(self) -> None:
        """Let every open page go."""
        await self._glances.close()
        for pictures in self._pictures:
            await pictures.close()

    # What the page sends ----------------------------------------------------------------------------------------

    async def socket(self, request: web.Request, person: Session) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(timeout=1.0, heartbeat=PATIENCE, max_msg_size=LARGEST_MESSAGE, compress=False)
        await ws.prepare(request)
        hand, wheel = _Hand(), self._desk.wheel
        wheel.came(person)
        tasks = [asyncio.create_task(self._push(ws, Line(request), person)), asyncio.create_task(_expire(ws, person))]
        try:
            async for message in ws:
                if message.type is not WSMsgType.TEXT:
                    break
                await self._hear(ws, person, hand, message.data)
        finally:
            for task in tasks:
                task.cancel()
            wheel.went(person)
            await asyncio.wait(tasks)
        return ws

    async def _hear(self, ws: web.WebSocketResponse, person: Session, hand: _Hand, text: str) -> None:
        now = asyncio.get_running_loop().time()
        try:
            order = _orders.decode(text)
            if isinstance(order, Stop):
                self._car.stop()
            elif hand.fresh(order.t, now):
                self._obey(person, order)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            await self._refuse(ws, hand, f"That was no order: {error}.", now)
        except (Refusal, NotYours) as error:
            await self._refuse(ws, hand, str(error), now)

    def _obey(self, person: Session, order: Drive | Trim) -> None:
        mode = DriveMode.MANUAL if isinstance(order, Drive) else DriveMode.CALIBRATION
        if self._car.mode is not mode:
            raise Refusal(f"The car is not in {mode.value} mode.")
        self._desk.wheel.take(person)
        if isinstance(order, Drive):
            self._car.steer(order.steering, order.throttle)
        else:
            self._car.trim(order.wire, order.value)

    async def _refuse(self, ws: web.WebSocketResponse, hand: _Hand, sentence: str, now: float) -> None:
        if hand.may_answer(now):
            await ws.send_str(json.dumps({"refused": sentence}))

    # What is pushed ---------------------------------------------------------------------------------------------

    async def _push(self, ws: web.WebSocketResponse, line: Line, person: Session) -> None:
        told: Event | None = None
        models: list[Model] | None = None
        wheel: object = None
        try:
            async for glance in self._glances:
                if not line.free():
                    continue
                message = dict(glance)
                if events := self._events_since(told):
                    told, message["events"] = events[-1], [asdict(event) for event in events]
                if models is not self._models:
                    models = self._models
                    message["models"] = msgspec.to_builtins(models)
                if wheel != (wheel := self._wheel(person)):
                    message["wheel"] = wheel
                await ws.send_str(json.dumps(message))
        except ConnectionResetError:
            pass
        finally:
            await ws.close(code=1001)

    def _wheel(self, person: Session) -> dict[str, object]:
        holder, asking = self._desk.wheel.holder, self._desk.wheel.asking
        return {
            "holder": holder.name if holder else None,
            "yours": holder == person,
            "asked_by": asking.name if asking else None,
            "asking": asking == person,
        }

    async def _glance(self) -> dict[str, object]:
        """What every page is told at one beat."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._beat_due - loop.time())
        self._beat_due = max(self._beat_due + BEAT, loop.time() + BEAT / 2)
        if self._beat % BEATS_A_LOOK == 0:
            models = described(self._car, await asyncio.to_thread(self._car.store.installed))
            self._models = self._models if models == self._models else models
        glance: dict[str, object] = {"t": loop.time()}
        if self._desk.trackside is not None:
            glance["standing"] = _figures(self._desk.trackside.standing())
        if self._beat % 2 == 0:
            glance |= {"state": json.loads(self._car.snapshot().to_json()), "latencies": self._latencies()}
        if self._beat % BEATS_A_SCAN == 0 and (scan := self._car.scan.value) is not None:
            ranges = scan.ranges.tolist()
            glance["scan"] = [round(metres, 3) if math.isfinite(metres) else None for metres in ranges]
        self._beat += 1
        return glance

    def _latencies(self) -> list[float]:
        """Milliseconds from picture to pulse, of each wish acted on since the last time this was asked."""
        mailbox = self._car.mailbox
        report = mailbox.report()
        if report is None:
            return []
        a_second_ago = report.ticks - 50
        _, latencies = mailbox.samples(report.ticks, max(self._ticks, a_second_ago))
        self._ticks = report.ticks
        return [round(1000 * latency, 2) for latency in latencies]

    def _events_since(self, last: Event | None) -> list[Event]:
        news = itertools.takewhile(lambda event: event is not last, reversed(self._car.events))
        return list(itertools.islice(news, LATEST_EVENTS))[::-1]

    # Pictures ---------------------------------------------------------------------------------------------------

    async def camera(self, request: web.Request, place: int) -> web.StreamResponse:
        """The stream of one camera; a viewer who is slow misses pictures."""
        response = web.StreamResponse(headers={"Content-Type": "multipart/x-mixed-replace; boundary=frame"})
        await response.prepare(request)
        line = Line(request)
        with contextlib.suppress(ConnectionResetError):
            await response.write(b"--frame\r\n")
            async for jpeg in self._pictures[place]:
                if line.free():
                    # A browser shows a picture when it has seen the boundary after it.
                    head = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg)
                    await response.write(head + jpeg + b"\r\n--frame\r\n")
        return response


class _Hand:
    """What one page has sent lately: too much of it, or too late, is not obeyed."""

    def __init__(self) -> None:
        self._second, self._count = -math.inf, 0
        self._least = math.inf
        self._answered = -math.inf

    def fresh(self, t: float | None, now: float) -> bool:
        """Whether an order given at `t`, on the page's clock, comes in time and is not one too many.

        The clocks' difference is the least that was seen: what takes longer than that by more than a wish may be old
        was held up on the way.
        """
        if now - self._second >= 1.0:
            self._second, self._count = now, 0
        self._count += 1
        if self._count > MOST_MESSAGES:
            return False
        if t is None:
            return True
        self._least = min(self._least, now - t)
        return now - t - self._least <= LIMITS.max_age

    def may_answer(self, now: float) -> bool:
        """One refusal a second is told."""
        if now - self._answered < 1.0:
            return False
        self._answered = now
        return True


class _Pictures:
    def __init__(self, desk: Desk, place: int) -> None:
        self._frames, self._due = desk.car.frames[place], 0.0

    async def next(self) -> bytes:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._due - loop.time())
        frame = await self._frames.next()
        self._due = loop.time() + PICTURE_REST
        return await asyncio.to_thread(_jpeg, frame.image)


async def _expire(ws: web.WebSocketResponse, person: Session) -> None:
    await person.ended.wait()
    await ws.close(code=EXPIRED, message=b"The session has ended.")


def _figures(standing: Standing) -> Mapping[str, object]:
    return {
        "position": [round(metres, 4) for metres in standing.position],
        "heading": round(standing.heading, 4),
        "speed": round(standing.speed, 3),
        "progress": round(standing.progress, 2),
        "lap_time": round(standing.lap_time, 3),
        "lap_count": standing.lap_count,
        "laps": [round(lap, 3) for lap in standing.laps],
        "off_track": standing.off_track,
    }


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    _, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return jpeg.tobytes()
