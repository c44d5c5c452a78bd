"""The console opens to its password and to nothing else, and whoever guesses at it has to wait."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import re
import shutil
import stat
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest
from argon2 import PasswordHasher, extract_parameters
from hypothesis import given, settings
from hypothesis import strategies as st
from zxcvbn.frequency_lists import FREQUENCY_LISTS

from webui.auth import (
    HASHER,
    HOUR,
    IDLE,
    LETTERS,
    LONGEST,
    LONGEST_DELAY,
    LONGEST_OVERALL,
    LONGEST_SESSION,
    MOST_ADDRESSES,
    MOST_SESSIONS,
    Attempts,
    Password,
    Sessions,
    TooManyAttempts,
    WeakPassword,
    judge,
    unlock,
)

GOOD = "seven blue windmills"
OTHER = "old tram, green hat"


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "password.json"


@pytest.fixture
def password(path: Path) -> Password:
    return Password.first(path, GOOD)[0]


def hash_in(path: Path) -> str:
    return str(json.loads(path.read_bytes())["hash"])


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def put(path: Path, text: bytes) -> None:
    path.write_bytes(text)


def older(path: Path, must_change: bool) -> str:
    """The password GOOD, as it was kept when computers were slower."""
    hashed = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(GOOD)
    path.write_text(json.dumps({"hash": hashed, "must_change": must_change}))
    return hashed


# The password -------------------------------------------------------------------------------------------------------


async def test_the_first_password_is_random_told_once_and_must_be_changed(path: Path) -> None:
    password, told = Password.first(path)
    assert told is not None
    assert password.must_change
    assert await password.verify(told)
    again, nothing = Password.first(path)
    assert nothing is None
    assert again.must_change
    assert await again.verify(told)


def test_a_random_password_is_long_enough_and_has_no_letter_to_be_taken_for_another(path: Path) -> None:
    made = [Password.reset(path) for _ in range(20)]
    assert len(set(made)) == len(made)
    assert all(re.fullmatch(rf"([{LETTERS}]{{5}}-){{2}}[{LETTERS}]{{5}}", one) for one in made)
    assert len(set(LETTERS)) ** 15 > 2**60
    assert not set(LETTERS) & set("01ilo")


async def test_a_known_password_stays(path: Path) -> None:
    password, told = Password.first(path, GOOD, "AMSS-1X2Y")
    assert told is None
    assert not password.must_change
    assert await password.verify(GOOD)
    assert not await password.verify("AMSS-1X2Y")
    again, _ = Password.first(path, OTHER)
    assert await again.verify(GOOD), "what is remembered counts more"


def test_a_known_password_must_be_a_good_one(path: Path) -> None:
    with pytest.raises(WeakPassword):
        Password.first(path, "deepracer")
    assert not path.exists()


async def test_a_chassis_tag_opens_for_the_first_time(path: Path) -> None:
    password, told = Password.first(path, tag=" L1D7Q9 \n")
    assert told is None
    assert password.must_change
    assert await password.verify("L1D7Q9")


@pytest.mark.parametrize(
    "tag", ["", "L1D7Q", "Default string", "To be filled by O.E.M.", "00000000", "        ", "NOT SPECIFIED"]
)
async def test_a_tag_that_many_have_opens_nothing(path: Path, tag: str) -> None:
    password, told = Password.first(path, tag=tag)
    assert told is not None
    assert await password.verify(told)
    assert not await password.verify(tag)
    assert not await password.verify(tag.strip())


async def test_the_file_holds_argon2id_with_a_salt_of_its_own_for_this_user_alone(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for path in (one, other):
        Password.first(path, GOOD)
        assert mode_of(path) == 0o600
        assert GOOD not in path.read_text()
        parameters = extract_parameters(hash_in(path))
        assert hash_in(path).startswith("$argon2id$")
        assert (parameters.memory_cost, parameters.time_cost, parameters.parallelism) == (19 * 1024, 2, 1)
    assert hash_in(one) != hash_in(other)


async def test_a_change_counts_and_is_remembered(path: Path) -> None:
    password, told = Password.first(path)
    assert told is not None
    await password.change(OTHER)
    for one in (password, Password.first(path)[0]):
        assert not one.must_change
        assert await one.verify(OTHER)
        assert not await one.verify(told)
    assert mode_of(path) == 0o600


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        ("", "8 to 128"),
        ("k7#mW2q", "8 to 128"),
        ("k7#mW2q " * 16 + "!", "8 to 128"),
        ("password", "the first that others would try"),
        ("Password1", "the first that others would try"),
        ("12345678", "the first that others would try"),
        ("deepracer", "the first that others would try"),
        ("DeepRacer1", "the first that others would try"),
        ("qwertzuiop", "the first that others would try"),
        ("a" * 128, "the first that others would try"),
        (GOOD, "already"),
    ],
)
async def test_a_weak_password_is_refused_with_the_reason(
    password: Password, path: Path, new: str, reason: str
) -> None:
    before = hash_in(path)
    with pytest.raises(WeakPassword, match=reason):
        await password.change(new)
    assert hash_in(path) == before
    assert await password.verify(GOOD)


def test_the_three_thousand_most_common_passwords_are_refused() -> None:
    common = [password for password in FREQUENCY_LISTS["passwords"][:3000] if len(password) >= 8]
    assert len(common) > 500
    for password in common:
        with pytest.raises(WeakPassword, match="the first"):
            judge(password, "vm")


def test_the_cars_own_name_is_no_password() -> None:
    judge("amss-k2x9", "vm")
    with pytest.raises(WeakPassword, match="the first"):
        judge("amss-k2x9", "AMSS-K2X9")


async def test_a_hundred_and_twenty_eight_characters_count_to_the_last(path: Path) -> None:
    longest = "".join(itertools.islice(itertools.cycle("straße 漢字 🏎 k7#mW2q "), LONGEST))
    password, _ = Password.first(path, longest)
    assert await password.verify(longest)
    assert not await password.verify(longest[:-1])
    assert not await password.verify(longest[:-1] + "?")
    assert not await password.verify(longest + "?")


async def test_what_looks_the_same_is_the_same(path: Path) -> None:
    password, _ = Password.first(path, "M\u00fcnchner Stra\u00dfenkreisel")
    assert await password.verify("Mu\u0308nchner Stra\u00dfenkreisel")
    assert not await password.verify("Munchner Strassenkreisel")


@settings(max_examples=15, deadline=None)
@given(st.text(st.characters(exclude_categories=()), min_size=8, max_size=LONGEST), st.text(max_size=300))
def test_any_text_is_a_password_and_no_other_text_opens(text: str, other: str) -> None:
    async def scenario() -> None:
        with tempfile.TemporaryDirectory() as folder:
            try:
                password, _ = Password.first(Path(folder) / "password.json", text)
            except WeakPassword:
                password, _ = Password.first(Path(folder) / "password.json", GOOD)
                assert not await password.verify(text)
            else:
                assert await password.verify(text)
            assert not await password.verify(f"{other} {text}")

    asyncio.run(scenario())


async def test_a_wrong_password_costs_the_same_whatever_it_is(password: Password) -> None:
    async def cost(wrong: str) -> float:
        costs = []
        for _ in range(3):
            begun = time.process_time()
            assert not await password.verify(wrong)
            costs.append(time.process_time() - begun)
        return min(costs)

    usual = await cost(OTHER)
    for wrong in ("", "x" * LONGEST, "x" * 60_000, "\u0301" * 60_000, "\ud800"):
        assert usual / 3 < await cost(wrong) < usual * 3, "a hash takes 40 ms; without it, or with more, it is far off"


async def test_an_older_hash_is_renewed_when_its_password_comes(path: Path) -> None:
    before = older(path, must_change=True)
    password, _ = Password.first(path)
    assert not await password.verify(OTHER)
    assert hash_in(path) == before
    assert await password.verify(GOOD)
    assert extract_parameters(hash_in(path)).memory_cost == HASHER.memory_cost
    assert password.must_change
    assert await password.verify(GOOD)


async def test_a_disk_that_takes_nothing_keeps_nobody_out(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    older(path, must_change=False)
    password, _ = Password.first(path)
    shutil.rmtree(path.parent)
    assert await password.verify(GOOD)
    assert "could not be stored in its newer form" in caplog.text
    with pytest.raises(OSError, match="No such file"):
        await password.change(OTHER)
    assert await password.verify(GOOD)


DAMAGED = [
    b"",
    b"{",
    b"\xff",
    b"[" * 100_000,
    b'{"x":' + b"[" * 100_000,
    b"{}",
    b'{"hash": 5, "must_change": true}',
    b'{"hash": "$argon2id$v=19$m=19456,t=2,p=1$", "must_change": false}',
    b'{"hash": "b7f8f5e0", "must_change": false}',
    json.dumps({"hash": HASHER.hash("x")[:-3], "must_change": False}).encode()[:-1],
]


@pytest.mark.parametrize("text", DAMAGED)
async def test_a_damaged_file_is_kept_aside_and_the_password_made_anew(
    path: Path, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (1, 2):
        put(path, text)
        password, told = Password.first(path, tag="L1D7Q9")
        assert told is not None
        assert password.must_change
        assert await password.verify(told)
        assert not await password.verify("L1D7Q9")
        aside = path.with_name(f"password.json.damaged-{number}")
        assert aside.read_bytes() == text
        assert f"It is kept as {aside}" in caplog.text
        assert told not in caplog.text


async def test_a_reset_counts_in_the_running_daemon_at_once(path: Path, password: Password) -> None:
    assert not password.must_change
    told = Password.reset(path)
    assert password.must_change
    assert await password.verify(told)
    assert not await password.verify(GOOD)
    await password.change(OTHER)
    assert not password.must_change


@pytest.mark.parametrize("text", [None, b"{"])
async def test_where_nobody_could_be_told_there_is_no_password_until_one_is_made(
    path: Path, text: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    if text is not None:
        put(path, text)
    password, told = Password.first(path, tag="Default string", random=False)
    assert told is None
    assert password.missing
    assert password.must_change
    for guess in ("", "Default string", "None", GOOD):
        assert not await password.verify(guess)
    put(path, b"{")
    assert password.missing
    told = Password.reset(path)
    assert not password.missing
    assert password.must_change
    assert await password.verify(told)


async def test_a_tag_or_what_is_remembered_counts_where_nobody_could_be_told(path: Path) -> None:
    for _ in range(2):
        password, told = Password.first(path, tag="L1D7Q9", random=False)
        assert (told, password.missing, password.must_change) == (None, False, True)
        assert await password.verify("L1D7Q9")


@pytest.mark.parametrize("text", DAMAGED)
async def test_a_file_damaged_under_the_running_daemon_changes_nothing(
    path: Path, password: Password, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    put(path, text)
    assert await password.verify(GOOD)
    assert not await password.verify(OTHER)
    assert not password.must_change
    assert caplog.text.count("cannot be used, and changes nothing") == 1


async def test_no_secret_reaches_a_log(
    path: Path, tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    put(path, b"{")
    password, told = Password.first(path)
    assert told is not None
    attempts, sessions = Attempts(tmp_path / "attempts.json", clock), Sessions(clock)
    assert not await unlock(password, attempts, "192.0.2.7", "canary in the mine")
    assert await unlock(password, attempts, "192.0.2.7", told)
    cookie, session = sessions.open("Ada")
    with pytest.raises(WeakPassword) as refused:
        await password.change("password1")
    await password.change("canary on the roof")
    written = f"{caplog.text} {session!r} {refused.value} {(tmp_path / 'attempts.json').read_text()}"
    assert not [secret for secret in ("canary", "password1", told, cookie, session.csrf) if secret in written]
    assert "192.0.2.7" in caplog.text


# Sessions -----------------------------------------------------------------------------------------------------------


def test_a_session_is_found_by_its_cookie_alone(clock: Clock) -> None:
    sessions = Sessions(clock)
    (cookie, ada), (other, bo) = sessions.open("Ada"), sessions.open("Bo")
    assert sessions.find(cookie) is ada
    assert sessions.find(other) is bo
    assert (ada.name, ada.created) == ("Ada", 1000.0)
    assert not any(sessions.find(wrong) for wrong in ("", cookie[:-1], cookie.swapcase(), "\ud800", "é"))


def test_cookies_and_tokens_are_long_random_and_all_different(clock: Clock) -> None:
    sessions = Sessions(clock)
    made = [sessions.open("Ada") for _ in range(50)]
    texts = [text for cookie, session in made for text in (cookie, session.csrf)]
    assert len(set(texts)) == 100
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", text) for text in texts), "43 of 64 letters are more than 128 bits"


def test_a_cookie_is_not_kept_in_memory(clock: Clock) -> None:
    sessions = Sessions(clock)
    cookie, _ = sessions.open("Ada")
    assert cookie not in repr(vars(sessions))


def test_a_token_vouches_for_its_session_only(clock: Clock) -> None:
    sessions = Sessions(clock)
    (_, ada), (_, bo) = sessions.open("Ada"), sessions.open("Bo")
    assert ada.vouches_for(ada.csrf)
    assert not any(ada.vouches_for(wrong) for wrong in (None, "", bo.csrf, ada.csrf[:-1], "é", "\ud800"))


def test_a_session_ends_when_idle(clock: Clock) -> None:
    sessions = Sessions(clock)
    cookie, session = sessions.open("Ada")
    for _ in range(3):
        clock.now += IDLE - 1
        assert sessions.find(cookie) is session
    clock.now += IDLE
    assert sessions.find(cookie) is None
    assert session.ended.is_set()


def test_a_session_ends_after_twelve_hours_of_use(clock: Clock) -> None:
    sessions = Sessions(clock)
    cookie, session = sessions.open("Ada")
    while clock.now + 60 < session.created + LONGEST_SESSION:
        clock.now += 60
        assert sessions.find(cookie) is session
    clock.now = session.created + LONGEST_SESSION
    assert sessions.find(cookie) is None
    assert session.ended.is_set()


def test_a_sweep_ends_what_nobody_asks_for(clock: Clock) -> None:
    sessions = Sessions(clock)
    _, old = sessions.open("Ada")
    clock.now += IDLE - 1
    _, new = sessions.open("Bo")
    sessions.sweep()
    assert not old.ended.is_set()
    clock.now += 1
    sessions.sweep()
    assert old.ended.is_set()
    assert not new.ended.is_set()


def test_a_closed_session_is_over(clock: Clock) -> None:
    sessions = Sessions(clock)
    (cookie, ada), (other, bo) = sessions.open("Ada"), sessions.open("Bo")
    sessions.close(cookie)
    sessions.close(cookie)
    assert ada.ended.is_set()
    assert sessions.find(cookie) is None
    assert sessions.find(other) is bo
    assert not bo.ended.is_set()


def test_all_are_closed_but_one(clock: Clock) -> None:
    sessions = Sessions(clock)
    made = [sessions.open("Ada") for _ in range(3)]
    kept_cookie, kept = made[1]
    sessions.close_all(but=kept)
    assert [session.ended.is_set() for _, session in made] == [True, False, True]
    assert sessions.find(kept_cookie) is kept
    sessions.close_all()
    assert sessions.find(kept_cookie) is None


def test_there_are_only_so_many_sessions_and_the_idlest_goes(clock: Clock) -> None:
    sessions = Sessions(clock)
    made = []
    for _ in range(MOST_SESSIONS):
        clock.now += 1
        made.append(sessions.open("Ada"))
    clock.now += 1
    assert sessions.find(made[0][0])
    sessions.open("Bo")
    assert [session for _, session in made if session.ended.is_set()] == [made[1][1]]


# Attempts -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def attempts(tmp_path: Path, clock: Clock) -> Attempts:
    return Attempts(tmp_path / "attempts.json", clock)


def again(tmp_path: Path, clock: Clock) -> Attempts:
    """After a restart; the clock of a machine that was started anew begins anew, too."""
    clock.now = 3.0
    return Attempts(tmp_path / "attempts.json", clock)


def fail(attempts: Attempts, address: str, times: int) -> None:
    for _ in range(times):
        attempts.failed(address)


def test_five_wrong_passwords_in_a_minute_bring_a_delay_that_doubles(attempts: Attempts, clock: Clock) -> None:
    fail(attempts, "a", 4)
    assert attempts.check("a") == 0
    waits = []
    for _ in range(10):
        attempts.failed("a")
        waits.append(attempts.check("a"))
        clock.now += waits[-1]
        assert attempts.check("a") == 0
    assert waits == [10, 20, 40, 80, 160, 320, 640, 900, 900, 900]
    assert attempts.check("b") == 0


def test_wrong_passwords_far_apart_bring_none(attempts: Attempts, clock: Clock) -> None:
    for _ in range(15):
        attempts.failed("a")
        assert attempts.check("a") == 0
        clock.now += 15


def test_the_right_password_resets_its_address_only(attempts: Attempts) -> None:
    fail(attempts, "a", 5)
    fail(attempts, "b", 5)
    attempts.succeeded("a")
    attempts.succeeded("c")
    assert attempts.check("a") == 0
    assert attempts.check("b") == 10
    fail(attempts, "a", 4)
    assert attempts.check("a") == 0


def test_many_addresses_together_have_twenty_an_hour(attempts: Attempts, clock: Clock) -> None:
    for number in range(19):
        attempts.failed(f"attacker {number}")
    assert attempts.check("owner") == 0
    waits = []
    for number in range(19, 25):
        attempts.failed(f"attacker {number}")
        waits.append(attempts.check("owner"))
        clock.now += waits[-1]
        assert attempts.check("owner") == 0, "one is let through"
    assert waits == [10, 20, 30, 30, 30, 30]
    attempts.succeeded("owner")
    attempts.failed("attacker 26")
    assert attempts.check("owner") == 30
    clock.now += HOUR
    attempts.failed("attacker 27")
    assert attempts.check("owner") == 0


def test_a_restart_unlocks_nothing(tmp_path: Path, attempts: Attempts, clock: Clock) -> None:
    fail(attempts, "a", 8)
    clock.now += 5
    attempts.failed("b")
    assert attempts.check("a") == 75
    restarted = again(tmp_path, clock)
    assert restarted.check("a") == pytest.approx(75)
    assert restarted.check("b") == 0
    clock.now += 75
    restarted.failed("a")
    assert restarted.check("a") == pytest.approx(160)
    fail(restarted, "b", 11)
    assert again(tmp_path, clock).check("c") == pytest.approx(20)


def test_who_deletes_the_file_forgives_all(tmp_path: Path, attempts: Attempts, clock: Clock) -> None:
    for counting in (attempts, again(tmp_path, clock)):
        fail(counting, "a", 8)
        assert counting.check("a") > 0
        (tmp_path / "attempts.json").unlink()
        assert counting.check("a") == 0
        fail(counting, "a", 4)
        assert counting.check("a") == 0
        counting.failed("a")
        assert counting.check("a") == 10
        counting.succeeded("a")


def test_the_right_password_is_remembered_over_a_restart(tmp_path: Path, attempts: Attempts, clock: Clock) -> None:
    fail(attempts, "a", 5)
    attempts.succeeded("a")
    assert again(tmp_path, clock).check("a") == 0


def test_only_wrong_passwords_are_written(tmp_path: Path, attempts: Attempts) -> None:
    attempts.check("a")
    attempts.succeeded("a")
    assert not list(tmp_path.iterdir())
    attempts.failed("a")
    assert [path.name for path in tmp_path.iterdir()] == ["attempts.json"]


def test_only_so_many_addresses_are_kept_and_each_for_a_day(tmp_path: Path, attempts: Attempts, clock: Clock) -> None:
    for number in range(MOST_ADDRESSES + 5):
        attempts.failed(f"2001:db8::{number:x}")
        clock.now += 30
    kept = json.loads((tmp_path / "attempts.json").read_bytes())["addresses"]
    assert len(kept) == MOST_ADDRESSES
    assert "2001:db8::0" not in kept
    clock.now += 24 * HOUR
    attempts.failed("a")
    assert [*json.loads((tmp_path / "attempts.json").read_bytes())["addresses"]] == ["a"]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[" * 100_000,
        b'{"x":' + b"[" * 100_000,
        b"{}",
        b'{"ages": [], "addresses": {"a": {"ages": [], "strikes": 1, "wait": 1}}}',
        b'{"ages": [], "addresses": {"a": {"ages": [1], "strikes": 1, "wait": 1e99}}}',
        b'{"ages": [-1], "addresses": {}}',
    ],
)
def test_a_damaged_file_of_attempts_is_told_and_begun_anew(
    tmp_path: Path, clock: Clock, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "attempts.json").write_bytes(text)
    attempts = Attempts(tmp_path / "attempts.json", clock)
    assert "begins anew" in caplog.text
    assert attempts.check("a") == 0
    fail(attempts, "a", 5)
    assert again(tmp_path, clock).check("a") == pytest.approx(10)


def test_without_a_disk_the_limit_holds_until_a_restart(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = Attempts(tmp_path / "none" / "attempts.json", clock)
    fail(attempts, "a", 5)
    assert attempts.check("a") == 10
    assert "until the next restart only" in caplog.text


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["wrong", "wrong", "wrong", "right", "restart"]),
            st.sampled_from("abc"),
            st.sampled_from([0.0, 0.1, 9.7, 10.0, 31.0, 59.0, 901.0, 3601.0]),
        ),
        max_size=60,
    )
)
def test_whatever_comes_the_limits_hold(events: list[tuple[str, str, float]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        clock = Clock()
        attempts = Attempts(Path(folder) / "attempts.json", clock)
        let_through: list[tuple[float, str]] = []
        ran = 0.0
        for event, address, pause in events:
            clock.now += pause
            ran += pause
            if event == "restart":
                before = {one: attempts.check(one) for one in "abcd"}
                attempts = again(Path(folder), clock)
                assert all(attempts.check(one) >= wait - 1e-6 for one, wait in before.items())
            elif attempts.check(address) == 0:
                if event == "wrong":
                    let_through.append((ran, address))
                    attempts.failed(address)
                else:
                    attempts.succeeded(address)
                    let_through = [entry for entry in let_through if entry[1] != address]
            assert all(0 <= attempts.check(one) <= LONGEST_DELAY for one in "abc")
            assert attempts.check("d") <= LONGEST_OVERALL + 1e-6
        for start, _ in let_through:
            minute = Counter(address for when, address in let_through if start <= when < start + 60)
            assert all(count <= 7 for count in minute.values()), "5, and those after 10 and after 20 seconds"


# Unlocking ----------------------------------------------------------------------------------------------------------


async def test_many_wrong_passwords_at_once_are_taken_one_by_one(password: Password, attempts: Attempts) -> None:
    answers = await asyncio.gather(
        *(unlock(password, attempts, "a", "wrong") for _ in range(50)), return_exceptions=True
    )
    assert answers.count(False) == 5
    refusals = [answer for answer in answers if isinstance(answer, TooManyAttempts)]
    assert len(refusals) == 45
    assert {(refusal.wait, str(refusal)) for refusal in refusals} == {
        (10, "Too many wrong passwords were given: try again in 10 s.")
    }


async def test_while_an_address_waits_its_right_password_is_not_looked_at(
    password: Password, attempts: Attempts, clock: Clock
) -> None:
    fail(attempts, "a", 9)
    with pytest.raises(TooManyAttempts, match=r"try again in 3 min\.") as refused:
        await unlock(password, attempts, "a", GOOD)
    assert refused.value.wait == 160
    assert await unlock(password, attempts, "b", GOOD)
    clock.now += 160
    assert await unlock(password, attempts, "a", GOOD)
    assert attempts.check("a") == 0


async def test_who_goes_away_before_the_answer_is_counted(password: Password, attempts: Attempts) -> None:
    for _ in range(5):
        trying = asyncio.create_task(unlock(password, attempts, "a", "wrong"))
        await asyncio.sleep(0)
        trying.cancel()
        await asyncio.wait([trying])
    with pytest.raises(TooManyAttempts):
        await unlock(password, attempts, "a", "wrong")


async def test_an_attack_leaves_open_sessions_alone(attempts: Attempts, clock: Clock) -> None:
    sessions = Sessions(clock)
    cookie, session = sessions.open("Ada")
    fail(attempts, "a", 40)
    assert attempts.check("a") > 0
    assert sessions.find(cookie) is session
