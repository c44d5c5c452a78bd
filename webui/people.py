"""Who is there: unlock, leave, change the password."""

from __future__ import annotations

import asyncio
import socket
from typing import Annotated, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from vehicle.car import Refusal
from webui.auth import NO_PASSWORD, Session, unlock
from webui.desk import COOKIE, STOCK_COOKIE, Desk, Locked, Nothing, Obeyed, Route, Secret, Strict, Visit


class Login(Strict):
    password: Secret
    name: Annotated[str, Meta(max_length=40)] = ""


class NewPassword(Strict):
    old: Secret
    new: Secret


class SessionState(Strict):
    unlocked: bool
    must_change: bool
    csrf: str | None
    name: str | None
    car: str


class Token(Strict):
    csrf: str


async def session(desk: Desk, visit: Visit) -> SessionState:
    return state_of(desk, visit.session)


def state_of(desk: Desk, person: Session | None) -> SessionState:
    """What the page is told of its session."""
    if person is None:
        return SessionState(False, False, None, None, socket.gethostname())
    return SessionState(True, desk.password.must_change, person.csrf, person.name, socket.gethostname())


async def enter(desk: Desk, address: str, password: str, name: str) -> tuple[str, Session]:
    """Log in: the new session's cookie, and the session. Raises TooManyAttempts, or Locked."""
    if desk.password.missing:
        raise Locked(NO_PASSWORD)
    if not await unlock(desk.password, desk.attempts, address, password):
        raise Locked("This is not the car's password. Forgotten? Run hotlap-car reset-password on the car.")
    plain = "".join(letter for letter in name if letter.isprintable()).strip()
    return desk.sessions.open(plain or "Somebody")


def leave(desk: Desk, request: web.Request) -> None:
    """End the sessions of this browser."""
    for name in (COOKIE, STOCK_COOKIE):
        desk.sessions.close(request.cookies.get(name, ""))


async def change_password(desk: Desk, visit: Visit, old: str, new: str) -> tuple[str, Session]:
    """The new session and its cookie; all others have ended. Raises TooManyAttempts, Refusal or WeakPassword."""
    if not await unlock(desk.password, desk.attempts, visit.request.remote or "", old):
        raise Refusal("The old password is wrong.")

    async def change() -> tuple[str, Session]:
        await desk.password.change(new)
        desk.sessions.close_all()
        return desk.sessions.open(visit.person.name)

    # Who goes away meanwhile has changed it all the same, and no session of before may outlive that.
    return await asyncio.shield(change())


async def login(desk: Desk, visit: Visit) -> web.Response:
    cookie, person = await enter(desk, visit.request.remote or "", visit.body.password, visit.body.name)
    leave(desk, visit.request)
    return _with_cookie(state_of(desk, person), cookie)


async def password(desk: Desk, visit: Visit) -> web.Response:
    cookie, person = await change_password(desk, visit, visit.body.old, visit.body.new)
    return _with_cookie(Token(person.csrf), cookie)


async def logout(desk: Desk, visit: Visit) -> web.Response:
    leave(desk, visit.request)
    return _with_cookie({}, None)


async def logout_everywhere(desk: Desk, visit: Visit) -> web.Response:
    desk.sessions.close_all()
    return _with_cookie({}, None)


def _with_cookie(answer: object, cookie: str | None) -> web.Response:
    response = web.Response(body=msgspec.json.encode(answer), content_type="application/json")
    if cookie is None:
        response.del_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="Strict")
    else:
        response.set_cookie(COOKIE, cookie, path="/", secure=True, httponly=True, samesite="Strict")
    return response


ROUTES: Final = (
    Route("GET", "/api/v1/session", "Who I am", session, SessionState, open=True),
    Route("POST", "/api/v1/login", "Unlock the car", login, SessionState, Login, open=True),
    Route("POST", "/api/v1/logout", "End this session", logout, Obeyed, Nothing),
    Route("POST", "/api/v1/logout_everywhere", "End every session", logout_everywhere, Obeyed, Nothing),
    Route("POST", "/api/v1/password", "Change the password; all other sessions end", password, Token, NewPassword),
)
