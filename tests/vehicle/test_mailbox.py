"""The memory between daemon and governor: the newest whole word counts, and half a word counts for nothing."""

from __future__ import annotations

import math
import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from calibration.calibration import DEFAULT, LONGEST_NS, SHORTEST_NS, Calibration, Channel
from drivers.signals import NEUTRAL, Action
from vehicle.gate import DriveMode, Proposal
from vehicle.mailbox import SAMPLES, SIZE, Mailbox, Orders, Report

one_mailbox = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
numbers = st.floats(allow_nan=False)


@st.composite
def channels(draw: st.DrawFn) -> Channel:
    figures = draw(st.lists(st.integers(SHORTEST_NS, LONGEST_NS), min_size=3, max_size=3, unique=True))
    low, mid, high = sorted(figures)
    return Channel(low, mid, high, draw(st.sampled_from([1, -1])))


wishes = st.builds(Proposal, st.builds(Action, numbers, numbers), numbers)
many_orders = st.builds(
    Orders,
    st.sampled_from(DriveMode),
    st.booleans(),
    st.dictionaries(st.sampled_from(DriveMode), wishes),
    st.builds(Calibration, channels(), channels()),
)
ORDERS = Orders(
    DriveMode.MANUAL,
    True,
    {DriveMode.MANUAL: Proposal(Action(0.5, -0.25), 12.5), DriveMode.AUTONOMOUS: Proposal(Action(-1, 1), 12.4)},
    DEFAULT,
)
LONG = "x" * 200
REPORT = Report(t=3.5, ticks=7, applied=Action(0.5, -0.25), failure="", realtime=True)


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    mailbox = Mailbox.create()
    yield mailbox
    mailbox.close()


@pytest.fixture
def other_side(mailbox: Mailbox) -> Iterator[Mailbox]:
    """The same memory, as the governor opens it."""
    other = Mailbox(os.dup(mailbox.fd))
    yield other
    other.close()


@pytest.fixture
def memory(mailbox: Mailbox) -> Iterator[mmap.mmap]:
    """The bytes that both sides see."""
    with mmap.mmap(mailbox.fd, SIZE) as memory:
        yield memory


def test_at_first_there_is_nothing(other_side: Mailbox) -> None:
    assert other_side.orders() is None
    assert other_side.report() is None
    assert other_side.samples(0, 0) == ([], [])


@one_mailbox
@given(orders=many_orders)
def test_orders_arrive_as_they_were_posted(mailbox: Mailbox, other_side: Mailbox, orders: Orders) -> None:
    mailbox.post(orders)
    assert other_side.orders() == orders


reports = st.builds(
    Report,
    numbers,
    st.integers(0, 2**64 - 1),
    st.builds(Action, numbers, numbers),
    st.text(st.characters(codec="utf-8"), max_size=50),
    st.booleans(),
)


@one_mailbox
@given(report=reports)
def test_a_report_arrives_as_it_was_filed(mailbox: Mailbox, other_side: Mailbox, report: Report) -> None:
    other_side.file(report, 0.0, None)
    assert mailbox.report() == report


@one_mailbox
@given(failure=st.text(min_size=1, max_size=250))
@example("€" * 67)
@example("The file \udcff is not there.")
def test_a_failure_of_any_length_arrives_whole_but_for_its_end(
    mailbox: Mailbox, other_side: Mailbox, failure: str
) -> None:
    other_side.file(replace(REPORT, failure=failure), None, None)
    report = mailbox.report()
    assert report is not None
    sent = failure.encode(errors="replace")
    assert sent.startswith(report.failure.encode())
    assert report.failure
    assert len(report.failure.encode()) > 196 or report.failure.encode() == sent
    assert report == replace(REPORT, failure=report.failure)


def test_the_newest_counts_and_nothing_queues(mailbox: Mailbox, other_side: Mailbox) -> None:
    mailbox.post(ORDERS)
    newest = Orders(DriveMode.AUTONOMOUS, False, {}, DEFAULT)
    mailbox.post(newest)
    assert other_side.orders() == other_side.orders() == newest


def test_the_two_halves_do_not_touch(mailbox: Mailbox, other_side: Mailbox) -> None:
    mailbox.post(ORDERS)
    for tick in range(2 * SAMPLES):
        other_side.file(Report(1.0, tick, NEUTRAL, LONG, False), 1.0, 1.0)
    assert other_side.orders() == ORDERS
    mailbox.post(ORDERS)
    assert mailbox.report() == Report(1.0, 2 * SAMPLES - 1, NEUTRAL, LONG, False)
    assert mailbox.samples(2 * SAMPLES - 1, SAMPLES - 1)[0] == [1.0] * SAMPLES


def test_wishes_that_are_no_numbers_reach_the_gate_as_they_are(mailbox: Mailbox, other_side: Mailbox) -> None:
    wish = Proposal(Action(math.nan, math.inf), math.nan)
    mailbox.post(Orders(DriveMode.MANUAL, True, {DriveMode.MANUAL: wish}, DEFAULT))
    orders = other_side.orders()
    assert orders is not None
    arrived = orders.proposals[DriveMode.MANUAL]
    assert math.isnan(arrived.action.steering)
    assert arrived.action.throttle == math.inf
    assert math.isnan(arrived.t)


@one_mailbox
@given(orders=many_orders, place=st.integers(0, 255), flip=st.integers(1, 255))
def test_a_flipped_byte_never_makes_other_orders(
    mailbox: Mailbox, other_side: Mailbox, memory: mmap.mmap, orders: Orders, place: int, flip: int
) -> None:
    mailbox.post(orders)
    memory[place] ^= flip
    assert other_side.orders() in (None, orders)


def test_no_flipped_byte_of_the_orders_passes(mailbox: Mailbox, other_side: Mailbox, memory: mmap.mmap) -> None:
    mailbox.post(ORDERS)
    harmless = set()
    for place in range(256):
        memory[place] ^= 0x41
        if other_side.orders() == ORDERS:
            harmless.add(place)
        memory[place] ^= 0x41
    assert harmless == set(range(131, 256))  # 4 bytes of checksum and 127 of orders; the rest is empty
    assert other_side.orders() == ORDERS


@pytest.mark.parametrize("written", range(1, 131, 10))
def test_half_written_orders_are_none(mailbox: Mailbox, other_side: Mailbox, memory: mmap.mmap, written: int) -> None:
    mailbox.post(ORDERS)
    new = memory[:256]
    turned = Calibration(DEFAULT.throttle, DEFAULT.steering)  # so that the very last byte differs
    mailbox.post(Orders(DriveMode.CALIBRATION, False, {DriveMode.MANUAL: Proposal(NEUTRAL, 99.0)}, turned))
    memory[:written] = new[:written]
    assert other_side.orders() is None


@pytest.mark.parametrize("place", [256, 260, 270, 290, 493])
def test_a_damaged_report_is_none(mailbox: Mailbox, memory: mmap.mmap, place: int) -> None:
    mailbox.file(replace(REPORT, failure=LONG), 0.0, None)
    memory[place] ^= 1
    assert mailbox.report() is None


FIGURES = struct.Struct("=qqqbqqqb")
FIGURES_AT = 4 + 2 + 3 * 25


@pytest.mark.parametrize(
    "figures",
    [
        (0, 0, 0, 0, 0, 0, 0, 0),
        (1_450_000, 1_450_000, 1_700_000, 1, 1_311_000, 1_446_000, 1_603_500, -1),
        (1_200_000, 1_450_000, 1_700_000, 1, 1_311_000, 1_446_000, 1_603_500, 0),
        (1_200_000, 1_450_000, 1_700_000, 2, 1_311_000, 1_446_000, 1_603_500, -1),
        (1_200_000, 1_450_000, 9_700_000, 1, 1_311_000, 1_446_000, 1_603_500, -1),
        (-1_200_000, 1_450_000, 1_700_000, 1, 1_311_000, 1_446_000, 1_603_500, -1),
    ],
)
def test_orders_with_a_senseless_calibration_are_none(
    mailbox: Mailbox, other_side: Mailbox, memory: mmap.mmap, figures: tuple[int, ...]
) -> None:
    mailbox.post(ORDERS)
    assert FIGURES.unpack(memory[FIGURES_AT : FIGURES_AT + FIGURES.size])[:3] == (1_200_000, 1_450_000, 1_700_000)
    memory[FIGURES_AT : FIGURES_AT + FIGURES.size] = FIGURES.pack(*figures)
    memory[:4] = struct.pack("=I", zlib.crc32(memory[4:131]))
    assert other_side.orders() is None


def test_orders_with_a_mode_that_nobody_knows_are_none(
    mailbox: Mailbox, other_side: Mailbox, memory: mmap.mmap
) -> None:
    mailbox.post(ORDERS)
    memory[4] = len(DriveMode)
    memory[:4] = struct.pack("=I", zlib.crc32(memory[4:131]))
    assert other_side.orders() is None


def test_samples_are_those_of_the_latest_ticks(mailbox: Mailbox, other_side: Mailbox) -> None:
    for tick in range(1, 11):
        other_side.file(Report(0.0, tick, NEUTRAL, "", False), tick / 100, tick / 10 if tick % 2 else None)
    assert mailbox.samples(10, 7) == ([0.08, 0.09, 0.1], [0.9])
    assert mailbox.samples(10, 10) == ([], [])
    assert mailbox.samples(3, 0) == ([0.01, 0.02, 0.03], [0.1, 0.3])


def test_a_daemon_that_was_away_gets_no_more_than_the_ring_holds(mailbox: Mailbox, other_side: Mailbox) -> None:
    ticks = 2 * SAMPLES + 5
    for tick in range(1, ticks + 1):
        other_side.file(Report(0.0, tick, NEUTRAL, "", False), float(tick), 0.0)
    late, latencies = mailbox.samples(ticks, 0)
    assert late == [float(tick) for tick in range(ticks - SAMPLES + 1, ticks + 1)]
    assert latencies == [0.0] * SAMPLES


def test_it_is_closed_with_its_descriptor() -> None:
    mailbox = Mailbox.create()
    mailbox.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(mailbox.fd)
