"""Who may use the console: its one password, the sessions of those who gave it, and a limit on wrong ones."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import math
import secrets
import socket
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import msgspec
from argon2 import PasswordHasher
from argon2.exceptions import VerificationError, VerifyMismatchError
from zxcvbn import zxcvbn

from drivers.disk import sync_folder, write_atomically

log = logging.getLogger(__name__)

Clock: TypeAlias = Callable[[], float]

SHORTEST: Final = 8
LONGEST: Final = 128
HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19 << 10, parallelism=1)
"""What OWASP asks of argon2id at the least: 19 MiB, twice over; some 40 ms."""
COMMON: Final = 1_000_000
"""A password found within so many of the likeliest guesses is common."""
ASSESSED: Final = 72
"""Characters that are looked at to tell a common password: the time grows with the square and worse."""
LETTERS: Final = "abcdefghjkmnpqrstuvwxyz23456789"
"""No 0, 1, i, l or o, which are taken for each other: 15 of these are 74 bits."""
SHORTEST_TAG: Final = 6
PASSWORD_FILE: Final = "password.json"
ATTEMPTS_FILE: Final = "attempts.json"
"""What the car's folder remembers of both."""
NO_PASSWORD: Final = (
    "The console has no password yet: make one with sudo /opt/hotlap/venv/bin/hotlap-car reset-password, on the car."
)
NO_TAGS: Final = frozenset(
    {
        "asset tag",
        "asset-1234567890",
        "chassis asset tag",
        "default string",
        "invalid",
        "no asset information",
        "no asset tag",
        "not applicable",
        "not available",
        "not specified",
        "oem_default",
        "system asset tag",
        "to be filled by o.e.m.",
        "unknown",
    }
)
"""What makers leave in the place of a chassis's asset tag."""

IDLE: Final = 30 * 60.0
LONGEST_SESSION: Final = 12 * 3600.0
MOST_SESSIONS: Final = 64

MINUTE: Final = 60.0
HOUR: Final = 3600.0
MOST_A_MINUTE: Final = 5
"""Wrong passwords of one address within a minute that bring the first delay."""
MOST_AN_HOUR: Final = 20
"""Wrong passwords of all addresses within an hour that bring the first delay."""
FIRST_DELAY: Final = 10.0
LONGEST_DELAY: Final = 15 * 60.0
LONGEST_OVERALL: Final = 30.0
"""After so many seconds somebody may try, however many addresses attack: the owner must not be kept out."""
MEMORY: Final = 24 * 3600.0
"""Seconds after its last wrong password for which an address is remembered."""
MOST_ADDRESSES: Final = 1000


# The password -------------------------------------------------------------------------------------------------------


class WeakPassword(ValueError):
    """The new password is refused; the message says why, and what to do."""


class _Kept(msgspec.Struct):
    """What the password's file holds."""

    hash: str
    must_change: bool


class Password:
    """The console's password, kept in a file of its own that only this user can read; made by `Password.first`.

    Another process may change the file, as `Password.reset` does: what it says counts at once.
    """

    def __init__(self, path: Path, kept: _Kept | None) -> None:
        self._path, self._kept, self._seen = path, kept, _version(path)
        # One worker: a verification takes 19 MiB, and who cancels a request must not make room for another.
        self._worker = ThreadPoolExecutor(1, "password")

    @classmethod
    def first(
        cls, path: Path, known: str | None = None, tag: str | None = None, random: bool = True
    ) -> tuple[Password, str | None]:
        """The password at `path`, in a folder that exists; and if a random one had to be made, that one, to be printed:
        nobody can find it out later.

        Where there is no file, the password is `known`, to stay; or else the chassis's asset `tag`, if its maker has
        set one; or else random. The last two must be changed. A damaged file is moved aside, and the tag does not count
        then. Without `random`, where nobody is there to whom it could be printed, there is none then, and nothing opens
        until `reset` makes one. Raises WeakPassword for `known`, and OSError.
        """
        try:
            return cls(path, _parse(path.read_bytes())), None
        except FileNotFoundError:
            pass
        except ValueError as error:
            log.error("The console's password file is damaged: %s It is kept as %s.", error, _keep_aside(path))
            tag = None
        if known is not None:
            judge(known, socket.gethostname())
            return cls(path, _save(path, known, must_change=False)), None
        if tag is not None and _is_fit(tag):
            return cls(path, _save(path, tag.strip(), must_change=True)), None
        if not random:
            return cls(path, None), None
        new = _random()
        return cls(path, _save(path, new, must_change=True)), new

    @staticmethod
    def reset(path: Path) -> str:
        """Set a random password, which must be changed, whatever the file at `path` holds; returns it, to be printed.

        Raises OSError.
        """
        new = _random()
        _save(path, new, must_change=True)
        return new

    @property
    def missing(self) -> bool:
        """Whether there is none yet, so that nobody can give it."""
        self._refresh()
        return self._kept is None

    @property
    def must_change(self) -> bool:
        """Whether nothing but the change of the password is open to whoever has given it."""
        self._refresh()
        return self._kept is None or self._kept.must_change

    async def verify(self, password: str) -> bool:
        """Whether this is the password. One at a time, and in the same time whatever it is."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, self._verify, password)

    async def change(self, new: str) -> None:
        """Raises WeakPassword, or OSError; the old one then stays."""
        await asyncio.get_running_loop().run_in_executor(self._worker, self._change, new)

    def _verify(self, password: str) -> bool:
        self._refresh()
        if self._kept is None or not self._matches(password):
            return False
        if HASHER.check_needs_rehash(self._kept.hash):
            try:
                self._set(password, self._kept.must_change)
            except OSError as error:
                log.warning("The password could not be stored in its newer form: %s", error)
        return True

    def _change(self, new: str) -> None:
        judge(new, socket.gethostname())
        self._refresh()
        if self._matches(new):
            raise WeakPassword("This is the password already: choose another one.")
        self._set(new, must_change=False)

    def _matches(self, password: str) -> bool:
        if self._kept is None:
            return False
        fits = len(password) <= LONGEST
        return _opens(self._kept.hash, password if fits else "") and fits

    def _set(self, new: str, must_change: bool) -> None:
        self._kept = _save(self._path, new, must_change)
        self._seen = _version(self._path)

    def _refresh(self) -> None:
        """Read the file if it is another one; one that cannot be used changes nothing."""
        if (seen := _version(self._path)) != self._seen:
            self._seen = seen
            try:
                self._kept = _parse(self._path.read_bytes())
            except (OSError, ValueError) as error:
                log.error("The console's password file cannot be used, and changes nothing: %s", error)


def _version(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_ctime_ns


def _parse(text: bytes) -> _Kept:
    """Raises ValueError with the reason."""
    try:
        kept = msgspec.json.decode(text, type=_Kept)
        _opens(kept.hash, "")
    except (VerificationError, ValueError, RecursionError) as error:
        raise ValueError("it holds no password in argon2's form.") from error
    return kept


def _save(path: Path, new: str, must_change: bool) -> _Kept:
    kept = _Kept(HASHER.hash(_bytes(new)), must_change)
    write_atomically(path, msgspec.json.encode(kept), 0o600)
    return kept


def _opens(hashed: str, password: str) -> bool:
    """Raises VerificationError or ValueError when `hashed` is damaged."""
    try:
        return HASHER.verify(hashed, _bytes(password))
    except VerifyMismatchError:
        return False


def _bytes(password: str) -> bytes:
    """One form for what looks the same, whichever keyboard it was typed on. JSON may hold half a surrogate pair."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")


def judge(new: str, *names: str) -> None:
    """Raises WeakPassword when a password is too short, too long, or easily guessed by who knows the car's `names`."""
    if not SHORTEST <= len(new) <= LONGEST:
        raise WeakPassword(f"A password has {SHORTEST} to {LONGEST} characters.")
    if zxcvbn(new[:ASSESSED], ["deepracer", "hotlap", *names])["guesses"] < COMMON:
        raise WeakPassword(
            "This password is one of the first that others would try: choose a longer one, such as a few words that do "
            "not belong together."
        )


def _is_fit(tag: str) -> bool:
    tag = tag.strip().lower()
    return len(tag) >= SHORTEST_TAG and len(set(tag)) > 2 and tag not in NO_TAGS


def _random() -> str:
    return "-".join("".join(secrets.choice(LETTERS) for _ in range(5)) for _ in range(3))


def _keep_aside(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    path.rename(aside)
    sync_folder(path.parent)
    return aside


# Sessions -----------------------------------------------------------------------------------------------------------


@dataclass(eq=False, slots=True)
class Session:
    """Somebody who has given the password. `ended` is set when this is over; `created` and `last_used` are the clock's
    seconds. Changing requests must carry `csrf`."""

    name: str
    created: float
    last_used: float
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    ended: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    def vouches_for(self, token: str | None) -> bool:
        """Whether this is the session's CSRF token."""
        return token is not None and hmac.compare_digest(token.encode("utf-8", "replace"), self.csrf.encode())


class Sessions:
    """The sessions there are, in memory only: a restart ends them all. `clock` gives seconds that never jump.

    Of a cookie only the digest is kept, so that what is read out of memory opens nothing.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sessions: dict[bytes, Session] = {}

    def open(self, name: str) -> tuple[str, Session]:
        """A new session and the value of its cookie. When there are too many, the one idle for longest ends."""
        self.sweep()
        while len(self._sessions) >= MOST_SESSIONS:
            self._end(min(self._sessions, key=lambda key: self._sessions[key].last_used))
        cookie, now = secrets.token_urlsafe(32), self._clock()
        session = self._sessions[_digest(cookie)] = Session(name, now, now)
        return cookie, session

    def find(self, cookie: str) -> Session | None:
        """The session of that cookie, if it has not ended; this counts as its use."""
        self.sweep()
        session = self._sessions.get(_digest(cookie))
        if session is not None:
            session.last_used = self._clock()
        return session

    def close(self, cookie: str) -> None:
        """End the session of that cookie, if there is one."""
        self._end(_digest(cookie))

    def close_all(self, but: Session | None = None) -> None:
        for key in [key for key, session in self._sessions.items() if session is not but]:
            self._end(key)

    def sweep(self) -> None:
        """End what has been idle, or has lasted, for too long. Call it each second: sockets wait for `ended`."""
        now = self._clock()
        for key, session in list(self._sessions.items()):
            if now - session.last_used >= IDLE or now - session.created >= LONGEST_SESSION:
                self._end(key)

    def _end(self, key: bytes) -> None:
        session = self._sessions.pop(key, None)
        if session is not None:
            session.ended.set()


def _digest(cookie: str) -> bytes:
    return hashlib.sha256(cookie.encode("utf-8", "replace")).digest()


# Attempts -----------------------------------------------------------------------------------------------------------


class TooManyAttempts(RuntimeError):
    """No password is looked at for `wait` whole seconds; the message says so."""

    def __init__(self, wait: float) -> None:
        self.wait = math.ceil(wait)
        when = f"{self.wait} s" if self.wait < 60 else f"{math.ceil(wait / 60)} min"
        super().__init__(f"Too many wrong passwords were given: try again in {when}.")


async def unlock(password: Password, attempts: Attempts, address: str, given: str) -> bool:
    """Whether the password `given` from `address` is right, counted as an attempt. Raises TooManyAttempts.

    However many ask at once, they are taken one by one; who goes away before the answer is counted all the same.
    """
    return await asyncio.shield(_unlock(password, attempts, address, given))


async def _unlock(password: Password, attempts: Attempts, address: str, given: str) -> bool:
    async with attempts.turn:
        if wait := attempts.check(address):
            raise TooManyAttempts(wait)
        right = await password.verify(given)
        await asyncio.to_thread(attempts.succeeded if right else attempts.failed, address)
        return right


@dataclass(slots=True)
class _Record:
    """The wrong passwords of one address: when the latest came, the delays that they brought, the end of the last."""

    times: list[float] = field(default_factory=list)
    strikes: int = 0
    until: float = -math.inf

    def wait(self, now: float) -> float:
        """Seconds left to wait. The sum and the difference of two floats may exceed what was added."""
        return min(max(self.until - now, 0.0), LONGEST_DELAY)


_Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0)]


class _KeptRecord(msgspec.Struct):
    """A record in the file: its times as seconds before the writing, and the seconds that were left to wait."""

    ages: Annotated[list[_Seconds], msgspec.Meta(min_length=1)]
    strikes: Annotated[int, msgspec.Meta(ge=0)]
    wait: Annotated[float, msgspec.Meta(ge=0, le=LONGEST_DELAY)]


class _KeptAttempts(msgspec.Struct):
    ages: list[_Seconds]
    addresses: dict[str, _KeptRecord]


class Attempts:
    """Counts wrong passwords, and says who has to wait. `clock` gives seconds that never jump.

    One address has 4 free within a minute, and all together 19 within an hour; each further one brings a delay that
    doubles from 10 s, up to 15 min for the address and 30 s for all. No session that is open is touched by it. The file
    at `path`, in a folder that exists, keeps it over a restart as seconds gone by, not as times of day: neither a
    restart nor a clock that is set unlocks. Who deletes the file, as `hotlap-car reset-password` does, forgives all.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path, self._clock = path, clock
        self._times: list[float] = []
        self._records: dict[str, _Record] = {}
        self._on_disk = False
        self.turn = asyncio.Lock()
        self._load()

    def check(self, address: str) -> float:
        """Seconds that `address` has to wait before it may try; 0 when it may now."""
        if self._on_disk and not self._path.exists():
            self._times, self._records, self._on_disk = [], {}, False
        now = self._clock()
        wait = self._records[address].wait(now) if address in self._records else 0.0
        recent = _within(HOUR, self._times, now)
        if len(recent) >= MOST_AN_HOUR:
            wait = max(wait, recent[-1] + _delay(len(recent) - MOST_AN_HOUR, LONGEST_OVERALL) - now)
        return wait

    def failed(self, address: str) -> None:
        """Count a wrong password."""
        now = self._clock()
        # More than these would change no delay.
        self._times = [*_within(HOUR, self._times, now), now][-2 * MOST_AN_HOUR :]
        record = self._records.pop(address, _Record())
        record.times = [*_within(MINUTE, record.times, now), now][-MOST_A_MINUTE:]
        if record.strikes or len(record.times) == MOST_A_MINUTE:
            record.until = now + _delay(record.strikes, LONGEST_DELAY)
            record.strikes += 1
        remembered = [item for item in self._records.items() if now - item[1].times[-1] < MEMORY]
        self._records = dict([*remembered, (address, record)][-MOST_ADDRESSES:])
        log.warning("A wrong password for the console came from %s.", address)
        self._save()

    def succeeded(self, address: str) -> None:
        """Forget the wrong passwords of this address."""
        if self._records.pop(address, None) is not None:
            self._save()

    def _save(self) -> None:
        now = self._clock()
        addresses = {
            address: _KeptRecord([now - when for when in record.times], record.strikes, record.wait(now))
            for address, record in self._records.items()
        }
        kept = _KeptAttempts([now - when for when in self._times], addresses)
        try:
            write_atomically(self._path, msgspec.json.encode(kept), 0o600)
            self._on_disk = True
        except OSError as error:
            log.warning("Wrong passwords are counted until the next restart only: %s", error)

    def _load(self) -> None:
        now = self._clock()
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=_KeptAttempts)
        except FileNotFoundError:
            return
        except (OSError, ValueError, RecursionError) as error:
            log.warning("The count of wrong passwords could not be read, and begins anew: %s", error)
            return
        self._on_disk = True
        self._times = [now - age for age in kept.ages]
        self._records = {
            address: _Record([now - age for age in record.ages], record.strikes, now + record.wait)
            for address, record in kept.addresses.items()
        }


def _within(seconds: float, times: list[float], now: float) -> list[float]:
    return [when for when in times if now - when < seconds]


def _delay(earlier: int, longest: float) -> float:
    """Seconds of delay after so many earlier delays."""
    return min(FIRST_DELAY * 2.0 ** min(earlier, 10), longest)
